"""The RL stages: GRPO with rule rewards, and with reward models on general questions where a stage has them.

`GRPO.run` is the algorithm, one line per arrow: prompts -> rollout -> rows -> log-probs -> rewards -> advantages -> update
-> checkpoint. A rollout samples group_size responses to minibatches x questions_per_step questions and feeds `minibatches`
updates of questions_per_step questions each (whole groups), one inner epoch. A step is one update. Everything that changes
(reference, maximum length) changes where a rollout starts, and there the stage checkpoints, so a resumed run repeats the
interrupted one bit for bit.
"""
import enum
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, MinLen

from r1jax.config import Schedule
from r1jax.data.prompts import (
  Source,
  check_source,
  check_split,
  draw,
  encode_prompts,
  load_questions,
  question_stream,
  read_all,
)
from r1jax.data.templates import R1_ZERO, Template
from r1jax.data.tokenizer import Tokenizer, stop_ids
from r1jax.errors import InputError
from r1jax.fields import Count, Name, Natural, NonNegative, Positive, Seconds, Workers
from r1jax.losses.advantages import AdvantageKind, group_advantages
from r1jax.losses.correction import SamplerCorrection, sampler_correction
from r1jax.losses.grpo import KLEstimator
from r1jax.losses.reductions import Reduction
from r1jax.models.config import Compute, ModelConfig
from r1jax.records import TrainState
from r1jax.reports.watchdogs import Watchdogs
from r1jax.rewards.language import check_target
from r1jax.rewards.rules import GENERAL, PARTS, RuleRewards
from r1jax.rewards.score import Score
from r1jax.run_dir import RunDir
from r1jax.sampling.choice import Sampling
from r1jax.sampling.sampler import Decoding
from r1jax.sharding import DATA, batch_parts, put_batch
from r1jax.stages.context import POLICY, Base, Context, Experiment
from r1jax.stages.evaluate import HeldOut, evaluate
from r1jax.stages.general import QUESTION_IDS_FROM, General, ModelRewards, load_model_rewards, true_means
from r1jax.stages.grpo_log import log_samples, log_updates, rollout_metrics
from r1jax.stages.rollout import Policy, Rollout
from r1jax.training.checkpoint import Checkpoints
from r1jax.training.grpo import grpo_step
from r1jax.training.logprobs import logprobs
from r1jax.training.metrics import RunLog, Timers
from r1jax.training.optimizer import AdamW
from r1jax.training.pack import MICROBATCH_TOKENS, Packed, TokenSequence, pack, rows_for
from r1jax.training.step import Step, init_state
from r1jax.verifiers.kinds import check_references


class OldLogprobs(enum.Enum):
  """Where the denominator of the ratio comes from."""

  TRAINER = "trainer"  # recomputed by the training forward pass
  SAMPLER = "sampler"  # as the sampler reported them


RewardWeights = Annotated[tuple[tuple[str, Positive], ...], MinLen(1)]


@dataclass(frozen=True)
class GRPO:
  """One stage of group-relative RL. Lengths in tokens; defaults are R1-Zero's.

  Sources: [N] R1 in Nature, Methods, "Training details"; [V2] arXiv 2501.12948v2; "ours" where the papers are silent.
  """

  questions: Source  # with rules
  held_out: HeldOut
  optimizer: AdamW
  steps: Count
  name: Name = "r1_zero"
  start: str | Base | None = None
  general: General | None = None  # questions without rules, with their reward models
  template: Template = R1_ZERO
  stop: tuple[str, ...] = ()  # texts of one token that end a response, beside the tokenizer's own stop tokens
  questions_per_step: Count = 32  # [N]
  group_size: Annotated[Count, Ge(2)] = 16  # [N]
  minibatches: Count = 16  # updates a rollout [N]
  max_length: Schedule = Schedule({0: 32_768, 8_200: 65_536})  # prompt and response together [N]
  max_prompt_length: Count = 1_024  # ours
  sampling: Sampling = Sampling(temperature=1.0)  # [N]
  rewards: RewardWeights = (("accuracy", 1.0), ("format", 1.0))  # same weight: [N] eq. 4
  advantage: AdvantageKind = AdvantageKind.STANDARDIZED  # [N] eq. 3
  reduction: Reduction = Reduction.PER_RESPONSE  # DeepSeekMath eq. 3; R1 does not say
  reduction_constant: Positive | None = None
  clip_low: NonNegative = 10.0  # [N] for R1's first RL stage; inferred for R1-Zero
  clip_high: NonNegative = 10.0  # the same
  kl_coef: NonNegative = 0.001  # [N]
  kl_estimator: KLEstimator = KLEstimator.K3  # [N] eq. 2
  reference_every: Count = 400  # steps between replacements of the reference by the policy [N]
  old_logprobs: OldLogprobs = OldLogprobs.TRAINER  # ours
  mask_truncated: bool = False  # ours: leave truncated responses (always rewarded 0) out of the loss
  # Of the sampler's probabilities by the trainer's; a stale rollout's ratio is over the sampler's already (ours).
  correction: SamplerCorrection = SamplerCorrection.NONE
  correction_limit: Positive = 2.0  # of its factors (ours)
  ahead: bool = False  # sample the next rollout while this one trains: its policy is then one rollout old (ours)
  decoding: Decoding = Decoding()
  microbatch_tokens: Count = MICROBATCH_TOKENS  # slots of the rows whose gradients are computed at a time
  verifier_workers: Workers = 1  # (ours)
  verifier_seconds: Seconds = 5.0  # a check that takes longer is killed and counts as wrong (ours)
  checkpoint_every: Count = 1  # rollouts (ours)
  logged_samples: Natural = 2  # whole rollouts written to samples.jsonl each rollout (ours)
  watchdogs: Watchdogs = Watchdogs()
  kind = POLICY

  def inputs(self) -> tuple[str, ...]:
    """The reward models it scores with."""
    return tuple(model.stage for model in self.general.models) if self.general else ()

  def check(self, experiment: Experiment) -> None:
    """InputError for an impossible geometry, schedule or source."""
    where = f"stages.{self.name}"
    _check_together(self, where)
    for length in self.max_length.values():
      if length <= self.max_prompt_length or length != int(length):
        raise InputError(f"{where}.max_length", length,
                         f"It counts the prompt too: give whole numbers above max_prompt_length ({self.max_prompt_length}).")
      longest = experiment.model_of(self).max_position
      if length > longest:
        raise InputError(f"{where}.max_length", length, "The model's context ends at max_position "
                         f"{longest}: shorten it, or stretch the model with rope_scaling.")
    self.decoding.check(f"{where}.decoding", int(max(self.max_length.values())))
    parts = [name for name, _ in self.rewards]
    if not set(parts) <= set(PARTS) or len(set(parts)) < len(parts):
      raise InputError(f"{where}.rewards", parts, f"Give each part once, of {', '.join(PARTS)}.")
    check_source(self.questions)
    if self.general is not None:
      self.general.check(f"{where}.general", experiment, self.questions_per_step)

  def check_mesh(self, mesh) -> None:
    """InputError if the slots cannot be shared by the data-parallel devices."""
    self.decoding.check(f"stages.{self.name}.decoding", int(max(self.max_length.values())), batch_parts(mesh, DATA))
    if self.ahead and mesh.size > 1:
      raise InputError(f"stages.{self.name}.ahead", f"True on {mesh.size} devices", "Sampling beside the update is for one "
                       "device: programs with collectives of two threads could wait for one another.")

  def check_data(self, tokenizer: Tokenizer) -> None:
    """InputError for a bad file, line, prompt, answer or stop text, or too few held-out questions."""
    where = f"stages.{self.name}"
    stop_ids(tokenizer, self.stop)
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
      questions = [*questions, *general]
    encode_prompts(questions, self.template, tokenizer, self.max_prompt_length)
    if "language" in dict(self.rewards):
      for language in sorted({question.language for question in questions}):
        check_target(language)
    check_split(self.questions, self.held_out.questions, self.held_out.split)
    if self.general is not None:
      check_split(self.general.questions)

  def step(self, model: ModelConfig, compute: Compute) -> Step:
    """The update of this stage."""
    return grpo_step(model, compute, self.optimizer, self.sampling.temperature, self.clip_low, self.clip_high, self.kl_coef,
                     self.kl_estimator)

  def run(self, context: Context) -> dict:
    """Trains from context.params, or resumes; {"steps", "before", "after"} with held-out metrics."""
    loop = _Loop.prepare(self, context)
    with ThreadPoolExecutor(1) as beside, RuleRewards(
        dict(self.rewards), workers=self.verifier_workers, timeout_seconds=self.verifier_seconds) as rewards, closing(
          Checkpoints(RunDir(context.run_dir).checkpoints(self.name))) as checkpoints:
      state, reference, progress = loop.start(checkpoints)
      step, timers, following = int(state.step), Timers(), None
      with closing(RunLog(context.run_dir, self.name, self.steps, checkpoints.latest(), context.watch,
                          progress.get("log"))) as log:
        loop.evaluate(state.params, rewards, log, step, None, progress)
        context.ending.saves = True
        while step < self.steps:
          drawn = loop.draw(step, (progress["cursor"], progress["general_cursor"]))
          with timers("rollout"):
            rollout = following.result() if following else loop.rollout(state.params, rewards, drawn)
          progress["cursor"], progress["general_cursor"] = drawn.cursors
          stale = following is not None
          following = loop.sample_ahead(beside, state.params, rewards, step + drawn.updates, drawn.cursors)
          with timers("pack"):
            minibatches = loop.pack(drawn, rollout)
          with timers("logprobs"):
            ref = None if reference is None else loop.logprobs(reference, minibatches)
            old = loop.old_logprobs(state.params, minibatches, rollout, stale)
          waiting_from = time.perf_counter()
          with timers("rewards"):
            scores = rollout.scores()
          with timers("model_rewards"):
            scores = loop.add_model_rewards(scores, rollout)
          timers.add("rewards_hidden", rollout.hidden_seconds(waiting_from))
          values = np.array([s.value for s in scores], np.float32).reshape(-1, self.group_size)
          advantages = np.asarray(group_advantages(values, self.advantage)).reshape(-1)
          with timers("update"):
            state, metrics = loop.train(state, minibatches, rollout, advantages, old, ref)
          shared = {**rollout_metrics(rollout, scores, values), **loop.of_general(rollout),
                    "length/max": drawn.max_length, "rollout/staleness": int(stale) * drawn.updates,
                    "update/padding": float(np.mean([m.padding for m in minibatches])), **timers.take()}
          log_updates(log, step, metrics, shared)
          log_samples(log, step + drawn.updates, self.group_size, self.logged_samples, rollout, scores, advantages)
          previous, step = step, step + drawn.updates
          if reference is not None and previous // self.reference_every < step // self.reference_every:
            reference = jax.tree.map(jnp.copy, state.params)
          loop.evaluate(state.params, rewards, log, step, previous, progress)
          # What is sampled ahead comes of parameters that a checkpoint would not hold.
          if loop.checkpoint_at(step) or (context.ending.asked and following is None):
            progress["log"] = log.sync()  # the checkpoint stands for the lines up to its step
            checkpoints.save(state, reference, dict(progress))
          context.ending.check()
    return {"steps": self.steps, "before": progress.get("before", {}), "after": progress["after"]}


@dataclass(frozen=True)
class _Drawn:
  """The questions of a rollout. ids: their places in their streams, which seed their samples. cursors: the places in both
  streams from which the next rollout draws."""

  ids: list[int]
  questions: list
  updates: int
  max_length: int
  cursors: tuple[int, int]


@dataclass(frozen=True)
class _Loop:
  """What stays the same through the stage."""

  stage: GRPO
  context: Context
  policy: Policy
  update: Step
  stream: Any
  general_stream: Any  # None without general questions
  models: ModelRewards | None
  held_out: list
  rollout_key: jax.Array
  eval_key: jax.Array

  @classmethod
  def prepare(cls, stage: GRPO, context: Context) -> "_Loop":
    data_dir, experiment = context.run_dir / "data", context.experiment
    train = load_questions(stage.questions, "train", data_dir)
    held_out = load_questions(stage.questions, stage.held_out.split, data_dir)
    general_stream = models = None
    if stage.general is not None:
      general_stream = question_stream(load_questions(stage.general.questions, "train", data_dir), experiment.seed)
      models = load_model_rewards(stage.general.models, context)
    policy = Policy(context.model, experiment.compute, context.tokenizer, stage.template, stage.max_prompt_length,
                    context.mesh, stage.sampling, stage.decoding, stage.stop)
    rollout_key, eval_key = jax.random.split(context.key)
    return cls(stage=stage, context=context, policy=policy, update=stage.step(context.model, experiment.compute),
               stream=question_stream(train, experiment.seed), general_stream=general_stream, models=models,
               held_out=[held_out[i] for i in range(stage.held_out.questions)], rollout_key=rollout_key, eval_key=eval_key)

  def start(self, checkpoints: Checkpoints) -> tuple[TrainState, Any, dict]:
    """(state, reference, progress) of the newest checkpoint, or of the stage's beginning. progress: both cursors, and the
    first and the last evaluation so far as `before` and `after`."""
    has_reference, params = self.stage.kl_coef > 0, self.context.params
    state = init_state(params, self.stage.optimizer.build())
    if checkpoints.latest() is None:
      return state, jax.tree.map(jnp.copy, params) if has_reference else None, {"cursor": 0, "general_cursor": 0}
    return checkpoints.restore(state, has_reference)

  def draw(self, step: int, cursors: tuple[int, int]) -> _Drawn:
    """What a rollout that starts at `step` asks. A question's place in its stream is its identity; each update has its
    share of general questions."""
    stage, size, general = self.stage, self.stage.questions_per_step, self.stage.general
    few = 0 if general is None else general.count(step, size)
    updates, (cursor, general_cursor) = min(stage.minibatches, stage.steps - step), cursors
    ids, questions = [], []
    for _ in range(updates):
      for stream, start, count, first in ((self.stream, cursor, size - few, 0),
                                          (self.general_stream, general_cursor, few, QUESTION_IDS_FROM)):
        ids += range(first + start, first + start + count)
        questions += draw(stream, start, count)[0] if count else []
      cursor, general_cursor = cursor + size - few, general_cursor + few
    return _Drawn(ids, questions, updates, int(stage.max_length.at(step)), (cursor, general_cursor))

  def rollout(self, params, rewards: RuleRewards, drawn: _Drawn) -> Rollout:
    """group_size samples of each question, being scored."""
    return self.policy.rollout(params, self.rollout_key, drawn.ids, drawn.questions, self.stage.group_size,
                               drawn.max_length, rewards)

  def checkpoint_at(self, step: int) -> bool:
    """Whether the stage checkpoints when `step` updates are done."""
    return step // self.stage.minibatches % self.stage.checkpoint_every == 0 or step == self.stage.steps

  def sample_ahead(self, beside: ThreadPoolExecutor, params, rewards: RuleRewards, step: int, cursors: tuple[int, int]):
    """The rollout that starts at `step`, under way in another thread with the parameters of now; None where it has to wait
    for the update: a checkpoint must not rest on parameters that it does not hold, nor a rollout see an older reference."""
    if not self.stage.ahead or step >= self.stage.steps or self.checkpoint_at(step):
      return None
    params = jax.tree.map(jnp.copy, params)  # the update donates its own

    def sample():
      with jax.set_mesh(self.policy.mesh):
        return self.rollout(params, rewards, self.draw(step, cursors))
    return beside.submit(sample)

  def pack(self, drawn: _Drawn, rollout: Rollout) -> list[Packed]:
    """The rows of each update: whole groups."""
    stage, parts = self.stage, batch_parts(self.policy.mesh)
    size, rows = stage.questions_per_step * stage.group_size, rows_for(stage.microbatch_tokens, drawn.max_length, parts)
    sequences = [TokenSequence((*e.request.prompt, *e.tokens.tolist()), len(e.request.prompt),
                               e.stopped or not stage.mask_truncated) for e in (r.episode for r in rollout.responses)]
    # Questions come from the stream in random order: consecutive ones are the paper's random minibatch.
    return [pack(sequences[start:start + size], drawn.max_length, rows, self.policy.tokenizer.pad_id, parts)
            for start in range(0, len(sequences), size)]

  def logprobs(self, params, minibatches: list[Packed]) -> list[list[np.ndarray]]:
    """Of each minibatch its arrays [rows, T], under `params` at the sampling temperature."""
    policy = self.policy
    of_rows = partial(logprobs, params, config=policy.config, compute=policy.compute,
                      temperature=self.stage.sampling.temperature)
    return jax.device_get([[of_rows(*put_batch(policy.mesh, (m.tokens, m.positions, m.segment_ids)))
                              for m in packed.microbatches] for packed in minibatches])

  def old_logprobs(self, params, minibatches: list[Packed], rollout: Rollout, stale: bool) -> list[list[np.ndarray]] | None:
    """The trainer's own, by the policy that sampled; None where the update computes them itself: when it is the rollout's
    only one. Of a stale rollout the sampler's, for its policy is gone."""
    stage = self.stage
    if stage.old_logprobs is OldLogprobs.SAMPLER or stale:
      return self.spread(minibatches, [r.episode.logprobs for r in rollout.responses])
    needed = stage.minibatches > 1 or stage.correction is not SamplerCorrection.NONE
    return self.logprobs(params, minibatches) if needed else None

  def spread(self, minibatches: list[Packed], values: list) -> list[list[np.ndarray]]:
    """One value a response, or one a token, at the slots of the responses."""
    size = self.stage.questions_per_step * self.stage.group_size
    return [packed.spread(values[i * size:(i + 1) * size]) for i, packed in enumerate(minibatches)]

  def corrections(self, minibatches: list[Packed], rollout: Rollout, old) -> list[list[np.ndarray]] | list[None]:
    """The factors of the policy term of each minibatch, None for none."""
    if self.stage.correction is SamplerCorrection.NONE:
      return [None] * len(minibatches)
    trainer = [values for packed, arrays in zip(minibatches, old, strict=True) for values in packed.gather(arrays)]
    return self.spread(minibatches, sampler_correction(
      trainer, [r.episode.logprobs for r in rollout.responses], self.stage.correction, self.stage.correction_limit))

  def add_model_rewards(self, scores: list[Score], rollout: Rollout) -> list[Score]:
    """The scores, with those of reward models where there are general questions."""
    if self.models is None:
      return scores
    return self.models.add(scores, [r.text for r in rollout.responses], [r.question for r in rollout.responses],
                           rollout.stopped)

  def of_general(self, rollout: Rollout) -> dict[str, float]:
    """rollout/general: the share of general questions; true/...: their true preference, where a world knows it. Measured
    only."""
    if self.stage.general is None:
      return {}
    questions, known = [r.question for r in rollout.responses], self.stage.general.known
    found = {"rollout/general": float(np.mean([question.kind in GENERAL for question in questions]))}
    return found if known is None else found | true_means(known, questions, [
      r.sample(self.stage.template.prefill) for r in rollout.responses])

  def train(self, state, minibatches: list[Packed], rollout: Rollout, advantages, old, ref) -> tuple[TrainState, list[dict]]:
    """One update a minibatch; their metrics as host numbers."""
    stage, pending = self.stage, []
    sampler = self.spread(minibatches, [r.episode.logprobs for r in rollout.responses])
    corrections = self.corrections(minibatches, rollout, old)
    for i, (packed, advantage) in enumerate(zip(minibatches, self.spread(minibatches, advantages), strict=True)):
      rows = packed.replace(
        weights=packed.weights(stage.reduction, stage.reduction_constant), advantages=advantage,
        sampler_logprobs=sampler[i], old_logprobs=old and old[i], ref_logprobs=ref and ref[i], correction=corrections[i])
      state, metrics = self.update.update(state, rows)
      pending.append(metrics)  # read after the last update is dispatched, so that none waits for the host
    return state, jax.device_get(pending)

  def evaluate(self, params, rewards, log: RunLog, step: int, previous: int | None, progress: dict) -> None:
    """Held-out accuracy at the stage's start (previous None) and end, and every held_out.every steps between; into the log,
    and into progress as `after`, the first one as `before` too."""
    stage, every = self.stage, self.stage.held_out.every
    ends = step == stage.steps or previous is None
    if previous is None and step > 0:
      return  # resumed: measured before the checkpoint was written
    if not ends and (every is None or previous // every == step // every):
      return
    # Start and end are compared, so both are measured at the length that the stage ends with; between, at that of the
    # rollout just trained on, so that a change of length shows in the evaluation after it.
    last_rollout = (stage.steps - 1) // stage.minibatches * stage.minibatches
    max_length = int(stage.max_length.at(last_rollout if ends else previous))
    found = evaluate(self.policy, params, self.eval_key, self.held_out, stage.held_out, rewards, max_length)
    progress["after"] = {name: value if isinstance(value, int) else float(value) for name, value in found.items()}
    if previous is None:
      progress["before"] = progress["after"]
    log.metrics(step, progress["after"])


def _check_together(stage: GRPO, where: str) -> None:
  if stage.correction is not SamplerCorrection.NONE and stage.old_logprobs is OldLogprobs.SAMPLER:
    raise InputError(f"{where}.correction", stage.correction.value, "With old_logprobs=sampler the ratio is over the "
                     "sampler's probabilities already: use none, or old_logprobs=trainer.")
  if stage.reduction is Reduction.CONSTANT and not stage.reduction_constant:
    raise InputError(f"{where}.reduction_constant", stage.reduction_constant, "The constant reduction divides by it.")
  if stage.sampling.temperature == 0:
    raise InputError(f"{where}.sampling.temperature", 0, "Greedy samples of a group are all equal: use 1.0.")
  if stage.old_logprobs is OldLogprobs.SAMPLER and (stage.sampling.top_p < 1 or stage.sampling.top_k is not None):
    raise InputError(f"{where}.old_logprobs", stage.old_logprobs.value, "The sampler's log-probs are of what top_p and "
                     "top_k leave, and the ratio would not start at 1: use old_logprobs=trainer, or the whole distribution.")
