"""Held-out accuracy of a policy: k samples a question, rule-verified, with intervals and lengths."""
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from r1jax.data.prompts import encode_prompts
from r1jax.data.questions import Question
from r1jax.data.templates import Template
from r1jax.data.tokenizer import Tokenizer
from r1jax.errors import InputError
from r1jax.evaluation.accuracy import pass_at_1
from r1jax.models.config import Compute, ModelConfig
from r1jax.rewards.rules import RuleRewards, Sample
from r1jax.sampling.choice import Sampling
from r1jax.sampling.generate import generate
from r1jax.sharding import put_batch


@dataclass(frozen=True)
class HeldOut:
  """How a stage measures itself on held-out questions. Temperature 0.6 and top-p 0.95: R1, V2 appendix D.1.

  questions x samples are drawn before and after the stage, at its last maximum length, and every `every` steps (None:
  never) at the length of the moment. batch: questions a sampler call.
  """

  questions: int
  samples: int = 1
  every: int | None = None
  batch: int = 64
  sampling: Sampling = Sampling(temperature=0.6, top_p=0.95)

  def check(self, where: str) -> None:
    for name in ("questions", "samples", "batch"):
      if getattr(self, name) < 1:
        raise InputError(f"{where}.{name}", getattr(self, name), "It must be at least 1.")
    if self.questions % self.batch:
      raise InputError(f"{where}.batch", self.batch, f"It must divide questions ({self.questions}).")
    if self.every is not None and self.every < 1:
      raise InputError(f"{where}.every", self.every, "It must be at least 1 step, or None.")


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

  def sample(self, params, key, question_ids: list[int], questions: list[Question], sampling: Sampling,
             group_size: int, max_length: int):
    """Dispatches group_size samples of each question and returns Rollouts on the device, without waiting.

    max_length: tokens of prompt and response together, of which the prompt's slots are max_prompt_length.
    """
    prompts, lengths = encode_prompts(questions, self.template, self.tokenizer, self.max_prompt_length)
    ids, prompts, lengths = put_batch(self.mesh, (np.asarray(question_ids, np.uint32), prompts, lengths))
    return generate(params, key, ids, prompts, lengths, config=self.config, compute=self.compute, sampling=sampling,
                    group_size=group_size, max_new=max_length - self.max_prompt_length,
                    stop_ids=self.stop_ids, pad_id=self.tokenizer.pad_id)

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


def evaluate(policy: Policy, params, key, questions: list[Question], held_out: HeldOut, rewards: RuleRewards,
             max_length: int) -> dict[str, float]:
  """pass@1 with its 95% interval and what goes with it, as `eval/...` metrics. params: in the rollout layout.

  The device samples the next batch while the host decodes and scores the last.
  """
  def dispatch(start):
    batch = list(range(start, start + held_out.batch))
    return policy.sample(params, key, batch, [questions[i] for i in batch], held_out.sampling, held_out.samples, max_length)

  scorings, lengths, truncated = [], [], []
  pending = dispatch(0)
  for start in range(0, held_out.questions, held_out.batch):
    following = dispatch(start + held_out.batch) if start + held_out.batch < held_out.questions else None
    rollouts = jax.device_get(pending)
    asked = [questions[i] for i in range(start, start + held_out.batch)]
    samples = scoring_samples(policy.texts(rollouts), rollouts, asked, held_out.samples, policy.template.prefill)
    scorings.append(rewards.submit(samples))
    lengths.append(rollouts.mask.sum(axis=1))
    truncated.append(~rollouts.stopped)
    pending = following
  scores = [score for scoring in scorings for score in scoring.result()]
  correct = np.array([s.parts["accuracy"] for s in scores]).reshape(held_out.questions, held_out.samples)
  accuracy = pass_at_1(correct)
  return {
    "eval/pass_at_1": accuracy.mean, "eval/pass_at_1_low": accuracy.low, "eval/pass_at_1_high": accuracy.high,
    "eval/questions": held_out.questions, "eval/samples": accuracy.samples,
    "eval/format": float(np.mean([s.parts["format"] for s in scores])),
    "eval/length": float(np.concatenate(lengths).mean()), "eval/truncated": float(np.concatenate(truncated).mean()),
    "eval/max_length": max_length,
    "eval/verifier_failures": sum(s.status in ("timed_out", "crashed") for s in scores),
  }
