"""Grouped-query attention over keys that carry a position and a segment.

One rule covers padding, causality and packing: a query at position p of segment s sees the keys of segment s whose
position is at least 0 and at most p. Padding has position -1.

Letters: B sequences, T queries, S keys, H query heads, K key/value heads, G = H / K, h, u head sizes of keys and of values.
"""
from functools import partial

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from r1jax.models import splash
from r1jax.models.config import Compute
from r1jax.sharding import platform

FASTEST = {"tpu": "splash"}  # of Compute.attention, by platform
MASKED = -1e30  # finite: a padding query sees nothing, and its softmax must not be NaN
# Most spans of a row, and their fewest tokens: each is compiled by itself, and reads the keys up to its own end.
SPANS, SPAN = 4, 256


def visible(q_positions, k_positions, q_segments=None, k_segments=None) -> jax.Array:
  """Boolean [B, T, S] from positions (and segment ids) [B, T] of queries and [B, S] of keys."""
  k = k_positions[:, None, :]
  mask = (k >= 0) & (k <= q_positions[:, :, None])
  if q_segments is not None:
    mask &= q_segments[:, :, None] == k_segments[:, None, :]
  return mask


def implementation(compute: Compute, platform: str, length: int) -> str:
  """Of Compute.attention, for rows of `length` slots: the platform's fastest where it can take such rows."""
  kernel = FASTEST.get(platform) if length % splash.BLOCKS[-1] == 0 else None
  return compute.attention or kernel or "chunks"


def attend_causally(q, k, v, positions, segment_ids, compute: Compute, scale: float | None = None) -> jax.Array:
  """softmax(scale q k^T) v of whole rows: q [B, T, H, h], k [B, T, K, h], v [B, T, K, u] -> [B, T, H, u].

  Query head i reads key/value head i // G. scale: None is h^-1/2. Scores and softmax are float32.

  positions, segment_ids: [B, T], segment_ids may be None; the slots of a segment are in the order of its positions, so a
  query needs the keys up to its own slot. Scores are made again in the backward pass: memory is linear in T. A query that
  sees nothing (padding) gives zeros and no gradient. `implementation` says how.
  """
  segments = jnp.zeros_like(positions) if segment_ids is None else segment_ids
  scale = float(q.shape[-1]**-0.5 if scale is None else scale)
  if implementation(compute, platform(), q.shape[1]) == "splash":
    return splash.attend(q, k, v, positions, segments, scale)
  return _in_chunks(q, k, v, positions, segments, compute.attention_chunk, scale)


def _in_chunks(q, k, v, positions, segments, chunk: int, scale: float) -> jax.Array:
  """attend_causally by `chunk` queries at a time, with the keys up to the end of their span (a quarter of a long row)."""
  B, T, H, h = q.shape
  K = k.shape[2]
  n = -(-T // chunk)
  chunk = min(chunk, -(-T // n // 8) * 8)  # chunks alike, so that little of the last one is padding
  batch, _, heads, _ = jax.typeof(q).sharding.spec
  pad = n * chunk - T

  def padded(x, value=0):
    return jnp.pad(x, [(0, 0), (0, pad)] + [(0, 0)] * (x.ndim - 2), constant_values=value) if pad else x

  q = padded(q).reshape(B, n, chunk, K, H // K, h, out_sharding=jax.P(batch, None, None, heads, None, None))
  q = q.transpose(1, 0, 3, 4, 2, 5)  # [n, B, K, G, chunk, h]
  k, v = (padded(x).transpose(0, 2, 1, 3) for x in (k, v))  # [B, K, S, h]
  out = _blocks(q, k, v, padded(positions, -1), padded(segments), scale)
  out = out.transpose(1, 0, 4, 2, 3, 5)  # [B, n, chunk, K, G, u]
  return out.reshape(B, n * chunk, H, v.shape[3], out_sharding=jax.P(batch, None, heads, None))[:, :T]


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _blocks(q, k, v, positions, segments, scale):
  """q [n, B, K, G, c, h], k, v [B, K, n c, h], positions and segments [B, n c] -> [n, B, K, G, c, u]."""
  return _blocks_forward(q, k, v, positions, segments, scale)[0]


def _spans(n: int, chunk: int) -> list[tuple[int, int]]:
  """(first chunk, chunk after the last) of each span of n chunks."""
  spans = min(SPANS, -(-n * chunk // SPAN))
  edges = sorted({round(i * n / spans) for i in range(spans + 1)})
  return list(zip(edges, edges[1:], strict=False))


def _by_chunk(x, n):
  """[B, n c] -> [n, B, c]."""
  batch, _ = jax.typeof(x).sharding.spec
  return x.reshape(x.shape[0], n, x.shape[1] // n, out_sharding=jax.P(batch, None, None)).transpose(1, 0, 2)


def _scores(q, k, mask, scale):
  """[B, K, G, c, S] float32."""
  scores = jnp.einsum("bkgch,bksh->bkgcs", q, k, preferred_element_type=jnp.float32) * scale
  return jnp.where(mask[:, None, None], scores, MASKED)


def _over_span(f, carry, *arrays):
  """scan, or f itself on the only chunk there is."""
  if arrays[0].shape[0] > 1:
    return jax.lax.scan(f, carry, arrays)
  carry, out = f(carry, tuple(x[0] for x in arrays))
  return carry, jax.tree.map(lambda x: x[None], out)


def _blocks_forward(q, k, v, positions, segments, scale):
  n, chunk = q.shape[0], q.shape[4]
  q_positions, q_segments = _by_chunk(positions, n), _by_chunk(segments, n)
  outs, norms = [], []
  for first, last in _spans(n, chunk):
    end = last * chunk

    def block(_, chunked, end=end):
      q, q_positions, q_segments = chunked
      mask = visible(q_positions, positions[:, :end], q_segments, segments[:, :end])
      scores = _scores(q, k[:, :, :end], mask, scale)
      # Not below MASKED / 2, so that exp is 0 for all that is masked, even where everything is.
      top = jnp.maximum(jnp.max(scores, axis=-1), MASKED / 2)
      weights = jnp.exp(scores - top[..., None])
      total = jnp.sum(weights, axis=-1)
      total = jnp.where(total > 0, total, 1.0)
      out = jnp.einsum("bkgcs,bksu->bkgcu", weights.astype(v.dtype), v[:, :, :end], preferred_element_type=jnp.float32)
      return None, ((out / total[..., None]).astype(q.dtype), top + jnp.log(total))

    _, (out, norm) = _over_span(block, None, q[first:last], q_positions[first:last], q_segments[first:last])
    outs.append(out)
    norms.append(norm)
  out, norm = (checkpoint_name(jnp.concatenate(x) if len(x) > 1 else x[0], "attention") for x in (outs, norms))
  return out, (q, k, v, positions, segments, out, norm)


def _blocks_backward(scale, kept, gradient):
  q, k, v, positions, segments, out, norm = kept
  n, chunk = q.shape[0], q.shape[4]
  q_positions, q_segments = _by_chunk(positions, n), _by_chunk(segments, n)
  # What the softmax's normalisation takes off: sum_s p_s dp_s = out . d out.
  mean = jnp.sum(gradient.astype(jnp.float32) * out.astype(jnp.float32), axis=-1)
  to_k, to_v = (jnp.zeros(x.shape, jnp.float32, out_sharding=jax.typeof(x).sharding.spec) for x in (k, v))
  to_qs = []
  for first, last in _spans(n, chunk):
    end = last * chunk

    def block(carry, chunked, end=end):
      to_k, to_v = carry
      q, q_positions, q_segments, norm, gradient, mean = chunked
      mask = visible(q_positions, positions[:, :end], q_segments, segments[:, :end])
      weights = jnp.exp(_scores(q, k[:, :, :end], mask, scale) - norm[..., None])
      slope = jnp.einsum("bkgcu,bksu->bkgcs", gradient, v[:, :, :end], preferred_element_type=jnp.float32)
      slope = weights * (slope - mean[..., None]) * scale
      weights, slope = jax.lax.optimization_barrier((weights.astype(v.dtype), slope.astype(q.dtype)))
      to_v += jnp.einsum("bkgcs,bkgcu->bksu", weights, gradient, preferred_element_type=jnp.float32)
      to_k += jnp.einsum("bkgcs,bkgch->bksh", slope, q, preferred_element_type=jnp.float32)
      return (to_k, to_v), jnp.einsum("bkgcs,bksh->bkgch", slope, k[:, :, :end])

    part = slice(first, last)
    carry = to_k[:, :, :end], to_v[:, :, :end]
    (more_k, more_v), to_q = _over_span(block, carry, *(x[part] for x in (
      q, q_positions, q_segments, norm, gradient, mean)))
    to_k, to_v = to_k.at[:, :, :end].set(more_k), to_v.at[:, :, :end].set(more_v)
    to_qs.append(to_q)
  to_q = jnp.concatenate(to_qs) if len(to_qs) > 1 else to_qs[0]
  return to_q.astype(q.dtype), to_k.astype(k.dtype), to_v.astype(v.dtype), None, None


_blocks.defvjp(_blocks_forward, _blocks_backward)
