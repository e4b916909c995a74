"""FLOPs that a program does, counted in its jaxpr, and those that its work takes.

The compiler's own count takes the body of a loop once, so it says nothing of scanned layers.
"""
import math
from typing import Any

import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr

from r1jax.models.config import ModelConfig
from r1jax.models.flops import flops, matmul_params


def counted(jaxpr: Any, steps: int = 1) -> int:
  """FLOPs (2 a multiply-add) of the matrix products of a jaxpr on all devices together.

  A scan counts its length, what a shard_map holds counts for every device, a kernel what its cost estimate says or its grid
  repeats, the dearest branch of a condition, and a loop that the data end `steps` times (in a kernel once: paged decoding
  counts one block of the cache for each sequence). What no result needs does not count: the compiler drops it, and a
  backward pass under jax.checkpoint begins with much of it.
  """
  jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
  needed, _ = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
  return _flops(needed, steps)


def _flops(jaxpr: Any, steps: int) -> int:
  return sum(_of_equation(equation, steps) for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns)


def _of_equation(equation, steps: int) -> int:
  name, params = equation.primitive.name, equation.params
  if name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    return 2 * math.prod(out) * math.prod(left[i] for i in contracted)
  if name.startswith("ragged_dot"):
    return _ragged(equation)
  if name == "pallas_call":
    return _kernel(params)
  inner = [_flops(jaxpr, steps) for value in params.values() for jaxpr in _jaxprs(value)]
  if name == "cond":
    return max(inner, default=0)
  times = {"scan": params.get("length"), "while": steps, "shard_map": getattr(params.get("mesh"), "size", 1)}
  return times.get(name, 1) * sum(inner)


def _kernel(params: dict) -> int:
  """Of a Pallas kernel: its own estimate, or its body at every place of its grid. Of the blocks of queries and keys that
  splash attention's grid names, the last n x n of it, the causal half is computed."""
  if params.get("cost_estimate") is not None:
    return params["cost_estimate"].flops
  grid = params["grid_mapping"].grid
  each = math.prod(grid) * _flops(params["jaxpr"], 1)
  n = grid[-1] if grid else 1
  return each * (n + 1) // (2 * n) if (params.get("name") or "").startswith("splash") else each


def _ragged(equation) -> int:
  """Of a grouped product: every row meets the matrix of its own group."""
  left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
  numbers = equation.params["ragged_dot_dimension_numbers"]
  (contracted, _), _ = numbers.dot_dimension_numbers
  each = 2 * math.prod(out) * math.prod(left[i] for i in contracted)
  # Where the rows themselves are summed, as in the gradient of the matrices, the groups share them.
  return each // out[0] if numbers.lhs_ragged_dimensions[0] in contracted else each


def _jaxprs(value: Any) -> list:
  """The jaxprs in a parameter of an equation."""
  if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
    return [value]
  return [found for item in value for found in _jaxprs(item)] if isinstance(value, tuple | list) else []


def ideal_forward(model: ModelConfig, rows: int, length: int) -> float:
  """Log-probs of `rows` whole sequences of `length` tokens."""
  return flops(model, 0, np.full(rows, length))["reference"]


def ideal_update(model: ModelConfig, rows: int, length: int) -> float:
  """Their forward and backward pass: the causal half of attention, nothing computed again."""
  return flops(model, 0, np.full(rows, length))["update"]


def ideal_scores(model: ModelConfig, rows: int, length: int, backward: bool = False) -> float:
  """Scores of a reward model, whose head is one column; backward: with their gradients."""
  return flops(model, length, np.zeros(rows))["update" if backward else "reference"]


def _pair(model: ModelConfig) -> int:
  """Of a query with a key and its value, over all layers and heads."""
  value = model.mla.v_dim if model.mla else model.head_dim
  return 2 * model.num_layers * model.num_heads * (model.head_dim + value)


def ideal_prefill(model: ModelConfig, rows: int, chunk: int, length: int) -> float:
  """The last chunk of prompts of `length` tokens; no distribution is needed."""
  body, _ = matmul_params(model)
  return rows * (2 * body * chunk + _pair(model) * (chunk * (length - chunk) + chunk * (chunk + 1) / 2))


def ideal_decode(model: ModelConfig, rows: int, length: int) -> float:
  """A token of each of `rows` sequences that have `length` tokens."""
  body, head = matmul_params(model)
  return rows * (2 * body + 2 * head + _pair(model) * length)
