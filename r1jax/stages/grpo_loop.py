"""The host program of a GRPO stage: prompt -> rollout -> log-probs -> rewards -> advantages -> update -> checkpoint.

Each arrow is a line of `run` under a timer of its own. The device works ahead of the host wherever it can: the next
sampler call runs while the last one's texts are decoded, verifiers run beside all of it.
"""
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.data.prompts import draw, load_questions, question_stream
from r1jax.losses.advantages import group_advantages
from r1jax.losses.reductions import token_weights
from r1jax.records import GRPOBatch, TrainState
from r1jax.rewards.rules import RuleRewards
from r1jax.rewards.score import Score, counts
from r1jax.sharding import put_batch
from r1jax.stages.context import Context
from r1jax.stages.evaluate import evaluate
from r1jax.stages.general import QUESTION_IDS_FROM, ModelRewards, load_model_rewards
from r1jax.stages.policy import Policy, scoring_samples
from r1jax.training.checkpoint import Checkpoints
from r1jax.training.metrics import RunLog, Timers, read_metrics
from r1jax.training.score import score
from r1jax.training.step import init_state, microbatched


def run(stage, context: Context, update, reuse_logprobs: bool) -> dict:
  """Trains or resumes `stage`; {"steps", "before", "after"}. update: the stage's jitted update."""
  loop = _prepare(stage, context)
  checkpoints = Checkpoints(context.run_dir / "checkpoints" / stage.name)
  state, reference, cursor, general_cursor = _start(stage, context, checkpoints)
  step = int(state.step)
  log = RunLog(context.run_dir, stage.name, stage.steps, checkpoints.latest(), set(context.finished))
  timers = Timers()
  with RuleRewards(dict(stage.rewards), workers=stage.verifier_workers,
                   timeout_seconds=stage.verifier_seconds) as rewards:
    loop.evaluate(state.params, rewards, log, step, None)
    while step < stage.steps:
      updates = min(stage.minibatches, stage.steps - step)
      max_length = int(stage.max_length.at(step))
      with timers("prompt"):
        ids, questions, cursor, general_cursor = loop.draw(step, updates, cursor, general_cursor)
      with timers("rollout"):
        rollouts, texts, scorings = loop.rollout(state.params, rewards, ids, questions, max_length)
      with timers("logprobs"):
        ref = None if reference is None else loop.logprobs(reference, rollouts)
        old = rollouts.logprobs if reuse_logprobs else loop.old_logprobs(state.params, rollouts)
      waiting_from = time.perf_counter()
      with timers("rewards"):
        scores = [s for scoring in scorings for s in scoring.result()]
      with timers("model_rewards"):
        scores = loop.add_model_rewards(scores, texts, questions, rollouts.stopped)
      timers.add("rewards_hidden", min(max(s.ended for s in scorings), waiting_from) - min(s.began for s in scorings))
      values = np.array([s.value for s in scores], np.float32).reshape(-1, stage.group_size)
      advantages = np.asarray(group_advantages(values, stage.advantage)).reshape(-1)
      with timers("update"):
        state, update_metrics = loop.train(update, state, rollouts, advantages, old, ref, updates)
      shared = {**_rollout_metrics(rollouts, scores, values), "length/max": max_length, **timers.take()}
      _log_updates(log, step, update_metrics, shared)
      _log_samples(log, step + updates, stage, questions, rollouts, texts, scores, advantages)
      previous, step = step, step + updates
      if reference is not None and previous // stage.reference_every < step // stage.reference_every:
        reference = jax.tree.map(jnp.copy, state.params)
      loop.evaluate(state.params, rewards, log, step, previous)
      if step // stage.minibatches % stage.checkpoint_every == 0 or step == stage.steps:
        log.sync()  # the checkpoint stands for the lines up to its step
        checkpoints.save(state, reference, {"cursor": cursor, "general_cursor": general_cursor})
  checkpoints.close()
  log.close()
  evaluations = [line for line in read_metrics(context.run_dir, stage.name) if "eval/pass_at_1" in line]
  before, after = ({k: v for k, v in line.items() if k.startswith("eval/")} for line in (evaluations[0], evaluations[-1]))
  return {"steps": stage.steps, "before": before, "after": after}


def _prepare(stage, context: Context) -> "_Loop":
  data_dir = context.run_dir / "data"
  train = load_questions(stage.questions, "train", data_dir)
  held_out = load_questions(stage.questions, "held_out", data_dir)
  experiment = context.experiment
  policy = Policy(context.model, experiment.compute, context.tokenizer, stage.template, stage.max_prompt_length,
                  context.mesh, stage.stop)
  general_stream = models = None
  if stage.general is not None:
    general_stream = question_stream(load_questions(stage.general.questions, "train", data_dir), experiment.seed)
    models = load_model_rewards(stage.general, context, stage.rollout_batch * stage.group_size)
  rollout_key, eval_key = jax.random.split(context.key)
  return _Loop(stage=stage, policy=policy, stream=question_stream(train, experiment.seed), general_stream=general_stream,
               models=models, held_out=[held_out[i] for i in range(stage.held_out.questions)], rollout_key=rollout_key,
               eval_key=eval_key)


def _start(stage, context: Context, checkpoints: Checkpoints) -> tuple[TrainState, Any, int, int]:
  """(state, reference, both cursors) of the newest checkpoint, or of the stage's beginning."""
  has_reference = stage.kl_coef > 0
  state = init_state(context.params, stage.optimizer.build())
  if checkpoints.latest() is None:
    return state, jax.tree.map(jnp.copy, context.params) if has_reference else None, 0, 0
  state, reference, progress = checkpoints.restore(state, has_reference)
  return state, reference, progress["cursor"], progress["general_cursor"]


@dataclass(frozen=True)
class _Loop:
  """What stays the same through the stage."""

  stage: Any
  policy: Policy
  stream: Any
  general_stream: Any  # None without general questions
  models: ModelRewards | None
  held_out: list
  rollout_key: jax.Array
  eval_key: jax.Array

  def draw(self, step: int, updates: int, cursor: int, general_cursor: int) -> tuple[list[int], list, int, int]:
    """(ids, questions, both next cursors) of a rollout that starts at `step`. A question's place in its stream is its
    identity; each update has its share of general questions."""
    size, general = self.stage.questions_per_step, self.stage.general
    few = 0 if general is None else general.count(step, size)
    ids, questions = [], []
    for _ in range(updates):
      for stream, start, count, first in ((self.stream, cursor, size - few, 0),
                                          (self.general_stream, general_cursor, few, QUESTION_IDS_FROM)):
        ids += range(first + start, first + start + count)
        questions += draw(stream, start, count)[0] if count else []
      cursor, general_cursor = cursor + size - few, general_cursor + few
    return ids, questions, cursor, general_cursor

  def rollout(self, params, rewards: RuleRewards, ids: list[int], questions: list, max_length: int):
    """(host Rollouts [N, T], texts, scorings under way) of group_size samples a question."""
    stage, policy = self.stage, self.policy
    batches, texts, scorings = [], [], []
    for start, rollouts, batch_texts in policy.sample_batches(
        policy.rollout_params(params), self.rollout_key, ids, questions, stage.sampling, stage.group_size, max_length,
        stage.rollout_batch):
      batches.append(rollouts)
      texts += batch_texts
      scorings.append(rewards.submit(scoring_samples(
        batch_texts, rollouts, questions[start:start + stage.rollout_batch], stage.group_size, stage.template.prefill)))
    return jax.tree.map(lambda *x: np.concatenate(x), *batches), texts, scorings

  def add_model_rewards(self, scores: list[Score], texts: list[str], questions: list, stopped: np.ndarray) -> list[Score]:
    """The scores, with those of reward models where there are general questions."""
    if self.models is None:
      return scores
    return self.models.add(scores, texts, [q for q in questions for _ in range(self.stage.group_size)], stopped)

  def logprobs(self, params, rollouts) -> np.ndarray:
    """[N, T] under `params` at the sampling temperature, a microbatch of rows at a time."""
    stage, policy = self.stage, self.policy
    chunks = []
    for start in range(0, len(rollouts.tokens), stage.rows):
      rows = slice(start, start + stage.rows)
      tokens, positions = put_batch(policy.mesh, (rollouts.tokens[rows], rollouts.positions[rows]))
      chunks.append(score(params, tokens, positions, config=policy.config, compute=policy.compute,
                          temperature=stage.sampling.temperature, first=stage.max_prompt_length))
    return np.concatenate(jax.device_get(chunks))

  def old_logprobs(self, params, rollouts) -> np.ndarray | None:
    """The trainer's own; None when a rollout feeds one update, which then computes them itself."""
    return self.logprobs(params, rollouts) if self.stage.minibatches > 1 else None

  def train(self, update, state, rollouts, advantages, old, ref, updates: int) -> tuple[TrainState, list[dict]]:
    """`updates` updates on minibatches of whole groups; their metrics as host numbers."""
    stage = self.stage
    mask = rollouts.mask & rollouts.stopped[:, None] if stage.mask_truncated else rollouts.mask
    batch = GRPOBatch(tokens=rollouts.tokens, positions=rollouts.positions, mask=mask, weights=None,
                      advantages=advantages, sampler_logprobs=rollouts.logprobs, old_logprobs=old, ref_logprobs=ref)
    size = stage.rows * stage.microbatches
    pending = []
    for start in range(0, updates * size, size):
      # Questions come from the stream in random order: consecutive ones are the paper's random minibatch.
      minibatch = jax.tree.map(lambda x: x[start:start + size], batch)  # noqa: B023 (called at once)
      weights = np.asarray(token_weights(minibatch.mask, stage.reduction, stage.reduction_constant))
      minibatch = microbatched(minibatch.replace(weights=weights), stage.microbatches)
      state, metrics = update(state, put_batch(self.policy.mesh, minibatch, axis=1))
      pending.append(metrics)  # read after the last update is dispatched, so that none waits for the host
    return state, jax.device_get(pending)

  def evaluate(self, params, rewards, log: RunLog, step: int, previous: int | None) -> None:
    """Held-out accuracy at the stage's start (previous None) and end, and every held_out.every steps between."""
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
    log.metrics(step, evaluate(self.policy, self.policy.rollout_params(params), self.eval_key, self.held_out,
                               stage.held_out, rewards, max_length))


def _rollout_metrics(rollouts, scores: list[Score], values: np.ndarray) -> dict:
  """Rewards by part, lengths and verdicts of one rollout."""
  lengths = rollouts.mask.sum(axis=1)
  # Of the responses that have the part: accuracy of reasoning ones, a reward model's score of its own kind.
  names = dict.fromkeys(name for s in scores for name in s.parts)
  parts = {f"reward/{name}": float(np.mean([s.parts[name] for s in scores if name in s.parts])) for name in names}
  verdicts = {f"verifier/{status}": n for status, n in counts(scores).items()}
  return {
    "reward/mean": float(values.mean()), **parts, **verdicts,
    "reward/equal_groups": float(np.mean(values.min(axis=1) == values.max(axis=1))),
    "length/mean": float(lengths.mean()), "length/stopped": float(lengths[rollouts.stopped].mean()) if
    rollouts.stopped.any() else 0.0, "length/truncated": float(1 - rollouts.stopped.mean()),
  }


def _log_updates(log: RunLog, step: int, updates: list[dict], shared: dict) -> None:
  """A line an update; what belongs to the whole rollout stands in its first."""
  for i, metrics in enumerate(updates):
    metrics = {k: float(v) for k, v in metrics.items()}
    weight = metrics.pop("weight") or 1.0  # 0 when every response was masked out
    loss, grad_norm, gap_max = metrics.pop("loss"), metrics.pop("grad_norm"), metrics.pop("sampler_gap_max")
    gap = metrics.pop("sampler_gap") / weight
    line = {"policy/loss": loss, "policy/grad_norm": grad_norm, **{f"policy/{k}": v / weight for k, v in metrics.items()}}
    if i == 0:  # later minibatches are off-policy, and their gap is no longer that of sampler and trainer
      line |= {"policy/sampler_gap": gap, "policy/sampler_gap_max": gap_max, **shared}
    log.metrics(step + 1 + i, line)


def _log_samples(log, step, stage, questions, rollouts, texts, scores, advantages) -> None:
  """A few whole rollouts, spread over the questions."""
  for n in range(min(stage.logged_samples, len(questions))):
    i = n * len(questions) // stage.logged_samples * stage.group_size
    question = questions[i // stage.group_size]
    log.sample(step, {
      "id": question.id, "question": question.text, "answer": question.answer, "response": texts[i],
      "reward": scores[i].value, "parts": dict(scores[i].parts), "status": scores[i].status,
      "advantage": float(advantages[i]), "length": int(rollouts.mask[i].sum()), "stopped": bool(rollouts.stopped[i])})
