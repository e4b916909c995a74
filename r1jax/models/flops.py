"""FLOPs of a decoder, from its shapes alone."""
import math

import jax
import numpy as np

from r1jax.models.config import ModelConfig
from r1jax.models.params import is_weight, weight_name, weight_table


def matmul_params(model: ModelConfig) -> tuple[float, int]:
  """Parameters that a token is multiplied with: of the layers (of experts those that it takes), and of the head."""
  body = 0.0
  for path, weight in jax.tree_util.tree_flatten_with_path(weight_table(model), is_leaf=is_weight)[0]:
    stack, *leaf = weight_name(path).split(".")
    if leaf and isinstance(weight.init, int):  # others are norms and biases
      taken = model.moe.top_k / model.moe.experts if leaf[0].startswith("expert_") else 1
      body += taken * math.prod(weight.shape)
  return body, model.d_model * model.vocab_size


def flops(model: ModelConfig, prompt_len: int, lengths: np.ndarray) -> dict[str, float]:
  """FLOPs (2 a multiply-add) of each phase for responses of `lengths` [N] tokens, done without waste.

  Prompts count once a response (a sampler that shares them does less), causal attention at its exact length, the head where
  a distribution is needed, a backward pass twice its forward pass; nothing is computed again.
  """
  body, head = matmul_params(model)
  pair = 2 * model.num_layers * model.num_heads * (model.head_dim + (model.mla.v_dim if model.mla else model.head_dim))
  sampled = np.asarray(lengths, np.float64)
  total = prompt_len + sampled
  # The last sampled token is never fed back.
  rollout = float(np.sum(2 * body * (total - 1) + 2 * head * sampled + pair * (total - 1) * total / 2))
  forward = float(np.sum(2 * body * total + 2 * head * sampled + pair * total * (total + 1) / 2))
  return {"rollout": rollout, "reference": forward, "old": forward, "update": 3 * forward}
