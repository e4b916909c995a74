"""The parameter table: each weight is declared once, and shapes, shardings and initial values derive from it."""
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from r1jax.models.config import ModelConfig
from r1jax.sharding import TRAIN_RULES, check_divisible, partition_spec

# Weights of keys and values, whose heads are repeated where they are no multiple of the devices along tensor.
KV_HEADED = ("k", "v", "k_bias", "v_bias")


@dataclass(frozen=True)
class Weight:
  """One weight: shape, a logical axis for each dimension, and how it starts.

  init: "ones" or "zeros", or the fan-in n of a normal with standard deviation n^-1/2.
  """

  shape: tuple[int, ...]
  axes: tuple[str, ...]
  init: str | int


def num_params(config: ModelConfig) -> int:
  """How many numbers the weights have."""
  return sum(math.prod(weight.shape) for weight in jax.tree.leaves(weight_table(config), is_leaf=is_weight))


def weight_table(config: ModelConfig) -> dict:
  """The nested dict of Weight for a decoder; per-layer weights carry a leading `layers` axis.

  V vocabulary, D d_model. `layers` are all layers; of a mixture of experts those after `dense_layers`, the first few.
  """
  V, D = config.vocab_size, config.d_model
  table = {
    # Fan-in D: a tied embedding is the output head as well, and RMSNorm takes the scale out of its input role.
    "embed": Weight((V, D), ("vocab_in", "embed"), D),
    "final_norm": Weight((D,), ("embed",), "ones"),
  }
  if config.moe is None:
    table["layers"] = _stacked(config.num_layers, _attention(config) | _mlp(config, config.d_ff))
  else:
    if config.moe.first_dense:
      table["dense_layers"] = _stacked(config.moe.first_dense, _attention(config) | _mlp(config, config.d_ff))
    table["layers"] = _stacked(config.num_layers - config.moe.first_dense, _attention(config) | _experts(config))
  if not config.tie_embeddings:
    table["head"] = Weight((D, V), ("embed", "vocab"), D)
  return table


def stacks(config: ModelConfig) -> tuple[str, ...]:
  """The stacks of layers in the order of the layers."""
  return ("dense_layers", "layers") if config.moe is not None and config.moe.first_dense else ("layers",)


def _stacked(layers: int, weights: dict[str, Weight]) -> dict[str, Weight]:
  return {name: Weight((layers, *w.shape), ("layers", *w.axes), w.init) for name, w in weights.items()}


def _attention(config: ModelConfig) -> dict[str, Weight]:
  """One layer's attention. D d_model, H query heads, K key/value heads, h head_dim; of MLA Q, C the latents' sizes."""
  D, H, K, h = config.d_model, config.num_heads, config.num_kv_heads, config.head_dim
  weights = {"attn_norm": Weight((D,), ("embed",), "ones"), "mlp_norm": Weight((D,), ("embed",), "ones")}
  if config.mla is not None:
    mla, heads = config.mla, ("latent", "q_heads", "head_dim")
    Q, C = mla.q_lora, mla.kv_lora
    return weights | {
      "q_down": Weight((D, Q), ("embed", "latent"), D),
      "q_latent_norm": Weight((Q,), ("latent",), "ones"),
      "q_up": Weight((Q, H, h), heads, Q),
      "kv_down": Weight((D, C + mla.qk_rope), ("embed", "latent"), D),
      "kv_latent_norm": Weight((C,), ("latent",), "ones"),
      "kv_up": Weight((C, H, mla.qk_nope + mla.v_dim), heads, C),
      "o": Weight((H, mla.v_dim, D), ("q_heads", "head_dim", "embed"), H * mla.v_dim),
    }
  weights |= {
    "q": Weight((D, H, h), ("embed", "q_heads", "head_dim"), D),
    "k": Weight((D, K, h), ("embed", "kv_heads", "head_dim"), D),
    "v": Weight((D, K, h), ("embed", "kv_heads", "head_dim"), D),
    "o": Weight((H, h, D), ("q_heads", "head_dim", "embed"), H * h),
  }
  if config.qkv_bias:
    weights |= {
      "q_bias": Weight((H, h), ("q_heads", "head_dim"), "zeros"),
      "k_bias": Weight((K, h), ("kv_heads", "head_dim"), "zeros"),
      "v_bias": Weight((K, h), ("kv_heads", "head_dim"), "zeros"),
    }
  if config.qk_norm:
    weights |= {
      "q_norm": Weight((h,), ("head_dim",), "ones"),
      "k_norm": Weight((h,), ("head_dim",), "ones"),
    }
  return weights


def _mlp(config: ModelConfig, F: int) -> dict[str, Weight]:
  """A SwiGLU of width F."""
  D = config.d_model
  return {"gate": Weight((D, F), ("embed", "mlp"), D), "up": Weight((D, F), ("embed", "mlp"), D),
          "down": Weight((F, D), ("mlp", "embed"), F)}


def _experts(config: ModelConfig) -> dict[str, Weight]:
  """One layer's router, E routed experts of width F, and the shared ones as one SwiGLU."""
  D, E, F = config.d_model, config.moe.experts, config.moe.d_ff
  shared = _mlp(config, config.moe.shared * F) if config.moe.shared else {}
  return shared | {
    "router": Weight((D, E), ("embed", "latent"), D),
    "router_bias": Weight((E,), ("latent",), "zeros"),
    "expert_gate": Weight((E, D, F), ("experts", "embed", "mlp"), D),
    "expert_up": Weight((E, D, F), ("experts", "embed", "mlp"), D),
    "expert_down": Weight((E, F, D), ("experts", "mlp", "embed"), F),
  }


def kv_heads(config: ModelConfig, tensor: int) -> int:
  """Key/value heads as products over `tensor` devices have them: repeated where they are no multiple of the devices, so that
  every device has those of its query heads. With latent attention there is nothing to repeat."""
  return config.num_kv_heads if config.mla else math.lcm(config.num_kv_heads, tensor)


def decoded(config: ModelConfig, tensor: int) -> ModelConfig:
  """The same model with its key/value heads repeated for `tensor` devices, as caches and rollout weights have them."""
  return replace(config, num_kv_heads=kv_heads(config, tensor))


def repeated_heads(x: jax.Array, axis: int, heads: int) -> jax.Array:
  """x with each head of `axis` repeated until there are `heads`, next to one another, split over the axes of q_heads."""
  times = heads // x.shape[axis]
  spec = list(jax.typeof(x).sharding.spec)
  if times == 1:
    return x
  shape = (*x.shape[:axis], x.shape[axis], times, *x.shape[axis + 1:])
  wide = jax.lax.broadcast_in_dim(x, shape, [i for i in range(len(shape)) if i != axis + 1],
                                  out_sharding=jax.P(*spec[:axis + 1], None, *spec[axis + 1:]))
  spec[axis] = spec[axis] or TRAIN_RULES["q_heads"]
  return wide.reshape(*x.shape[:axis], heads, *x.shape[axis + 1:], out_sharding=jax.P(*spec))


def is_weight(x: Any) -> bool:
  return isinstance(x, Weight)


def weight_name(path) -> str:
  """A tree path as `layers.q`."""
  return ".".join(str(k.key) for k in path)


def shardings(config: ModelConfig, mesh: Mesh, rules: Mapping[str, Any] = TRAIN_RULES) -> dict:
  """The NamedSharding of each weight; InputError when a dimension does not divide over its mesh axes. Key/value heads that
  do not are whole, and repeated where they are used."""
  if config.num_kv_heads % mesh.shape["tensor"]:
    rules = {**rules, "kv_heads": None}

  def one(path, w: Weight):
    spec = partition_spec(w.axes, rules)
    check_divisible(f"weight {weight_name(path)}", w.shape, spec, mesh)
    return NamedSharding(mesh, spec)
  return jax.tree_util.tree_map_with_path(one, weight_table(config), is_leaf=is_weight)


def abstract_params(config: ModelConfig, mesh: Mesh, rules: Mapping[str, Any] = TRAIN_RULES, dtype=jnp.float32) -> dict:
  """ShapeDtypeStructs with shardings: enough to lower and compile a program without arrays."""
  return jax.tree.map(lambda w, s: jax.ShapeDtypeStruct(w.shape, dtype, sharding=s),
                      weight_table(config), shardings(config, mesh, rules), is_leaf=is_weight)


def init_params(key: jax.Array, config: ModelConfig, mesh: Mesh, dtype=jnp.float32) -> dict:
  """Random parameters, made in their shards: no device ever holds them whole.

  Each weight's key is the root folded with its place in the table, so the values do not depend on the mesh.
  """
  flat, treedef = jax.tree_util.tree_flatten(weight_table(config), is_leaf=is_weight)

  def make(key):
    leaves = []
    for i, w in enumerate(flat):
      if w.init == "ones":
        leaves.append(jnp.ones(w.shape, dtype))
      elif w.init == "zeros":
        leaves.append(jnp.zeros(w.shape, dtype))
      else:
        leaves.append(jax.random.normal(jax.random.fold_in(key, i), w.shape, dtype) * jnp.asarray(w.init**-0.5, dtype))
    return jax.tree_util.tree_unflatten(treedef, leaves)

  return jax.jit(make, out_shardings=shardings(config, mesh))(key)


def count_params(config: ModelConfig) -> int:
  """Number of parameters."""
  return sum(math.prod(w.shape) for w in jax.tree_util.tree_leaves(weight_table(config), is_leaf=is_weight))
