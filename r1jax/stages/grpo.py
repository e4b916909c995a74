"""The RL stages: GRPO with rule rewards, and with reward models on general questions where a stage has them.

A rollout samples group_size responses to minibatches x questions_per_step questions, scores them, and feeds
`minibatches` updates of questions_per_step questions each (whole groups), one inner epoch. A step is one update.
Everything that changes (reference, maximum length) changes where a rollout starts, and there the stage checkpoints,
so a resumed run repeats the interrupted one bit for bit.
"""
import enum
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from r1jax.config import Schedule
from r1jax.data.prompts import Source, check_split, encode_prompts, read_all
from r1jax.data.prompts import check as check_source
from r1jax.data.templates import R1_ZERO, Template
from r1jax.data.tokenizer import Tokenizer
from r1jax.errors import InputError
from r1jax.losses.advantages import AdvantageKind
from r1jax.losses.grpo import KLEstimator
from r1jax.losses.reductions import Reduction
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.params import abstract_params
from r1jax.records import GRPOBatch, TrainState
from r1jax.rewards.kinds import GENERAL, check_references
from r1jax.rewards.language import check_target
from r1jax.rewards.rules import PARTS
from r1jax.sampling.choice import Sampling
from r1jax.sampling.generate import generate
from r1jax.sharding import ROLLOUT_RULES, batch_parts, batch_sharding
from r1jax.stages.context import POLICY, Base, Context, Experiment
from r1jax.stages.evaluate import HeldOut
from r1jax.stages.general import General
from r1jax.stages.grpo_loop import run
from r1jax.training.grpo import grpo_update
from r1jax.training.optimizer import AdamW
from r1jax.training.score import score


class OldLogprobs(enum.Enum):
  """Where the denominator of the ratio comes from."""

  TRAINER = "trainer"  # recomputed by the training forward pass
  SAMPLER = "sampler"  # as the sampler reported them


@dataclass(frozen=True)
class GRPO:
  """One stage of group-relative RL. Lengths in tokens; defaults are R1-Zero's.

  Sources: [N] R1 in Nature, Methods, "Training details"; [V2] arXiv 2501.12948v2; "ours" where the papers are silent.
  """

  questions: Source  # with rules
  held_out: HeldOut
  optimizer: AdamW
  steps: int
  name: str = "r1_zero"
  start: str | Base | None = None
  general: General | None = None  # questions without rules, with their reward models
  template: Template = R1_ZERO
  stop: tuple[str, ...] = ()  # texts of one token that end a response, beside the tokenizer's own stop tokens
  questions_per_step: int = 32  # [N]
  group_size: int = 16  # [N]
  minibatches: int = 16  # updates a rollout [N]
  max_length: Schedule = Schedule({0: 32_768, 8_200: 65_536})  # prompt and response together [N]
  max_prompt_length: int = 1_024  # ours
  sampling: Sampling = Sampling(temperature=1.0)  # [N]
  rewards: tuple[tuple[str, float], ...] = (("accuracy", 1.0), ("format", 1.0))  # same weight: [N] eq. 4
  advantage: AdvantageKind = AdvantageKind.STANDARDIZED  # [N] eq. 3
  reduction: Reduction = Reduction.PER_RESPONSE  # DeepSeekMath eq. 3; R1 does not say
  reduction_constant: float | None = None
  clip_low: float = 10.0  # [N] for R1's first RL stage; inferred for R1-Zero
  clip_high: float = 10.0
  kl_coef: float = 0.001  # [N]
  kl_estimator: KLEstimator = KLEstimator.K3  # [N] eq. 2
  reference_every: int = 400  # steps between replacements of the reference by the policy [N]
  old_logprobs: OldLogprobs = OldLogprobs.TRAINER  # ours
  mask_truncated: bool = False  # ours: leave truncated responses (always rewarded 0) out of the loss
  rollout_batch: int = 32  # questions a sampler call (ours)
  microbatches: int = 1  # pieces of a minibatch whose gradients are summed (ours)
  verifier_workers: int = 1  # (ours)
  verifier_seconds: float = 5.0  # a check that takes longer is killed and counts as wrong (ours)
  checkpoint_every: int = 1  # rollouts (ours)
  logged_samples: int = 2  # whole rollouts written to samples.jsonl each rollout (ours)
  kind = POLICY

  def inputs(self) -> tuple[str, ...]:
    """The reward models it scores with."""
    return tuple(model.stage for model in self.general.models) if self.general else ()

  @property
  def rows(self) -> int:
    """Sequences a microbatch."""
    return self.questions_per_step * self.group_size // self.microbatches

  def check(self, experiment: Experiment) -> None:
    """InputError for an impossible geometry, schedule or source."""
    where = f"stages.{self.name}"
    _check_numbers(self, where)
    _check_geometry(self, where)
    for length in self.max_length.values():
      if length <= self.max_prompt_length:
        raise InputError(f"{where}.max_length", length,
                         f"It counts the prompt too: make it more than max_prompt_length ({self.max_prompt_length}).")
      longest = experiment.model_of(self).max_position
      if length > longest:
        raise InputError(f"{where}.max_length", length, "The model's context ends at max_position "
                         f"{longest}: shorten it, or stretch the model with rope_scaling.")
    unknown = [name for name, _ in self.rewards if name not in PARTS]
    if unknown:
      raise InputError(f"{where}.rewards", unknown, f"Known parts: {', '.join(PARTS)}.")
    self.held_out.check(f"{where}.held_out")
    check_source(self.questions)
    if self.general is not None:
      self.general.check(f"{where}.general", experiment, self.questions_per_step)

  def run(self, context: Context) -> dict:
    """Trains from context.params, or resumes; {"steps", "before", "after"} with held-out metrics."""
    update = self.update(context.model, context.experiment.compute)
    return run(self, context, update, reuse_logprobs=self.old_logprobs is OldLogprobs.SAMPLER)

  def check_mesh(self, mesh) -> None:
    """InputError if a batch cannot be split over the data-parallel devices."""
    parts = batch_parts(mesh)
    for name, size in (("rollout_batch", self.rollout_batch), ("held_out.batch", self.held_out.batch),
                       ("microbatches", self.rows)):
      if size % parts:
        raise InputError(f"stages.{self.name}.{name}", f"{size} rows at a time for {parts} data-parallel devices",
                         "Make it a multiple of mesh.replica x mesh.fsdp.")

  def check_data(self, tokenizer: Tokenizer) -> None:
    """InputError for a bad file, line, prompt or answer, or too few held-out questions."""
    where = f"stages.{self.name}"
    questions = read_all(self.questions)
    unruled = next((q for q in questions if q.kind in GENERAL), None)
    if unruled:
      raise InputError(f"{where}.questions", f"{unruled.id} is of kind {unruled.kind!r}, which no rule judges",
                       "Put such questions into general, with a reward model.")
    if "accuracy" in dict(self.rewards):
      check_references((question.id, question.kind, question.answer) for question in questions)
    if self.general is not None:
      general = read_all(self.general.questions)
      self.general.check_kinds(f"{where}.general", general)
      questions += general
    encode_prompts(questions, self.template, tokenizer, self.max_prompt_length)
    if "language" in dict(self.rewards):
      for language in sorted({question.language for question in questions}):
        check_target(language)
    check_split(self.questions, self.held_out.questions)
    if self.general is not None:
      check_split(self.general.questions, 0)

  def update(self, model: ModelConfig, compute: Compute):
    """The jitted update(state, GRPOBatch) of this stage."""
    return grpo_update(model, compute, self.optimizer, self.sampling.temperature,
                       self.max_prompt_length, self.clip_low, self.clip_high, self.kl_coef, self.kl_estimator)

  def programs(self, experiment: Experiment, mesh) -> dict[str, Any]:
    """update, score and generate at the longest maximum length, lowered from shapes alone."""
    self.check_mesh(mesh)
    config, compute, P = experiment.model_of(self), experiment.compute, self.max_prompt_length
    length = int(max(self.max_length.values()))

    def array(shape, dtype, axis=0):
      return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh, len(shape), axis))

    with jax.set_mesh(mesh):
      params = abstract_params(config, mesh)
      state = TrainState(step=jax.ShapeDtypeStruct((), jnp.int32), params=params,
                         opt_state=jax.eval_shape(self.optimizer.build().init, params))
      lead = (self.microbatches, self.rows)
      wide = partial(array, (*lead, length), axis=1)
      batch = GRPOBatch(
        tokens=wide(jnp.int32), positions=wide(jnp.int32), mask=wide(jnp.bool_), weights=wide(jnp.float32),
        advantages=array(lead, jnp.float32, 1), sampler_logprobs=wide(jnp.float32),
        old_logprobs=wide(jnp.float32) if self.minibatches > 1 else None,
        ref_logprobs=wide(jnp.float32) if self.kl_coef else None)
      row = array((self.rows, length), jnp.int32)
      Q = self.rollout_batch
      return {
        "update": self.update(config, compute).lower(state, batch),
        "score": score.lower(params, row, row, config=config, compute=compute,
                             temperature=self.sampling.temperature, first=P),
        "generate": generate.lower(
          abstract_params(config, mesh, ROLLOUT_RULES, jnp.dtype(compute.dtype)),
          jax.eval_shape(lambda: jax.random.key(0)), array((Q,), jnp.uint32), array((Q, P), jnp.int32),
          array((Q,), jnp.int32), config=config, compute=compute, sampling=self.sampling,
          group_size=self.group_size, max_new=length - P, stop_ids=(0,), pad_id=0),
      }


def _check_numbers(stage: GRPO, where: str) -> None:
  for name in ("steps", "questions_per_step", "group_size", "minibatches", "max_prompt_length", "reference_every",
               "rollout_batch", "microbatches", "verifier_workers", "checkpoint_every"):
    if getattr(stage, name) < 1:
      raise InputError(f"{where}.{name}", getattr(stage, name), "It must be at least 1.")
  for name in ("kl_coef", "clip_low", "clip_high"):
    if getattr(stage, name) < 0:
      raise InputError(f"{where}.{name}", getattr(stage, name), "It must not be negative.")
  if stage.group_size < 2:
    raise InputError(f"{where}.group_size", stage.group_size, "A group of one has no advantage: use at least 2.")
  if stage.reduction is Reduction.CONSTANT and not stage.reduction_constant:
    raise InputError(f"{where}.reduction_constant", stage.reduction_constant, "The constant reduction divides by it.")
  if stage.sampling.temperature == 0:
    raise InputError(f"{where}.sampling.temperature", 0, "Greedy samples of a group are all equal: use 1.0.")


def _check_geometry(stage: GRPO, where: str) -> None:
  batch = stage.questions_per_step * stage.group_size
  if batch % stage.microbatches:
    raise InputError(f"{where}.microbatches", stage.microbatches,
                     f"It must divide questions_per_step x group_size = {batch} sequences.")
  shortest = stage.steps % stage.minibatches or stage.minibatches  # updates of the last rollout
  for updates in {stage.minibatches, shortest}:
    if updates * stage.questions_per_step % stage.rollout_batch:
      raise InputError(f"{where}.rollout_batch", stage.rollout_batch,
                       f"It must divide the questions of a rollout, {updates} x {stage.questions_per_step}"
                       f"{' in the last one' if updates != stage.minibatches else ''}.")
