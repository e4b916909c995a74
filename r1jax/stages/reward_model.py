"""Reward models: a stage that trains one on preference pairs or on labelled responses, and its use after the stage."""
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from r1jax.curation.datasets import Row, read_rows
from r1jax.data.prompts import question_stream
from r1jax.data.questions import HELD_OUT, split_of
from r1jax.data.templates import Template, render
from r1jax.data.tokenizer import Tokenizer
from r1jax.errors import InputError
from r1jax.evaluation.calibration import label_metrics, pair_metrics
from r1jax.losses.reward_model import RewardKind
from r1jax.models.config import Compute, ModelConfig
from r1jax.records import TrainState
from r1jax.sharding import batch_parts, batch_sharding, put_batch
from r1jax.stages.context import DATA, REWARD_MODEL, Base, Context, Experiment
from r1jax.stages.model_rewards import READS, ModelScorer, Whitening, rows_to_score
from r1jax.training.checkpoint import Checkpoints
from r1jax.training.metrics import RunLog, Timers
from r1jax.training.optimizer import AdamW
from r1jax.training.reward_model import (
  RewardBatch,
  abstract_reward_params,
  init_reward_params,
  reward_update,
  scores,
)
from r1jax.training.step import init_state, microbatched


@dataclass(frozen=True)
class Example:
  """A row as it is trained on. sequences: token ids of prompt and response, of the chosen and the rejected one or of one.

  safe: its label, None of a pair. preference: the true preference for the chosen one, None where it is not known.
  """

  sequences: tuple[list[int], ...]
  safe: bool | None = None
  preference: float | None = None


@dataclass(frozen=True)
class Split:
  """The examples of a data set, training and held-out questions apart, and how many rows were too long for either."""

  training: list[Example]
  held_out: list[Example]
  too_long: int


@dataclass(frozen=True)
class RewardModel:
  """One stage that trains a scalar head and the decoder under it. The defaults are R1's (Nature, "Reward design"): batch
  256, one epoch, 8,192 tokens of prompt and response; its learning rate is 6e-6.

  data: name of the stage whose data set it reads. learns: pairwise from rows with `question`, `chosen` and `rejected`,
  pointwise from rows with `question`, `response` and `safe`. reads: "summary" or "all" of a response (text_to_score).
  held_out: share of the questions that are measured on and not trained on. A last batch that is not full is left out.
  """

  data: str
  learns: RewardKind
  reads: str
  optimizer: AdamW
  template: Template
  name: str = "reward_model"
  start: str | Base | None = None
  batch_size: int = 256  # rows: of pairs twice as many responses
  epochs: int = 1
  max_length: int = 8_192
  held_out: float = 0.1  # ours
  microbatches: int = 1
  checkpoint_every: int = 100  # steps
  log_every: int = 10  # steps
  kind = REWARD_MODEL

  def inputs(self) -> tuple[str, ...]:
    """The stage whose data set it reads."""
    return (self.data,)

  @property
  def responses(self) -> int:
    """Responses in a row."""
    return 2 if self.learns is RewardKind.PAIRWISE else 1

  def check(self, experiment: Experiment) -> None:
    """InputError for an impossible geometry."""
    where = f"stages.{self.name}"
    for name in ("batch_size", "epochs", "max_length", "microbatches", "checkpoint_every", "log_every"):
      if getattr(self, name) < 1:
        raise InputError(f"{where}.{name}", getattr(self, name), "It must be at least 1.")
    if not isinstance(self.learns, RewardKind):
      raise InputError(f"{where}.learns", repr(self.learns), "Give a member of RewardKind.")
    if self.reads not in READS:
      raise InputError(f"{where}.reads", repr(self.reads), f"Use one of {', '.join(READS)}.")
    if not 0 < self.held_out < 1:
      raise InputError(f"{where}.held_out", self.held_out, "Give a share between 0 and 1, both exclusive.")
    if self.batch_size % self.microbatches:
      raise InputError(f"{where}.microbatches", self.microbatches, f"It must divide batch_size ({self.batch_size}).")
    longest = experiment.model_of(self).max_position
    if self.max_length > longest:
      raise InputError(f"{where}.max_length", self.max_length, f"The model's context ends at max_position {longest}.")
    if experiment.stage(self.data).kind != DATA:
      raise InputError(f"{where}.data", repr(self.data), "Name a stage that makes a data set.")

  def check_mesh(self, mesh: Mesh) -> None:
    """InputError if a microbatch cannot be split over the data-parallel devices."""
    rows, parts = self.batch_size // self.microbatches, batch_parts(mesh)
    if rows % parts:
      raise InputError(f"stages.{self.name}.batch_size", f"{rows} rows a microbatch for {parts} data-parallel devices",
                       "Make it a multiple of mesh.replica x mesh.fsdp.")

  def check_data(self, tokenizer: Tokenizer) -> None:
    """InputError for a template with words that the tokenizer lacks; the data are not made yet."""
    tokenizer.encode(render(self.template, ""))

  def scorer(self, config: ModelConfig, compute: Compute, tokenizer: Tokenizer, mesh: Mesh, batch: int,
             max_length: int | None = None) -> ModelScorer:
    """What scores responses as this stage trains them; max_length None: no limit but the model's context."""
    return ModelScorer(config, compute, tokenizer, self.template, mesh, self.reads, batch, max_length)

  def split(self, rows: list[Row], scorer: ModelScorer) -> Split:
    """The rows as examples. A row with a response that is too long is counted and left out.

    Raises:
      InputError: no rows, a row without its fields, fewer to train on than a batch, none to measure on, or labels that
        are all the same.
    """
    where = f"data set {self.data!r} for stages.{self.name}"
    if not rows:
      raise InputError(where, "no rows", f"Loosen the filters of stage {self.data!r}, or sample more.")
    training, held_out, too_long = [], [], 0
    for number, row in enumerate(rows, 1):
      example = self._example(row, scorer, f"{where}, row {number}")
      if max(map(len, example.sequences)) > self.max_length:
        too_long += 1
      else:
        # Other draws than those of sources of questions, whose held-out ones are not among the rows to begin with.
        side = split_of(f"reward model: {row['question']}", self.held_out)
        (held_out if side == HELD_OUT else training).append(example)
    about = f"{len(training)} of {len(rows)} rows to train on and {len(held_out)} held out ({too_long} too long)"
    if len(training) < self.batch_size:
      raise InputError(where, about, f"Give more rows, or a batch_size below {self.batch_size}.")
    if not held_out:
      raise InputError(where, about, f"Give more questions, or a held_out above {self.held_out}.")
    if self.learns is RewardKind.POINTWISE:
      for name, side in (("to train on", training), ("held out", held_out)):
        if len({example.safe for example in side}) == 1:
          raise InputError(where, f"all {len(side)} rows {name} are labelled {'safe' if side[0].safe else 'unsafe'}",
                           "Give rows of both labels.")
    return Split(training, held_out, too_long)

  def _example(self, row: Row, scorer: ModelScorer, where: str) -> Example:
    pairwise = self.learns is RewardKind.PAIRWISE
    texts = ("question", "chosen", "rejected") if pairwise else ("question", "response")
    labelled = pairwise or isinstance(row.get("safe"), bool)
    if not labelled or not all(isinstance(row.get(name), str) for name in texts):
      needed = f"the texts {', '.join(texts)}" + ("" if pairwise else " and safe, true or false")
      raise InputError(where, f"fields {sorted(row)}", f"Training {self.learns.value} needs {needed}.")
    encoded = (scorer.encode(row["question"], row[name]) for name in texts[1:])
    sequences = tuple(prompt + read for prompt, read in encoded)
    known = [row.get(f"preference_{name}") for name in ("chosen", "rejected")]
    preference = None if None in known else known[0] - known[1]
    return Example(sequences, preference=preference) if pairwise else Example(sequences, safe=row["safe"])

  def batch(self, pad_id: int, example: Callable[[int], Example], cursor: int) -> tuple[RewardBatch, int]:
    """(host arrays of examples number cursor, cursor + 1, ..., the next cursor)."""
    N, R = self.batch_size, self.responses
    examples = [example(i) for i in range(cursor, cursor + N)]
    tokens, positions, last = rows_to_score([s for e in examples for s in e.sequences], self.max_length, pad_id)
    safe = None if self.learns is RewardKind.PAIRWISE else np.array([e.safe for e in examples], np.float32)
    return RewardBatch(tokens=tokens.reshape(N, R, -1), positions=positions.reshape(N, R, -1), last=last.reshape(N, R),
                       weights=np.full(N, 1 / N, np.float32), safe=safe), cursor + N

  def evaluate(self, params, scorer: ModelScorer, held_out: list[Example]) -> dict[str, float]:
    """`eval/...` metrics on the held-out examples, with the mean and standard deviation of all their scores."""
    found = scorer.sequence_scores(params, [s for e in held_out for s in e.sequences]).reshape(-1, self.responses)
    if self.learns is RewardKind.PAIRWISE:
      metrics = pair_metrics(found[:, 0], found[:, 1], [e.preference for e in held_out])
    else:
      metrics = label_metrics(found[:, 0], np.array([e.safe for e in held_out]))
    return {**metrics, "eval/whitening_mean": float(found.mean(dtype=np.float64)),
            "eval/whitening_std": float(found.std(dtype=np.float64))}

  def update(self, model: ModelConfig, compute: Compute, steps: int):
    """The jitted update(state, RewardBatch) of this stage."""
    return reward_update(model, compute, self.optimizer.over(steps), self.learns)

  def run(self, context: Context) -> dict:
    """Trains from context.params, a policy's, or resumes; what summary.json says of it."""
    rows_a_call = self.batch_size // self.microbatches * self.responses
    scorer = self.scorer(context.model, context.experiment.compute, context.tokenizer, context.mesh, rows_a_call,
                         self.max_length)
    data = self.split(read_rows(context.run_dir, self.data), scorer)
    stream = question_stream(data.training, context.experiment.seed)
    steps = self.epochs * len(data.training) // self.batch_size
    update = self.update(context.model, context.experiment.compute, steps)
    checkpoints = Checkpoints(context.run_dir / "checkpoints" / self.name)
    state = init_state(init_reward_params(context.params, context.model, context.mesh), self.optimizer.over(steps).build())
    log = RunLog(context.run_dir, self.name, steps, checkpoints.latest(), set(context.finished))
    if checkpoints.latest() is not None:
      state, _, progress = checkpoints.restore(state, has_reference=False)
    else:
      before = self.evaluate(state.params, scorer, data.held_out)
      log.metrics(0, before)
      progress = {"cursor": 0, "before": before, "tokenizer": tokenizer_fingerprint(context.tokenizer)}
    step, timers = int(state.step), Timers()
    while step < steps:
      with timers("batch"):
        batch, progress["cursor"] = self.batch(context.tokenizer.pad_id, stream.__getitem__, progress["cursor"])
        batch = put_batch(context.mesh, microbatched(batch, self.microbatches), axis=1)
      with timers("update"):
        state, metrics = update(state, batch)
        step += 1
        log_now = step % self.log_every == 0 or step in (1, steps)
        if log_now:
          metrics = jax.device_get(metrics)
      if log_now:
        log.metrics(step, {**{f"reward_model/{name}": metrics[name] for name in ("loss", "accuracy", "margin", "grad_norm")},
                           **timers.take()})
      if step == steps:
        # In the last checkpoint, whole or not at all: the scale belongs to these very parameters.
        progress["after"] = self.evaluate(state.params, scorer, data.held_out)
        log.metrics(step, progress["after"])
      if step % self.checkpoint_every == 0 or step == steps:
        log.sync()
        checkpoints.save(state, None, dict(progress))  # written in the background, while progress goes on
    checkpoints.close()
    log.close()
    return {"steps": steps, "rows": len(data.training), "rows_held_out": len(data.held_out), "rows_too_long": data.too_long,
            "before": progress["before"], "after": progress["after"]}

  def programs(self, experiment: Experiment, mesh: Mesh) -> dict[str, Any]:
    """update, and the scoring of held-out responses at their longest, lowered from shapes alone."""
    self.check_mesh(mesh)
    model, compute = experiment.model_of(self), experiment.compute
    M, N, R, T = self.microbatches, self.batch_size // self.microbatches, self.responses, self.max_length
    steps = self.optimizer.warmup_steps + 2  # how many epochs make does not change the program's shape

    def array(dtype, *shape, axis):
      return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh, len(shape), axis))

    with jax.set_mesh(mesh):
      params = abstract_reward_params(model, mesh)
      state = TrainState(step=jax.ShapeDtypeStruct((), jnp.int32), params=params,
                         opt_state=jax.eval_shape(self.optimizer.over(steps).build().init, params))
      tokens, weights = array(jnp.int32, M, N, R, T, axis=1), array(jnp.float32, M, N, axis=1)
      batch = RewardBatch(tokens=tokens, positions=tokens, last=array(jnp.int32, M, N, R, axis=1), weights=weights,
                          safe=None if R == 2 else weights)
      rows = array(jnp.int32, N * R, T, axis=0)
      return {"update": self.update(model, compute, steps).lower(state, batch),
              "score": scores.lower(params, rows, rows, array(jnp.int32, N * R, axis=0), config=model, compute=compute)}


def tokenizer_fingerprint(tokenizer: Tokenizer) -> str:
  """16 hex digits that tell tokenizers apart: of SHA-256 over all that the backend holds."""
  return hashlib.sha256(tokenizer.backend.to_str().encode("utf-8")).hexdigest()[:16]


def load_reward_model(run_dir: Path, name: str, config: ModelConfig, mesh: Mesh,
                      tokenizer: Tokenizer) -> tuple[dict, Whitening]:
  """(parameters in the training layout, the scale of its scores) of the reward model that a finished stage left.

  Raises:
    InputError: no checkpoint there, or one of an unfinished stage or of no reward model, or a reward model of another
      tokenizer, whose ids would mean other words.
  """
  folder = Path(run_dir) / "checkpoints" / name
  if not folder.is_dir():
    raise InputError(str(folder), "no reward model here", f"Run the stage {name!r} first.")
  checkpoints = Checkpoints(folder)
  try:
    progress = checkpoints.progress()
    if "eval/whitening_std" not in progress.get("after", {}):
      raise InputError(str(folder), "not the last checkpoint of a reward model", f"Run the stage {name!r} to its end.")
    expected = tokenizer_fingerprint(tokenizer)
    if progress["tokenizer"] != expected:
      raise InputError(str(folder), f"a reward model of another tokenizer ({progress['tokenizer']}, not {expected})",
                       "Use the tokenizer it was trained with, or train it again.")
    whitening = Whitening(progress["after"]["eval/whitening_mean"], progress["after"]["eval/whitening_std"])
    return checkpoints.restore_params(abstract_reward_params(config, mesh)), whitening
  finally:
    checkpoints.close()
