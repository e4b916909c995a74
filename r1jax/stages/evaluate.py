"""Held-out accuracy of a policy: k samples a question, rule-verified, with intervals and lengths."""
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from r1jax.data.questions import VALIDATION, Question
from r1jax.evaluation.accuracy import by_level, cons_at_k
from r1jax.evaluation.measure import accuracy, conduct, estimated
from r1jax.fields import Count
from r1jax.rewards.language import BY_SCRIPT, language_reward
from r1jax.rewards.rules import RuleRewards, Sample, Score
from r1jax.sampling.choice import Sampling
from r1jax.stages.rollout import Policy
from r1jax.verifiers.kinds import kind_of
from r1jax.verifiers.maths import extract_answer, verify_plain


@dataclass(frozen=True)
class HeldOut:
  """How a stage measures itself on held-out questions. Temperature 0.6 and top-p 0.95: R1, V2 appendix D.1.

  split: "validation", which choices may be made on, or "test", for what is reported and not chosen by.
  questions x samples are drawn before and after the stage, at its last maximum length, and every `every` steps (None:
  never) at the length of the moment.
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
  found = accuracy(correct, held_out.samples) | conduct(rollout.lengths, rollout.stopped, [s.status for s in scores])
  levels = by_level([question.level for question in asked], np.array(correct).reshape(-1, held_out.samples))
  return {
    **{f"eval/{name}": value for name, value in found.items()}, **consensus(asked, samples, scores, held_out.samples),
    **{f"eval/pass_at_1/level_{level}": of.mean for level, of in levels.items()},
    "eval/questions": held_out.questions, "eval/samples": len(scores),
    "eval/format": float(np.mean([s.parts["format"] for s in scores])),
    **({"eval/language": float(np.mean(language))} if language else {}),
    "eval/max_length": max_length,
  }


def consensus(questions: list[Question], samples: list[Sample], scores: list[Score], k: int) -> dict[str, float]:
  """cons@k with its interval as metrics; {} for k = 1, or kinds whose answers cannot be put together (programs).

  samples, scores: k of each question, one question after another. All right answers are one answer, whatever their form;
  wrong ones are told apart by their text, or their value where they are plain numbers (ours), since asking a verifier about
  each pair would take longer than sampling. What was cut at the maximum length does not vote.
  """
  if k < 2 or any(kind_of(question.kind).whole_response for question in questions):
    return {}
  votes = [None if sample.truncated else sample.gold if score.parts["accuracy"] else extract_answer(
    sample.response, sample.prefill) for sample, score in zip(samples, scores, strict=True)]
  return estimated(f"eval/cons_at_{k}", cons_at_k(
    [votes[i * k:(i + 1) * k] for i in range(len(questions))], [question.answer for question in questions],
    lambda a, b: a.strip() == b.strip() or bool(verify_plain(a, b))))
