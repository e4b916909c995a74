"""Choosing the next token: temperature, top-k, top-p, greedy; exact at a vocabulary of 150,000.

One cumulative sum over such a vocabulary, in float32, is neither monotone nor fine enough for its rare tokens. The
vocabulary is therefore split into blocks and these into groups of blocks, about cbrt(V) of each. A group is drawn by
its sum, then a block of it, then a token of the block, each with a random word of its own and in integers (see
`pick`), so the token drawn always has a probability above 0. Sums over the vocabulary are sums of such sums too.
"""
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Gt, Le

from r1jax.errors import InputError
from r1jax.fields import Count, NonNegative, check_fields

COLDEST = 1e-3  # lowest temperature but 0
WORDS = 3  # random uint32 that a token takes: for its group, its block and its place in the block


@dataclass(frozen=True)
class Sampling:
  """temperature 0 is greedy. top_p keeps the smallest set of likeliest tokens with at least that mass; top_k the k
  likeliest; both act on the distribution at `temperature`. Tokens as likely as the last one kept are kept too."""

  temperature: NonNegative = 1.0
  top_p: Annotated[float, Gt(0), Le(1)] = 1.0
  top_k: Count | None = None

  def __post_init__(self):
    check_fields(self, "sampling")
    if 0 < self.temperature < COLDEST:
      raise InputError("sampling.temperature", self.temperature, f"Use 0 (greedy), or at least {COLDEST}.")


class RowSampling(NamedTuple):
  """Sampling of B rows, each by its own: temperature [B] and top_p [B], float32, as in Sampling. For rows of several people
  in one batch; a program compiled for it serves them all."""

  temperature: jax.Array
  top_p: jax.Array


class Table(NamedTuple):
  """What tokens are drawn from, for B rows. Token t is in block t % blocks, block m in group m % groups.

  scores: [B, V], log-probs up to a constant of the row, -inf where a token cannot be drawn; highest: [B], their
  maximum; block_sums: [B, blocks] and group_sums: [B, groups], sums of exp(scores - highest); total: [B], of them all.
  """

  scores: jax.Array
  highest: jax.Array
  block_sums: jax.Array
  group_sums: jax.Array
  total: jax.Array


def members(count: int, levels: int) -> int:
  """How many of `count` things share a block, of `levels` levels in all: about count ** (1 / levels).

  A divisor of `count` if there is one from that root to twice the root, since padding costs a copy.
  """
  root = math.ceil(count ** (1 / levels))
  return next((size for size in range(root, 2 * root + 1) if count % size == 0), root)


def stacked(x: jax.Array, size: int, fill: float) -> jax.Array:
  """[..., n] -> [..., size, ceil(n / size)], padded with `fill`; a block is a column, as CPUs add columns fastest."""
  columns = -(-x.shape[-1] // size)
  missing = size * columns - x.shape[-1]
  if missing:
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)], constant_values=fill)
  return x.reshape(*x.shape[:-1], size, columns)


def block_and_group_sums(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Sums [..., blocks] and [..., groups] of x [..., V] over the blocks and groups of `Table`."""
  blocks = jnp.sum(stacked(x, members(x.shape[-1], 3), 0), axis=-2)
  return blocks, jnp.sum(stacked(blocks, members(blocks.shape[-1], 2), 0), axis=-2)


def total(x: jax.Array) -> jax.Array:
  """The sum over the last axis, in three steps: adding 150,000 float32 to one another in turn loses the small ones."""
  return jnp.sum(block_and_group_sums(x)[1], axis=-1)


def log_normalised(scores: jax.Array) -> jax.Array:
  """Log-probs [..., V] of softmax(scores)."""
  shifted = scores - jnp.max(scores, axis=-1, keepdims=True)
  return shifted - jnp.log(total(jnp.exp(shifted)))[..., None]


def largest(zero: jax.Array, bits: int, enough: Callable[[jax.Array], jax.Array]) -> jax.Array:
  """The largest t below 2**bits, uint32 of the shape of `zero`, for which enough(t) is true; 0 if there is none.

  zero: uint32 zeros; enough: true up to some t in each place and false beyond it. t is settled bit by bit, which for a
  threshold over a vocabulary is `bits` passes over it: a sort takes several times as long on a CPU.
  """
  def settle(i, low):
    higher = low | (jnp.uint32(1 << (bits - 1)) >> i.astype(jnp.uint32))
    return jnp.where(enough(higher), higher, low)

  return jax.lax.fori_loop(0, bits, settle, zero)


def nucleus(probs: jax.Array, top_p: float | jax.Array) -> jax.Array:
  """Boolean [..., V]: the tokens with probability >= t, for the largest t at which they hold a mass of top_p, which is one
  for all rows or [...]."""
  def keep(low):  # as bits, floats that are not negative have the order of the floats; 2**30 is 2.0
    return probs >= jax.lax.bitcast_convert_type(low, jnp.float32)[..., None]

  zero = jnp.zeros_like(probs[..., 0], jnp.uint32)
  return keep(largest(zero, 30, lambda low: total(jnp.where(keep(low), probs, 0.0)) >= top_p))


def likeliest(scores: jax.Array, count: int) -> jax.Array:
  """Boolean [..., V]: the `count` highest of scores [..., V], and those equal to the lowest of them."""
  bits = jax.lax.bitcast_convert_type(scores, jnp.int32)
  keys = jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # in the order of the floats

  def keep(low):  # low counts from the lowest int32
    return keys >= jax.lax.bitcast_convert_type(low ^ jnp.uint32(1 << 31), jnp.int32)[..., None]

  zero = jnp.zeros_like(scores[..., 0], jnp.uint32)
  low = largest(zero, 32, lambda low: total(keep(low).astype(jnp.int32)) >= count)
  # Compared as floats, since 0.0 and -0.0 have different keys.
  return scores >= jnp.min(jnp.where(keep(low), scores, jnp.inf), axis=-1, keepdims=True)


def kept_scores(logits: jax.Array, sampling: Sampling) -> jax.Array:
  """logits / temperature [..., V], -inf for the tokens that top_k and top_p leave out."""
  scores = logits / sampling.temperature
  if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
    scores = jnp.where(likeliest(scores, sampling.top_k), scores, -jnp.inf)
  if sampling.top_p < 1:
    scores = jnp.where(nucleus(jnp.exp(log_normalised(scores)), sampling.top_p), scores, -jnp.inf)
  return scores


def sampled_distribution(logits: jax.Array, sampling: Sampling) -> jax.Array:
  """Log-probs [..., V] of the distribution that is sampled from; -inf where a token cannot be drawn.

  logits: [..., V] float32. Not for temperature 0, whose distribution is one token.
  """
  return log_normalised(kept_scores(logits, sampling))


def scores_by_row(logits: jax.Array, sampling: RowSampling) -> jax.Array:
  """kept_scores [B, V] of each row by its own sampling; at temperature 0 the logits as they are."""
  greedy = sampling.temperature == 0
  scores = logits / jnp.where(greedy, 1.0, sampling.temperature)[:, None]
  cut = (sampling.top_p < 1) & ~greedy

  def kept(scores):
    inside = nucleus(jnp.exp(log_normalised(scores)), sampling.top_p)
    return jnp.where(inside | ~cut[:, None], scores, -jnp.inf)

  # Where no row wants a nucleus, none is looked for: that takes thirty passes over the vocabulary.
  return jax.lax.cond(jnp.any(cut), kept, lambda scores: scores, scores)


def make_table(logits: jax.Array, sampling: Sampling | RowSampling) -> Table:
  """The Table of logits [B, V] float32; at temperature 0 that of the distribution at temperature 1."""
  if isinstance(sampling, RowSampling):
    scores = scores_by_row(logits, sampling)
  else:
    scores = logits if sampling.temperature == 0 else kept_scores(logits, sampling)
  highest = jnp.max(scores, axis=-1)
  blocks, groups = block_and_group_sums(jnp.exp(scores - highest[:, None]))
  return Table(scores, highest, blocks, groups, jnp.sum(groups, axis=-1))


def high_word(a: jax.Array, b: jax.Array) -> jax.Array:
  """The upper 32 of the 64 bits of a * b, uint32: the number in [0, b) that the random word a stands for."""
  a1, a0, b1, b0 = a >> 16, a & 0xFFFF, b >> 16, b & 0xFFFF
  middle = ((a0 * b0) >> 16) + ((a1 * b0) & 0xFFFF) + ((a0 * b1) & 0xFFFF)
  return a1 * b1 + ((a1 * b0) >> 16) + ((a0 * b1) >> 16) + (middle >> 16)


def pick(weights: jax.Array, bits: jax.Array) -> jax.Array:
  """Index [B] int32 drawn in proportion to weights [B, n] float32 by one random word a row, bits [B] uint32.

  The weights become integers that add up to about 2**31. Their cumulative sum is then exact, every index whose weight
  is not rounded to 0 (below 2**-32 of the sum) is drawn for some word, and an index of weight 0 for none.
  """
  counts = jnp.round(weights * (2.0**31 / jnp.sum(weights, axis=-1, keepdims=True))).astype(jnp.uint32)
  cumulative = jnp.cumsum(counts, axis=-1)
  point = high_word(bits, cumulative[:, -1])
  index = jnp.sum((cumulative <= point[:, None]).astype(jnp.int32), axis=-1)
  return jnp.minimum(index, weights.shape[-1] - 1)  # only where weights are NaN: the log-prob says so, the index is valid


def entries(x: jax.Array, places: jax.Array, fill: float) -> jax.Array:
  """[B, n] of x [B, V] at places [B, n] int32, `fill` beyond V. Row by row, for a batch that is split over devices and may
  have one row."""
  return jax.vmap(lambda row, at: row.at[at].get(mode="fill", fill_value=fill))(x, places)


def draw(table: Table, bits: jax.Array) -> jax.Array:
  """Token ids [B] int32 from a table of B rows and bits [B, WORDS] uint32."""
  vocab, blocks, groups = (x.shape[-1] for x in (table.scores, table.block_sums, table.group_sums))

  def column(x, index, width, fill):  # [B, ceil(n / width)] of x [B, n]: each width-th entry from index [B] on
    places = index[:, None] + jnp.arange(0, x.shape[-1], width, dtype=jnp.int32)[None, :]
    return entries(x, places, fill)

  group = pick(table.group_sums, bits[:, 0])
  block = group + groups * pick(column(table.block_sums, group, groups, 0.0), bits[:, 1])
  weights = jnp.exp(column(table.scores, block, blocks, -jnp.inf) - table.highest[:, None])
  token = block + blocks * pick(weights, bits[:, 2])
  return jnp.minimum(token, vocab - 1)


def choose(logits: jax.Array, bits: jax.Array, sampling: Sampling | RowSampling) -> tuple[jax.Array, jax.Array]:
  """Token ids [B] int32 and their log-probs [B] float32 from logits [B, V] float32 and bits [B, WORDS] uint32.

  logits may be -inf for tokens that must not be drawn. Greedy reports the log-prob at temperature 1, since its own is
  always 0.
  """
  rows = make_table(logits, sampling)
  if isinstance(sampling, RowSampling):
    tokens = jnp.where(sampling.temperature == 0, jnp.argmax(logits, axis=-1).astype(jnp.int32), draw(rows, bits))
  else:
    tokens = jnp.argmax(logits, axis=-1).astype(jnp.int32) if sampling.temperature == 0 else draw(rows, bits)
  chosen = entries(rows.scores, tokens[:, None], -jnp.inf)[:, 0]
  return tokens, chosen - rows.highest - jnp.log(rows.total)
