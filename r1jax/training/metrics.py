"""metrics.jsonl, samples.jsonl and tensorboard of a run: appended line by line, cut back to the checkpoint on resume."""
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tensorboardX import SummaryWriter

from r1jax.files import write_atomically


class Watch(Protocol):
  """Who reads along (r1jax.reports.watch)."""

  def open(self, stage: str, steps: int, step: int, lines: Sequence[dict], samples: Sequence[dict]) -> None:
    """The log of a stage is open, `step` of its steps being done. lines, samples: what it has of the stage already."""

  def line(self, line: dict) -> list[dict]:
    """Takes a line of metrics.jsonl; what else is to be logged at its step."""

  def sample(self, line: dict) -> None:
    """Takes a line of samples.jsonl."""


def _lines(path: Path) -> Iterator[dict]:
  """The whole lines of a JSONL file; a torn last line (the process was killed while writing) is left out."""
  if not path.exists():
    return
  for line in path.read_text(encoding="utf-8").split("\n"):
    try:
      yield json.loads(line)
    except json.JSONDecodeError:
      continue


class RunLog:
  """The log of one stage. Each line carries `stage` and `step`, the updates done when it was written."""

  def __init__(self, run_dir: Path, stage: str, steps: int, step: int | None, finished: set[str],
               watch: Watch | None = None):
    """Cuts off what was written after the checkpoint at `step` of `stage` (None: before any) by a run that died.

    steps: those of the whole stage, for whoever watches.
    """
    self.stage, self._watch = stage, watch
    self._files, left = {}, {}
    for name in ("metrics", "samples"):
      path = Path(run_dir) / f"{name}.jsonl"
      kept = [r for r in _lines(path) if r["stage"] in finished or (
        r["stage"] == stage and step is not None and r["step"] <= step)]
      write_atomically(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in kept))
      self._files[name], left[name] = path.open("a", encoding="utf-8"), [r for r in kept if r["stage"] == stage]
    if watch is not None:
      watch.open(stage, steps, step or 0, left["metrics"], left["samples"])
    self._tensorboard = SummaryWriter(str(Path(run_dir) / "tensorboard" / stage), purge_step=0 if step is None else step + 1)

  def _append(self, name: str, record: dict) -> None:
    self._files[name].write(json.dumps(record, ensure_ascii=False) + "\n")
    self._files[name].flush()

  def metrics(self, step: int, values: dict) -> None:
    """One line of numbers; names are `group/name`. NaN and infinity are written as null: JSON has neither. What the watch
    finds in it (an alert) follows as lines of the same step."""
    record = self._line(step, values)
    for more in self._watch.line(record) if self._watch is not None else ():
      self._line(step, more)

  def _line(self, step: int, values: dict) -> dict:
    """Writes one line, to TensorBoard too; the line."""
    values = {k: (float(v) if not isinstance(v, int | str) else v) for k, v in values.items()}
    record = {"stage": self.stage, "step": step, **{
      k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}}
    self._append("metrics", record)
    for name, value in values.items():
      if not isinstance(value, str):
        self._tensorboard.add_scalar(name, value, step)
    return record

  def sample(self, step: int, record: dict) -> None:
    """One rollout as text, with its rewards."""
    record = {"stage": self.stage, "step": step, **record}
    self._append("samples", record)
    if self._watch is not None:
      self._watch.sample(record)

  def sync(self) -> None:
    """Forces the lines to disk: call before the checkpoint that counts on them."""
    for f in self._files.values():
      f.flush()
      os.fsync(f.fileno())

  def close(self) -> None:
    self.sync()
    for f in self._files.values():
      f.close()
    self._tensorboard.close()


def read_metrics(run_dir: Path, stage: str | None = None) -> list[dict]:
  """The lines of metrics.jsonl, of one stage or of all."""
  return [r for r in _lines(Path(run_dir) / "metrics.jsonl") if stage in (None, r["stage"])]


class Timers:
  """Wall seconds by name since the last take()."""

  def __init__(self):
    self._seconds: dict[str, float] = {}

  @contextmanager
  def __call__(self, name: str):
    start = time.perf_counter()
    try:
      yield
    finally:
      self.add(name, time.perf_counter() - start)

  def add(self, name: str, seconds: float) -> None:
    """Seconds that something else has measured."""
    self._seconds[name] = self._seconds.get(name, 0.0) + seconds

  def take(self) -> dict[str, float]:
    seconds, self._seconds = self._seconds, {}
    return {f"time/{name}": s for name, s in seconds.items()}
