"""Which questions of a benchmark a run has seen in training: a run of ten words in common, as R1 decontaminates (arXiv V2,
appendix D.1). Paraphrases slip through, there as here."""
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from r1jax.config import from_json
from r1jax.curation.datasets import Rows
from r1jax.curation.overlap import overlapping
from r1jax.data.builders import stored_files
from r1jax.data.prompts import read_all
from r1jax.data.questions import TRAIN, Generated, Jsonl, Question, Tfds, split_of
from r1jax.errors import InputError

MEASURES = ("Compare",)  # types of stages that train nothing
MEASURED_ON = "evaluation"  # the field of a stage with the sets that it keeps clear of


def contaminated(questions: Sequence[Question], solutions: Mapping[str, str],
                 training: Iterable[tuple[str, str]]) -> dict[str, str]:
  """Question's id -> the training set that shares ten words in a row with it or with its reference solution.

  solutions: by id, where there are any. training: (name of the set, text) pairs.
  """
  texts = [(q.text, *((solutions[q.id],) if q.id in solutions else ())) for q in questions]
  return {questions[i].id: where for i, where in sorted(overlapping(texts, training).items())}


def training_sets(experiment: Mapping, stage: str,
                  run_dir: str | os.PathLike[str]) -> tuple[list[tuple[str, object]], list[str]]:
  """((name, source) of what the stages of a run up to `stage` were trained on, what cannot be searched).

  experiment: as config.json has it. Sources are Jsonl, Tfds, Generated and Rows; endless documents that a program makes, and
  files that are gone, cannot be searched, and are named.
  """
  found: dict[str, object] = {}
  unknown: set[str] = set()
  for config in experiment["stages"]:
    if config["type"] not in MEASURES:
      _collect(config, f"stages.{config['name']}", Path(run_dir), found, unknown)
    if config["name"] == stage:
      break
  return list(found.items()), sorted(unknown)


def _collect(value, where: str, run_dir: Path, found: dict, unknown: set) -> None:
  """Adds the sources in a part of a config."""
  if isinstance(value, list):
    for i, each in enumerate(value):
      _collect(each, f"{where}.{i}", run_dir, found, unknown)
  if not isinstance(value, dict):
    return
  kind = {"Jsonl": Jsonl, "Tfds": Tfds, "Generated": Generated, "Rows": Rows}.get(value.get("type"))
  if kind is None:
    if where.endswith(".documents") and "type" in value:
      unknown.add(value["type"])
    for name, each in value.items():
      if name != MEASURED_ON:
        _collect(each, f"{where}.{name}", run_dir, found, unknown)
    return
  source = from_json(kind, value, where)
  if isinstance(source, Rows):
    source = Rows(path=str(source.file(run_dir)))
  if isinstance(source, Jsonl | Rows) and not Path(source.path).expanduser().is_file():
    unknown.add(f"{source.path} (no such file)")
    return
  if isinstance(source, Tfds):
    try:
      stored_files(source)
    except InputError:
      unknown.add(f"{source.name} (no such data set)")
      return
  if isinstance(source, Generated):
    name = f"{source.generator} (generated, seed {source.seed})"
  else:
    name = f"{source.name}/{source.split} (TFDS)" if isinstance(source, Tfds) else str(source.path)
  found[name] = source


def texts_of(sources: Iterable[tuple[str, object]]) -> Iterator[tuple[str, str]]:
  """(name, text) of every row that was trained on. InputError, naming it, for a file that is no longer there."""
  for name, source in sources:
    if isinstance(source, Jsonl | Tfds | Generated):
      yield from ((name, q.text) for q in read_all(source) if split_of(q.text, source.held_out) == TRAIN)
    else:
      yield from ((name, text) for row in source.read(".") for text in row.values() if isinstance(text, str))


def file_source(path: str) -> tuple[str, Rows]:
  """A JSONL file of training rows that the user names; InputError if it is not there."""
  if not os.path.isfile(path):
    raise InputError(f"--training {path}", "no such file", "Name a JSONL file of rows that the model was trained on.")
  return path, Rows(path=path)
