"""The dense decoder of Qwen2/2.5, Qwen3 and Llama 3, as functions of a parameter table.

Letters: B sequences, T tokens, S cache slots, D d_model, H query heads, K key/value heads, h head_dim, F d_ff,
V vocabulary, L layers. Layers are scanned. Call under `jax.set_mesh(mesh)`.
"""
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import PartitionSpec as P
from jax.sharding import reshard

from r1jax.models.attention import attend, attend_in_chunks, visible
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.params import weight_table
from r1jax.models.rope import rope_tables, rotate
from r1jax.sharding import BATCH, ROLLOUT_RULES, partition_spec

POLICIES = {
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "full": jax.checkpoint_policies.nothing_saveable,
}


@struct.dataclass
class KVCache:
  """Keys (rotated) and values of the slots filled so far.

  k, v: [L, B, S, K, h]. positions: [B, S] int32, the token's position in its sequence, -1 in an empty slot.
  """

  k: jax.Array
  v: jax.Array
  positions: jax.Array


def empty_cache(config: ModelConfig, batch: int, slots: int, dtype) -> KVCache:
  """A cache of `batch` sequences x `slots` slots, split over the batch and tensor axes."""
  shape = (config.num_layers, batch, slots, config.num_kv_heads, config.head_dim)
  spec = P(None, BATCH, None, "tensor", None)
  return KVCache(k=jnp.zeros(shape, dtype, out_sharding=spec), v=jnp.zeros(shape, dtype, out_sharding=spec),
                 positions=jnp.full((batch, slots), -1, jnp.int32, out_sharding=P(BATCH, None)))


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
  """x / sqrt(mean(x^2) + eps) * scale over the last axis, in float32."""
  x32 = x.astype(jnp.float32)
  x32 = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + eps)
  scale = jax.lax.broadcast_in_dim(scale.astype(jnp.float32), x.shape, (x.ndim - 1,), out_sharding=jax.typeof(x).sharding)
  return (x32 * scale).astype(x.dtype)


def gathered(w: jax.Array, axes: tuple[str, ...], dtype) -> jax.Array:
  """A weight as it is used: in the compute dtype, whole over fsdp, still split over tensor."""
  return reshard(w.astype(dtype), partition_spec(axes, ROLLOUT_RULES))


def embed(params: dict, config: ModelConfig, compute: Compute, tokens: jax.Array) -> jax.Array:
  """Token ids [B, T] -> [B, T, D] in the compute dtype."""
  table = reshard(params["embed"].astype(compute.dtype), P(None, None))
  return table.at[tokens].get(out_sharding=P(BATCH, None, None))


def head_weight(params: dict, config: ModelConfig, compute: Compute) -> jax.Array:
  """The output head [D, V], split over tensor along V. Take it once, outside any loop over positions."""
  w = params["embed"].T if config.tie_embeddings else params["head"]
  return reshard(w.astype(compute.dtype), P(None, "tensor"))


def logits(hidden: jax.Array, head: jax.Array) -> jax.Array:
  """[..., D] x [D, V] -> [..., V] in float32."""
  return jnp.einsum("...d,dv->...v", hidden, head, preferred_element_type=jnp.float32)


def _layer(config: ModelConfig, dtype, axes: dict, x, w, cos, sin, attention: Callable):
  """One decoder layer. `attention(q, k, v) -> (out [B, T, H, h], carry)` is where training and decoding differ."""
  w = {name: gathered(w[name], axes[name][1:], dtype) for name in w}
  out_spec = P(BATCH, None, None)

  y = rms_norm(x, w["attn_norm"], config.rms_norm_eps)
  q, k, v = (jnp.einsum("btd,dnh->btnh", y, w[name]) for name in "qkv")
  if config.qkv_bias:
    q, k, v = q + w["q_bias"][None, None], k + w["k_bias"][None, None], v + w["v_bias"][None, None]
  if config.qk_norm:
    q, k = rms_norm(q, w["q_norm"], config.rms_norm_eps), rms_norm(k, w["k_norm"], config.rms_norm_eps)
  out, carry = attention(rotate(q, cos, sin), rotate(k, cos, sin), v)
  x = x + jnp.einsum("btnh,nhd->btd", out, w["o"], out_sharding=out_spec)

  y = rms_norm(x, w["mlp_norm"], config.rms_norm_eps)
  gate = jax.nn.silu(jnp.einsum("btd,df->btf", y, w["gate"]))
  up = jnp.einsum("btd,df->btf", y, w["up"])
  x = x + jnp.einsum("btf,fd->btd", gate * up, w["down"], out_sharding=out_spec)
  return x, carry


def _layer_axes(config: ModelConfig) -> dict:
  return {name: w.axes for name, w in weight_table(config)["layers"].items()}


def forward(params: dict, config: ModelConfig, compute: Compute, tokens, positions, segment_ids=None) -> jax.Array:
  """Final hidden states [B, T, D] of whole sequences, for training and scoring.

  tokens, positions: [B, T] int32, positions -1 in padding. segment_ids [B, T] keep packed sequences apart; the
  positions of each then start at 0.
  """
  axes = _layer_axes(config)
  cos, sin = rope_tables(config, positions)
  x = embed(params, config, compute, tokens)

  def body(x, w):
    def attention(q, k, v):
      return attend_in_chunks(q, k, v, positions, positions, segment_ids, segment_ids, compute.attention_chunk), None
    return _layer(config, compute.dtype, axes, x, w, cos, sin, attention)

  if compute.remat != "none":
    body = jax.checkpoint(body, policy=POLICIES[compute.remat], prevent_cse=False)
  x, _ = jax.lax.scan(body, x, params["layers"])
  return rms_norm(x, gathered(params["final_norm"], ("embed",), compute.dtype), config.rms_norm_eps)


def extend(params: dict, config: ModelConfig, compute: Compute, tokens, positions, cache: KVCache, slot):
  """Final hidden states [B, T, D] of new tokens that follow the cache, and the cache with them in it.

  The tokens of every sequence go to slots slot .. slot + T - 1. Prefill is T = prompt length at slot 0, a decode
  step is T = 1. tokens, positions: [B, T]; slot: int32 scalar.
  """
  axes = _layer_axes(config)
  cos, sin = rope_tables(config, positions)
  x = embed(params, config, compute, tokens)
  slot_positions = jax.lax.dynamic_update_slice_in_dim(cache.positions, positions, slot, axis=1)
  mask = visible(positions, slot_positions)
  zero = jnp.zeros((), jnp.int32)

  def body(carry, w):
    x, keys, values, layer = carry

    def attention(q, k, v):
      # Written into the stacked cache in place; the carry of the scan is never copied.
      start = (layer, zero, jnp.asarray(slot, jnp.int32), zero, zero)
      new_keys = jax.lax.dynamic_update_slice(keys, k[None].astype(keys.dtype), start)
      new_values = jax.lax.dynamic_update_slice(values, v[None].astype(values.dtype), start)
      k_all = jax.lax.dynamic_index_in_dim(new_keys, layer, 0, keepdims=False)
      v_all = jax.lax.dynamic_index_in_dim(new_values, layer, 0, keepdims=False)
      return attend(q, k_all, v_all, mask), (new_keys, new_values)

    x, (keys, values) = _layer(config, compute.dtype, axes, x, w, cos, sin, attention)
    return (x, keys, values, layer + 1), None

  (x, keys, values, _), _ = jax.lax.scan(body, (x, cache.k, cache.v, zero), params["layers"])
  hidden = rms_norm(x, gathered(params["final_norm"], ("embed",), compute.dtype), config.rms_norm_eps)
  return hidden, KVCache(k=keys, v=values, positions=slot_positions)
