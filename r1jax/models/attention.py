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


def attend(q, k, v, mask) -> jax.Array:
  """softmax(q k^T / sqrt(h)) v.  q [B, T, H, h], k and v [B, S, K, h], mask [B, T, S] -> [B, T, H, h].

  Query head i reads key/value head i // (H / K). Scores and softmax are float32.
  """
  B, T, H, h = q.shape
  K = k.shape[2]
  batch, _, heads, _ = jax.typeof(q).sharding.spec
  q = q.reshape(B, T, K, H // K, h, out_sharding=jax.P(batch, None, heads, None, None))
  scores = jnp.einsum("btkgh,bskh->bkgts", q, k, preferred_element_type=jnp.float32) * h**-0.5
  scores = jnp.where(mask[:, None, None, :, :], scores, MASKED)
  weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
  out = jnp.einsum("bkgts,bskh->btkgh", weights, v)
  return out.reshape(B, T, H, h, out_sharding=jax.P(batch, None, heads, None))


def attend_in_chunks(q, k, v, q_positions, k_positions, q_segments, k_segments, chunk: int | None) -> jax.Array:
  """attend(), `chunk` queries at a time and recomputed in the backward pass: scores are [.., chunk, S] in memory."""
  T = q.shape[1]
  if chunk is None or T <= chunk:
    return attend(q, k, v, visible(q_positions, k_positions, q_segments, k_segments))

  @jax.checkpoint
  def block(q, positions, segments):
    return attend(q, k, v, visible(positions, k_positions, segments, k_segments))

  def cut(x, start):
    return None if x is None else jax.lax.slice_in_dim(x, start, min(start + chunk, T), axis=1)

  # Unrolled, T / chunk blocks: a scan would need T to be a multiple and would keep every block's keys as residuals.
  blocks = [block(cut(q, s), cut(q_positions, s), cut(q_segments, s)) for s in range(0, T, chunk)]
  return jnp.concatenate(blocks, axis=1)
