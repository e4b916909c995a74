"""How a stage that makes a data set samples a policy, and how it keeps what it has made."""
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from r1jax.curation.datasets import Row, Units
from r1jax.curation.datasets import folder as datasets_folder
from r1jax.data.prompts import Source, check_split, draw, encode_prompts, load_questions, question_stream, read_all
from r1jax.data.prompts import check as check_source
from r1jax.data.questions import Question
from r1jax.data.templates import Template
from r1jax.data.tokenizer import Tokenizer
from r1jax.errors import InputError
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.params import abstract_params
from r1jax.sampling.choice import Sampling
from r1jax.sampling.generate import generate
from r1jax.sharding import ROLLOUT_RULES, batch_parts, batch_sharding
from r1jax.stages.context import Context, Experiment
from r1jax.stages.policy import Policy
from r1jax.training.metrics import RunLog


@dataclass(frozen=True)
class Draws:
  """`samples` responses to each of `count` training questions. Lengths in tokens; max_length counts the prompt too.

  count: the first of an endless stream, in which every question comes once an epoch. batch: questions a sampler call; what
  a call made is one unit of work, kept whole or not at all.
  """

  questions: Source
  count: int
  samples: int
  template: Template
  max_length: int
  max_prompt_length: int
  sampling: Sampling = Sampling(temperature=1.0)
  batch: int = 32
  stop: tuple[str, ...] = ()

  def check(self, where: str, model: ModelConfig) -> None:
    """InputError for an impossible geometry or source."""
    for name in ("count", "samples", "max_prompt_length", "batch"):
      if getattr(self, name) < 1:
        raise InputError(f"{where}.{name}", getattr(self, name), "It must be at least 1.")
    if not self.max_prompt_length < self.max_length <= model.max_position:
      raise InputError(f"{where}.max_length", self.max_length, "It counts the prompt too: make it more than "
                       f"max_prompt_length ({self.max_prompt_length}), and at most max_position ({model.max_position}).")
    check_source(self.questions)

  def check_mesh(self, where: str, mesh) -> None:
    """InputError if a batch cannot be split over the data-parallel devices."""
    if self.batch % batch_parts(mesh):
      raise InputError(f"{where}.batch", f"{self.batch} rows at a time for {batch_parts(mesh)} data-parallel devices",
                       "Make it a multiple of mesh.replica x mesh.fsdp.")

  def check_data(self, tokenizer: Tokenizer) -> list[Question]:
    """All questions of the source; InputError for a bad file, line or prompt, or none to train on."""
    questions = read_all(self.questions)
    encode_prompts(questions, self.template, tokenizer, self.max_prompt_length)
    check_split(self.questions, 0)
    return questions

  def whole(self, text: str) -> str:
    """A sampled text as data sets keep it, with what the template pre-filled."""
    return (self.template.prefill + text).strip()

  def collect(self, name: str, context: Context,
              rows_of: Callable[[int, list[Question], Any, list[str]], tuple[list[Row], Counter]]) -> Units:
    """Samples batch after batch, or goes on where a killed run stopped, and keeps the rows that rows_of makes of each:
    (number of the first question, questions, host Rollouts, texts) -> (rows, counts)."""
    units = Units(context.run_dir, name)
    train = load_questions(self.questions, "train", context.run_dir / "data")
    first = units.done * self.batch
    if first < self.count:
      policy = Policy(context.model, context.experiment.compute, context.tokenizer, self.template, self.max_prompt_length,
                      context.mesh, self.stop)
      stream = question_stream(train, context.experiment.seed)
      questions, _ = draw(stream, first, self.count - first)
      log = RunLog(context.run_dir, name, self.count, first or None, set(context.finished))
      for start, rollouts, texts in policy.sample_batches(
          policy.rollout_params(context.params), context.key, list(range(first, self.count)), questions, self.sampling,
          self.samples, self.max_length, self.batch):
        asked = questions[start:start + self.batch]
        rows, counts = rows_of(first + start, asked, rollouts, texts)
        counts += Counter(questions=len(asked), responses=len(texts))
        log.metrics(first + start + len(asked), {"data/rows": len(units.rows) + len(rows), **{
          f"data/{key}": value for key, value in sorted((units.counts + counts).items())}})
        log.sync()  # the unit stands for the lines up to it
        units.append(rows, counts)
      log.close()
    return units

  def program(self, experiment: Experiment, model: ModelConfig, compute: Compute, mesh) -> dict[str, Any]:
    """generate, lowered from shapes alone."""
    def array(shape, dtype):
      return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh, len(shape), 0))

    Q, P = self.batch, self.max_prompt_length
    with jax.set_mesh(mesh):
      return {"generate": generate.lower(
        abstract_params(model, mesh, ROLLOUT_RULES, jnp.dtype(compute.dtype)), jax.eval_shape(lambda: jax.random.key(0)),
        array((Q,), jnp.uint32), array((Q, P), jnp.int32), array((Q,), jnp.int32), config=model, compute=compute,
        sampling=self.sampling, group_size=self.samples, max_new=self.max_length - P, stop_ids=(0,), pad_id=0)}


def about_rows(name: str, kept: int, counts: Counter) -> dict:
  """What is said of a data set, in its own file and in summary.json. InputError for an empty one."""
  if not kept:
    told = ", ".join(f"{key} {value}" for key, value in sorted(counts.items()))
    raise InputError(f"stages.{name}", f"no row was kept ({told})",
                     "Loosen the filters, sample more, or look at samples of the policy.")
  return {"rows": kept, **{f"count/{key}": value for key, value in sorted(counts.items())}}


def connected(what: Any, run_dir: Path) -> AbstractContextManager:
  """What a judge or refiner opens; of None, None."""
  folder = datasets_folder(run_dir)
  folder.mkdir(parents=True, exist_ok=True)
  return nullcontext(None) if what is None else what.connect(folder)
