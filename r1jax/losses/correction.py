"""Correcting for a sampler that is not quite the trainer: truncated importance weights of sampled tokens (NumPy)."""
import enum
from collections.abc import Sequence

import numpy as np


class SamplerCorrection(enum.Enum):
  """What the policy term of a token is multiplied with, rho = trainer's / sampler's probability of what was sampled.

  Rollouts run in another program than updates, at times in other number formats, so that rho is not 1. R1 does not say
  whether it corrects; NONE takes rho for 1.
  """

  NONE = "none"
  PER_TOKEN = "per_token"  # min(rho_t, limit)
  PER_SEQUENCE = "per_sequence"  # min(product over the response of rho_t, limit), the same for all its tokens


def sampler_correction(trainer: Sequence[np.ndarray], sampler: Sequence[np.ndarray], kind: SamplerCorrection,
                       limit: float) -> list[np.ndarray] | None:
  """The factors of each response's tokens, float32; None for NONE.

  trainer, sampler: log-probs [n_i] of the tokens of each response, the trainer's by the parameters that sampled them.
  """
  if kind is SamplerCorrection.NONE:
    return None
  factors = []
  for ours, theirs in zip(trainer, sampler, strict=True):
    log_ratio = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    if kind is SamplerCorrection.PER_SEQUENCE:
      log_ratio = np.full_like(log_ratio, log_ratio.sum())
    factors.append(np.exp(np.minimum(log_ratio, np.log(limit))).astype(np.float32))
  return factors
