"""The jitted programs of the sampler: prefill of prompts in chunks, and a segment of the decode loop.

A sample depends on (key, question id, sample number, position) only: each token draws its bits from the key folded with
these. Which slot a sequence is in, and when, does not matter beyond rounding.
"""
from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import PartitionSpec as P
from jax.sharding import reshard

from r1jax.models import cache as kv
from r1jax.models import paged
from r1jax.models.config import ModelConfig
from r1jax.models.decode import extend, next_logits, recent_tables
from r1jax.sampling.choice import WORDS, RowSampling, Sampling, choose
from r1jax.sharding import DATA


@struct.dataclass
class Slots:
  """What the decode loop has to know of each slot, [B] each.

  token: int32, the newest token of the sequence, which is not in the cache yet. length: int32, its tokens in the cache.
  sampled: int32, response tokens so far. limit: int32, most response tokens. question, sample: uint32, what its random
  numbers are made of. live: bool, False for an empty slot. sampling: each slot's own; None where all have the one that is
  compiled in.
  """

  token: jax.Array
  length: jax.Array
  sampled: jax.Array
  limit: jax.Array
  question: jax.Array
  sample: jax.Array
  live: jax.Array
  sampling: RowSampling | None = None


@struct.dataclass
class Segment:
  """What a segment has sampled. tokens, logprobs: [R, B], of which the first count [B] of a slot are its own.

  stopped, done: [B] bool, ended by a stop token; ended. steps: int32 scalar, steps that the loop ran.
  """

  tokens: jax.Array
  logprobs: jax.Array
  count: jax.Array
  stopped: jax.Array
  done: jax.Array
  steps: jax.Array


@struct.dataclass
class _Carry:
  step: jax.Array
  token: jax.Array
  out: Segment
  recent: tuple


def random_bits(key: jax.Array, slots: Slots, steps: int) -> jax.Array:
  """[steps, B, WORDS] uint32 for the next `steps` tokens of every slot."""
  def one(question, sample, position):
    of_row = jax.random.fold_in(jax.random.fold_in(key, question), sample)
    return jax.vmap(lambda t: jax.random.bits(jax.random.fold_in(of_row, position + t), (WORDS,)))(
      jnp.arange(steps, dtype=jnp.int32))

  # The draws are few: every device makes all of them.
  place = [reshard(x, P(None)) for x in (slots.question, slots.sample, slots.sampled)]
  return jnp.swapaxes(jax.vmap(one)(*place), 0, 1)


@partial(jax.jit, static_argnames=("config", "slots", "dtype", "int8", "kernel"))
def empty_cache(*, config: ModelConfig, slots: tuple[int, int], dtype: str, int8: bool,
                kernel: bool = False) -> tuple[dict, ...]:
  """Layers of zeros for slots = (sequences or pages, slots of each). kernel: pages as the kernel of paged.py reads them."""
  if kernel:
    return paged.empty_pages(config, *slots, jnp.dtype(dtype))
  return kv.empty_layers(config, *slots, jnp.dtype(dtype), int8)


@partial(jax.jit, static_argnames=("config",), donate_argnames=("layers",))
def prefill(weights, layers, tokens, offset, *, config: ModelConfig) -> tuple[dict, ...]:
  """A chunk of prompts: the layers of a dense cache with tokens [Q, T] in the slots from offset (int32 scalar) on.

  Rows that have ended are given anything: what lies beyond a sequence's length is never read.
  """
  Q, T = tokens.shape
  lengths = jnp.full((Q,), offset, jnp.int32, out_sharding=P(DATA))
  dtype = weights["embed"].dtype
  tables, recent = recent_tables(config, lengths, T), kv.empty_recent(config, Q, T, dtype)
  _, recent = extend(weights, config, tokens, tables, layers, recent, lengths, jnp.int32(0))
  return kv.write(kv.DenseCache(layers), config, layers, recent, lengths).layers


@partial(jax.jit, static_argnames=("config", "sampling", "steps", "stop_ids"), donate_argnames=("cache",))
def decode_segment(weights, cache, slots: Slots, key, enough, *, config: ModelConfig, sampling: Sampling, steps: int,
                   stop_ids: tuple[int, ...]) -> tuple[Segment, kv.DenseCache | kv.PagedCache]:
  """Decodes until `steps` tokens are drawn, or `enough` (int32 scalar) sequences have ended, or all have.

  The cache needs room for length + steps slots of every live sequence. Rows are independent of one another.
  """
  B = slots.token.shape[0]
  row, wide = P(DATA), P(None, DATA)
  in_place = "kv" in cache.layers[0]  # the pages are read and written where they are
  layers = (cache.table,) * config.num_layers if in_place else kv.view(cache, config)
  bits, tables = random_bits(key, slots, steps), recent_tables(config, slots.length, steps)
  stops = jnp.asarray(stop_ids, jnp.int32)
  spread = partial(reshard, out_shardings=row)

  def more(c: _Carry):
    ended = jnp.sum(c.out.done & slots.live)
    return (c.step < steps) & jnp.any(~c.out.done) & (ended < enough)

  def step(c: _Carry) -> _Carry:
    hidden, recent = extend(weights, config, c.token[:, None], tables, layers, c.recent, slots.length, c.step)
    drawn = reshard(jax.lax.dynamic_index_in_dim(bits, c.step, keepdims=False), P(DATA, None))
    token, logprob = choose(next_logits(weights, config, hidden), drawn, slots.sampling or sampling)
    out, live = c.out, ~c.out.done
    stopped = live & jnp.any(token[:, None] == stops[None], axis=1) if stop_ids else jnp.zeros_like(live)
    done = out.done | stopped | (live & (slots.sampled + c.step + 1 >= slots.limit))

    def put(kept, new):
      return jax.lax.dynamic_update_slice(kept, new[None], (c.step, jnp.int32(0)))
    out = Segment(tokens=put(out.tokens, token), logprobs=put(out.logprobs, logprob),
                  count=out.count + live.astype(jnp.int32), stopped=out.stopped | stopped, done=done, steps=c.step + 1)
    return _Carry(step=c.step + 1, token=token, out=out, recent=recent)

  zeros = partial(jnp.zeros, out_sharding=wide)
  flags = jnp.zeros((B,), bool, out_sharding=row)
  out = Segment(tokens=zeros((steps, B), jnp.int32), logprobs=zeros((steps, B), jnp.float32),
                count=jnp.zeros((B,), jnp.int32, out_sharding=row), stopped=flags, done=~slots.live, steps=jnp.int32(0))
  recent = cache.layers if in_place else kv.empty_recent(config, B, steps, weights["embed"].dtype)
  last = jax.lax.while_loop(more, step, _Carry(step=jnp.int32(0), token=spread(slots.token), out=out, recent=recent))
  if in_place:
    return last.out, cache.replace(layers=last.recent)
  return last.out, kv.write(cache, config, layers, last.recent, slots.length)


@partial(jax.jit, static_argnames=("config",), donate_argnames=("layers",))
def admit_rows(layers, store, source, *, config: ModelConfig) -> tuple[dict, ...]:
  """kv.copy_rows, in place: prompts become the beginning of sequences."""
  return kv.copy_rows(layers, config, store, source)


@partial(jax.jit, static_argnames=("config",), donate_argnames=("layers",))
def admit_pages(layers, store, row, block, page, *, config: ModelConfig) -> tuple[dict, ...]:
  """kv.copy_pages, in place."""
  if "kv" in layers[0]:
    return paged.copy_pages(layers, store, row, block, page)
  return kv.copy_pages(layers, config, store, row, block, page)


@partial(jax.jit, static_argnames=("config",))
def take_rows(layers, source, *, config: ModelConfig) -> tuple[dict, ...]:
  """kv.take_rows: some of the sequences."""
  return kv.take_rows(layers, config, source)


@partial(jax.jit, static_argnames=("slots",))
def lengthen(layers, *, slots: int) -> tuple[dict, ...]:
  """kv.lengthened: room for longer sequences."""
  return kv.lengthened(layers, slots)
