"""The decoder of Qwen2/2.5, Qwen3, Llama 3 and DeepSeek-V3, as functions of a parameter table.

Letters: B sequences, T tokens, D d_model, H query heads, K key/value heads, h head_dim, F d_ff,
V vocabulary, L layers. Layers are scanned. Call under `jax.set_mesh(mesh)`.
"""
import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh, reshard
from jax.sharding import PartitionSpec as P

from r1jax.errors import InputError
from r1jax.models import mla, splash
from r1jax.models.attention import MASKED, attend_causally
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.linear import joined, scattered, spread, swiglu
from r1jax.models.moe import mixture
from r1jax.models.norm import rms_norm
from r1jax.models.params import KV_HEADED, kv_heads, repeated_heads, stacks, weight_table
from r1jax.models.rope import rope_tables, rotate
from r1jax.sharding import ACTIVATION_RULES, BATCH, ROLLOUT_RULES, activation, partition_spec, platform

POLICIES = ("nothing", "attention", "dots")
FASTEST = {"cpu": "dots", "tpu": "attention"}  # of POLICIES, by platform
# Weights whose products have a backward pass of their own (linear.py), which takes them as they are stored.
PRODUCTS = ("q", "k", "v", "o", "gate", "up", "down")


def remat_policy(remat: str, offload: bool):
  """What a layer's backward pass finds: see Compute."""
  policies = jax.checkpoint_policies
  kept = {"nothing": [], "attention": ["attention", "projections"], "dots": ["attention"]}[remat]
  if offload:
    named = policies.save_and_offload_only_these_names(
      names_which_can_be_saved=kept, names_which_can_be_offloaded=["layer_input"], offload_src="device",
      offload_dst="pinned_host")
  else:
    named = policies.save_only_these_names(*kept)
  dots = policies.dots_with_no_batch_dims_saveable
  # Not save_from_both_policies, which knows no offloading.
  return named if remat != "dots" else lambda *place, **given: dots(*place, **given) or named(*place, **given)


def gathered(w: jax.Array, axes: tuple[str, ...], dtype) -> jax.Array:
  """A weight as it is used: in the compute dtype, whole over fsdp, still split over tensor."""
  return reshard(w.astype(dtype), partition_spec(axes, ROLLOUT_RULES))


def embed(params: dict, compute: Compute, tokens: jax.Array, positions) -> jax.Array:
  """Token ids [B, T] -> [B, T, D] in the compute dtype, T split over the mesh axes `positions`.

  The table stays where it is: every device looks all tokens up in its own part of it, some ids and some dimensions, and what
  it finds goes to the token's device. So does the gradient, on its way back; it is summed in float32.
  """
  def local(table, tokens):  # [V / tensor, D / fsdp], [rows, T / sequence]
    rows = jax.lax.all_gather(tokens, "fsdp", tiled=True) - jax.lax.axis_index("tensor") * table.shape[0]
    mine = (rows >= 0) & (rows < table.shape[0])
    found = jnp.where(mine[:, :, None], table[jnp.where(mine, rows, 0)].astype(compute.dtype), 0)
    found = scattered(found) if "tensor" in positions else jax.lax.psum(found, "tensor")
    return jax.lax.all_to_all(found, "fsdp", 0, 2, tiled=True)

  split = activation("rows", "positions")
  return jax.shard_map(local, in_specs=(P("tensor", "fsdp"), split), out_specs=P(BATCH, positions, None))(
    params["embed"], reshard(tokens, split))


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


def _projected(y, weights) -> tuple:
  """[B, T, D] x stored [D, n, h] -> [B, T, n, h] of each weight."""
  def matrix(w):
    embed, heads, _ = jax.typeof(w).sharding.spec
    return w.reshape(w.shape[0], -1, out_sharding=P(embed, heads))

  def heads(x, w):
    return x.reshape(*x.shape[:2], *w.shape[1:], out_sharding=P(*jax.typeof(x).sharding.spec, None))
  return tuple(map(heads, spread(y, tuple(map(matrix, weights))), weights))


def _merged(out, w, positions):
  """Heads together again: [B, T, H, h] x stored [H, h, D] -> [B, T, D], T split over `positions`."""
  H, h, D = w.shape
  heads, _, embed = jax.typeof(w).sharding.spec
  merged = out.reshape(*out.shape[:2], H * h, out_sharding=P(*jax.typeof(out).sharding.spec[:3]))
  return joined(merged, w.reshape(H * h, D, out_sharding=P(heads, embed)), positions)


def _layer(config: ModelConfig, dtype, axes: dict, x, w, cos, sin, attention: Callable):
  """One decoder layer. attention(w, y, cos, sin) -> out [B, T, H, h] of normed inputs. w: the layer's weights as they are
  stored; the large ones are gathered where they are used, the small ones in float32."""
  def as_used(name):
    small = name.endswith(("norm", "bias", "router"))
    return gathered(w[name], axes[name][1:], jnp.float32 if small else dtype)
  w = {name: w[name] if name in PRODUCTS else as_used(name) for name in w}
  split = jax.typeof(x).sharding.spec[1]
  with jax.named_scope("attention"):
    out = attention(w, rms_norm(x, w["attn_norm"], config.rms_norm_eps), cos, sin)
    x = checkpoint_name(x + _merged(out, w["o"], split), "projections")
  with jax.named_scope("mlp"):
    y = rms_norm(x, w["mlp_norm"], config.rms_norm_eps)
    if "gate" in w:
      x = x + swiglu(y, w["gate"], w["up"], w["down"])
    if "router" in w:
      x = x + reshard(mixture(config.moe, reshard(y, activation("rows", "positions", None)), w), P(BATCH, split, None))
    return x


def _qkv(config: ModelConfig, w: dict, y, cos, sin) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Rotated queries [B, T, H, h] and keys, and values [B, T, K, h], of grouped-query attention."""
  q, k, v = _projected(y, [w[name] for name in "qkv"])
  if config.qkv_bias:
    q, k, v = ((x.astype(jnp.float32) + w[f"{name}_bias"][None, None]).astype(y.dtype)
               for x, name in zip((q, k, v), "qkv", strict=True))
  if config.qk_norm:
    q, k = rms_norm(q, w["q_norm"], config.rms_norm_eps), rms_norm(k, w["k_norm"], config.rms_norm_eps)
  return tuple(checkpoint_name(x, "projections") for x in (rotate(q, cos, sin), rotate(k, cos, sin), v))


def _layer_axes(config: ModelConfig, stack: str) -> dict:
  return {name: w.axes for name, w in weight_table(config)[stack].items()}


def _attend(q, k, v, positions, segment_ids, compute: Compute, scale) -> jax.Array:
  """Attention over whole rows, of heads that are split over tensor and meanwhile over sequence too: what was split along
  positions comes together by an exchange of heads against positions, and goes back the same way."""
  parts = math.prod(jax.typeof(q).sharding.mesh.shape[a] for a in ACTIVATION_RULES["heads_of_rows"])
  between = jax.typeof(q).sharding.spec
  k, v = (repeated_heads(x, 2, math.lcm(x.shape[2], parts)) for x in (k, v))
  q, k, v = (reshard(x, activation("rows", None, "heads_of_rows", None)) for x in (q, k, v))
  out = attend_causally(q, k, v, positions, segment_ids, compute, scale)
  return reshard(out, P(*between))


def check_rows(where: str, config: ModelConfig, compute: Compute, mesh: Mesh, length: int) -> None:
  """InputError for rows of `length` slots (field `where`) that the mesh cannot share, or whose attention on a TPU would fall
  back on blocks that only exist in the chip's main memory."""
  sequence, tensor = mesh.shape["sequence"], mesh.shape["tensor"]
  if length % sequence:
    raise InputError(where, length, f"Make it a multiple of mesh.sequence ({sequence}), which splits a row's positions.")
  if config.num_heads % (sequence * tensor):
    raise InputError("mesh.sequence x mesh.tensor", sequence * tensor,
                     f"Attention splits {config.num_heads} heads over both axes: choose a product that divides them.")
  if mesh.devices.flat[0].platform == "tpu" and compute.attention != "chunks" and length >= splash.BLOCKS[0]:
    splash.block(length)


def forward(params: dict, config: ModelConfig, compute: Compute, tokens, positions, segment_ids=None) -> jax.Array:
  """Final hidden states [B, T, D] of whole sequences, for training and scoring; T is split over the `sequence` axis.

  tokens, positions: [B, T] int32, positions -1 in padding. segment_ids [B, T] keep packed sequences apart; the
  positions of each then start at 0.
  """
  mesh = jax.typeof(params["embed"]).sharding.mesh
  cos, sin = rope_tables(config, reshard(positions, activation("rows", "positions")))
  # Rows whose length is no multiple of the devices stay whole over tensor between the products.
  split = "positions" if tokens.shape[1] % (mesh.shape["sequence"] * mesh.shape["tensor"]) else "positions_between"
  x = embed(params, compute, tokens, ACTIVATION_RULES[split])

  def attention(w, y, cos, sin):
    if config.mla is None:
      q, k, v, scale = *_qkv(config, w, y, cos, sin), None
    else:
      y = reshard(y, activation("rows", "positions", None))
      q, k, v = mla.expanded(config, *mla.project(config, y, w, cos, sin), w["kv_up"])
      scale = mla.softmax_scale(config)
    return _attend(q, k, v, positions, segment_ids, compute, scale)

  def body(x, w, axes):
    if compute.offload:
      x = checkpoint_name(x, "layer_input")
    w = w | {name: repeated_heads(w[name], 0 if name.endswith("bias") else 1, kv_heads(config, mesh.shape["tensor"]))
             for name in KV_HEADED if name in w}
    return _layer(config, compute.dtype, axes, x, w, cos, sin, attention), None

  remat = compute.remat or FASTEST.get(platform(), "nothing")
  for stack in stacks(config):
    layer = partial(body, axes=_layer_axes(config, stack))
    if remat in POLICIES:
      layer = jax.checkpoint(layer, policy=remat_policy(remat, compute.offload), prevent_cse=False)
    x, _ = jax.lax.scan(layer, x, params[stack])
  x = reshard(x, activation("rows", "positions", None))
  return rms_norm(x, gathered(params["final_norm"], ("embed",), jnp.float32), config.rms_norm_eps)
