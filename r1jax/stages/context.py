"""What a stage is run with, and what an experiment is."""
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import jax
from annotated_types import MinLen
from jax.sharding import Mesh

from r1jax.config import Schedule
from r1jax.data.tokenizer import Tokenizer
from r1jax.ending import Ending
from r1jax.errors import InputError
from r1jax.evaluation.claims import Claim
from r1jax.fields import Name, Seed, check_fields
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.params import shardings
from r1jax.models.transformer import check_rows
from r1jax.reports.watch import Watch
from r1jax.sharding import ROLLOUT_RULES, TRAIN_RULES, MeshShape


@dataclass(frozen=True)
class Base:
  """Where parameters come from that no stage has trained: a hub folder, or random initialisation where weights is None."""

  model: ModelConfig
  weights: str | None = None


@runtime_checkable
class Stage(Protocol):
  """One stage of an experiment: a frozen dataclass whose fields are its whole configuration.

  start: what its parameters come from: the name of an earlier stage that trains a policy, a Base (a student), EXPERIMENT
  for the experiment's own model and weights, or None for the nearest earlier policy, and EXPERIMENT where there is none.
  kind: what it leaves behind: POLICY (a checkpoint of policy parameters), REWARD_MODEL, DATA or REPORT.
  """

  name: str
  start: str | Base | None
  kind: str

  def inputs(self) -> tuple[str, ...]:
    """Names of the stages that it reads, beside the one that it starts from."""

  def check(self, experiment: "Experiment") -> None:
    """InputError for a field that cannot work, before anything is read or compiled."""

  def check_mesh(self, mesh: Mesh) -> None:
    """InputError if a batch cannot be split over the mesh."""

  def check_data(self, tokenizer: Tokenizer) -> None:
    """InputError for any problem in the stage's data; reads it, and writes nothing."""

  def run(self, context: "Context") -> dict:
    """Runs or resumes the stage; {"steps", "before", "after"} for summary.json."""


EXPERIMENT = "experiment"  # start: the experiment's own model and weights
POLICY, REWARD_MODEL, DATA, REPORT = "policy", "reward_model", "data", "report"  # kinds of stages


@dataclass(frozen=True)
class Experiment:
  """A model, where it starts, the stages that change it, in order, and what it claims to show.

  weights: a hub folder that the first stage starts from; None: random initialisation; "": the user must name it with
  --set weights=DIR. tokenizer: a hub folder or tokenizer.json; None: the weights' folder; a tuple: one token a word,
  the first being padding and the second the stop token; "bytes": one token a byte. claims: what is to hold on every seed.
  """

  name: Name
  model: ModelConfig
  stages: Annotated[tuple[Stage, ...], MinLen(1)]
  weights: str | None = None
  tokenizer: str | tuple[str, ...] | None = None
  seed: Seed = 0
  mesh: MeshShape = MeshShape()
  compute: Compute = field(default_factory=Compute)
  claims: tuple[Claim, ...] = ()

  def stage(self, name: str) -> Stage:
    """The stage that is called `name`; StopIteration where there is none."""
    return next(stage for stage in self.stages if stage.name == name)

  def source_of(self, stage: Stage) -> str | Base:
    """What the stage's parameters come from: the name of a stage, or a Base."""
    if stage.start is None:
      before = self.stages[:self.stages.index(stage)]
      return next((s.name for s in reversed(before) if s.kind == POLICY), Base(self.model, self.weights))
    return Base(self.model, self.weights) if stage.start == EXPERIMENT else stage.start

  def model_of(self, stage: Stage) -> ModelConfig:
    """The architecture that the stage runs."""
    source = self.source_of(stage)
    return source.model if isinstance(source, Base) else self.model_of(self.stage(source))

  def bases(self) -> tuple[Base, ...]:
    """Every Base that a stage starts from."""
    return tuple(dict.fromkeys(s for s in map(self.source_of, self.stages) if isinstance(s, Base)))

  def reads(self, stage: Stage) -> tuple[str, ...]:
    """Names of all stages that a stage depends on directly."""
    source = self.source_of(stage)
    return (*(() if isinstance(source, Base) else (source,)), *stage.inputs())

  def check(self) -> None:
    """InputError for any problem in the experiment or one of its stages."""
    check_fields(self)
    if self.weights == "":
      raise InputError("weights", "not given", "Name the folder of the model's weights: --set weights=DIR.")
    if self.weights is None and not self.tokenizer:
      raise InputError("tokenizer", "None, and no weights whose folder could hold it",
                       "Name a folder with tokenizer.json: --set tokenizer=DIR.")
    names = [stage.name for stage in self.stages]
    if not names or len(set(names)) < len(names) or EXPERIMENT in names:
      raise InputError("stages", f"names {names}",
                       f"Give at least one stage, each with a name of its own that is not {EXPERIMENT!r}.")
    for i, stage in enumerate(self.stages):
      self._check_order(stage, {s.name: s for s in self.stages[:i]})
      stage.check(self)
    for i, claim in enumerate(self.claims):
      claim.check(f"claims.{i}", names)

  def check_mesh(self, mesh: Mesh) -> None:
    """InputError for weights, batches or rows that the mesh cannot share, before anything is compiled."""
    for base in self.bases():
      for rules in (TRAIN_RULES, ROLLOUT_RULES):
        shardings(base.model, mesh, rules)
    for stage in self.stages:
      stage.check_mesh(mesh)
      lengths = getattr(stage, "max_length", None) if stage.kind in (POLICY, REWARD_MODEL) else None
      for length in lengths.values() if isinstance(lengths, Schedule) else () if lengths is None else (lengths,):
        check_rows(f"stages.{stage.name}.max_length", self.model_of(stage), self.compute, mesh, int(length))

  def _check_order(self, stage: Stage, earlier: dict[str, Stage]) -> None:
    where = f"stages.{stage.name}"
    for name in self.reads(stage):
      if name not in earlier:
        raise InputError(where, f"reads {name!r}, which is no earlier stage",
                         f"Earlier stages: {', '.join(earlier) or 'none'}.")
    source = self.source_of(stage)
    if not isinstance(source, Base) and earlier[source].kind != POLICY:
      raise InputError(f"{where}.start", f"{source!r} is a stage that leaves a {earlier[source].kind}",
                       "Name a stage that trains a policy.")


@dataclass(frozen=True)
class Context:
  """What run() of a stage gets. params: those that the stage starts from, in the training layout."""

  experiment: Experiment
  run_dir: Path
  mesh: Mesh
  tokenizer: Tokenizer
  model: ModelConfig  # of the stage, as `model_of` gives it
  params: Any
  key: jax.Array  # the stage's own root of randomness
  watch: Watch = field(default_factory=Watch)  # who reads along with the log
  ending: Ending = field(default_factory=Ending)  # whether the run has been asked to end

  def model_of(self, name: str) -> ModelConfig:
    """The architecture of a stage, by its name, told how many ids the tokenizer has."""
    return with_tokens(self.experiment.model_of(self.experiment.stage(name)), self.tokenizer)


def with_tokens(model: ModelConfig, tokenizer: Tokenizer) -> ModelConfig:
  """The model with num_tokens where its vocabulary is padded beyond the tokenizer's."""
  return replace(model, num_tokens=tokenizer.vocab_size) if tokenizer.vocab_size < model.vocab_size else model
