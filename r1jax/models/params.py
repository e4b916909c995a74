"""The parameter table: each weight is declared once, and shapes, shardings and initial values derive from it."""
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from r1jax.models.config import ModelConfig
from r1jax.sharding import TRAIN_RULES, check_divisible, partition_spec


@dataclass(frozen=True)
class Weight:
  """One weight: shape, a logical axis for each dimension, and how it starts.

  init: "ones" or "zeros", or the fan-in n of a normal with standard deviation n^-1/2.
  """

  shape: tuple[int, ...]
  axes: tuple[str, ...]
  init: str | int


def weight_table(config: ModelConfig) -> dict:
  """The nested dict of Weight for a decoder; per-layer weights carry a leading `layers` axis.

  V vocabulary, D d_model, L layers, H query heads, K key/value heads, h head_dim, F d_ff.
  """
  V, D, L, F = config.vocab_size, config.d_model, config.num_layers, config.d_ff
  H, K, h = config.num_heads, config.num_kv_heads, config.head_dim

  def per_layer(shape, axes, init):
    return Weight((L, *shape), ("layers", *axes), init)

  layers = {
    "attn_norm": per_layer((D,), ("embed",), "ones"),
    "q": per_layer((D, H, h), ("embed", "q_heads", "head_dim"), D),
    "k": per_layer((D, K, h), ("embed", "kv_heads", "head_dim"), D),
    "v": per_layer((D, K, h), ("embed", "kv_heads", "head_dim"), D),
    "o": per_layer((H, h, D), ("q_heads", "head_dim", "embed"), H * h),
    "mlp_norm": per_layer((D,), ("embed",), "ones"),
    "gate": per_layer((D, F), ("embed", "mlp"), D),
    "up": per_layer((D, F), ("embed", "mlp"), D),
    "down": per_layer((F, D), ("mlp", "embed"), F),
  }
  if config.qkv_bias:
    layers |= {
      "q_bias": per_layer((H, h), ("q_heads", "head_dim"), "zeros"),
      "k_bias": per_layer((K, h), ("kv_heads", "head_dim"), "zeros"),
      "v_bias": per_layer((K, h), ("kv_heads", "head_dim"), "zeros"),
    }
  if config.qk_norm:
    layers |= {
      "q_norm": per_layer((h,), ("head_dim",), "ones"),
      "k_norm": per_layer((h,), ("head_dim",), "ones"),
    }
  table = {
    # Fan-in D: a tied embedding is the output head as well, and RMSNorm takes the scale out of its input role.
    "embed": Weight((V, D), ("vocab_in", "embed"), D),
    "layers": layers,
    "final_norm": Weight((D,), ("embed",), "ones"),
  }
  if not config.tie_embeddings:
    table["head"] = Weight((D, V), ("embed", "vocab"), D)
  return table


def is_weight(x: Any) -> bool:
  return isinstance(x, Weight)


def weight_name(path) -> str:
  """A tree path as `layers.q`."""
  return ".".join(str(k.key) for k in path)


def shardings(config: ModelConfig, mesh: Mesh, rules: Mapping[str, Any] = TRAIN_RULES) -> dict:
  """The NamedSharding of each weight; InputError when a dimension does not divide over its mesh axes."""
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
