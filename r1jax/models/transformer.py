"""The decoder of Qwen2/2.5, Qwen3, Llama 3 and DeepSeek-V3, as functions of a parameter table.

Letters: B sequences, T tokens, D d_model, H query heads, K key/value heads, h head_dim, F d_ff,
V vocabulary, L layers. Layers are scanned. Call under `jax.set_mesh(mesh)`.
"""
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.sharding import reshard

from r1jax.models import mla
from r1jax.models.attention import MASKED, attend_causally
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.linear import flat, linear, swiglu
from r1jax.models.moe import mixture
from r1jax.models.norm import rms_norm
from r1jax.models.params import stacks, weight_table
from r1jax.models.rope import rope_tables, rotate
from r1jax.sharding import BATCH, ROLLOUT_RULES, partition_spec

POLICIES = {
  "nothing": jax.checkpoint_policies.nothing_saveable,
  "attention": jax.checkpoint_policies.save_only_these_names("attention"),
  "dots": jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable, jax.checkpoint_policies.save_only_these_names("attention")),
}


FASTEST = {"cpu": "dots"}  # of POLICIES, by platform
# Weights whose products have a backward pass of their own (linear.py), which takes them as they are stored.
PRODUCTS = ("q", "k", "v", "o", "gate", "up", "down")


def gathered(w: jax.Array, axes: tuple[str, ...], dtype) -> jax.Array:
  """A weight as it is used: in the compute dtype, whole over fsdp, still split over tensor."""
  return reshard(w.astype(dtype), partition_spec(axes, ROLLOUT_RULES))


def embed(params: dict, config: ModelConfig, compute: Compute, tokens: jax.Array) -> jax.Array:
  """Token ids [B, T] -> [B, T, D] in the compute dtype."""
  table = reshard(params["embed"].astype(compute.dtype), P(None, None))
  return table.at[tokens].get(out_sharding=P(BATCH, None, None))


def stored_head(params: dict, config: ModelConfig) -> jax.Array:
  """The output head [D, V] in float32 and in the parameters' layout."""
  return params["embed"].T if config.tie_embeddings else params["head"]


def head_weight(params: dict, config: ModelConfig, compute: Compute) -> jax.Array:
  """The output head [D, V] as it is used, split over tensor along V. Take it once, outside any loop over positions."""
  return reshard(stored_head(params, config).astype(compute.dtype), P(None, "tensor"))


def logits(hidden: jax.Array, head: jax.Array, num_tokens: int | None = None) -> jax.Array:
  """[..., D] x [D, V] -> [..., V] in float32; those of ids from num_tokens on are MASKED, so that exp gives exactly 0."""
  scores = jnp.einsum("...d,dv->...v", hidden, head, preferred_element_type=jnp.float32)
  if num_tokens is None or num_tokens == head.shape[1]:
    return scores
  ids = jax.lax.broadcasted_iota(jnp.int32, scores.shape, scores.ndim - 1, out_sharding=jax.typeof(scores).sharding)
  return jnp.where(ids < num_tokens, scores, MASKED)


def rows(x: jax.Array, like: jax.Array) -> jax.Array:
  """[B T, ...] -> [B, T, ...], B and T those of `like`: flat() backwards."""
  batch, *rest = jax.typeof(x).sharding.spec
  return x.reshape(*like.shape[:2], *x.shape[1:], out_sharding=P(batch, None, *rest))


def _projected(y, w):
  """[B, T, D] x stored [D, n, h] -> [B, T, n, h]."""
  D, n, h = w.shape
  embed, heads, _ = jax.typeof(w).sharding.spec
  out = linear(flat(y), w.reshape(D, n * h, out_sharding=P(embed, heads)))
  return rows(out.reshape(-1, n, h, out_sharding=P(*jax.typeof(out).sharding.spec, None)), y)


def _merged(out, w):
  """Heads together again: [B, T, H, h] x stored [H, h, D] -> [B, T, D]."""
  H, h, D = w.shape
  heads, _, embed = jax.typeof(w).sharding.spec
  batch, *_ = jax.typeof(out).sharding.spec
  merged = flat(out).reshape(-1, H * h, out_sharding=P(batch, heads))
  return rows(linear(merged, w.reshape(H * h, D, out_sharding=P(heads, embed))), out)


def _layer(config: ModelConfig, dtype, axes: dict, x, w, cos, sin, attention: Callable):
  """One decoder layer. attention(w, y, cos, sin) -> out [B, T, H, h] of normed inputs. w: the layer's weights as they are
  stored; the large ones are gathered where they are used."""
  def as_used(name):
    return gathered(w[name], axes[name][1:], jnp.float32 if name.startswith("router") else dtype)
  w = {name: w[name] if name in PRODUCTS else as_used(name) for name in w}
  with jax.named_scope("attention"):
    out = attention(w, rms_norm(x, w["attn_norm"], config.rms_norm_eps), cos, sin)
    x = x + _merged(out, w["o"])
  with jax.named_scope("mlp"):
    y = rms_norm(x, w["mlp_norm"], config.rms_norm_eps)
    if "gate" in w:
      x = x + rows(swiglu(flat(y), w["gate"], w["up"], w["down"]), y)
    return x + mixture(config.moe, y, w) if "router" in w else x


def _qkv(config: ModelConfig, w: dict, y, cos, sin) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Rotated queries [B, T, H, h] and keys, and values [B, T, K, h], of grouped-query attention."""
  q, k, v = (_projected(y, w[name]) for name in "qkv")
  if config.qkv_bias:
    q, k, v = q + w["q_bias"][None, None], k + w["k_bias"][None, None], v + w["v_bias"][None, None]
  if config.qk_norm:
    q, k = rms_norm(q, w["q_norm"], config.rms_norm_eps), rms_norm(k, w["k_norm"], config.rms_norm_eps)
  return rotate(q, cos, sin), rotate(k, cos, sin), v


def _layer_axes(config: ModelConfig, stack: str) -> dict:
  return {name: w.axes for name, w in weight_table(config)[stack].items()}


def forward(params: dict, config: ModelConfig, compute: Compute, tokens, positions, segment_ids=None) -> jax.Array:
  """Final hidden states [B, T, D] of whole sequences, for training and scoring.

  tokens, positions: [B, T] int32, positions -1 in padding. segment_ids [B, T] keep packed sequences apart; the
  positions of each then start at 0.
  """
  cos, sin = rope_tables(config, positions)
  x = embed(params, config, compute, tokens)

  def attention(w, y, cos, sin):
    if config.mla is None:
      q, k, v, scale = *_qkv(config, w, y, cos, sin), None
    else:
      q, k, v = mla.expanded(config, *mla.project(config, y, w, cos, sin), w["kv_up"])
      scale = mla.softmax_scale(config)
    return attend_causally(q, k, v, positions, segment_ids, compute.attention_chunk, scale)

  def body(x, w, axes):
    return _layer(config, compute.dtype, axes, x, w, cos, sin, attention), None

  remat = compute.remat or FASTEST.get(jax.default_backend(), "nothing")
  for stack in stacks(config):
    layer = partial(body, axes=_layer_axes(config, stack))
    if remat in POLICIES:
      layer = jax.checkpoint(layer, policy=POLICIES[remat], prevent_cse=False)
    x, _ = jax.lax.scan(layer, x, params[stack])
  return rms_norm(x, gathered(params["final_norm"], ("embed",), compute.dtype), config.rms_norm_eps)
