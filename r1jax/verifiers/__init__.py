"""Verifiers of answers: maths, multiple choice, logic puzzles and programs. Usable alone, see README.md; no jax."""

from r1jax.verifiers.kinds import KINDS, check_references
from r1jax.verifiers.pool import VerifierPool
from r1jax.verifiers.rows import verify
from r1jax.verifiers.verdict import CRASHED, SCORED, STATUSES, TIMED_OUT, UNPARSABLE, Verdict

__all__ = [
  "CRASHED", "KINDS", "SCORED", "STATUSES", "TIMED_OUT", "UNPARSABLE", "Verdict", "VerifierPool", "check_references",
  "verify",
]  # fmt: skip
