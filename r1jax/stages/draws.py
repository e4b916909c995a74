"""How a stage that makes a data set samples a policy, and how it keeps what it has made."""
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1jax.curation.datasets import Row, Units
from r1jax.curation.datasets import folder as datasets_folder
from r1jax.data.prompts import (
  Source,
  check_source,
  check_split,
  draw,
  encode_prompts,
  load_questions,
  question_stream,
  read_all,
  whole_response,
)
from r1jax.data.questions import Question
from r1jax.data.templates import Template
from r1jax.data.tokenizer import Tokenizer, stop_ids
from r1jax.errors import InputError
from r1jax.fields import Count
from r1jax.models.config import ModelConfig
from r1jax.sampling.choice import Sampling
from r1jax.sampling.sampler import Decoding
from r1jax.sharding import DATA, batch_parts
from r1jax.stages.context import Context
from r1jax.stages.rollout import Policy, Rollout
from r1jax.training.metrics import RunLog


@dataclass(frozen=True)
class Draws:
  """`samples` responses to each of `count` training questions. Lengths in tokens; max_length counts the prompt too.

  count: the first of an endless stream, in which every question comes once an epoch. batch: questions of a unit of work,
  which is sampled by itself and kept whole or not at all, so that a resumed stage repeats it bit for bit.
  """

  questions: Source
  count: Count
  samples: Count
  template: Template
  max_length: Count
  max_prompt_length: Count
  sampling: Sampling = Sampling(temperature=1.0)
  batch: Count = 128
  decoding: Decoding = Decoding()
  stop: tuple[str, ...] = ()

  def check(self, where: str, model: ModelConfig) -> None:
    """InputError for an impossible geometry or source."""
    if not self.max_prompt_length < self.max_length <= model.max_position:
      raise InputError(f"{where}.max_length", self.max_length, "It counts the prompt too: make it more than "
                       f"max_prompt_length ({self.max_prompt_length}), and at most max_position ({model.max_position}).")
    self.decoding.check(f"{where}.decoding", self.max_length)
    check_source(self.questions)

  def check_mesh(self, where: str, mesh) -> None:
    """InputError if the slots cannot be shared by the data-parallel devices."""
    self.decoding.check(f"{where}.decoding", self.max_length, batch_parts(mesh, DATA))

  def check_data(self, tokenizer: Tokenizer) -> list[Question]:
    """All questions of the source; InputError for a bad file, line, prompt or stop text, or none to train on."""
    stop_ids(tokenizer, self.stop)
    questions = read_all(self.questions)
    encode_prompts(questions, self.template, tokenizer, self.max_prompt_length)
    check_split(self.questions)
    return questions

  def whole(self, text: str) -> str:
    """A sampled text as data sets keep it, with what the template pre-filled."""
    return whole_response(self.template, text)

  def collect(self, name: str, context: Context,
              rows_of: Callable[[int, list[Question], Rollout], tuple[list[Row], Counter]]) -> Units:
    """Samples unit after unit, or goes on where a killed run stopped, and keeps the rows that rows_of makes of each:
    (number of the first question, questions, their responses) -> (rows, counts)."""
    units = Units(context.run_dir, name)
    train = load_questions(self.questions, "train", context.run_dir / "data")
    if units.done * self.batch >= self.count:
      return units
    policy = Policy(context.model, context.experiment.compute, context.tokenizer, self.template, self.max_prompt_length,
                    context.mesh, self.sampling, self.decoding, self.stop)
    stream = question_stream(train, context.experiment.seed)
    with closing(RunLog(context.run_dir, name, self.count, units.done * self.batch or None, context.watch)) as log:
      context.ending.saves = True
      for first in range(units.done * self.batch, self.count, self.batch):
        asked, end = draw(stream, first, min(self.batch, self.count - first))
        rollout = policy.rollout(context.params, context.key, list(range(first, end)), asked, self.samples, self.max_length)
        rows, counts = rows_of(first, asked, rollout)
        counts += Counter(questions=len(asked), responses=len(rollout.responses))
        log.metrics(end, {"data/rows": len(units.rows) + len(rows), "rollout/occupancy": rollout.occupancy, **{
          f"data/{key}": value for key, value in sorted((units.counts + counts).items())}})
        log.sync()  # the unit stands for the lines up to it
        units.append(rows, counts)
        context.ending.check()
    return units


def about_rows(name: str, kept: int, counts: Counter) -> dict:
  """The facts about a data set, for its own file and for summary.json. InputError for an empty one."""
  if not kept:
    told = ", ".join(f"{key} {value}" for key, value in sorted(counts.items()))
    raise InputError(f"stages.{name}", f"no row was kept ({told})",
                     "Loosen the filters, sample more, or look at samples of the policy.")
  return {"rows": kept, **{f"count/{key}": value for key, value in sorted(counts.items())}}


def check_keys(*others: Any) -> None:
  """InputError for a judge or refiner behind an endpoint whose key is missing."""
  for other in others:
    if hasattr(other, "endpoint"):
      other.endpoint.key()


def connected(what: Any, run_dir: Path) -> AbstractContextManager:
  """What a judge or refiner opens; of None, None."""
  folder = datasets_folder(run_dir)
  folder.mkdir(parents=True, exist_ok=True)
  return nullcontext(None) if what is None else what.connect(folder)
