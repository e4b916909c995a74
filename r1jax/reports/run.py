"""A run directory as the report sees it. What is missing or damaged is put down in `notes`, and nothing raises for it."""
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from r1jax.errors import InputError
from r1jax.reports.clock import NAME as PROCESSES
from r1jax.reports.clock import Process, processes

MAX_SAMPLES = 30_000  # that are read; of more, a choice spread evenly over the file
Series = tuple[np.ndarray, np.ndarray]  # steps, values; NaN where the log has null


@dataclass
class Run:
  """What a run has logged so far.

  config: of the experiment, {} where config.json is missing. series: stage -> metric -> (steps, values), by step. samples:
  those that were read, of samples_total lines. datasets: stage -> what is said of the rows that it made. notes: what is
  missing or damaged, a sentence each.
  """

  path: Path
  config: dict = field(default_factory=dict)
  summary: dict = field(default_factory=dict)
  series: dict[str, dict[str, Series]] = field(default_factory=dict)
  samples: list[dict] = field(default_factory=list)
  samples_total: int = 0
  datasets: dict[str, dict] = field(default_factory=dict)
  processes: list[Process] = field(default_factory=list)
  notes: list[str] = field(default_factory=list)

  @property
  def name(self) -> str:
    """Of the experiment, or of the folder."""
    return str(self.config.get("name") or self.summary.get("experiment") or self.path.name)

  @property
  def seed(self) -> Any:
    """Of the experiment; None where config.json is missing."""
    return self.config.get("seed")

  @property
  def stages(self) -> list[str]:
    """Names of all stages that the run has or will have, in order."""
    declared = [stage["name"] for stage in self.declared()]
    return list(dict.fromkeys([*declared, *self.series, *self.summary.get("stages", {})]))

  def declared(self) -> list[dict]:
    """The configs of the stages."""
    stages = self.config.get("stages")
    return [s for s in stages if isinstance(s, dict) and isinstance(s.get("name"), str)] if isinstance(stages, list) else []

  def stage_config(self, name: str) -> dict:
    """The config of one stage, {} where it is not known."""
    return next((stage for stage in self.declared() if stage["name"] == name), {})

  def get(self, stage: str, metric: str) -> Series | None:
    """The series of a metric; None where the stage has not logged it, or null only."""
    found = self.series.get(stage, {}).get(metric)
    return None if found is None or np.isnan(found[1]).all() else found

  def total(self, stage: str, metric: str) -> float:
    """The sum of a metric over the stage; null counts as 0."""
    found = self.get(stage, metric)
    return 0.0 if found is None else float(np.nansum(found[1]))


def read_run(path: str | os.PathLike[str]) -> Run:
  """Reads a run directory, finished or not. Raises InputError for a folder that holds no run."""
  path = Path(path)
  if not path.is_dir():
    raise InputError(f"report {path}", "no such directory", "Name a run directory, for example runs/r1_zero_tiny.")
  run = Run(path)
  config, run.summary = _object(path / "config.json", run.notes), _object(path / "summary.json", run.notes)
  run.config = config.get("config") if isinstance(config.get("config"), dict) else {}
  if config and not run.config:
    run.notes.append("config.json has no field `config`: written by another version.")
  if not isinstance(run.summary.get("stages", {}), dict):
    run.notes.append("summary.json: `stages` is no object: written by another version.")
    run.summary = {}
  run.summary["stages"] = {k: v for k, v in run.summary.get("stages", {}).items() if isinstance(v, dict)}
  if not (run.config or run.summary["stages"] or (path / "metrics.jsonl").is_file()):
    raise InputError(f"report {path}", "no run: it has neither metrics.jsonl nor a config.json or summary.json of a run",
                     "Name the --run_dir of a run.")
  run.series = _series(_records(path / "metrics.jsonl", run.notes)[0], run.notes)
  run.samples, run.samples_total = _records(path / "samples.jsonl", run.notes, MAX_SAMPLES)
  run.datasets = _datasets(path / "datasets", run.notes)
  if (path / PROCESSES).is_file():
    run.processes = processes(_lines(path / PROCESSES, [])[0])
  _note_stages(run)
  return run


def _object(file: Path, notes: list[str]) -> dict:
  """The JSON object in a file, {} where there is none."""
  if not file.is_file():
    notes.append(f"{file.name} is missing.")
    return {}
  try:
    found = json.loads(file.read_text(encoding="utf-8", errors="replace"))
  except ValueError:
    notes.append(f"{file.name} is not JSON: cut while it was written, or damaged.")
    return {}
  if not isinstance(found, dict):
    notes.append(f"{file.name} is no JSON object: written by another version.")
    return {}
  return found


def _lines(file: Path, notes: list[str], most: int | None = None) -> tuple[list[dict], int]:
  """(the objects of a JSONL file, its lines); of more than `most` lines, a choice that is the same every time."""
  count, torn = 0, False
  with file.open("rb") as f:
    while chunk := f.read(1 << 20):
      count, torn = count + chunk.count(b"\n"), not chunk.endswith(b"\n")
  count += torn
  found, damaged = [], 0
  for line in _chosen(file, count, most):
    try:
      record = json.loads(line)
    except ValueError:
      record = None
    if isinstance(record, dict):
      found.append(record)
    elif line.strip() and line.endswith(b"\n"):  # one without an end is the torn one
      damaged += 1
  if torn:
    notes.append(f"{file.name} ends in the middle of a line: the run is being written, or was killed.")
  if damaged:
    notes.append(f"{file.name}: {damaged} damaged lines were left out.")
  return found, count


def _chosen(file: Path, count: int, most: int | None) -> Iterator[bytes]:
  """The lines of a file; of more than `most`, those whose number is drawn (a fixed stride would meet one place of each
  step again and again)."""
  with file.open("rb") as f:
    for number, line in enumerate(f):
      if most is None or count <= most or (number * 2_654_435_761) % (1 << 32) < most / count * (1 << 32):
        yield line


def _records(file: Path, notes: list[str], most: int | None = None) -> tuple[list[dict], int]:
  """(the lines that carry a stage and a step, by step, how many lines there are)."""
  if not file.is_file():
    notes.append(f"{file.name} is missing.")
    return [], 0
  found, count = _lines(file, notes, most)
  good = [r for r in found if isinstance(r.get("stage"), str) and type(r.get("step")) is int]
  if len(good) < len(found):
    notes.append(f"{file.name}: {len(found) - len(good)} lines without stage or step were left out.")
  if not count:
    notes.append(f"{file.name} is empty.")
  return sorted(good, key=lambda r: r["step"]), count


def _series(records: list[dict], notes: list[str]) -> dict[str, dict[str, Series]]:
  """stage -> metric -> series, of everything that is a number or null."""
  columns: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
  stages = dict.fromkeys(r["stage"] for r in records)
  for stage in stages:
    columns[stage] = {}
  for record in records:
    of = columns[record["stage"]]
    for name, value in record.items():
      if name in ("stage", "step") or isinstance(value, bool) or not (value is None or isinstance(value, int | float)):
        continue
      steps, values = of.setdefault(name, ([], []))
      steps.append(record["step"])
      values.append(float(value) if value is not None and math.isfinite(value) else math.nan)
  found = {stage: {name: (np.array(s), np.array(v)) for name, (s, v) in of.items()} for stage, of in columns.items()}
  for stage, of in found.items():
    for name, (steps, values) in of.items():
      lost = np.isnan(values)
      if lost.any():
        notes.append(f"{stage}: {name} is null (NaN or infinite) in {lost.sum()} of {len(values)} lines, first at step "
                     f"{steps[lost][0]}.")
  return found


def _datasets(folder: Path, notes: list[str]) -> dict[str, dict]:
  """The facts about each data set; for one that is being made, the sums over its finished units."""
  found = {}
  for file in sorted(folder.glob("*.json")) if folder.is_dir() else ():
    if not file.name.endswith(".partial.json"):
      about = _object(file, notes)
      if isinstance(about.get("rows"), int):
        found[file.stem] = about
  for file in sorted(folder.glob("*.partial.jsonl")) if folder.is_dir() else ():
    stage, about = file.name.removesuffix(".partial.jsonl"), {"rows": 0, "unfinished": True}
    for unit in _lines(file, notes)[0]:
      rows, counts = unit.get("rows"), unit.get("counts")
      about["rows"] += len(rows) if isinstance(rows, list) else 0
      for reason, number in counts.items() if isinstance(counts, dict) else ():
        about[f"count/{reason}"] = about.get(f"count/{reason}", 0) + number
    found.setdefault(stage, about)
  return found


def _note_stages(run: Run) -> None:
  """Notes on stages that have not been reached or not been finished, and on a log without a clock."""
  done = {name for name, stage in run.summary["stages"].items() if stage.get("status") == "finished"}
  begun = [name for name in run.stages if name in run.series and name not in done]
  waiting = [name for name in run.stages if name not in run.series and name not in done]
  if begun:
    run.notes.append(f"Not finished: {', '.join(begun)}.")
  if waiting:
    run.notes.append(f"Not begun: {', '.join(waiting)}.")
  if not run.processes:
    run.notes.append(f"{PROCESSES} is missing (an older version wrote this run): time of killed processes is not known.")
