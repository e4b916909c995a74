"""Data sets that stages make: rows with their provenance, collected unit by unit, so that a killed stage goes on.

RUN_DIR/datasets/STAGE.jsonl holds the rows, STAGE.json what they were made of and how many were dropped and why. While the
stage runs there is STAGE.partial.jsonl, a line for each finished unit of work; it is gone when the data set stands.
"""
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from r1jax.errors import InputError
from r1jax.files import read_jsonl, write_atomically

Row = dict  # of JSON values; which fields it has is said by the stage that makes it


def folder(run_dir: str | os.PathLike[str]) -> Path:
  """Where a run keeps the data sets that its stages made."""
  return Path(run_dir) / "datasets"


def read_rows(run_dir: str | os.PathLike[str], stage: str) -> list[Row]:
  """The rows of the data set of a finished stage, in order.

  Raises:
    InputError: the stage has not made it, or a line is damaged.
  """
  return list(Rows(stage=stage).read(run_dir))


@dataclass(frozen=True)
class Rows:
  """The rows of a data set: of an earlier stage of the same run, or of a JSONL file. Exactly one of the two is given."""

  stage: str | None = None
  path: str | None = None

  def __post_init__(self):
    if (self.stage is None) == (self.path is None):
      raise InputError("Rows", f"stage {self.stage!r} and path {self.path!r}", "Give one of the two.")

  def file(self, run_dir: str | os.PathLike[str]) -> Path:
    """Where the rows are."""
    return Path(self.path) if self.path is not None else folder(run_dir) / f"{self.stage}.jsonl"

  def read(self, run_dir: str | os.PathLike[str]) -> Iterator[Row]:
    """The rows, in order, one after another; InputError as read_jsonl."""
    remedy = {} if self.stage is None else {"remedy": f"Run the stage {self.stage!r} first."}
    return read_jsonl(self.file(run_dir), **remedy)


class Units:
  """The finished units of a stage that is making a data set. A unit is kept whole or not at all."""

  def __init__(self, run_dir: str | os.PathLike[str], stage: str):
    self._file = folder(run_dir) / f"{stage}.partial.jsonl"
    self._file.parent.mkdir(parents=True, exist_ok=True)
    self.rows: list[Row] = []
    self.counts: Counter[str] = Counter()
    self.done = 0
    kept = ""
    if self._file.exists():
      for line in self._file.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
          unit = json.loads(line) if line.endswith("\n") else None
        except ValueError:
          unit = None
        if unit is None:
          break  # torn by a kill while it was written: this unit is done again
        kept += line
        self._count(unit)
      write_atomically(self._file, kept)

  def _count(self, unit: dict) -> None:
    self.rows += unit["rows"]
    self.counts.update(unit["counts"])
    self.done += 1

  def append(self, rows: list[Row], counts: Counter) -> None:
    """Writes the next unit down, to the disk before it returns. counts: whatever happened, added up over the units."""
    unit = {"rows": rows, "counts": dict(counts)}
    with self._file.open("a", encoding="utf-8") as file:
      file.write(json.dumps(unit, ensure_ascii=False) + "\n")
      file.flush()
      os.fsync(file.fileno())
    self._count(unit)

  def finish(self, stage: str, rows: Iterable[Row], about: dict) -> None:
    """Writes the data set and what is to be known about it, and removes the partial file."""
    write_atomically(self._file.with_name(f"{stage}.jsonl"), "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    write_atomically(self._file.with_name(f"{stage}.json"), json.dumps(about, ensure_ascii=False, indent=1) + "\n")
    self._file.unlink(missing_ok=True)
