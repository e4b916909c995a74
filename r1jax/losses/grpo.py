"""The GRPO objective on arrays: clipped policy gradient per token, KL to the reference inside the loss."""

import enum
import math

import jax
import jax.numpy as jnp

from r1jax.errors import InputError
from r1jax.losses.shapes import require_rank_2, require_shape

MAX_LOG_RATIO = 20.0  # ours; exp(20) = 4.9e8. The paper's clip of 10 leaves the ratio unbounded when A < 0.


class KLEstimator(enum.Enum):
  """Per-token estimators of KL(pi || ref) from a sampled token (Schulman's names); d = log pi - log ref."""

  K1 = "k1"  # d: unbiased, may be negative; but its gradient on policy has mean zero: no penalty
  K2 = "k2"  # d^2 / 2: biased; its gradient is that of the KL on policy
  K3 = "k3"  # exp(-d) + d - 1: unbiased, never negative; R1 (Nature) eq. 2, DeepSeekMath eq. 4


def grpo_loss(logprobs, old_logprobs, ref_logprobs, advantages, mask, weights, *, clip_low: float,
              clip_high: float, kl_coef: float, kl_estimator: KLEstimator = KLEstimator.K3, correction=None):
  """Loss (scalar, float32) = -J, and its metrics; DeepSeekMath eq. 3, R1 (Nature) eq. 1-2 per token:

      rho_t = exp(logprobs_t - old_logprobs_t)
      loss  = sum_t weights_t { -c_t min(rho_t A, clip(rho_t, 1 - clip_low, 1 + clip_high) A) + kl_coef KL_t }

  The gradient flows through `logprobs` alone. It is zero where the clip acts; at the very bound it does not
  act yet. The log-ratio is clamped to [-20, 20] before exp, and beyond that the policy term has no gradient.
  Of K3 only exp is in danger: with log ref - log pi > 20 the estimator stays at its value at 20, with no
  gradient; on the other side, where the policy has left the reference, it is exact and keeps pulling back.

  Args:
    logprobs: [N, T] log pi of the sampled tokens, by the policy that is trained.
    old_logprobs: [N, T] by the policy that sampled them.
    ref_logprobs: [N, T] by the reference, or None if kl_coef is 0. With kl_coef 0 it is only measured.
    advantages: [N], one a response; or [N, T], one a token, for rows that pack several responses.
    mask: [N, T] bool or 0/1: this token was sampled and is trained on. Outside it every other array may hold
      anything, NaN and infinities included, without reaching the loss or the gradient.
    weights: [N, T] from `token_weights` of the whole minibatch, sliced like the rest.
    clip_low, clip_high: epsilon below and above 1, not negative; 1 or more below never binds. Python numbers.
    kl_coef: beta, not negative. A Python number.
    kl_estimator: K1, K2 or K3.
    correction: [N, T] c_t, truncated importance weights of the sampler, see losses/correction.py; None: 1.

  Returns:
    (loss, metrics). All metrics are sums weighted by `weights`, so they add up over microbatches like the
    loss; divided by `weight` they are means: `policy_loss`, `kl` (if there is a reference), `ratio`, `nll`,
    `clip_fraction_low`, `clip_fraction_high` (tokens at which the clip changes the min), `clamped_fraction`
    (tokens whose log-ratio to the old policy is outside [-20, 20]), `weight`.

  Raises:
    InputError: shapes differ, a negative (or NaN) clip or kl_coef, or kl_coef > 0 without ref_logprobs.
  """
  _check_shapes(logprobs, old_logprobs, ref_logprobs, advantages, mask, weights, correction)
  _check_numbers(clip_low, clip_high, kl_coef, kl_estimator, ref_logprobs)
  mask = jnp.asarray(mask).astype(bool)

  def masked(x):
    # Garbage is replaced before any arithmetic: a `where` on the result alone would leave NaN gradients.
    return jnp.where(mask, jnp.asarray(x).astype(jnp.float32), jnp.float32(0))

  if jnp.ndim(advantages) == 1:
    advantages = jnp.asarray(advantages)[:, None]
  logprobs = masked(logprobs)
  old_logprobs, advantages, weights = jax.lax.stop_gradient(
    (masked(old_logprobs), masked(advantages), masked(weights)))

  per_token, ratio, flags = _policy_loss(logprobs - old_logprobs, advantages, clip_low, clip_high)
  if correction is not None:
    per_token = per_token * jax.lax.stop_gradient(masked(correction))
  metrics = {"policy_loss": per_token, "ratio": ratio, "nll": -logprobs, **flags,
             "weight": jnp.ones_like(weights)}
  if ref_logprobs is not None:
    kl = _kl(logprobs - jax.lax.stop_gradient(masked(ref_logprobs)), kl_estimator)
    metrics["kl"] = kl
    if kl_coef > 0:
      per_token = per_token + kl_coef * kl
  metrics = {name: jnp.sum(weights * value.astype(jnp.float32)) for name, value in metrics.items()}
  return jnp.sum(weights * per_token), jax.lax.stop_gradient(metrics)


def _policy_loss(log_ratio, advantages, clip_low, clip_high):
  """[N, T] -min(rho A, clip(rho) A), rho, and the flags (bool) of the tokens at which something was cut."""
  clamped = jnp.abs(log_ratio) > MAX_LOG_RATIO
  limit = jnp.clip(log_ratio, -MAX_LOG_RATIO, MAX_LOG_RATIO)
  ratio = jnp.exp(jnp.where(clamped, jax.lax.stop_gradient(limit), log_ratio))
  low, high = 1.0 - clip_low, 1.0 + clip_high
  # The min, spelt out: it picks the clipped branch only where that lowers the objective. Ties (every ratio
  # within the bounds is one) then have one gradient and not the mean of two.
  clipped_low = (advantages < 0) & (ratio < low)
  clipped_high = (advantages > 0) & (ratio > high)
  bounded = jnp.where(clipped_low, jnp.float32(low), jnp.where(clipped_high, jnp.float32(high), ratio))
  flags = {"clip_fraction_low": clipped_low, "clip_fraction_high": clipped_high, "clamped_fraction": clamped}
  return -bounded * advantages, ratio, flags


def _kl(log_ratio, estimator: KLEstimator):
  """[N, T] estimate of KL(pi || ref) from log pi - log ref [N, T]."""
  match estimator:
    case KLEstimator.K1:
      return log_ratio
    case KLEstimator.K2:
      return 0.5 * jnp.square(log_ratio)
    case KLEstimator.K3:
      too_large = log_ratio < -MAX_LOG_RATIO
      log_ratio = jnp.where(too_large, jnp.float32(-MAX_LOG_RATIO), log_ratio)
      # expm1 keeps the digits of a small KL, which exp(-d) - 1 would lose: at d = 1e-3 the KL is 5e-7.
      return jnp.expm1(-log_ratio) + log_ratio


def _check_shapes(logprobs, old_logprobs, ref_logprobs, advantages, mask, weights, correction):
  shape = require_rank_2("grpo_loss", "logprobs", logprobs, "[N, T]")
  for name, array in (("old_logprobs", old_logprobs), ("mask", mask), ("weights", weights)):
    require_shape("grpo_loss", name, array, shape)
  require_shape("grpo_loss", "advantages", advantages, shape[:1], shape)
  for name, array in (("ref_logprobs", ref_logprobs), ("correction", correction)):
    if array is not None:
      require_shape("grpo_loss", name, array, shape)


def _check_numbers(clip_low, clip_high, kl_coef, kl_estimator, ref_logprobs):
  for name, value in (("clip_low", clip_low), ("clip_high", clip_high), ("kl_coef", kl_coef)):
    if not (math.isfinite(value) and value >= 0):
      raise InputError(f"grpo_loss: {name}", value, "Give a finite number that is not negative.")
  if not isinstance(kl_estimator, KLEstimator):
    raise InputError("grpo_loss: kl_estimator", repr(kl_estimator), "Give a member of KLEstimator.")
  if ref_logprobs is None and kl_coef > 0:
    raise InputError("grpo_loss: ref_logprobs", f"None with kl_coef {kl_coef}",
                     "Give the reference's log-probs, or set kl_coef to 0.")
