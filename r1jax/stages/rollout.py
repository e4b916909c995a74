"""A policy as stages use it: its last checkpoint, and the one loop that samples it, reads it and has it scored."""
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from r1jax.data.prompts import encode_prompts
from r1jax.data.questions import Question
from r1jax.data.templates import Template
from r1jax.data.tokenizer import Tokenizer, stop_ids
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.params import abstract_params
from r1jax.records import Episode, Request
from r1jax.rewards.rules import RuleRewards, Sample, Scoring
from r1jax.rewards.score import Score
from r1jax.run_dir import RunDir
from r1jax.sampling.choice import Sampling
from r1jax.sampling.sampler import Decoding, Sampler
from r1jax.stages.context import Experiment
from r1jax.training.checkpoint import Checkpoints


def policy_params(experiment: Experiment, name: str, mesh, run_dir: Path) -> Any:
  """Parameters of the last checkpoint of stage `name`, in the training layout."""
  with closing(Checkpoints(RunDir(run_dir).checkpoints(name), read_only=True)) as checkpoints:
    return checkpoints.restore_params(abstract_params(experiment.model_of(experiment.stage(name)), mesh))


@dataclass(frozen=True)
class Response:
  """An episode as text. text: what was sampled, without the prompt and the stop token."""

  question: Question
  episode: Episode
  text: str

  def sample(self, prefill: str) -> Sample:
    """What rewards judge."""
    q = self.question
    return Sample(response=self.text, gold=q.answer, truncated=not self.episode.stopped, prefill=prefill, kind=q.kind,
                  question=q.text, language=q.language)


@dataclass
class Rollout:
  """The responses of one run of the sampler, question by question, while they are being scored.

  occupancy: tokens sampled over steps of slots. preempted: sequences that had to make way for others and went on later.
  """

  responses: list[Response]
  occupancy: float
  preempted: int
  scorings: list[tuple[list[int], Scoring]] = field(default_factory=list)  # of the responses with these numbers

  @property
  def lengths(self) -> np.ndarray:
    """[N] sampled tokens, the stop token included."""
    return np.array([len(r.episode.tokens) for r in self.responses])

  @property
  def stopped(self) -> np.ndarray:
    """[N] bool, ended by a stop token."""
    return np.array([r.episode.stopped for r in self.responses])

  def scores(self) -> list[Score]:
    """Waits for the verifiers; a score for each response."""
    found: list[Any] = [None] * len(self.responses)
    for numbers, scoring in self.scorings:
      for number, score in zip(numbers, scoring.result(), strict=True):
        found[number] = score
    return found

  def hidden_seconds(self, waiting_from: float) -> float:
    """For how long verifiers worked before somebody waited for them (from waiting_from, of time.perf_counter)."""
    if not self.scorings:
      return 0.0
    return min(max(s.ended for _, s in self.scorings), waiting_from) - min(s.began for _, s in self.scorings)


@dataclass(frozen=True)
class Policy:
  """What sampling needs beside parameters. stop: texts of one token each that end a response, beside the tokenizer's stop
  tokens."""

  config: ModelConfig
  compute: Compute
  tokenizer: Tokenizer
  template: Template
  max_prompt_length: int
  mesh: Any
  sampling: Sampling
  decoding: Decoding = Decoding()
  stop: tuple[str, ...] = ()

  @property
  def stop_ids(self) -> tuple[int, ...]:
    """The ids that end a response; InputError for a stop text that is not one token."""
    return stop_ids(self.tokenizer, self.stop)

  def rollout(self, params, key: jax.Array, ids: list[int], questions: list[Question], samples: int, max_length: int,
              rewards: RuleRewards | None = None) -> Rollout:
    """`samples` responses to each question, of at most max_length tokens, prompt included.

    ids: what seeds each question's samples. params: in the training layout. rewards: score the responses as they end, while
    the device goes on with the others.
    """
    prompts = encode_prompts(questions, self.template, self.tokenizer, self.max_prompt_length)
    requests = [Request(question_id, sample, prompt, max_length - len(prompt))
                for question_id, prompt in zip(ids, prompts, strict=True) for sample in range(samples)]
    number = {(r.question_id, r.sample): i for i, r in enumerate(requests)}
    sampler = Sampler(self.config, self.compute, self.mesh, self.sampling, self.stop_ids, self.decoding)
    responses: list[Any] = [None] * len(requests)
    scorings = []
    for episodes in sampler.run(sampler.weights(params), key, requests):
      numbers = [number[e.request.question_id, e.request.sample] for e in episodes]
      for i, episode in zip(numbers, episodes, strict=True):
        text = self.tokenizer.response_text(episode.tokens.tolist(), episode.stopped)
        responses[i] = Response(questions[i // samples], episode, text)
      if rewards is not None:
        scorings.append((numbers, rewards.submit(responses[i].sample(self.template.prefill) for i in numbers)))
    return Rollout(responses, sampler.occupancy(), sampler.stats["preempted"], scorings)
