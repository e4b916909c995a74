"""Reward models in use: what they read of a response, its score, and scores put on one scale."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from r1jax.data.prompts import prompt_ids, response_ids
from r1jax.data.templates import Template
from r1jax.data.tokenizer import Tokenizer
from r1jax.errors import InputError
from r1jax.models.config import Compute, ModelConfig
from r1jax.rewards.language import after_thought
from r1jax.sharding import batch_parts, put_batch
from r1jax.training.pack import MICROBATCH_TOKENS, TokenSequence, pack, rows_for
from r1jax.training.reward_model import scores as scores_of_rows
from r1jax.verifiers.tags import ANSWER_CLOSE, ANSWER_OPEN

SUMMARY, ALL = "summary", "all"
READS = (SUMMARY, ALL)  # the helpful reward model's, the safety reward model's (R1, Nature, "Reward design")
SHORTEST = 64  # slots of a row; longer ones are powers of two, so that few programs are compiled. Ours.


def text_to_score(response: str, reads: str) -> str:
  """The part of a response that a reward model reads.

  "all": the response as it is, reasoning and summary. "summary": what follows the chain of thought, without the answer tags
  and white space at both ends, since the format has a reward of its own; nothing where neither tag tells where the thought
  ends. This reading is ours.

  Raises:
    InputError: another `reads`.
  """
  if reads == ALL:
    return response
  if reads != SUMMARY:
    raise InputError("reads", repr(reads), f"Use one of {', '.join(READS)}.")
  return after_thought(response).replace(ANSWER_OPEN, "").replace(ANSWER_CLOSE, "").strip()


@dataclass(frozen=True)
class ModelScorer:
  """Scores responses with a reward model. It reads the prompt, a part of the response and a stop token, which the score
  is read at, whether or not the response was cut before one.

  reads: "summary" or "all". max_length: of prompt and response in tokens; None: the model's whole context. R1 sets no limit
  when it scores (Nature, "Reward design").
  """

  config: ModelConfig
  compute: Compute
  tokenizer: Tokenizer
  template: Template
  mesh: Any
  reads: str
  max_length: int | None = None

  def __post_init__(self):
    text_to_score("", self.reads)
    if self.max_length is not None and not 1 <= self.max_length <= self.config.max_position:
      raise InputError("reward model: max_length", self.max_length,
                       f"Give 1 to the model's context, max_position {self.config.max_position}.")

  def encode(self, question: str, response: str) -> tuple[list[int], list[int]]:
    """(prompt ids, ids of what is read of the response, with a stop token). The response may begin with the template's
    prefill, as data sets keep it, or not, as it is sampled."""
    read = text_to_score(response, self.reads)
    return prompt_ids(question, self.template, self.tokenizer), response_ids(read, self.template, self.tokenizer)

  def scores(self, params, questions: Sequence[str], responses: Sequence[str]) -> np.ndarray:
    """Scores [N] float32 of texts; params: as training.reward_model has them. Call under jax.set_mesh(mesh).

    What is longer than max_length loses the beginning of its response: the question and the end stay. A response that
    was cut is scored like any other; what it is worth the caller decides.

    Raises:
      InputError: another number of responses than questions, or a question that leaves no room for a response.
    """
    if len(questions) != len(responses):
      raise InputError("reward model", f"{len(questions)} questions and {len(responses)} responses", "Give one for each.")
    limit = self.max_length or self.config.max_position
    sequences = []
    for question, response in zip(questions, responses, strict=True):
      prompt, read = self.encode(question, response)
      if len(prompt) >= limit:
        raise InputError("reward model: max_length", limit, f"A prompt has {len(prompt)} tokens: leave room for a response.")
      sequences.append(prompt + read[-(limit - len(prompt)):])
    return self.sequence_scores(params, sequences)

  def sequence_scores(self, params, sequences: Sequence[Sequence[int]]) -> np.ndarray:
    """Scores [N] float32 of token sequences, packed into rows as long as a power of two that the longest fits in."""
    if not sequences:
      return np.zeros(0, np.float32)
    length = max(SHORTEST, 1 << (max(map(len, sequences)) - 1).bit_length())
    parts = batch_parts(self.mesh)
    packed = pack([TokenSequence(s, len(s)) for s in sequences], length, rows_for(MICROBATCH_TOKENS, length, parts),
                  self.tokenizer.pad_id, parts)
    found = [scores_of_rows(params, *put_batch(self.mesh, (m.tokens, m.positions, m.segment_ids)), config=self.config,
                            compute=self.compute) for m in packed.microbatches]
    return packed.last(jax.device_get(found)).astype(np.float32)


@dataclass(frozen=True)
class Whitening:
  """The scale of a reward model's scores: mean and standard deviation over its held-out responses.

  Scores of different reward models, and the rule rewards of 0 and 1, are added up; how R1 scales the score against the
  other parts is not stated, and this is ours.
  """

  mean: float
  std: float

  def __post_init__(self):
    if not (np.isfinite(self.mean) and np.isfinite(self.std) and self.std > 0):
      raise InputError("reward model: whitening", f"mean {self.mean}, std {self.std}",
                       "The reward model gives all held-out responses one score: train it on more or better data.")

  def __call__(self, values: np.ndarray) -> np.ndarray:
    """(scores - mean) / std, float32, of the same shape."""
    return ((np.asarray(values, np.float64) - self.mean) / self.std).astype(np.float32)
