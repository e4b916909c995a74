"""The losses derived a second time: float64, loops over responses and tokens, gradients by hand.

Written from the equations (DeepSeekMath eq. 3-4, R1 (Nature) eq. 1-3), not from r1jax.losses; nothing of
r1jax is imported here, so kinds are plain strings.
"""

import math

import numpy as np


def advantages(rewards, kind):
  """[Q, G] rewards -> [Q, G] advantages."""
  result = np.zeros(np.shape(rewards), np.float64)
  for q, group in enumerate(np.asarray(rewards, np.float64)):
    if len(set(group.tolist())) == 1:
      continue
    for i, reward in enumerate(group):
      if kind == "leave_one_out":
        others = [r for j, r in enumerate(group) if j != i]
        result[q, i] = reward - math.fsum(others) / len(others)
      else:
        mean = math.fsum(group) / len(group)
        std = math.sqrt(math.fsum((r - mean) ** 2 for r in group) / len(group))
        result[q, i] = (reward - mean) / (std if kind == "standardized" else 1.0)
  return result


def token_weight(mask, row, reduction, constant):
  """The factor before a trained token's term in the nested means of the objective."""
  n = len(mask)
  if reduction == "per_response":
    return 1.0 / n / sum(mask[row])
  if reduction == "token_mean":
    return 1.0 / sum(sum(r) for r in mask)
  return 1.0 / n / constant


def grpo(logprobs, old, ref, advantage, mask, *, reduction, constant, clip_low, clip_high, kl_coef,
         estimator, correction=None):
  """(loss, d loss / d logprobs [N, T], metrics); loops over the trained tokens only."""
  mask = np.asarray(mask).astype(int).tolist()
  loss, gradient = 0.0, np.zeros(np.shape(logprobs), np.float64)
  metrics = dict.fromkeys(("policy_loss", "kl", "ratio", "nll", "clip_fraction_low", "clip_fraction_high",
                           "clamped_fraction", "weight"), 0.0)
  for i, row in enumerate(mask):
    for t, trained in enumerate(row):
      if not trained:
        continue
      w, a = token_weight(mask, i, reduction, constant), float(advantage[i])
      lp, lo = float(logprobs[i][t]), float(old[i][t])
      rho = math.exp(min(max(lp - lo, -20.0), 20.0))
      clipped = min(max(rho, 1 - clip_low), 1 + clip_high)
      objective = min(rho * a, clipped * a)
      # d rho / d lp = rho; the clipped branch is a constant; so is the ratio outside the clamp.
      slope = rho * a if rho * a <= clipped * a and abs(lp - lo) <= 20 else 0.0
      factor = 1.0 if correction is None else float(correction[i][t])
      objective, slope = factor * objective, factor * slope
      kl, kl_slope = kl_and_slope(lp, float(ref[i][t]), estimator) if ref is not None else (0.0, 0.0)
      loss += w * (-objective + kl_coef * kl)
      gradient[i, t] = w * (-slope + kl_coef * kl_slope)
      metrics["policy_loss"] -= w * objective
      metrics["kl"] += w * kl
      metrics["ratio"] += w * rho
      metrics["nll"] -= w * lp
      metrics["clip_fraction_low"] += w * (rho < 1 - clip_low and a < 0)
      metrics["clip_fraction_high"] += w * (rho > 1 + clip_high and a > 0)
      metrics["clamped_fraction"] += w * (abs(lp - lo) > 20)
      metrics["weight"] += w
  if ref is None:
    del metrics["kl"]
  return loss, gradient, metrics


def kl_and_slope(lp, ref, estimator):
  """Estimate of KL(pi || ref) from one token, and its derivative by lp."""
  if estimator == "k1":
    return lp - ref, 1.0
  if estimator == "k2":
    return (lp - ref) ** 2 / 2, lp - ref
  if ref - lp > 20:
    return math.exp(20) - 20 - 1, 0.0
  return math.exp(ref - lp) - (ref - lp) - 1, 1.0 - math.exp(ref - lp)
