"""Verifiers of answers: maths, multiple choice, logic puzzles and programs. Usable alone, see README.md; no jax."""

import importlib

_HOMES = {
  "KINDS": "kinds", "check_references": "kinds", "VerifierPool": "pool", "verify": "rows", "Verdict": "verdict",
  "SCORED": "verdict", "UNPARSABLE": "verdict", "TIMED_OUT": "verdict", "CRASHED": "verdict", "STATUSES": "verdict",
}  # fmt: skip
__all__ = sorted(_HOMES)


def __getattr__(name: str):
  """Imported at first use: whoever judges programs needs no mathematics."""
  if name not in _HOMES:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
