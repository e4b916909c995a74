"""The records that cross folders: what is asked of the sampler, what it gives back, and what is trained on.

    Request -> Sampler -> Episode          ragged, on the host, in any order; as it grows, in Pieces
    episodes -> pack -> PackedRows         [rows, T], for log-probs, rewards and updates
"""
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import struct


@dataclass(frozen=True)
class Request:
  """One response to be sampled. Its random numbers depend on the sampler's key, question_id and sample alone.

  question_id: 0 to 2^32 - 1. sample: its number among the samples of the question. prompt: the prompt's token ids, at least
  one. max_new: most tokens of the response, its stop token included.
  """

  question_id: int
  sample: int
  prompt: tuple[int, ...]
  max_new: int


@dataclass(frozen=True)
class Episode:
  """A finished response.

  tokens: [R] int32, the sampled ids, the stop token included. logprobs: [R] float32, of the distribution that each token
  was sampled from. stopped: it ended by a stop token; False: it was cut at max_new.
  """

  request: Request
  tokens: np.ndarray
  logprobs: np.ndarray
  stopped: bool


@dataclass(frozen=True)
class Piece:
  """What one segment of decoding has added to a response.

  tokens: [n] int32, at least one, and logprobs: [n] float32, as of Episode. episode: the whole response once it has ended,
  None until then.
  """

  request: Request
  tokens: np.ndarray
  logprobs: np.ndarray
  episode: Episode | None = None


@struct.dataclass
class PackedRows:
  """Sequences packed into N rows of T slots, whole, one after another; what does not apply is None.

  The entry of a slot belongs to the token in that slot, given those before it in its segment. Padding has position -1.

  tokens, positions: [N, T] int32; positions count from 0 in each sequence. segment_ids: [N, T] int32, 0, 1, ... along a row.
  mask: [N, T] bool, "this token was sampled and is trained on" (of supervised rows: "is to be imitated").
  weights: [N, T] float32, the reduction over the whole minibatch as weights of a sum; 0 outside the mask.
  advantages: [N, T] float32. sampler_logprobs, old_logprobs, ref_logprobs: [N, T] float32; old_logprobs is None when the
  policy has not moved since it sampled (then they are the update's own), ref_logprobs when there is no KL term.
  correction: [N, T] float32, truncated importance weights of sampler against trainer, None for none.
  teacher_ids [N, T, k] int32 and teacher_logprobs [N, T, k] float32: the tokens that a teacher finds likeliest in a slot.
  partner: [N, T] int32, for preference pairs: at the last slot of a rejected response, the last slot of the chosen one, in
  the same row. safe: [N, T] float32, for labelled responses: the label (0 or 1) at the last slot.
  """

  tokens: Any
  positions: Any
  segment_ids: Any
  mask: Any
  weights: Any = None
  advantages: Any = None
  sampler_logprobs: Any = None
  old_logprobs: Any = None
  ref_logprobs: Any = None
  correction: Any = None
  teacher_ids: Any = None
  teacher_logprobs: Any = None
  partner: Any = None
  safe: Any = None


@struct.dataclass
class TrainState:
  """step: int32 scalar, updates done. params: nested dict, float32. opt_state: optax's."""

  step: jax.Array
  params: Any
  opt_state: Any
