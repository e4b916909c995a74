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

import xxhash

from r1jax import files
from r1jax.errors import InputError
from r1jax.files import write_atomically
from r1jax.run_dir import RunDir, say

Row = dict  # of JSON values; which fields it has is said by the stage that makes it


def folder(run_dir: str | os.PathLike[str]) -> Path:
  """Where a run keeps the data sets that its stages made."""
  return RunDir(run_dir).datasets


def read_rows(run_dir: str | os.PathLike[str], stage: str) -> list[Row]:
  """The rows of the data set of a finished stage, in order.

  Raises:
    InputError: the stage has not made it, or a line is damaged.
  """
  return list(Rows(stage=stage).read(run_dir))


@dataclass(frozen=True)
class Rows:
  """The rows of a data set: of an earlier stage of the same run, or of a JSONL or Parquet file. Exactly one of the two is
  given."""

  stage: str | None = None
  path: str | None = None

  def __post_init__(self):
    if (self.stage is None) == (self.path is None):
      raise InputError("Rows", f"stage {self.stage!r} and path {self.path!r}", "Give one of the two.")

  def file(self, run_dir: str | os.PathLike[str]) -> Path:
    """Where the rows are."""
    return Path(self.path).expanduser() if self.path is not None else folder(run_dir) / f"{self.stage}.jsonl"

  def read(self, run_dir: str | os.PathLike[str]) -> Iterator[Row]:
    """The rows, in order, one after another; InputError as files.read_rows."""
    return (row for _, row in self._numbered(run_dir))

  def examples(self, run_dir: str | os.PathLike[str]) -> Iterator[Row]:
    """The rows of a set that a policy is trained on: each has the texts question and response.

    InputError naming file and line for a row without them or with an empty one, and for a file without rows.
    """
    file, place = self.file(run_dir), 0
    for place, row in self._numbered(run_dir):
      for name in ("question", "response"):
        if not isinstance(row.get(name), str):
          raise InputError(f"{file}:{place}", f"no text {name!r}; the row has {sorted(row)}",
                           "A row needs the texts question and response.")
        if not row[name].strip():
          raise InputError(f"{file}:{place}, field {name!r}", "it is empty", "Fill it in or remove the row.")
      yield row
    if not place:
      raise InputError(str(file), "the file has no rows", "Give one JSON object a line, with question and response."
                       if self.stage is None else f"Loosen the filters of the stage {self.stage!r}, or sample more.")

  def _numbered(self, run_dir: str | os.PathLike[str]) -> Iterator[tuple[int, Row]]:
    remedy = files.NAME_A_FILE if self.stage is None else f"Run the stage {self.stage!r} first."
    return files.read_rows(self.file(run_dir), remedy)


class Units:
  """The finished units of a stage that is making a data set. A unit is kept whole or not at all."""

  def __init__(self, run_dir: str | os.PathLike[str], stage: str):
    self._file = folder(run_dir) / f"{stage}.partial.jsonl"
    self._file.parent.mkdir(parents=True, exist_ok=True)
    self.rows: list[Row] = []
    self.counts: Counter[str] = Counter()
    self.done = 0
    kept = b""
    # Not splitlines(): it would also cut at U+2028 and others, which JSON allows within a string.
    for line in self._file.read_bytes().split(b"\n")[:-1] if self._file.exists() else ():
      unit = _unit(line)
      if unit is None:
        say(f"{self._file}: unit {self.done + 1} is damaged; it and those behind it are made again")
        break
      kept += line + b"\n"
      self._count(unit)
    if self._file.exists():
      write_atomically(self._file, kept)  # without what a kill has torn: that unit is done again

  def _count(self, unit: dict) -> None:
    self.rows += unit["rows"]
    self.counts.update(unit["counts"])
    self.done += 1

  def append(self, rows: list[Row], counts: Counter) -> None:
    """Writes the next unit down, to the disk before it returns. counts: what happened, by reason, summed over the units."""
    unit = {"rows": rows, "counts": dict(counts)}
    line = json.dumps(unit | {"checksum": _checksum(unit)}, ensure_ascii=False) + "\n"
    with self._file.open("ab") as file:
      file.write(line.encode())
      file.flush()
      os.fsync(file.fileno())
    self._count(unit)

  def finish(self, stage: str, rows: Iterable[Row], about: dict) -> None:
    """Writes the data set and what is to be known about it, and removes the partial file."""
    write_atomically(self._file.with_name(f"{stage}.jsonl"), "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    write_atomically(self._file.with_name(f"{stage}.json"), json.dumps(about, ensure_ascii=False, indent=1) + "\n")
    self._file.unlink(missing_ok=True)


def _checksum(unit: dict) -> str:
  return xxhash.xxh3_128_hexdigest(json.dumps(unit).encode())


def _unit(line: bytes) -> dict | None:
  """What a line of a partial file says; None for a damaged one."""
  try:
    unit = json.loads(line)
    known = unit.pop("checksum", None)  # an older version wrote none
    return unit if known in (None, _checksum(unit)) and {"rows", "counts"} <= unit.keys() else None
  except (ValueError, AttributeError, TypeError):
    return None
