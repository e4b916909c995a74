"""Token-level distillation: a teacher's likeliest tokens, the student's log-probs of them, and the update.

As in score.py, logits exist for a chunk of positions at a time and are made again in the backward pass.
"""
from functools import cache, partial

import jax
import jax.numpy as jnp

from r1jax.errors import InputError
from r1jax.losses.distill import distill_loss
from r1jax.losses.sft import sft_loss
from r1jax.models.attention import MASKED, in_chunks
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.transformer import forward, head_weight, logits
from r1jax.records import DistillBatch
from r1jax.sharding import BATCH
from r1jax.training.optimizer import AdamW
from r1jax.training.step import make_update


@partial(jax.jit, static_argnames=("config", "compute", "k"))
def topk_logprobs(params, config: ModelConfig, compute: Compute, tokens, positions, segment_ids,
                  k: int) -> tuple[jax.Array, jax.Array]:
  """(ids [B, T, k] int32, logprobs [B, T, k] float32) of a teacher's k likeliest tokens, likeliest first, at temperature 1.

  Aligned with tokens [B, T] as log-probs are: [:, t] is about slot t given those before it. Slot 0 has none before it and
  is zeros, and the first slot of a later segment is meaningless: both must have weight 0. segment_ids: [B, T], or None.
  Raises InputError for k outside 1..vocab_size.
  """
  if not 1 <= k <= config.vocab_size:
    raise InputError("distillation: k", k, f"Give 1 to the size of the vocabulary, {config.vocab_size}.")
  hidden = forward(params, config, compute, tokens, positions, segment_ids)
  head = head_weight(params, config, compute)

  def block(hidden):
    # The largest of a vocabulary that is split over devices are found only with all of it in one place.
    scores = jax.sharding.reshard(logits(hidden, head), jax.P(BATCH, None, None))
    top, ids = jax.lax.top_k(scores, k)
    return ids, top - jax.nn.logsumexp(scores, axis=-1, keepdims=True)

  found = in_chunks(block, compute.logprob_chunk, hidden[:, :-1])
  return jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (1, 0), (0, 0))), found)


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
    scores = logits(hidden, head)
    norm = jax.nn.logsumexp(scores, axis=-1)
    vocabulary = jax.lax.broadcasted_iota(jnp.int32, scores.shape, 2, out_sharding=jax.typeof(scores).sharding)

    # Masked sums instead of a gather, as in score.py, and one id at a time: masks of all k would be k times the logits.
    @jax.checkpoint
    def score_of(id):
      return jnp.sum(jnp.where(vocabulary == id[:, :, None], scores, 0.0), axis=-1)

    each = jnp.moveaxis(ids, 2, 0)
    covered, _ = jax.lax.scan(lambda mask, id: (mask | (vocabulary == id[:, :, None]), None), vocabulary < 0, each)
    _, found = jax.lax.scan(lambda _, id: (None, score_of(id)), None, each)
    others = jax.nn.logsumexp(jnp.where(covered, MASKED, scores), axis=-1)
    return score_of(targets) - norm, jnp.moveaxis(found, 0, 2) - norm[:, :, None], others - norm

  found = in_chunks(block, compute.logprob_chunk, hidden[:, :-1], tokens[:, 1:], ids[:, 1:])
  return jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (1, 0)) + ((0, 0),) * (x.ndim - 2)), found)


@cache
def distill_update(config: ModelConfig, compute: Compute, optimizer: AdamW, weight: float):
  """update(state, DistillBatch of [M, N / M, ...]) -> (state, metrics), jitted and cached.

  Loss = (1 - weight) * sft_loss + weight * distill_loss; metrics are those of both. Raises InputError for a weight outside
  0..1.
  """
  if not 0 <= weight <= 1:
    raise InputError("distillation: weight", weight, "Give a number from 0 (samples alone) to 1 (the teacher alone).")

  def loss_fn(params, batch: DistillBatch):
    rows = batch.rows
    logprobs, at_ids, rest = logprobs_at(params, config, compute, rows.tokens, rows.positions, rows.segment_ids,
                                         batch.teacher_ids)
    nll, metrics = sft_loss(logprobs, rows.weights)
    kl, more = distill_loss(batch.teacher_logprobs, at_ids, rest, rows.weights)
    return (1 - weight) * nll + weight * kl, {**metrics, **more}

  return make_update(loss_fn, optimizer.build())
