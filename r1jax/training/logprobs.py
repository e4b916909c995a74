"""Log-probs of given tokens without ever holding the logits of all positions."""
from functools import partial

import jax
import jax.numpy as jnp

from r1jax.models.attention import in_chunks
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.transformer import forward, head_weight, logits


def chunked_logprobs(hidden, head, targets, temperature: float, chunk: int) -> tuple[jax.Array, jax.Array]:
  """Log-prob of each target and entropy of each distribution, [B, T] float32, at `temperature`.

  hidden [B, T, D], head [D, V], targets [B, T]. Logits exist for `chunk` positions at a time, [B, chunk, V], and are
  recomputed in the backward pass. Chunks run along positions and not along the vocabulary, as one pass then gives the
  log-sum-exp, and a vocabulary that is split over the tensor axis stays where it is.
  """
  @jax.checkpoint
  def block(hidden, targets):
    scores = logits(hidden, head) / temperature
    norm = jax.nn.logsumexp(scores, axis=-1)
    # A masked sum instead of a gather: it runs on a vocabulary split over devices without collecting it.
    ids = jax.lax.broadcasted_iota(jnp.int32, scores.shape, 2, out_sharding=jax.typeof(scores).sharding)
    hit = ids == targets[:, :, None]
    chosen = jnp.sum(jnp.where(hit, scores, 0.0), axis=-1)
    probs = jnp.exp(scores - norm[:, :, None])
    entropy = norm - jnp.sum(probs * scores, axis=-1)
    return chosen - norm, jax.lax.stop_gradient(entropy)

  return in_chunks(block, chunk, hidden, targets)


def token_logprobs(params, config: ModelConfig, compute: Compute, tokens, positions, *, temperature: float = 1.0,
                   segment_ids=None, first: int = 1) -> tuple[jax.Array, jax.Array]:
  """(logprobs, entropy), each [B, T] float32 and aligned with tokens: [:, t] belongs to tokens[:, t] given those before.

  Slots before `first` are 0 and cost no logits; the first token of a sequence has no predecessor, so first >= 1. With
  packed rows the first token of each segment carries a meaningless number and must be masked out.
  """
  hidden = forward(params, config, compute, tokens, positions, segment_ids)
  head = head_weight(params, config, compute)
  logprobs, entropy = chunked_logprobs(hidden[:, first - 1:-1], head, tokens[:, first:], temperature, compute.logprob_chunk)
  pad = ((0, 0), (first, 0))
  return jnp.pad(logprobs, pad), jnp.pad(entropy, pad)


@partial(jax.jit, static_argnames=("config", "compute", "temperature", "first"))
def score(params, tokens, positions, *, config: ModelConfig, compute: Compute, temperature: float, first: int) -> jax.Array:
  """token_logprobs without gradients: old and reference log-probs [B, T]."""
  return token_logprobs(params, config, compute, tokens, positions, temperature=temperature, first=first)[0]
