"""Every program that a stage will run, at each length of its schedule, from shapes alone: no arrays, no files.

Each comes with what the stage holds on the devices beside it, for a program fits only if both do.
"""
from collections.abc import Iterator
from dataclasses import replace
from functools import partial, singledispatch
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from r1jax.losses.correction import SamplerCorrection
from r1jax.models.config import ModelConfig
from r1jax.models.params import abstract_params, init_params
from r1jax.plan.flops import ideal_forward, ideal_scores, ideal_update
from r1jax.plan.record import (
  GRADIENTS,
  OPTIMIZER,
  PARAMETERS,
  REFERENCE,
  REWARD_MODELS,
  ROWS,
  TEACHER,
  Call,
  Held,
  Program,
)
from r1jax.plan.sampler import Sampled, decode_program, sampler_programs
from r1jax.plan.shapes import abstract_state, in_use, packed_rows, token_columns
from r1jax.records import PackedRows, TrainState
from r1jax.sharding import batch_parts
from r1jax.stages.compare import Compare
from r1jax.stages.context import Base, Experiment
from r1jax.stages.curate import Curate
from r1jax.stages.general import ModelReward
from r1jax.stages.grpo import GRPO, OldLogprobs
from r1jax.stages.model_rewards import SHORTEST
from r1jax.stages.preferences import Preferences, SafetyLabels
from r1jax.stages.reward_model import RewardModel
from r1jax.stages.sft import SFT
from r1jax.training.distill import topk_logprobs
from r1jax.training.logprobs import logprobs
from r1jax.training.pack import MICROBATCH_TOKENS, rows_for
from r1jax.training.reward_model import abstract_reward_params, scores
from r1jax.training.step import Step

STATE = TrainState(step=ROWS, params=PARAMETERS, opt_state=OPTIMIZER)
SUMS = {"grads": GRADIENTS, "metrics": ROWS}


@singledispatch
def programs(stage, experiment: Experiment, mesh: Mesh) -> Iterator[Program]:
  """The programs of a stage, in the order in which it first runs them; of a type that is not known here none. InputError
  where the mesh cannot share its batches."""
  return iter(())


def _copied(tree):
  return jax.tree.map(jnp.copy, tree)


COPIED = jax.jit(_copied)


def _starting(stage, experiment: Experiment, mesh: Mesh, length: int) -> Iterator[Program]:
  """Random parameters, where the stage starts from them."""
  source = experiment.source_of(stage)
  if isinstance(source, Base) and source.weights is None:
    yield Program(stage.name, "init", length, mesh, lambda: Call(
      jax.jit(partial(init_params, config=source.model, mesh=mesh)), (jax.eval_shape(lambda: jax.random.key(0)),), (ROWS,),
      PARAMETERS))


def _update(name: str, length: int, step: Step, params, rows: PackedRows, mesh: Mesh, optimizer, model: ModelConfig,
            ideal: float, held: Held) -> Iterator[Program]:
  """The optimizer's state, and an update. held: what the stage holds beside its state."""
  with jax.set_mesh(mesh):
    state = abstract_state(params, optimizer)
    sums = jax.eval_shape(step.zeros, params, rows)
  beside = ((OPTIMIZER, state.opt_state), *held)
  program = partial(Program, name, length=length, mesh=mesh)
  yield program("init_optimizer", make=lambda: Call(jax.jit(optimizer.build().init), (params,), (PARAMETERS,), OPTIMIZER,
                                                    beside=held))
  yield program("zeros", make=lambda: Call(step.zeros, (params, rows), (PARAMETERS, ROWS), GRADIENTS, beside=beside))
  yield program("accumulate", make=lambda: Call(step.accumulate, (params, sums, rows), (PARAMETERS, SUMS, ROWS), ROWS,
                                                beside=beside, ideal=ideal, model=model, rows=rows.tokens.shape[0]))
  yield program("apply", make=lambda: Call(step.apply, (state, sums), (STATE, SUMS), ROWS, beside=held))


def _scoring(name: str, program: str, params, model: ModelConfig, experiment: Experiment, mesh: Mesh, longest: int,
             beside: Held) -> Program:
  """Scores of rows as long as the power of two that `longest` tokens fit in, as ModelScorer packs them."""
  length = max(SHORTEST, 1 << (longest - 1).bit_length())
  rows = rows_for(MICROBATCH_TOKENS, length, batch_parts(mesh))
  return Program(name, program, length, mesh, lambda: Call(
    scores, (params, *token_columns(mesh, rows, length)), (REWARD_MODELS, ROWS, ROWS, ROWS), ROWS,
    {"config": model, "compute": experiment.compute}, beside, ideal_scores(model, rows, length), model=model,
    rows=rows))


def _reward_models(wanted: tuple[ModelReward, ...], experiment: Experiment,
                   mesh: Mesh) -> dict[str, tuple[ModelConfig, Any]]:
  """kind -> (architecture, parameters) of the reward models that a stage scores with."""
  found = {}
  for reward in wanted:
    model = experiment.model_of(experiment.stage(reward.stage))
    found[reward.kind] = model, in_use(model, experiment.compute, mesh)
  return found


def _model_rewards(name: str, models: dict, experiment: Experiment, mesh: Mesh, longest: int,
                   held: Held) -> Iterator[Program]:
  """Scoring of responses with the reward models of a stage. What was cut has a stop token put behind it."""
  for kind, (model, params) in models.items():
    others = tuple((REWARD_MODELS, tree) for other, (_, tree) in models.items() if other != kind)
    yield _scoring(name, f"score_{kind}", params, model, experiment, mesh, longest + 1, (*held, *others))


@programs.register
def _(stage: GRPO, experiment: Experiment, mesh: Mesh) -> Iterator[Program]:
  stage.check_mesh(mesh)
  params = abstract_params(experiment.model_of(stage), mesh)
  models = _reward_models(stage.general.models, experiment, mesh) if stage.general else {}
  reference = ((REFERENCE, params),) if stage.kl_coef else ()
  held = (*reference, *((REWARD_MODELS, tree) for _, tree in models.values()))
  with jax.set_mesh(mesh):
    optimizer = ((OPTIMIZER, abstract_state(params, stage.optimizer).opt_state),)
  lengths = sorted({int(length) for length in stage.max_length.values()})
  yield from _starting(stage, experiment, mesh, lengths[0])
  for length in lengths:
    for program in _rl_length(stage, experiment, mesh, length, held, optimizer):
      if program.name not in ("init_optimizer", "apply", "prefill") or length == lengths[0]:  # the same at every length
        yield program
    yield from _model_rewards(stage.name, models, experiment, mesh, length, (
      (PARAMETERS, params), *optimizer, *reference))
  if stage.kl_coef:  # the old reference is there until the copy is
    yield Program(stage.name, "copy_reference", lengths[0], mesh, lambda: Call(
      COPIED, (params,), (PARAMETERS,), REFERENCE, beside=(*optimizer, *held)))


def _rl_length(stage: GRPO, experiment: Experiment, mesh: Mesh, length: int, held: Held,
               optimizer: Held) -> Iterator[Program]:
  """Rollout, log-probs and update at one maximum length."""
  model, compute = experiment.model_of(stage), experiment.compute
  params = abstract_params(model, mesh)
  rollout = (*optimizer, *held)
  size = stage.questions_per_step * stage.group_size * stage.minibatches
  sampled = partial(Sampled, stage.name, model, compute, mesh, decoding=stage.decoding, length=length,
                    max_prompt_length=stage.max_prompt_length, others=rollout)
  yield from sampler_programs(sampled(sampling=stage.sampling, requests=size))
  yield decode_program(sampled(sampling=stage.held_out.sampling, requests=stage.held_out.questions * stage.held_out.samples),
                       "decode_held_out")
  count = rows_for(stage.microbatch_tokens, length, batch_parts(mesh))
  columns, static = token_columns(mesh, count, length), {
    "config": model, "compute": compute, "temperature": stage.sampling.temperature}
  forward = ideal_forward(model, count, length)

  def scored(cause: str, beside: Held) -> Call:
    return Call(logprobs, (params, *columns), (cause, ROWS, ROWS, ROWS), ROWS, static, beside, forward,
                model=model, rows=count)

  if stage.kl_coef:
    others = tuple(x for x in held if x[0] != REFERENCE)
    yield Program(stage.name, "reference_logprobs", length, mesh, lambda: scored(REFERENCE, (
      (PARAMETERS, params), *optimizer, *others)))
  if _own_logprobs(stage):
    yield Program(stage.name, "logprobs", length, mesh, lambda: scored(PARAMETERS, rollout))
  f32 = (jnp.float32, ())
  wanted = {"advantages": True, "sampler_logprobs": True, "ref_logprobs": stage.kl_coef > 0,
            "old_logprobs": _own_logprobs(stage) or stage.old_logprobs is OldLogprobs.SAMPLER or stage.ahead,
            "correction": stage.correction is not SamplerCorrection.NONE}
  rows = packed_rows(mesh, count, length, **{name: f32 for name, needed in wanted.items() if needed})
  # A rollout that is sampled ahead has parameters of its own.
  ahead = ((PARAMETERS, params),) if stage.ahead else ()
  yield from _update(stage.name, length, stage.step(model, compute), params, rows, mesh, stage.optimizer, model,
                     ideal_update(model, count, length), (*held, *ahead))


def _own_logprobs(stage: GRPO) -> bool:
  """Whether the trainer computes the old log-probs before the update."""
  return stage.old_logprobs is OldLogprobs.TRAINER and (
    stage.minibatches > 1 or stage.correction is not SamplerCorrection.NONE)


@programs.register
def _(stage: SFT, experiment: Experiment, mesh: Mesh) -> Iterator[Program]:
  stage.check_mesh(mesh)
  model, compute, T = experiment.model_of(stage), experiment.compute, stage.max_length
  steps = stage.steps or stage.optimizer.warmup_steps + 2  # how many epochs make does not change the program's shape
  params, optimizer = abstract_params(model, mesh), stage.optimizer.over(steps)
  count = rows_for(stage.microbatch_tokens, T, batch_parts(mesh), of=stage.batch_size)
  held, more = (), {}
  yield from _starting(stage, experiment, mesh, T)
  if stage.teacher:
    k = stage.teacher.k
    teacher = experiment.model_of(experiment.stage(stage.teacher.stage))
    held = ((TEACHER, abstract_params(teacher, mesh)),)
    more = {"teacher_ids": (jnp.int32, (k,)), "teacher_logprobs": (jnp.float32, (k,))}
    with jax.set_mesh(mesh):
      state = abstract_state(params, optimizer)
    yield Program(stage.name, "teacher_logprobs", T, mesh, lambda: Call(
      topk_logprobs, (held[0][1], *token_columns(mesh, count, T)), (TEACHER, ROWS, ROWS, ROWS), ROWS,
      {"config": teacher, "compute": compute, "k": k}, ((PARAMETERS, params), (OPTIMIZER, state.opt_state)),
      ideal_forward(teacher, count, T), model=teacher, rows=count))
  yield from _update(stage.name, T, stage.step(model, compute, steps), params, packed_rows(mesh, count, T, **more), mesh,
                     optimizer, model, ideal_update(model, count, T), held)


@programs.register
def _(stage: RewardModel, experiment: Experiment, mesh: Mesh) -> Iterator[Program]:
  model, compute, T = experiment.model_of(stage), experiment.compute, stage.row_length
  steps = stage.optimizer.warmup_steps + 2
  params, optimizer = abstract_reward_params(model, mesh), stage.optimizer.over(steps)
  count = rows_for(stage.microbatch_tokens, T, batch_parts(mesh))
  field = {"partner": (jnp.int32, ())} if stage.responses == 2 else {"safe": (jnp.float32, ())}
  yield from _starting(stage, experiment, mesh, T)
  yield from _update(stage.name, T, stage.step(model, compute, steps), params, packed_rows(mesh, count, T, **field), mesh,
                     optimizer, model, ideal_scores(model, count, T, backward=True), ())
  with jax.set_mesh(mesh):
    state = abstract_state(params, optimizer)
  yield _scoring(stage.name, "score", params, model, experiment, mesh, stage.max_length, ((OPTIMIZER, state.opt_state),))


@programs.register(Curate)
@programs.register(Preferences)
@programs.register(SafetyLabels)
def _(stage, experiment: Experiment, mesh: Mesh) -> Iterator[Program]:
  stage.check_mesh(mesh)
  model, draws = experiment.model_of(stage), stage.draws
  yield from _starting(stage, experiment, mesh, draws.max_length)
  yield from sampler_programs(Sampled(
    stage.name, model, experiment.compute, mesh, draws.sampling, draws.decoding, draws.max_prompt_length, draws.max_length,
    min(draws.batch, draws.count) * draws.samples, ()))


@programs.register
def _(stage: Compare, experiment: Experiment, mesh: Mesh) -> Iterator[Program]:
  """Of every architecture among the policies; the first benchmark's rollout whole, of the others' what differs."""
  stage.check_mesh(mesh)
  models = _reward_models(stage.models, experiment, mesh)
  held = tuple((REWARD_MODELS, tree) for _, tree in models.values())
  of_policies = {experiment.model_of(experiment.stage(name)): name for name in reversed(stage.policies)}
  start = abstract_params(experiment.model_of(stage), mesh)  # what the stage is given, and does not read
  for model, policy in reversed(of_policies.items()):
    beside = ((PARAMETERS, abstract_params(model, mesh)), (PARAMETERS, start))
    each = {(b.sampling, b.questions * b.samples): b for b in reversed(stage.benchmarks)}
    for number, ((sampling, requests), benchmark) in enumerate(reversed(each.items())):
      of = Sampled(stage.name, model, experiment.compute, mesh, sampling, stage.decoding, stage.max_prompt_length,
                   stage.max_length, requests, (*beside[1:], *held))
      if number == 0:
        yield from (_renamed(program, policy, len(of_policies)) for program in sampler_programs(of))
      else:
        yield _renamed(decode_program(of, f"decode_{benchmark.name}"), policy, len(of_policies))
    yield from (_renamed(program, policy, len(of_policies)) for program in _model_rewards(
      stage.name, models, experiment, mesh, stage.max_length, beside))


def _renamed(program: Program, policy: str, of: int) -> Program:
  """With the policy in its name, where there are several architectures."""
  return program if of == 1 else replace(program, name=f"{program.name}_{policy}")
