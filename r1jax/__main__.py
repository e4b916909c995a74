"""python -m r1jax: the same as the command r1jax."""
import sys

from r1jax.launch import main

if __name__ == "__main__":
  sys.exit(main())
