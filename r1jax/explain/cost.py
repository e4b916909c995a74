"""FLOPs of a decoder, from its shapes: 2 for each multiplication with an addition."""
import math

import jax

from r1jax.models.config import ModelConfig
from r1jax.models.params import is_weight, weight_name, weight_table


def active_params(config: ModelConfig) -> int:
  """Parameters that one token is multiplied with: the output head, but no look-up in the embedding, and of routed experts
  those that a token takes."""
  flat, _ = jax.tree_util.tree_flatten_with_path(weight_table(config), is_leaf=is_weight)
  total = 0
  for path, weight in flat:
    size = math.prod(weight.shape)
    if "experts" in weight.axes:
      size = size * config.moe.top_k // config.moe.experts
    if weight_name(path) != "embed" or config.tie_embeddings:
      total += size
  return total


def forward_flops(config: ModelConfig, length: int) -> int:
  """FLOPs of one forward pass over a sequence of `length` tokens, each attending to itself and those before it.

  2 a parameter and token, and for attention, where token p meets p others, 2 (h + v) for each pair, head and layer: h the
  dimensions of a query, v those of a value.
  """
  v = config.mla.v_dim if config.mla else config.head_dim
  pairs = length * (length + 1) // 2
  return 2 * active_params(config) * length + 2 * config.num_layers * config.num_heads * (config.head_dim + v) * pairs
