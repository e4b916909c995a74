"""Grouped-query attention over keys that carry a position and a segment.

One rule covers padding, causality and packing: a query at position p of segment s sees the keys of segment s whose
position is at least 0 and at most p. Padding has position -1.
"""
import jax
import jax.numpy as jnp

MASKED = -1e30  # finite: a padding query sees nothing, and its softmax must not be NaN


def visible(q_positions, k_positions, q_segments=None, k_segments=None) -> jax.Array:
  """Boolean [B, T, S] from positions (and segment ids) [B, T] of queries and [B, S] of keys."""
  k = k_positions[:, None, :]
  mask = (k >= 0) & (k <= q_positions[:, :, None])
  if q_segments is not None:
    mask &= q_segments[:, :, None] == k_segments[:, None, :]
  return mask


def attend(q, k, v, mask, scale: float | None = None) -> jax.Array:
  """softmax(scale q k^T) v.  q [B, T, H, h], k [B, S, K, h], v [B, S, K, u], mask [B, T, S] -> [B, T, H, u].

  Query head i reads key/value head i // (H / K). scale: None is h^-1/2. Scores and softmax are float32.
  """
  B, T, H, h = q.shape
  K = k.shape[2]
  batch, _, heads, _ = jax.typeof(q).sharding.spec
  split = (heads, None) if jax.typeof(k).sharding.spec[2] is not None else (None, heads)  # a single key head is whole
  q = q.reshape(B, T, K, H // K, h, out_sharding=jax.P(batch, None, *split, None))
  scores = jnp.einsum("btkgh,bskh->bkgts", q, k, preferred_element_type=jnp.float32)
  scores = scores * (h**-0.5 if scale is None else scale)
  scores = jnp.where(mask[:, None, None, :, :], scores, MASKED)
  weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
  out = jnp.einsum("bkgts,bskh->btkgh", weights, v)
  return out.reshape(B, T, H, v.shape[3], out_sharding=jax.P(batch, None, heads, None))


def in_chunks(f, chunk: int, *arrays):
  """f over the T axis of arrays [B, T, ...], `chunk` positions at a time in a scan; f must treat positions alone.

  T is padded with zeros to a multiple of chunk and the padding dropped from the result, a tree of [B, T, ...].
  """
  T = arrays[0].shape[1]
  if chunk >= T:
    return f(*arrays)
  n = -(-T // chunk)

  def split(x):  # [B, T, ...] -> [n, B, chunk, ...]
    x = jnp.pad(x, [(0, 0), (0, n * chunk - T)] + [(0, 0)] * (x.ndim - 2))
    batch, _, *rest = jax.typeof(x).sharding.spec
    x = x.reshape(x.shape[0], n, chunk, *x.shape[2:], out_sharding=jax.P(batch, None, None, *rest))
    return jnp.moveaxis(x, 1, 0)

  def join(x):  # [n, B, chunk, ...] -> [B, T, ...]
    _, batch, _, *rest = jax.typeof(x).sharding.spec
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0], n * chunk, *x.shape[3:], out_sharding=jax.P(batch, None, *rest))[:, :T]

  _, out = jax.lax.scan(lambda _, xs: (None, f(*xs)), None, tuple(split(x) for x in arrays))
  return jax.tree.map(join, out)


def attend_in_chunks(q, k, v, q_positions, k_positions, q_segments, k_segments, chunk: int | None,
                     scale: float | None = None) -> jax.Array:
  """attend(), `chunk` queries at a time and recomputed in the backward pass: scores are [.., chunk, S] in memory."""
  if chunk is None or q.shape[1] <= chunk:
    return attend(q, k, v, visible(q_positions, k_positions, q_segments, k_segments), scale)
  segments = () if q_segments is None else (q_segments,)

  @jax.checkpoint
  def block(q, positions, *segments):
    return attend(q, k, v, visible(positions, k_positions, *segments, *([k_segments] if segments else [])), scale)

  return in_chunks(block, chunk, q, q_positions, *segments)
