"""Where every use of a trained model starts: `load("runs/NAME")` or `load("a/hugging/face/folder")`."""
from r1jax.hub.model import Model, load

__all__ = ["Model", "load"]
