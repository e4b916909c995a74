"""Held-out accuracy of a policy: k samples a question, rule-verified, with intervals and lengths."""
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from r1jax.data.questions import VALIDATION, Question
from r1jax.evaluation.accuracy import by_level
from r1jax.evaluation.measure import accuracy, conduct
from r1jax.evaluation.outcomes import Outcome, consensus
from r1jax.fields import Count
from r1jax.rewards.language import BY_SCRIPT, language_reward
from r1jax.rewards.rules import RuleRewards
from r1jax.sampling.choice import Sampling
from r1jax.stages.rollout import Policy
from r1jax.verifiers.maths import extract_answer
from r1jax.verifiers.verdict import SCORED


@dataclass(frozen=True)
class HeldOut:
  """How a stage measures itself on held-out questions. Temperature 0.6 and top-p 0.95: R1, V2 appendix D.1.

  split: "validation", which choices may be made on, or "test", for what is reported and not chosen by.
  questions x samples are drawn before and after the stage, at its last maximum length, and every `every` steps (None:
  never) at the length then in force.
  """

  questions: Count
  samples: Count = 1
  every: Count | None = None
  split: Literal["validation", "test"] = VALIDATION
  sampling: Sampling = Sampling(temperature=0.6, top_p=0.95)  # R1, V2, appendix D.1


def evaluate(policy: Policy, params, key, questions: list[Question], held_out: HeldOut, rewards: RuleRewards,
             max_length: int) -> dict[str, float]:
  """pass@1 with its 95% interval and what goes with it, as `eval/...` metrics.

  eval/cons_at_K: where there are K > 1 samples, the share of questions whose majority answer is right (R1, V2, appendix
  D.1). eval/pass_at_1/level_NAME: of the questions of a level, where they have one. eval/language: the share of the
  question's language in the chain of thought (R1, Nature, equation 7), over the questions whose language is told by script.
  """
  asked = questions[:held_out.questions]
  rollout = replace(policy, sampling=held_out.sampling).rollout(
    params, key, list(range(len(asked))), asked, held_out.samples, max_length, rewards)
  samples = [r.sample(policy.template.prefill) for r in rollout.responses]
  language = [language_reward(s.question, s.response, s.prefill, s.language) for s in samples if s.language in BY_SCRIPT]
  scores = rollout.scores()
  correct = [s.parts["accuracy"] for s in scores]
  outcomes = [Outcome(bool(right), score.status,
                      None if s.truncated or score.status != SCORED else extract_answer(s.response, s.prefill))
              for s, score, right in zip(samples, scores, correct, strict=True)]
  found = (accuracy(correct, held_out.samples) | consensus(asked, outcomes, held_out.samples, rewards.pool)
           | conduct(rollout.lengths, rollout.stopped, [s.status for s in scores]))
  levels = by_level([question.level for question in asked], np.array(correct).reshape(-1, held_out.samples))
  return {
    **{f"eval/{name}": value for name, value in found.items()},
    **{f"eval/pass_at_1/level_{level}": of.mean for level, of in levels.items()},
    "eval/questions": held_out.questions, "eval/samples": len(scores),
    "eval/format": float(np.mean([s.parts["format"] for s in scores])),
    **({"eval/language": float(np.mean(language))} if language else {}),
    "eval/max_length": max_length,
  }
