"""Attention over a cache and recent tokens, against NumPy in float64."""
import numpy as np
import pytest

from r1jax.models import cache as kv


def softmax_attention(q, k, v, seen, scale):
  """[M, u] of one head in float64: q [M, h], k [n, h], v [n, u], seen [M, n]."""
  scores = np.where(seen, q.astype(np.float64) @ k.T.astype(np.float64) * scale, -np.inf)
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  return weights / weights.sum(-1, keepdims=True) @ v.astype(np.float64)


@pytest.mark.parametrize(("queries", "size", "slots"), [
  (4, 64, 256), (1, 64, 90), (4, 66, 2080), (7, 128, 2048), (4, 16, 256), (32, 64, 96), (2, 65, 64),
])
def test_attend_equals_float64(queries, size, slots):
  rng = np.random.default_rng(0)
  B, K, R, scale = 32, 2, 8, size**-0.5  # as many products as are made in parts
  def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)
  q, past = normal(B, K, queries, size), {"k": normal(B, K, size, slots), "v": normal(B, K, slots, size)}
  recent = {"k": normal(B, K, size, R), "v": normal(B, K, R, size)}
  lengths = np.linspace(0, slots, B).astype(np.int32)
  newest = rng.integers(1, R + 1, queries).astype(np.int32)
  leaf = {"k": kv.in_blocks(past["k"][:, :, None], kv.key_block(size, False, slots)), "v": past["v"]}
  out = np.asarray(kv.attend(q, leaf, recent, lengths, newest, scale, size))
  for b in range(B):
    seen = np.concatenate([np.broadcast_to(np.arange(slots) < lengths[b], (queries, slots)),
                           np.arange(R)[None] < newest[:, None]], axis=1)
    for head in range(K):
      k = np.concatenate([past["k"][b, head].T, recent["k"][b, head].T])
      v = np.concatenate([past["v"][b, head], recent["v"][b, head]])
      np.testing.assert_allclose(out[b, head], softmax_attention(q[b, head], k, v, seen, scale), atol=2e-6, rtol=1e-5)
