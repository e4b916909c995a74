"""Reward models: a stage that trains one on preference pairs or on labelled responses, and its use after the stage."""
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jax.sharding import Mesh

from r1jax.curation.datasets import Row, read_rows
from r1jax.data.prompts import question_stream
from r1jax.data.questions import TRAIN, split_of
from r1jax.data.templates import Template, render
from r1jax.data.tokenizer import Tokenizer, fingerprint
from r1jax.errors import InputError
from r1jax.evaluation.calibration import label_metrics, pair_metrics
from r1jax.fields import Count, Name, OpenShare
from r1jax.losses.reward_model import RewardKind
from r1jax.models.config import Compute, ModelConfig
from r1jax.records import PackedRows
from r1jax.reports.watchdogs import Watchdogs
from r1jax.run_dir import RunDir
from r1jax.sharding import batch_parts
from r1jax.stages.context import DATA, REWARD_MODEL, Base, Context, Experiment
from r1jax.stages.model_rewards import ModelScorer, Whitening
from r1jax.stages.supervised import train
from r1jax.training.checkpoint import Checkpoints
from r1jax.training.optimizer import AdamW
from r1jax.training.pack import MICROBATCH_TOKENS, TokenSequence, pack, rows_for
from r1jax.training.reward_model import abstract_reward_params, init_reward_params, reward_step
from r1jax.training.step import Step, init_state


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
  held_out: share of the questions that are measured on and not trained on. A batch is batch_size pairs or labelled
  responses, packed into rows; a last one that is not full is left out.
  """

  data: str
  learns: RewardKind
  reads: Literal["summary", "all"]
  optimizer: AdamW
  template: Template
  name: Name = "reward_model"
  start: str | Base | None = None
  batch_size: Count = 256  # pairs, or labelled responses: [N]
  epochs: Count = 1  # [N]
  max_length: Count = 8_192  # [N]
  held_out: OpenShare = 0.1  # ours
  microbatch_tokens: Count = MICROBATCH_TOKENS  # slots of the rows whose gradients are computed at a time
  checkpoint_every: Count = 100  # steps
  log_every: Count = 10  # steps
  watchdogs: Watchdogs = Watchdogs()
  kind = REWARD_MODEL

  def inputs(self) -> tuple[str, ...]:
    """The stage whose data set it reads."""
    return (self.data,)

  @property
  def responses(self) -> int:
    """Responses in an example."""
    return 2 if self.learns is RewardKind.PAIRWISE else 1

  @property
  def row_length(self) -> int:
    """Slots of a row, which the longest pair fits into."""
    return self.responses * self.max_length

  def check(self, experiment: Experiment) -> None:
    """InputError for an impossible geometry."""
    where = f"stages.{self.name}"
    longest = experiment.model_of(self).max_position
    if self.max_length > longest:
      raise InputError(f"{where}.max_length", self.max_length, f"The model's context ends at max_position {longest}.")
    if experiment.stage(self.data).kind != DATA:
      raise InputError(f"{where}.data", repr(self.data), "Name a stage that makes a data set.")

  def check_mesh(self, mesh: Mesh) -> None:
    """Any mesh will do: rows are filled up."""

  def check_data(self, tokenizer: Tokenizer) -> None:
    """InputError for a template with words that the tokenizer lacks; the data are not made yet."""
    tokenizer.encode(render(self.template, ""))

  def scorer(self, config: ModelConfig, compute: Compute, tokenizer: Tokenizer, mesh: Mesh,
             max_length: int | None = None) -> ModelScorer:
    """What scores responses as this stage trains them; max_length None: no limit but the model's context."""
    return ModelScorer(config, compute, tokenizer, self.template, mesh, self.reads, max_length)

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
        (training if side == TRAIN else held_out).append(example)
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

  def batch(self, examples: list[Example], pad_id: int, parts: int) -> list[PackedRows]:
    """The microbatches of an update: the responses of a pair in one row, the weight of each example at the slot that its
    score is read at."""
    pairs = self.learns is RewardKind.PAIRWISE
    packed = pack([TokenSequence(s, len(s)) for e in examples for s in e.sequences], self.row_length,
                  rows_for(self.microbatch_tokens, self.row_length, parts), pad_id, parts, together=self.responses)
    share = 1 / len(examples)
    return packed.replace(weights=packed.at_last([0, share] * len(examples) if pairs else [share] * len(examples)),
                          partner=packed.partners() if pairs else None,
                          safe=None if pairs else packed.at_last([float(e.safe) for e in examples]))

  def evaluate(self, params, scorer: ModelScorer, held_out: list[Example]) -> dict[str, float]:
    """`eval/...` metrics on the held-out examples, with the mean and standard deviation of all their scores."""
    found = scorer.sequence_scores(params, [s for e in held_out for s in e.sequences]).reshape(-1, self.responses)
    if self.learns is RewardKind.PAIRWISE:
      metrics = pair_metrics(found[:, 0], found[:, 1], [e.preference for e in held_out])
    else:
      metrics = label_metrics(found[:, 0], np.array([e.safe for e in held_out]))
    return {**metrics, "eval/whitening_mean": float(found.mean(dtype=np.float64)),
            "eval/whitening_std": float(found.std(dtype=np.float64))}

  def step(self, model: ModelConfig, compute: Compute, steps: int) -> Step:
    """The update of this stage."""
    return reward_step(model, compute, self.optimizer.over(steps), self.learns)

  def run(self, context: Context) -> dict:
    """Trains from context.params, a policy's, or resumes; what summary.json says of it."""
    scorer = self.scorer(context.model, context.experiment.compute, context.tokenizer, context.mesh, self.max_length)
    data = self.split(read_rows(context.run_dir, self.data), scorer)
    stream = question_stream(data.training, context.experiment.seed)
    steps = self.epochs * len(data.training) // self.batch_size
    state = init_state(init_reward_params(context.params, context.model, context.mesh), self.optimizer.over(steps).build())

    def batch(cursor: int) -> tuple[list[PackedRows], int]:
      following = cursor + self.batch_size
      examples = [stream[i] for i in range(cursor, following)]
      return self.batch(examples, context.tokenizer.pad_id, batch_parts(context.mesh)), following

    progress = train(
      self, context, self.step(context.model, context.experiment.compute, steps), state, steps, batch,
      lambda metrics: {f"reward_model/{name}": metrics[name] for name in ("loss", "accuracy", "margin", "grad_norm")},
      measure=lambda params: self.evaluate(params, scorer, data.held_out),
      about={"tokenizer": fingerprint(context.tokenizer)})
    return {"steps": steps, "rows": len(data.training), "rows_held_out": len(data.held_out), "rows_too_long": data.too_long,
            "before": progress["before"], "after": progress["after"]}


def load_reward_model(run_dir: Path, name: str, config: ModelConfig, mesh: Mesh,
                      tokenizer: Tokenizer) -> tuple[dict, Whitening]:
  """(parameters in the training layout, the scale of its scores) of the reward model that a finished stage left.

  Raises:
    InputError: no checkpoint there, or one of an unfinished stage or of no reward model, or a reward model of another
      tokenizer, whose ids would mean other words.
  """
  folder = RunDir(run_dir).checkpoints(name)
  if not folder.is_dir():
    raise InputError(str(folder), "no reward model here", f"Run the stage {name!r} first.")
  checkpoints = Checkpoints(folder, read_only=True)
  try:
    progress = checkpoints.progress()
    if "eval/whitening_std" not in progress.get("after", {}):
      raise InputError(str(folder), "not the last checkpoint of a reward model", f"Run the stage {name!r} to its end.")
    expected = fingerprint(tokenizer)
    if progress["tokenizer"] != expected:
      raise InputError(str(folder), f"a reward model of another tokenizer ({progress['tokenizer']}, not {expected})",
                       "Use the tokenizer it was trained with, or train it again.")
    whitening = Whitening(progress["after"]["eval/whitening_mean"], progress["after"]["eval/whitening_std"])
    return checkpoints.restore_params(abstract_reward_params(config, mesh)), whitening
  finally:
    checkpoints.close()
