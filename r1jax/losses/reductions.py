"""From a loss per token to one number: the weight of every token, decided once for the whole minibatch.

Whatever is done with the minibatch afterwards (microbatches, packing, sharding), its loss is
`sum(weights * per_token_loss)`, so the partial sums over any slices add up to the same loss and gradient.
"""

import enum
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from r1jax.errors import InputError
from r1jax.losses.shapes import require_rank_2, require_shape


class Reduction(enum.Enum):
  """How the losses of tokens become one loss (N responses, len_i trained tokens in response i)."""

  PER_RESPONSE = "per_response"  # 1/N sum_i 1/len_i sum_t: DeepSeekMath eq. 3
  TOKEN_MEAN = "token_mean"  # 1/(sum_i len_i) sum_i sum_t: DAPO
  CONSTANT = "constant"  # 1/(N constant) sum_i sum_t: Dr. GRPO, no bias by length


def token_weights(mask, reduction: Reduction, constant: float | None = None, *, response_ids=None,
                  num_responses: int | None = None):
  """Weights [N, T] float32 such that loss = sum(weights * per_token_loss); exact zeros outside the mask.

  To be computed ONCE for the whole minibatch and sliced with it; computed on a microbatch it would give
  that microbatch's own mean.

    PER_RESPONSE   mask / (len_i * N); a response with no trained token adds nothing, but counts in N
    TOKEN_MEAN     mask / (all trained tokens); zeros if there is none
    CONSTANT       mask / (N * constant)

  Args:
    mask: [N, T] bool or 0/1: this token was sampled and is trained on.
    reduction: which of the three.
    constant: tokens; needed by CONSTANT (usually the longest response allowed), not looked at by the others.
    response_ids: [N, T] integers, for packed rows: the response that each token belongs to, in
      [0, num_responses), -1 for none. Without it a row is a response.
    num_responses: N of the formulas when rows are packed; static. Empty responses count in it.

  Raises:
    InputError: shapes differ, CONSTANT without a positive finite constant, or only one of response_ids and
      num_responses given.
  """
  shape = require_rank_2("token_weights", "mask", mask, "[N, T]")
  mask = jnp.asarray(mask).astype(bool)
  packed = response_ids is not None
  if packed != (num_responses is not None):
    raise InputError("token_weights: response_ids and num_responses", "only one of them given",
                     "Give both for packed rows, neither when a row is a response.")
  if packed:
    require_shape("token_weights", "response_ids", response_ids, shape)
    if num_responses < 1:
      raise InputError("token_weights: num_responses", num_responses, "Give at least one response.")
    response_ids = jnp.asarray(response_ids)
    mask &= (response_ids >= 0) & (response_ids < num_responses)
  responses = num_responses if packed else shape[0]

  # Tokens are counted in int32: a float32 sum stops counting at 2^24, which 512 responses of 32,768 reach.
  match reduction:
    case Reduction.PER_RESPONSE:
      length = _packed_lengths(mask, response_ids, num_responses) if packed else jnp.sum(
        mask, axis=1, keepdims=True, dtype=jnp.int32)
      divisor = jnp.maximum(length, 1).astype(jnp.float32) * responses
    case Reduction.TOKEN_MEAN:
      total = jnp.sum(mask, keepdims=True, dtype=jnp.int32)
      divisor = jnp.maximum(total, 1).astype(jnp.float32)
    case Reduction.CONSTANT:
      divisor = jnp.full((1, 1), responses * _checked(constant), jnp.float32)
    case _:
      raise InputError("token_weights: reduction", repr(reduction), "Give a member of Reduction.")
  return mask.astype(jnp.float32) / divisor


def response_weights(trained, reduction: Reduction, constant: float | None = None) -> np.ndarray:
  """[N] float32, on the host: the weight that token_weights gives to each trained token of N responses.

  trained: [N] integers, how many tokens of each response are trained on. For responses whose tokens are not in rows of
  their own; the numbers are those of token_weights to the last bit. InputError as there, and for no response.
  """
  trained = np.asarray(trained, np.int64)
  if trained.ndim != 1 or not trained.size:
    raise InputError("response_weights: trained", f"shape {list(trained.shape)}", "Give one axis, [N], of at least one.")
  match reduction:
    case Reduction.PER_RESPONSE:
      divisor = np.maximum(trained, 1).astype(np.float32) * np.float32(trained.size)
    case Reduction.TOKEN_MEAN:
      divisor = np.full(trained.shape, max(int(trained.sum()), 1), np.float32)
    case Reduction.CONSTANT:
      divisor = np.full(trained.shape, _checked(constant) * trained.size, np.float32)
    case _:
      raise InputError("response_weights: reduction", repr(reduction), "Give a member of Reduction.")
  return (np.float32(1) / divisor) * (trained > 0).astype(np.float32)


def _checked(constant) -> float:
  if constant is None or not (math.isfinite(constant) and constant > 0):
    raise InputError("token_weights: constant", constant,
                     "The constant reduction divides by it: give a positive number of tokens.")
  return float(constant)


def _packed_lengths(mask, response_ids, num_responses: int):
  """[N, T] int32: at each trained token the number of trained tokens of its response; elsewhere anything."""
  # Untrained tokens go to a bucket of their own at the end; index -1 would wrap round to the last response.
  bucket = jnp.where(mask, response_ids, num_responses)
  # On an explicit mesh the counts of all shards come together on every device, and each takes what it needs.
  sharding = jax.typeof(bucket).sharding
  if sharding.mesh.empty or not sharding.mesh.are_all_axes_explicit:
    everywhere = sharding = None
  else:
    everywhere = NamedSharding(sharding.mesh, PartitionSpec(None))
  lengths = jnp.zeros(num_responses + 1, jnp.int32).at[bucket].add(
    mask.astype(jnp.int32), out_sharding=everywhere)
  return lengths.at[bucket].get(out_sharding=sharding)
