"""General questions in RL: no rule tells right from wrong, reward models score them (R1, Nature, equations 8 to 10)."""
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np

from r1jax.config import Schedule
from r1jax.data.prompts import Source, check_source
from r1jax.data.questions import Question
from r1jax.data.requests import HELPFUL, SAFETY, KnownPreference
from r1jax.errors import InputError
from r1jax.rewards.rules import GENERAL, Sample
from r1jax.rewards.score import Score
from r1jax.stages.context import REWARD_MODEL, Context, Experiment
from r1jax.stages.model_rewards import SUMMARY, ModelScorer, Whitening, text_to_score
from r1jax.stages.reward_model import load_reward_model

QUESTION_IDS_FROM = 1 << 31  # general questions have a stream of their own, and draw their samples from there on


@dataclass(frozen=True)
class ModelReward:
  """A reward model's part in the reward of the questions of a kind.

  stage: the stage that trained it. kind: "helpful" or "safety", of the questions that it scores. weight: what its score is
  multiplied with before format and language, each at most 1, are added; the papers state no scale. whiten: first brought
  to mean 0 and standard deviation 1 over the reward model's own held-out responses (ours), so that a weight of 1 makes a
  standard deviation of preference worth as much as the whole of the format; otherwise the score as it is, in nats.
  """

  stage: str
  kind: str
  weight: float = 1.0
  whiten: bool = True


@dataclass(frozen=True)
class General:
  """General questions beside the reasoning ones of a GRPO stage.

  share: of the questions of an update, by step; R1 has them in the last 400 of 1,700 steps of its second RL stage (V2,
  section 3.2.2), how many is not stated. models: one for each kind among the questions. known: the true preference, where a
  world knows it: measured on the responses of every rollout (true/helpful, true/safety), never rewarded.
  Reward of such a response: weight x score + format + language, as far as the stage has those parts (equation 10).
  """

  questions: Source
  share: Schedule
  models: tuple[ModelReward, ...]
  known: KnownPreference | None = None

  def check(self, where: str, experiment: Experiment, questions_per_step: int) -> None:
    """InputError for a share that is no whole number of questions, or a model that cannot score."""
    check_source(self.questions)
    for share in self.share.values():
      number = share * questions_per_step
      if not 0 <= share <= 1 or abs(number - round(number)) > 1e-6:
        raise InputError(f"{where}.share", share, "Give a share of 0 to 1 that is a whole number of the "
                         f"{questions_per_step} questions of a step.")
    kinds = [model.kind for model in self.models]
    if len(set(kinds)) < len(kinds) or not set(kinds) <= set(GENERAL):
      raise InputError(f"{where}.models", f"kinds {kinds}", f"Give one model a kind, of {', '.join(GENERAL)}.")
    for model in self.models:
      if experiment.stage(model.stage).kind != REWARD_MODEL:
        raise InputError(f"{where}.models.{model.kind}.stage", repr(model.stage), "Name a stage that trains a reward model.")

  def check_kinds(self, where: str, questions: Sequence[Question]) -> None:
    """InputError for questions that no model scores."""
    missing = {q.kind for q in questions} - {model.kind for model in self.models}
    if missing:
      raise InputError(f"{where}.questions", f"questions of kind {', '.join(sorted(missing))} have no reward model",
                       "Give one in models, or leave those questions out.")

  def count(self, step: int, questions_per_step: int) -> int:
    """General questions of an update in a rollout that starts at `step`."""
    return round(self.share.at(step) * questions_per_step)


@dataclass(frozen=True)
class ModelRewards:
  """The reward models of a stage, with their parameters on the devices."""

  models: dict[str, tuple[ModelReward, ModelScorer, dict, Whitening]]  # by kind

  def add(self, scores: list[Score], texts: Sequence[str], questions: Sequence[Question],
          stopped: np.ndarray) -> list[Score]:
    """The scores with the reward models' parts added, named after the kind. questions: one a response.

    A truncated response counts as wrong: its part is the lowest among the responses of its kind.
    """
    scores = list(scores)
    for kind, (model, scorer, params, whitening) in self.models.items():
      rows = [i for i, question in enumerate(questions) if question.kind == kind]
      if not rows:
        continue
      found = scorer.scores(params, [questions[i].text for i in rows], [texts[i] for i in rows])
      found = whitening(found) if model.whiten else found
      found = np.where(stopped[rows], found, found.min())
      for i, part in zip(rows, found.tolist(), strict=True):
        scores[i] = replace(scores[i], value=scores[i].value + model.weight * part, parts={**scores[i].parts, kind: part})
    return scores


def load_model_rewards(wanted: Sequence[ModelReward], context: Context) -> ModelRewards:
  """The trained reward models."""
  experiment, models = context.experiment, {}
  for model in wanted:
    stage = experiment.stage(model.stage)
    config = experiment.model_of(stage)
    params, whitening = load_reward_model(context.run_dir, model.stage, config, context.mesh, context.tokenizer)
    scorer = stage.scorer(config, experiment.compute, context.tokenizer, context.mesh)
    params["decoder"] = jax.tree.map(lambda x: x.astype(experiment.compute.dtype), params["decoder"])
    models[model.kind] = (model, scorer, params, whitening)
  return ModelRewards(models)


def true_value(known: KnownPreference, question: Question, sample: Sample) -> float:
  """What a response is truly worth, in [0, 1]: how helpful it is, or for a question of kind safety whether it is safe. One
  that was cut has no summary, and helps nobody."""
  if question.kind == SAFETY:
    return float(not known.violates(sample.prefill + sample.response))
  return 0.0 if sample.truncated else known.helpfulness(question, text_to_score(sample.prefill + sample.response, SUMMARY))


def true_means(known: KnownPreference, questions: Sequence[Question], samples: Sequence[Sample]) -> dict[str, float]:
  """true/helpful and true/safety: the means over the responses to the questions of a kind, one question a response."""
  found: dict[str, list[float]] = {HELPFUL: [], SAFETY: []}
  for question, sample in zip(questions, samples, strict=True):
    if question.kind in found:
      found[question.kind].append(true_value(known, question, sample))
  return {f"true/{kind}": float(np.mean(values)) for kind, values in found.items() if values}
