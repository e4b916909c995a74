"""Reward models in use: what they read of a response, its score, and scores put on one scale."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from r1jax.data.templates import Template, render
from r1jax.data.tokenizer import Tokenizer
from r1jax.errors import InputError
from r1jax.models.config import Compute, ModelConfig
from r1jax.rewards.format import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from r1jax.sharding import batch_parts, put_batch
from r1jax.training.reward_model import scores as scores_of_rows

SUMMARY, ALL = "summary", "all"
READS = (SUMMARY, ALL)  # the helpful reward model's, the safety reward model's (R1, Nature, "Reward design")
SHORTEST = 16  # slots; shorter rows are padded to it, so that fewer programs are compiled. Ours.


def text_to_score(response: str, reads: str) -> str:
  """The part of a response that a reward model reads.

  "all": the response as it is, reasoning and summary. "summary": what follows the chain of thought, which is all that
  r1jax.rewards.language.thought_of does not take for the thought: what stands after the last `</think>`; without one, from
  `<answer>` on; and nothing where there is neither tag, for then nobody can tell where the thought ends. The answer tags
  are taken out and white space at both ends too, since the format has a reward of its own. This reading is ours.

  Raises:
    InputError: another `reads`.
  """
  if reads == ALL:
    return response
  if reads != SUMMARY:
    raise InputError("reads", repr(reads), f"Use one of {', '.join(READS)}.")
  start = response.find(THINK_OPEN)
  start = 0 if start < 0 else start + len(THINK_OPEN)
  end = response.rfind(THINK_CLOSE, start)
  if end < 0:
    end = response.find(ANSWER_OPEN, start)
    summary = "" if end < 0 else response[end:]
  else:
    summary = response[end + len(THINK_CLOSE):]
  return summary.replace(ANSWER_OPEN, "").replace(ANSWER_CLOSE, "").strip()


def rows_to_score(sequences: Sequence[Sequence[int]], slots: int, pad_id: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(tokens [N, slots], positions [N, slots], last [N]) int32 of sequences of 1 to `slots` ids, padded on the right."""
  lengths = np.array([len(ids) for ids in sequences], np.int32)
  tokens = np.full((len(sequences), slots), pad_id, np.int32)
  for row, ids in zip(tokens, sequences, strict=True):
    row[:len(ids)] = ids
  places = np.arange(slots, dtype=np.int32)
  return tokens, np.where(places < lengths[:, None], places, -1).astype(np.int32), lengths - 1


@dataclass(frozen=True)
class ModelScorer:
  """Scores responses with a reward model. It reads the prompt, a part of the response and a stop token, which the score
  is read at, whether or not the response was cut before one.

  reads: "summary" or "all". batch: rows a call. max_length: of prompt and response in tokens; None: the model's whole
  context. R1 sets no limit when it scores (Nature, "Reward design").
  """

  config: ModelConfig
  compute: Compute
  tokenizer: Tokenizer
  template: Template
  mesh: Any
  reads: str
  batch: int
  max_length: int | None = None

  def __post_init__(self):
    text_to_score("", self.reads)
    if self.batch < 1 or self.batch % batch_parts(self.mesh):
      raise InputError("reward model: batch", f"{self.batch} rows for {batch_parts(self.mesh)} data-parallel devices",
                       "Make it a multiple of mesh.replica x mesh.fsdp.")
    if self.max_length is not None and not 1 <= self.max_length <= self.config.max_position:
      raise InputError("reward model: max_length", self.max_length,
                       f"Give 1 to the model's context, max_position {self.config.max_position}.")

  def encode(self, question: str, response: str) -> tuple[list[int], list[int]]:
    """(prompt ids, ids of what is read of the response, with a stop token). The response may begin with the template's
    prefill, as data sets keep it, or not, as it is sampled."""
    prompt = self.tokenizer.encode(render(self.template, question))
    if self.tokenizer.adds_bos and prompt[:1] != [self.tokenizer.bos_id]:
      prompt = [self.tokenizer.bos_id, *prompt]
    read = text_to_score(response.removeprefix(self.template.prefill.strip()), self.reads)
    return prompt, [*self.tokenizer.encode(read), self.tokenizer.stop_ids[0]]

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
    """Scores [N] float32 of token sequences of at most max_length ids. Rows are padded to a power of two that the longest
    fits in, bounded by max_length, and the last call is filled up, so that few programs are compiled."""
    if not sequences:
      return np.zeros(0, np.float32)
    longest = max(map(len, sequences))
    slots = min(max(SHORTEST, 1 << (longest - 1).bit_length()), self.max_length or self.config.max_position)
    found = []
    for start in range(0, len(sequences), self.batch):
      rows = list(sequences[start:start + self.batch])
      rows += rows[-1:] * (self.batch - len(rows))
      found.append(scores_of_rows(params, *put_batch(self.mesh, rows_to_score(rows, slots, self.tokenizer.pad_id)),
                                  config=self.config, compute=self.compute))
    return np.concatenate(jax.device_get(found))[:len(sequences)]


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
