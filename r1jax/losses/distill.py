"""Distillation of a teacher's distributions, token by token. Beyond the paper, whose distillation is SFT on samples."""

import jax
import jax.numpy as jnp

from r1jax.errors import InputError
from r1jax.losses.shapes import require_rank_2, require_shape

SMALLEST_REST = 1e-6  # ours; 1 - sum of float32 probabilities is rounding below that


def distill_loss(teacher_logprobs, student_logprobs, student_rest, weights):
  """Loss (scalar, float32, nats) = sum_t weights_t KL(teacher_t || student_t), and its metrics.

  The KL is over k + 1 events: the k tokens that the teacher finds likeliest, and all other tokens together:

      KL = sum_j p_j (log p_j - log q_j) + p_rest (log p_rest - log q_rest),   p_rest = 1 - sum_j p_j

  That is at most the KL over the vocabulary, and equal to it when k is the whole vocabulary. How the student shares out
  the rest is not judged. A p_rest below 1e-6 counts as none.

  Args:
    teacher_logprobs: [N, T, k] log p of the teacher's k likeliest tokens.
    student_logprobs: [N, T, k] log q of the same tokens; the gradient flows through this and student_rest.
    student_rest: [N, T] log of the student's probability of all other tokens; anything where
      p_rest counts as none.
    weights: [N, T] from `token_weights` of the whole minibatch. Where the weight is 0 all else may be anything.

  Returns:
    (loss, metrics): metrics are weighted sums, additive over microbatches: `kl`, `teacher_rest` (p_rest) and `weight`.

  Raises:
    InputError: shapes differ.
  """
  shape = require_rank_2("distill_loss", "weights", weights, "[N, T]")
  if jnp.ndim(teacher_logprobs) != 3:
    raise InputError("distill_loss: teacher_logprobs", f"shape {list(jnp.shape(teacher_logprobs))}",
                     "Give teacher_logprobs three axes, [N, T, k].")
  events = (*shape, jnp.shape(teacher_logprobs)[2])
  require_shape("distill_loss", "teacher_logprobs", teacher_logprobs, events)
  require_shape("distill_loss", "student_logprobs", student_logprobs, events)
  require_shape("distill_loss", "student_rest", student_rest, shape)
  weights = jax.lax.stop_gradient(jnp.asarray(weights).astype(jnp.float32))

  def where(condition, x):
    # Replaced before any arithmetic: a `where` on the result alone would leave NaN gradients.
    return jnp.where(condition, jnp.asarray(x).astype(jnp.float32), jnp.float32(0))

  counted = weights != 0
  log_p = jax.lax.stop_gradient(where(counted[:, :, None], teacher_logprobs))
  log_q = where(counted[:, :, None], student_logprobs)
  p = jnp.exp(log_p)
  rest = where(counted, 1 - jnp.sum(p, axis=-1))
  has_rest = rest > SMALLEST_REST
  log_rest = jnp.log(jnp.where(has_rest, rest, jnp.float32(1)))
  # A teacher's log-prob may be -inf (a token ruled out): 0 log 0 is 0.
  log_ratio = jnp.where(p > 0, log_p, jnp.float32(0)) - jnp.where(p > 0, log_q, jnp.float32(0))
  kl = jnp.sum(p * log_ratio, axis=-1) + where(has_rest, rest) * (log_rest - where(has_rest, student_rest))
  loss = jnp.sum(weights * kl)
  metrics = {"kl": loss, "teacher_rest": jnp.sum(weights * where(has_rest, rest)), "weight": jnp.sum(weights)}
  return loss, jax.lax.stop_gradient(metrics)
