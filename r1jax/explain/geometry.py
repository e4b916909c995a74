"""What a stage will do: how many of what, in which pieces, how stale, what changes when, and what it costs at most."""
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np

from r1jax.config import Schedule
from r1jax.losses.correction import SamplerCorrection
from r1jax.models.config import ModelConfig
from r1jax.models.flops import flops, matmul_params
from r1jax.stages.compare import Compare
from r1jax.stages.context import Base, Experiment
from r1jax.stages.curate import Curate
from r1jax.stages.draws import Draws
from r1jax.stages.grpo import GRPO, OldLogprobs
from r1jax.stages.preferences import Preferences, SafetyLabels
from r1jax.stages.reward_model import RewardModel
from r1jax.stages.sft import SFT
from r1jax.training.optimizer import AdamW
from r1jax.training.pack import rows_for

TAKEN = "parameters that a token is multiplied with"


@dataclass(frozen=True)
class Change:
  """A value that changes during a stage. step: as declared; acts_at: the update, counted from 0, from which on it acts, None
  where the stage ends before."""

  field: str
  step: int
  acts_at: int | None
  before: Any
  after: Any


@dataclass(frozen=True)
class Account:
  """What a stage does. geometry: name -> number or text, in the order of the algorithm. cost: name -> number, at most: as if
  every sequence had the greatest length; per update, or in all where a stage has no updates."""

  geometry: dict[str, Any]
  changes: list[Change]
  cost: dict[str, float]


@singledispatch
def account(stage, experiment: Experiment) -> Account:
  """The account of a stage; of a type that is not known here an empty one."""
  return Account({}, [], {})


def data_parallel(experiment: Experiment) -> int:
  """Data-parallel devices as the mesh declares them; 1 where it takes all there are."""
  return max(1, experiment.mesh.replica * experiment.mesh.fsdp)


def rollout_starts(stage: GRPO) -> list[int]:
  """The update, counted from 0, at which each rollout starts."""
  return list(range(0, stage.steps, stage.minibatches))


def changes_of(field: str, schedule: Schedule, starts: list[int]) -> list[Change]:
  """The changes of a schedule, each at the first rollout that starts at or after its step."""
  found = []
  for (_, before), (step, after) in zip(schedule.points, schedule.points[1:], strict=False):
    found.append(Change(field, step, next((start for start in starts if start >= step), None), before, after))
  return found


def reference_steps(stage: GRPO) -> list[int]:
  """After how many updates the reference is replaced by the policy: at the first end of a rollout at or behind each
  multiple of reference_every."""
  ends = [min(start + stage.minibatches, stage.steps) for start in rollout_starts(stage)]
  return [end for start, end in zip(rollout_starts(stage), ends, strict=True)
          if start // stage.reference_every < end // stage.reference_every]


@account.register
def _(stage: GRPO, experiment: Experiment) -> Account:
  starts, sequences = rollout_starts(stage), stage.questions_per_step * stage.group_size
  longest = int(max(stage.max_length.values()))
  last = stage.steps - starts[-1]
  stale = stage.minibatches - 1
  replaced = reference_steps(stage) if stage.kl_coef > 0 else []
  geometry = {
    "questions of a rollout": stage.questions_per_step * stage.minibatches,
    "responses to each": stage.group_size,
    "responses of a rollout": sequences * stage.minibatches,
    "longest prompt, tokens": stage.max_prompt_length,
    "prompt and response, tokens": " -> ".join(f"{int(n):,}" for n in stage.max_length.values()),
    "minibatches of a rollout, one update each": stage.minibatches,
    "questions of a minibatch": stage.questions_per_step,
    "responses of a minibatch": sequences,
    **_microbatches("responses", sequences, longest, stage.microbatch_tokens, experiment),
    "rollouts": len(starts) if last == stage.minibatches else f"{len(starts)}, the last of {last} updates",
    "updates": stage.steps,
    "questions asked in all": stage.steps * stage.questions_per_step,
    "staleness of the policy that sampled, updates": f"0 to {stale}" if stale else "0: every update is on-policy",
    "old log-probs": _old_logprobs(stage),
    "reference": "none: kl_coef is 0" if not stage.kl_coef > 0 else
                 f"replaced {len(replaced)} times, after updates {_listed(replaced)}" if replaced else "never replaced",
    "learning rate": _rate(stage.optimizer, stage.steps),
    "checkpoints, every so many updates": stage.checkpoint_every * stage.minibatches,
    "measured on held-out questions": f"{stage.held_out.questions} x {stage.held_out.samples} samples, at both ends" + (
      f" and every {stage.held_out.every} updates" if stage.held_out.every else ""),
  }
  if stage.ahead:
    geometry["staleness of the policy that sampled, updates"] = (
      f"{stage.minibatches} to {stage.minibatches + stale}, but 0 to {stale} in a rollout that follows a checkpoint")
  changes = changes_of("max_length", stage.max_length, starts)
  if stage.general is not None:
    changes += changes_of("general.share", stage.general.share, starts)
    geometry["general questions of a minibatch"] = " -> ".join(
      str(round(share * stage.questions_per_step)) for share in stage.general.share.values())
  return Account(geometry, changes, _rl_cost(stage, experiment.model_of(stage)))


def _old_logprobs(stage: GRPO) -> str:
  if stage.old_logprobs is OldLogprobs.SAMPLER:
    return "those of the sampler"
  if stage.minibatches == 1 and stage.correction is SamplerCorrection.NONE:
    return "the update's own: the policy has not moved since it sampled"
  return "computed by the trainer before the first update" + (
    "; the sampler's where a rollout was sampled ahead" if stage.ahead else "")


def _rl_cost(stage: GRPO, model: ModelConfig) -> dict[str, float]:
  """Of one update at the greatest length."""
  sequences, longest = stage.questions_per_step * stage.group_size, int(max(stage.max_length.values()))
  response = longest - stage.max_prompt_length
  work = flops(model, stage.max_prompt_length, np.full(sequences, response))
  parts = {"sampling": work["rollout"], "old log-probs": work["old"] * _old_logprobs(stage).startswith("computed"),
           "reference log-probs": work["reference"] * (stage.kl_coef > 0), "update": work["update"]}
  return {TAKEN: int(sum(matmul_params(model))), "tokens": sequences * longest, "sampled tokens": sequences * response,
          **{f"FLOPs, {name}": float(value) for name, value in parts.items() if value}, "FLOPs": float(sum(parts.values()))}


def _microbatches(what: str, count: int, row: int, tokens: int, experiment: Experiment, of: int | None = None) -> dict:
  parts = data_parallel(experiment)
  rows = rows_for(tokens, row, parts, of=of)
  return {"microbatch": f"{rows} rows of {row:,} slots" + (f" over {parts} data-parallel devices" if parts > 1 else ""),
          "microbatches of a minibatch": f"{-(-count // rows)} at most; fewer, as rows hold several shorter {what}"}


def _rate(optimizer: AdamW, steps: int | None) -> str:
  """What the learning rate does; steps: None where the data decide."""
  end = steps if optimizer.cosine else optimizer.decay_steps
  falls = optimizer.cosine or optimizer.decay_steps is not None
  warm = optimizer.warmup_steps
  rises = f"rises to {optimizer.lr:g} until update {warm}" if warm else f"{optimizer.lr:g}"
  until = f"update {end}" if end is not None else "the end"
  return rises + (f", then falls along a cosine to {optimizer.final_lr:g} at {until}" if falls else
                  ", then stays" if warm else "")


@account.register
def _(stage: SFT, experiment: Experiment) -> Account:
  model = experiment.model_of(stage)
  lengths = np.full(stage.batch_size, stage.max_length)
  geometry = {
    "rows of an update": stage.batch_size, "slots of a row, filled with whole documents": stage.max_length,
    "trained on": "every token" if stage.train_on_prompt else "the responses",
    **_microbatches("documents", stage.batch_size, stage.max_length, stage.microbatch_tokens, experiment, stage.batch_size),
    "updates": stage.steps or f"as many as {stage.epochs} epochs of the data fill",
    "learning rate": _rate(stage.optimizer, stage.steps),
    "checkpoints, every so many updates": stage.checkpoint_every}
  parts = {"update": flops(model, 0, lengths)["update"]}
  if stage.teacher:
    parts["teacher"] = flops(experiment.model_of(experiment.stage(stage.teacher.stage)), 0, lengths)["reference"]
  cost = {TAKEN: int(sum(matmul_params(model))), "tokens": int(lengths.sum()),
          **{f"FLOPs, {name}": value for name, value in parts.items()}, "FLOPs": sum(parts.values())}
  return Account(geometry, [], cost)


@account.register
def _(stage: RewardModel, experiment: Experiment) -> Account:
  model, sequences = experiment.model_of(stage), stage.batch_size * stage.responses
  geometry = {
    "examples of an update": stage.batch_size, "responses of an example": stage.responses,
    "prompt and response, tokens": stage.max_length, "reads of a response": stage.reads,
    **_microbatches("responses", stage.batch_size, stage.row_length, stage.microbatch_tokens, experiment),
    "updates": f"as many as {stage.epochs} epochs of {stage.data} fill",
    "learning rate": _rate(stage.optimizer, None), "held out, share of the questions": stage.held_out,
    "checkpoints, every so many updates": stage.checkpoint_every}
  cost = {TAKEN: int(matmul_params(model)[0]), "tokens": sequences * stage.max_length,
          "FLOPs": flops(model, stage.max_length, np.zeros(sequences))["update"]}  # its head is one column
  return Account(geometry, [], cost)


def _draws(draws: Draws, model: ModelConfig) -> tuple[dict, dict]:
  response = draws.max_length - draws.max_prompt_length
  return ({"questions": draws.count, "responses to each": draws.samples, "responses": draws.count * draws.samples,
           "prompt and response, tokens": draws.max_length, "questions of a unit that is kept whole": draws.batch},
          {TAKEN: int(sum(matmul_params(model))), "sampled tokens": draws.count * draws.samples * response,
           "FLOPs": draws.count * draws.samples * flops(model, draws.max_prompt_length, np.array([response]))["rollout"]})


@account.register(Curate)
@account.register(Preferences)
@account.register(SafetyLabels)
def _(stage, experiment: Experiment) -> Account:
  geometry, cost = _draws(stage.draws, experiment.model_of(stage))
  if isinstance(stage, Preferences):
    geometry |= {"pairs of a question": stage.pairs, "verdicts on a pair": stage.queries}
  return Account(geometry, [], cost)


@account.register
def _(stage: Compare, experiment: Experiment) -> Account:
  responses = sum(b.questions * b.samples for b in stage.benchmarks)
  length = stage.max_length - stage.max_prompt_length
  models = [experiment.model_of(experiment.stage(name)) for name in stage.policies]
  work = sum(flops(model, stage.max_prompt_length, np.array([length]))["rollout"] for model in models)
  geometry = {"policies": ", ".join(stage.policies), "prompt and response, tokens": stage.max_length,
              **{f"questions x samples, {b.name}": f"{b.questions} x {b.samples}" for b in stage.benchmarks}}
  return Account(geometry, [], {
    "sampled tokens": len(stage.policies) * responses * length, "FLOPs": responses * work})


def starts_from(stage, experiment: Experiment) -> str:
  """What the stage's parameters come from, in words."""
  source = experiment.source_of(stage)
  if isinstance(source, Base):
    return "random parameters" if source.weights is None else f"the weights in {source.weights or '--set weights=DIR'}"
  return f"stage {source}"


def _listed(numbers: list[int], shown: int = 6) -> str:
  more = len(numbers) - shown
  return ", ".join(map(str, numbers[:shown])) + (f" ... {numbers[-1]}" if more > 0 else "")
