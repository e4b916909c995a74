"""Held-out accuracy of a policy: k samples a question, rule-verified, with intervals and lengths."""
from dataclasses import dataclass, replace

import numpy as np

from r1jax.data.questions import TEST, VALIDATION, Question
from r1jax.errors import InputError
from r1jax.evaluation.measure import accuracy, conduct
from r1jax.rewards.language import BY_SCRIPT, language_reward
from r1jax.rewards.rules import RuleRewards
from r1jax.sampling.choice import Sampling
from r1jax.stages.rollout import Policy


@dataclass(frozen=True)
class HeldOut:
  """How a stage measures itself on held-out questions. Temperature 0.6 and top-p 0.95: R1, V2 appendix D.1.

  split: "validation", which choices may be made on, or "test", for what is reported and not chosen by.
  questions x samples are drawn before and after the stage, at its last maximum length, and every `every` steps (None:
  never) at the length of the moment.
  """

  questions: int
  samples: int = 1
  every: int | None = None
  split: str = VALIDATION
  sampling: Sampling = Sampling(temperature=0.6, top_p=0.95)  # R1, V2, appendix D.1

  def check(self, where: str) -> None:
    """InputError for a number below 1, or questions that are not held out."""
    if self.split not in (VALIDATION, TEST):
      raise InputError(f"{where}.split", repr(self.split), f"Use {VALIDATION!r} or {TEST!r}.")
    for name in ("questions", "samples"):
      if getattr(self, name) < 1:
        raise InputError(f"{where}.{name}", getattr(self, name), "It must be at least 1.")
    if self.every is not None and self.every < 1:
      raise InputError(f"{where}.every", self.every, "It must be at least 1 step, or None.")


def evaluate(policy: Policy, params, key, questions: list[Question], held_out: HeldOut, rewards: RuleRewards,
             max_length: int) -> dict[str, float]:
  """pass@1 with its 95% interval and what goes with it, as `eval/...` metrics.

  eval/language: the share of the question's language in the chain of thought (R1, Nature, equation 7), over the questions
  whose language is told by script.
  """
  asked = questions[:held_out.questions]
  rollout = replace(policy, sampling=held_out.sampling).rollout(
    params, key, list(range(len(asked))), asked, held_out.samples, max_length, rewards)
  samples = [r.sample(policy.template.prefill) for r in rollout.responses]
  language = [language_reward(s.question, s.response, s.prefill, s.language) for s in samples if s.language in BY_SCRIPT]
  scores = rollout.scores()
  found = accuracy([s.parts["accuracy"] for s in scores], held_out.samples) | conduct(
    rollout.lengths, rollout.stopped, [s.status for s in scores])
  return {
    **{f"eval/{name}": value for name, value in found.items()},
    "eval/questions": held_out.questions, "eval/samples": len(scores),
    "eval/format": float(np.mean([s.parts["format"] for s in scores])),
    **({"eval/language": float(np.mean(language))} if language else {}),
    "eval/max_length": max_length,
  }
