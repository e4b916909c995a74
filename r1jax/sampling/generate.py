"""Prefill and a jitted decode loop.

A sample depends on (key, question id, sample number, position) only: each row has its own key, each token draws one
uniform number from that key folded with its place in the response. Which batch, slot or host a row is in does not matter.
"""
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.sharding import reshard

from r1jax.models.config import Compute, ModelConfig
from r1jax.models.transformer import KVCache, empty_cache, extend, head_weight, logits
from r1jax.records import Rollouts
from r1jax.sampling.choice import Sampling, choose
from r1jax.sharding import BATCH


def row_keys(key: jax.Array, question_ids: jax.Array, group_size: int) -> jax.Array:
  """One key for each of [Q * group_size] rows, question by question: key folded with question id, then sample."""
  def one(question, sample):
    return jax.random.fold_in(jax.random.fold_in(key, question), sample)
  keys = jax.vmap(lambda q: jax.vmap(lambda s: one(q, s))(jnp.arange(group_size, dtype=jnp.uint32)))(question_ids)
  return keys.reshape(-1)


def repeat_rows(x: jax.Array, times: int, axis: int = 0) -> jax.Array:
  """Each row `times` times in a row; the batch stays split as it was."""
  spec = list(jax.typeof(x).sharding.spec)
  shape = list(x.shape)
  wide = jnp.expand_dims(x, axis + 1)
  wide_shape = [*shape[:axis + 1], times, *shape[axis + 1:]]
  wide_spec = P(*spec[:axis + 1], None, *spec[axis + 1:])
  wide = jax.lax.broadcast_in_dim(wide, wide_shape, range(len(wide_shape)), out_sharding=wide_spec)
  shape[axis] *= times
  return wide.reshape(shape, out_sharding=P(*spec))


def _prefill(params, config, compute, prompts, lengths, group_size, slots):
  """Runs each prompt once; its cache and last hidden state are then shared by the group."""
  Q, prompt_slots = prompts.shape
  offset = prompt_slots - lengths  # the prompt's padding is on its left
  slot = jnp.arange(prompt_slots, dtype=jnp.int32)
  positions = jnp.maximum(slot[None, :] - offset[:, None], -1)
  cache = empty_cache(config, Q, slots, compute.dtype)
  hidden, cache = extend(params, config, compute, prompts, positions, cache, jnp.int32(0))
  cache = KVCache(k=repeat_rows(cache.k, group_size, 1), v=repeat_rows(cache.v, group_size, 1),
                  positions=repeat_rows(cache.positions, group_size))
  return repeat_rows(hidden[:, -1, :], group_size), cache, repeat_rows(positions, group_size)


@partial(jax.jit, static_argnames=("config", "compute", "sampling", "group_size", "max_new", "stop_ids", "pad_id"))
def generate(params, key, question_ids, prompts, lengths, *, config: ModelConfig, compute: Compute, sampling: Sampling,
             group_size: int, max_new: int, stop_ids: tuple[int, ...], pad_id: int) -> Rollouts:
  """Samples group_size responses of at most max_new tokens to each of Q prompts.

  prompts: [Q, P] int32, left-padded; lengths: [Q] int32, tokens of each prompt; question_ids: [Q] uint32, what a
  question's randomness hangs on. Rows of the result are question by question, N = Q * group_size. The loop ends when
  every row has drawn one of stop_ids. Parameters should be in the rollout layout (ROLLOUT_RULES).
  """
  Q, prompt_slots = prompts.shape
  N = Q * group_size
  slots = prompt_slots + max_new
  keys = row_keys(key, reshard(question_ids, P(None)), group_size)
  hidden, cache, prompt_positions = _prefill(params, config, compute, prompts, lengths, group_size, slots)
  rows = repeat_rows(prompts, group_size)
  prompt_lengths = repeat_rows(lengths, group_size)
  head = head_weight(params, config, compute)
  stops = jnp.asarray(stop_ids, jnp.int32)

  def pick(hidden, t):
    uniform = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, t)))(keys)
    scores = reshard(logits(hidden, head), P(BATCH, None))  # a row's whole vocabulary on one device
    return choose(scores, reshard(uniform, P(BATCH)), sampling)

  def is_stop(token):
    return jnp.any(token[:, None] == stops[None, :], axis=-1)

  def more(carry):
    t, _, _, done, *_ = carry
    return (t < max_new) & ~jnp.all(done)

  def decode(carry):
    t, token, logprob, done, tokens, logprobs, mask, cache = carry
    column = (jnp.int32(0), t)
    tokens = jax.lax.dynamic_update_slice(tokens, jnp.where(done, pad_id, token)[:, None], column)
    logprobs = jax.lax.dynamic_update_slice(logprobs, jnp.where(done, 0.0, logprob)[:, None], column)
    mask = jax.lax.dynamic_update_slice(mask, ~done[:, None], column)
    position = jnp.where(done, -1, prompt_lengths + t)
    done = done | is_stop(token)
    hidden, cache = extend(params, config, compute, token[:, None], position[:, None], cache, prompt_slots + t)
    token, logprob = pick(hidden[:, 0, :], t + 1)
    return t + 1, token, logprob, done, tokens, logprobs, mask, cache

  row = P(BATCH)
  token, logprob = pick(hidden, jnp.int32(0))
  done = jnp.zeros((N,), bool, out_sharding=row)
  wide = P(BATCH, None)
  carry = (jnp.int32(0), token, logprob, done, jnp.full((N, max_new), pad_id, jnp.int32, out_sharding=wide),
           jnp.zeros((N, max_new), jnp.float32, out_sharding=wide), jnp.zeros((N, max_new), bool, out_sharding=wide), cache)
  _, _, _, done, tokens, logprobs, mask, _ = jax.lax.while_loop(more, decode, carry)

  response = prompt_lengths[:, None] + jnp.arange(max_new, dtype=jnp.int32)[None, :]
  prompt_zeros = jnp.zeros((N, prompt_slots), jnp.float32, out_sharding=wide)
  return Rollouts(
    tokens=jnp.concatenate([rows, tokens], axis=1),
    positions=jnp.concatenate([prompt_positions, jnp.where(mask, response, -1)], axis=1),
    mask=jnp.concatenate([prompt_zeros.astype(bool), mask], axis=1),
    logprobs=jnp.concatenate([prompt_zeros, logprobs], axis=1),
    stopped=done)
