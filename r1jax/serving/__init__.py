"""Asking a loaded model: responses as text, all at once or as they are sampled, and the terminal that shows them."""
from r1jax.serving.responses import Response, Speaker, sample

__all__ = ["Response", "Speaker", "sample"]
