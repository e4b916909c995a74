"""Token-level distillation: a teacher's likeliest tokens, the student's log-probs of them, and the update.

As in logprobs.py, logits exist for a chunk of tokens at a time and are made again in the backward pass.
"""
from functools import cache, partial

import jax
import jax.numpy as jnp

from r1jax.errors import InputError
from r1jax.losses.distill import distill_loss
from r1jax.losses.sft import sft_loss
from r1jax.models.attention import MASKED
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.linear import by_device, by_row, over_chunks
from r1jax.models.transformer import forward, head_weight, logits
from r1jax.records import PackedRows
from r1jax.sharding import DATA
from r1jax.training.optimizer import AdamW
from r1jax.training.step import Step, make_step


def _in_chunks(block, chunk: int, *arrays):
  """block(*chunked) over arrays [B, T, ...], `chunk` tokens of each device at a time, for the tokens that follow: what
  comes out, a tree of [B, T, ...], is moved one slot to the right, and slot 0 is zeros."""
  T = arrays[0].shape[1]
  _, out = over_chunks(lambda _, chunked: (None, block(*chunked)), None, chunk, *map(by_device, arrays))

  def aligned(x):
    rest = x.ndim - 2
    return jnp.pad(by_row(x, T)[:, :-1], ((0, 0), (1, 0)) + ((0, 0),) * rest)

  return jax.tree.map(aligned, out)


@partial(jax.jit, static_argnames=("config", "compute", "k"))
def topk_logprobs(params, config: ModelConfig, compute: Compute, tokens, positions, segment_ids,
                  k: int) -> tuple[jax.Array, jax.Array]:
  """(ids [B, T, k] int32, logprobs [B, T, k] float32) of a teacher's k likeliest tokens, likeliest first, at temperature 1.

  Aligned with tokens [B, T] as log-probs are: [:, t] is about slot t given those before it. Slot 0 has none before it and
  is zeros, and the first slot of a later segment is meaningless: both must have weight 0. segment_ids: [B, T], or None.
  Raises InputError for k outside 1..the number of ids that have a token.
  """
  most = config.num_tokens or config.vocab_size
  if not 1 <= k <= most:
    raise InputError("distillation: k", k, f"Give 1 to the size of the vocabulary, {most}.")
  hidden = forward(params, config, compute, tokens, positions, segment_ids)
  head = head_weight(params, config, compute)

  def block(hidden):
    # The largest of a vocabulary that is split over devices are found only with all of it in one place.
    all_logits = jax.sharding.reshard(logits(hidden, head, config.num_tokens), jax.P(DATA, None, None))
    top, ids = jax.lax.top_k(all_logits, k)
    return ids, top - jax.nn.logsumexp(all_logits, axis=-1, keepdims=True)

  return _in_chunks(block, compute.logprob_chunk, hidden)


def logprobs_at(params, config: ModelConfig, compute: Compute, tokens, positions, segment_ids,
                ids) -> tuple[jax.Array, jax.Array, jax.Array]:
  """(logprobs [B, T] of tokens, logprobs [B, T, k] of ids [B, T, k], rest [B, T]), float32, aligned as in topk_logprobs.

  rest: log of the probability of all tokens that are not among the ids of the slot; near MASKED where there are none. From
  the logits and not as 1 - sum, which would lose a small rest to rounding.
  """
  hidden = forward(params, config, compute, tokens, positions, segment_ids)
  head = head_weight(params, config, compute)

  @jax.checkpoint
  def block(hidden, targets, ids):
    all_logits = logits(hidden, head, config.num_tokens)
    norm = jax.nn.logsumexp(all_logits, axis=-1)
    vocabulary = jax.lax.broadcasted_iota(jnp.int32, all_logits.shape, 2, out_sharding=jax.typeof(all_logits).sharding)

    # Masked sums instead of a gather, as in logprobs.py, and one id at a time: masks of all k would be k times the logits.
    @jax.checkpoint
    def logit_of(id):
      return jnp.sum(jnp.where(vocabulary == id[:, :, None], all_logits, 0.0), axis=-1)

    each = jnp.moveaxis(ids, 2, 0)
    covered, _ = jax.lax.scan(lambda mask, id: (mask | (vocabulary == id[:, :, None]), None), vocabulary < 0, each)
    _, found = jax.lax.scan(lambda _, id: (None, logit_of(id)), None, each)
    others = jax.nn.logsumexp(jnp.where(covered, MASKED, all_logits), axis=-1)
    return logit_of(targets) - norm, jnp.moveaxis(found, 0, 2) - norm[:, :, None], others - norm

  # Slot t's hidden state is about the token of slot t + 1; the last slot's is about none.
  following = (jnp.roll(x, -1, axis=1) for x in (tokens, ids))
  return _in_chunks(block, compute.logprob_chunk, hidden, *following)


@cache
def distill_step(config: ModelConfig, compute: Compute, optimizer: AdamW, weight: float) -> Step:
  """The Step of (1 - weight) * sft_loss + weight * distill_loss for these settings, cached.

  Of PackedRows it reads tokens, positions, segment_ids, weights, teacher_ids and teacher_logprobs; metrics are those of
  both losses. Raises InputError for a weight outside 0..1.
  """
  if not 0 <= weight <= 1:
    raise InputError("distillation: weight", weight, "Give a number from 0 (samples alone) to 1 (the teacher alone).")

  def loss_fn(params, rows: PackedRows):
    logprobs, at_ids, rest = logprobs_at(params, config, compute, rows.tokens, rows.positions, rows.segment_ids,
                                         rows.teacher_ids)
    nll, metrics = sft_loss(logprobs, rows.weights)
    kl, more = distill_loss(rows.teacher_logprobs, at_ids, rest, rows.weights)
    return (1 - weight) * nll + weight * kl, {**metrics, **more}

  return make_step(loss_fn, optimizer.build())
