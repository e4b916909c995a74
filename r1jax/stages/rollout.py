"""A policy as stages use it: its last checkpoint, and sampling from it."""
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from r1jax.data.prompts import encode_prompts
from r1jax.data.questions import Question
from r1jax.data.templates import Template
from r1jax.data.tokenizer import Tokenizer
from r1jax.errors import InputError
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.params import abstract_params, shardings
from r1jax.rewards.rules import Sample
from r1jax.sampling.choice import Sampling
from r1jax.sampling.generate import generate
from r1jax.sharding import ROLLOUT_RULES, put_batch
from r1jax.stages.context import Experiment
from r1jax.training.checkpoint import Checkpoints


def policy_params(experiment: Experiment, name: str, mesh, run_dir: Path) -> Any:
  """Parameters of the last checkpoint of stage `name`, in the training layout."""
  checkpoints = Checkpoints(run_dir / "checkpoints" / name)
  params = checkpoints.restore_params(abstract_params(experiment.model_of(experiment.stage(name)), mesh))
  checkpoints.close()
  return params


@dataclass(frozen=True)
class Policy:
  """What sampling needs beside parameters: the model, how it is computed, its tokenizer and template."""

  config: ModelConfig
  compute: Compute
  tokenizer: Tokenizer
  template: Template
  max_prompt_length: int
  mesh: Any
  stop: tuple[str, ...] = ()  # texts of one token each that end a response, beside the tokenizer's stop ids

  @property
  def stop_ids(self) -> tuple[int, ...]:
    """The ids that end a response; InputError for a stop text that is not one token."""
    extra = [self.tokenizer.encode(text) for text in self.stop]
    for text, ids in zip(self.stop, extra, strict=True):
      if len(ids) != 1:
        raise InputError("stop", f"{text!r} is {len(ids)} tokens", "Give texts that are one token of this tokenizer.")
    return (*self.tokenizer.stop_ids, *(ids[0] for ids in extra))

  def rollout_params(self, params):
    """Parameters in the rollout's layout and dtype: gathered over fsdp once a rollout, not once a token."""
    cast = jax.tree.map(lambda x: x.astype(self.compute.dtype), params)
    return jax.device_put(cast, shardings(self.config, self.mesh, ROLLOUT_RULES))

  def sample(self, params, key, question_ids: list[int], questions: list[Question], sampling: Sampling,
             group_size: int, max_length: int):
    """Dispatches group_size samples of each question and returns Rollouts on the device, without waiting.

    params: in the rollout layout. max_length: tokens of prompt and response together, of which the prompt's slots are
    max_prompt_length.
    """
    prompts, lengths = encode_prompts(questions, self.template, self.tokenizer, self.max_prompt_length)
    ids, prompts, lengths = put_batch(self.mesh, (np.asarray(question_ids, np.uint32), prompts, lengths))
    return generate(params, key, ids, prompts, lengths, config=self.config, compute=self.compute, sampling=sampling,
                    group_size=group_size, max_new=max_length - self.max_prompt_length,
                    stop_ids=self.stop_ids, pad_id=self.tokenizer.pad_id)

  def sample_batches(self, params, key, question_ids: list[int], questions: list[Question], sampling: Sampling,
                     group_size: int, max_length: int, batch: int) -> Iterator[tuple[int, Any, list[str]]]:
    """Yields (index of the first question, host Rollouts, texts) of `batch` questions at a time, in order.

    The device samples the next batch while the caller works on the last. A last batch that is not full is filled up with
    its own last question, and the surplus dropped, so that one program serves all.
    """
    def dispatch(start):
      ids, asked = question_ids[start:start + batch], questions[start:start + batch]
      surplus = batch - len(asked)
      return self.sample(params, key, ids + ids[-1:] * surplus, asked + asked[-1:] * surplus, sampling, group_size,
                         max_length)

    pending = dispatch(0)
    for start in range(0, len(questions), batch):
      following = dispatch(start + batch) if start + batch < len(questions) else None
      rows = min(batch, len(questions) - start) * group_size
      rollouts = jax.tree.map(lambda x: x[:rows], jax.device_get(pending))  # noqa: B023 (called at once)
      yield start, rollouts, self.texts(rollouts)
      pending = following

  def texts(self, rollouts) -> list[str]:
    """The responses of host-side rollouts as text, without the stop token."""
    P = self.max_prompt_length
    return [self.tokenizer.decode(row[P:][kept[P:]].tolist())
            for row, kept in zip(rollouts.tokens, rollouts.mask, strict=True)]


def scoring_samples(texts: list[str], rollouts, questions: list[Question], group_size: int, prefill: str) -> list[Sample]:
  """The samples to score, question by question."""
  samples = []
  for i, text in enumerate(texts):
    question = questions[i // group_size]
    samples.append(Sample(response=text, gold=question.answer, truncated=not bool(rollouts.stopped[i]), prefill=prefill,
                          kind=question.kind, question=question.text, language=question.language))
  return samples
