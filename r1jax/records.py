"""The pytrees that cross folders. N sequences of P prompt and R response slots, T = P + R.

The layout of a sequence everywhere: the prompt left-padded to P slots, the response from slot P, so that the target
of a slot is the token in the next one.
"""
from typing import Any

import jax
from flax import struct


@struct.dataclass
class Rollouts:
  """What the sampler returns.

  tokens: [N, T] int32. positions: [N, T] int32, the token's place in its sequence, -1 in padding.
  mask: [N, T] bool, "this token was sampled and is trained on": the response, its stop token included.
  logprobs: [N, T] float32, of the distribution that each response token was sampled from; 0 elsewhere.
  stopped: [N] bool, ended by a stop token; False: cut at the maximum length.
  """

  tokens: jax.Array
  positions: jax.Array
  mask: jax.Array
  logprobs: jax.Array
  stopped: jax.Array


@struct.dataclass
class GRPOBatch:
  """One minibatch of GRPO.

  tokens, positions, mask: as in Rollouts. weights: [N, T] float32, the reduction over the whole minibatch as weights
  of a sum. advantages: [N]. sampler_logprobs: [N, T], as in Rollouts. old_logprobs: [N, T], or None when the policy
  has not moved since it sampled: then they are the update's own. ref_logprobs: [N, T], or None when kl_coef is 0.
  """

  tokens: Any
  positions: Any
  mask: Any
  weights: Any
  advantages: Any
  sampler_logprobs: Any
  old_logprobs: Any = None
  ref_logprobs: Any = None


@struct.dataclass
class TokenBatch:
  """One batch of supervised training, rows of packed documents, each field [N, T].

  tokens, positions, segment_ids: int32, as `data.packing.PackedRows` has them. weights: float32, of a sum.
  """

  tokens: Any
  positions: Any
  segment_ids: Any
  weights: Any


@struct.dataclass
class DistillBatch:
  """One batch of token-level distillation: supervised rows, and what the teacher makes of each of their tokens.

  rows: TokenBatch of [N, T]. teacher_ids: [N, T, k] int32, the tokens that the teacher finds likeliest in a slot, given
  those before it. teacher_logprobs: [N, T, k] float32, their log-probs.
  """

  rows: TokenBatch
  teacher_ids: Any
  teacher_logprobs: Any


@struct.dataclass
class TrainState:
  """step: int32 scalar, updates done. params: nested dict, float32. opt_state: optax's."""

  step: jax.Array
  params: Any
  opt_state: Any
