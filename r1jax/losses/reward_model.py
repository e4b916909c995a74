"""Losses of the two reward models on arrays of scores: preference pairs, and responses labelled safe or unsafe."""

import enum

import jax
import jax.numpy as jnp

from r1jax.errors import InputError
from r1jax.losses.shapes import require_shape


class RewardKind(enum.Enum):
  """What a reward model learns from (R1, Nature, "Reward design")."""

  PAIRWISE = "pairwise"  # the helpful one: of two responses the better
  POINTWISE = "pointwise"  # the safety one: a response and its label


def pairwise_loss(chosen, rejected, weights=None):
  """Loss (scalar, float32, nats) = -sum_i weights_i log sigmoid(chosen_i - rejected_i), and its metrics.

  The Bradley-Terry likelihood of the preferences. R1 (Nature) eq. 5 writes the helpful reward as a function of two
  responses and says that its loss is pairwise; one score a response, whose difference decides, is our reading.

  Args:
    chosen, rejected: [N] scores of the better and the worse response.
    weights: [N]; None: 1 / N each, the mean. Of a microbatch: its slice of the whole batch's weights. Where the weight
      is 0 the scores may be anything, NaN and infinities included.

  Returns:
    (loss, metrics): metrics are weighted sums, additive over microbatches: `accuracy` (the chosen one scores higher; a
    tie is half), `margin` (chosen - rejected) and `weight`.

  Raises:
    InputError: shapes differ, or there is no pair.
  """
  chosen, rejected, weights = _checked("pairwise_loss", "rejected", chosen, rejected, weights)
  margin = chosen - rejected
  return _logistic(margin, weights)


def pointwise_loss(scores, safe, weights=None):
  """Loss (scalar, float32, nats) = binary cross-entropy of sigmoid(scores) with the labels, and its metrics.

  R1 (Nature) eq. 6: the safety reward is a function of one response. sigmoid(score) is the probability of "safe".

  Args:
    scores: [N] logits.
    safe: [N] bool or 0/1.
    weights: [N], as in pairwise_loss.

  Returns:
    (loss, metrics): as pairwise_loss; `accuracy` is at probability 0.5 (just there: half), `margin` is the score in
    the direction of its label.

  Raises:
    InputError: shapes differ, or there is no response.
  """
  scores, safe, weights = _checked("pointwise_loss", "safe", scores, safe, weights)
  # BCE is log(1 + exp(-score)) for one label and log(1 + exp(score)) for the other: the same function of the margin.
  return _logistic(scores * (2 * safe - 1), weights)


def _logistic(margin, weights):
  loss = jnp.sum(weights * jax.nn.softplus(-margin))  # not log(sigmoid(x)), which is -inf from -104 down
  right = (margin > 0).astype(jnp.float32) + 0.5 * (margin == 0).astype(jnp.float32)
  metrics = {"accuracy": jnp.sum(weights * right), "margin": jnp.sum(weights * margin), "weight": jnp.sum(weights)}
  return loss, jax.lax.stop_gradient(metrics)


def _checked(where: str, name: str, first, second, weights):
  """The three arrays as float32 [N], with zeros where the weight is 0."""
  shape = jnp.shape(first)
  if len(shape) != 1 or not shape[0]:
    raise InputError(f"{where}: scores", f"shape {list(shape)}", "Give one axis, [N], with at least one entry.")
  require_shape(where, name, second, shape)
  if weights is None:
    weights = jnp.full(shape, 1 / shape[0], jnp.float32)
  require_shape(where, "weights", weights, shape)
  weights = jax.lax.stop_gradient(jnp.asarray(weights).astype(jnp.float32))
  # The `where` is before any arithmetic: 0 * NaN is NaN, in the value and in the gradient.
  return *(jnp.where(weights != 0, jnp.asarray(x).astype(jnp.float32), jnp.float32(0)) for x in (first, second)), weights
