"""What a stage is run with, and what an experiment is."""
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jax
from jax.sharding import Mesh

from r1jax.data.tokenizer import Tokenizer
from r1jax.errors import InputError
from r1jax.models.config import Compute, ModelConfig
from r1jax.sharding import MeshShape


class Stage(Protocol):
  """One stage of an experiment: a frozen dataclass whose fields are its whole configuration."""

  name: str

  def check(self, experiment: "Experiment") -> None:
    """InputError for whatever cannot work, before anything is read or compiled."""

  def check_mesh(self, mesh: Mesh) -> None:
    """InputError if a batch cannot be split over the mesh."""

  def check_data(self, tokenizer: Tokenizer) -> None:
    """InputError for whatever the stage's data has wrong; reads, writes nothing."""

  def run(self, context: "Context") -> dict:
    """Runs or resumes the stage; {"steps", "before", "after"} for summary.json."""

  def programs(self, experiment: "Experiment", mesh: Mesh) -> dict[str, Any]:
    """name -> lowered jitted program, from shapes alone: no arrays, no files."""


@dataclass(frozen=True)
class Experiment:
  """One claim: a model, where it starts, and the stages that change it, in order.

  weights: a hub folder that the first stage starts from; None: random initialisation; "": the user must name it with
  --set weights=DIR. tokenizer: a hub folder or tokenizer.json; None: the weights' folder; a tuple: one token a word,
  the first being padding and the second the stop token; "bytes": one token a byte.
  """

  name: str
  model: ModelConfig
  stages: tuple[Stage, ...]
  weights: str | None = None
  tokenizer: str | tuple[str, ...] | None = None
  seed: int = 0
  mesh: MeshShape = MeshShape()
  compute: Compute = field(default_factory=Compute)

  def check(self) -> None:
    """InputError for whatever is wrong in the experiment or one of its stages."""
    if self.weights == "":
      raise InputError("weights", "not given", "Name the folder of the model's weights: --set weights=DIR.")
    if self.weights is None and self.tokenizer is None:
      raise InputError("tokenizer", "None, and no weights whose folder could hold it",
                       "Name a folder with tokenizer.json: --set tokenizer=DIR.")
    names = [stage.name for stage in self.stages]
    if not names or len(set(names)) < len(names):
      raise InputError("stages", f"names {names}", "Give at least one stage, each with a name of its own.")
    for stage in self.stages:
      stage.check(self)


@dataclass(frozen=True)
class Context:
  """What run() of a stage gets. params: those that the stage starts from, in the training layout."""

  experiment: Experiment
  run_dir: Path
  mesh: Mesh
  tokenizer: Tokenizer
  params: Any
  finished: frozenset[str]  # names of the stages whose log lines stay
  key: jax.Array  # the stage's own root of randomness
