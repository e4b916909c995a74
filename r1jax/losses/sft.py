"""Supervised fine-tuning: the negative log-likelihood of the tokens to imitate."""

import jax
import jax.numpy as jnp

from r1jax.losses.shapes import require_rank_2, require_shape


def sft_loss(logprobs, weights):
  """Loss (scalar, float32, nats) = -sum_t weights_t log pi(o_t), and its metrics.

  Args:
    logprobs: [N, T] log-probs of the target tokens; the gradient flows through them alone. Where the weight
      is 0 they may be anything, NaN and infinities included.
    weights: [N, T] from `token_weights` of the whole minibatch.

  Returns:
    (loss, metrics): metrics are weighted sums, additive over microbatches: `nll` and `weight` (the sum of
    the weights, to turn sums into means).

  Raises:
    InputError: shapes differ.
  """
  shape = require_rank_2("sft_loss", "logprobs", logprobs, "[N, T]")
  require_shape("sft_loss", "weights", weights, shape)
  weights = jax.lax.stop_gradient(jnp.asarray(weights).astype(jnp.float32))
  # The `where` is before the product: 0 * NaN is NaN, in the value and in the gradient.
  logprobs = jnp.where(weights != 0, jnp.asarray(logprobs).astype(jnp.float32), jnp.float32(0))
  loss = -jnp.sum(weights * logprobs)
  metrics = {"nll": loss, "weight": jnp.sum(weights)}
  return loss, jax.lax.stop_gradient(metrics)
