"""Choosing the next token: temperature, top-k, top-p, greedy, from one uniform number a token."""
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from r1jax.errors import InputError


@dataclass(frozen=True)
class Sampling:
  """temperature 0 is greedy. top_p keeps the smallest set of likeliest tokens with at least that mass; top_k the k
  likeliest; both act on the distribution at `temperature`. Tokens as likely as the last one kept are kept too."""

  temperature: float = 1.0
  top_p: float = 1.0
  top_k: int | None = None

  def __post_init__(self):
    if not self.temperature >= 0:
      raise InputError("sampling.temperature", self.temperature, "It must be 0 (greedy) or positive.")
    if not 0 < self.top_p <= 1:
      raise InputError("sampling.top_p", self.top_p, "It must be in (0, 1].")
    if self.top_k is not None and self.top_k < 1:
      raise InputError("sampling.top_k", self.top_k, "It must be at least 1, or None for all tokens.")


def nucleus(probs: jax.Array, top_p: float) -> jax.Array:
  """Boolean [..., V]: the tokens with probability >= t, for the largest t at which they hold a mass of top_p.

  A bisection on the bits of a float32 (their order is the floats' order) finds t exactly in 31 masked sums, where a
  sort of the vocabulary would take several times as long on a CPU and gather it from its shards on a TPU.
  """
  def halve(_, bounds):
    low, high = bounds  # mass(>= low) is enough, mass(>= high) is not
    middle = low + (high - low) // 2
    threshold = jax.lax.bitcast_convert_type(middle, jnp.float32)
    enough = jnp.sum(jnp.where(probs >= threshold[..., None], probs, 0.0), axis=-1) >= top_p
    return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

  low = jnp.zeros_like(probs[..., 0], jnp.int32)
  above_one = jax.lax.bitcast_convert_type(jnp.full_like(probs[..., 0], 2.0), jnp.int32)
  low, _ = jax.lax.fori_loop(0, 31, halve, (low, above_one))
  return probs >= jax.lax.bitcast_convert_type(low, jnp.float32)[..., None]


def sampled_distribution(logits: jax.Array, sampling: Sampling) -> jax.Array:
  """Log-probs [..., V] of the distribution that is sampled from; -inf where a token cannot be drawn.

  logits: [..., V] float32. Not for temperature 0, whose distribution is one token.
  """
  logprobs = jax.nn.log_softmax(logits / sampling.temperature, axis=-1)
  keep = None
  if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
    keep = logprobs >= jax.lax.top_k(logprobs, sampling.top_k)[0][..., -1:]
    logprobs = jax.nn.log_softmax(jnp.where(keep, logprobs, -jnp.inf), axis=-1)
  if sampling.top_p < 1:
    keep = nucleus(jnp.exp(logprobs), sampling.top_p)
    logprobs = jax.nn.log_softmax(jnp.where(keep, logprobs, -jnp.inf), axis=-1)
  return logprobs


def choose(logits: jax.Array, uniform: jax.Array, sampling: Sampling) -> tuple[jax.Array, jax.Array]:
  """Token ids [B] and their log-probs [B] from logits [B, V] float32 and one uniform number in [0, 1) a row.

  The token is the first whose cumulative probability exceeds the uniform number. Greedy reports the log-prob at
  temperature 1, since its own is always 0.
  """
  if sampling.temperature == 0:
    logprobs = jax.nn.log_softmax(logits, axis=-1)
    tokens = jnp.argmax(logits, axis=-1).astype(jnp.int32)
  else:
    logprobs = sampled_distribution(logits, sampling)
    cumulative = jnp.cumsum(jnp.exp(logprobs), axis=-1)
    # The sum ends a rounding away from 1; a uniform number past it must not fall on a token of probability 0.
    point = uniform * cumulative[:, -1]
    tokens = jnp.sum((cumulative <= point[:, None]).astype(jnp.int32), axis=-1)
    last = logits.shape[-1] - 1 - jnp.argmax((jnp.exp(logprobs) > 0)[:, ::-1], axis=-1).astype(jnp.int32)
    tokens = jnp.minimum(tokens, last)
  chosen = jnp.take_along_axis(logprobs, tokens[:, None], axis=-1)[:, 0]
  return tokens, chosen
