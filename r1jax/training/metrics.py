"""metrics.jsonl, samples.jsonl and tensorboard of a run: appended line by line, cut back to the checkpoint on resume."""
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import xxhash

from r1jax.run_dir import LOGS, RunDir, say


class Watch(Protocol):
  """Who reads along (r1jax.reports.watch)."""

  def open(self, stage: str, steps: int, step: int, lines: Sequence[dict], samples: Sequence[dict]) -> None:
    """The log of a stage is open, `step` of its steps being done. lines, samples: what it has of the stage already."""

  def line(self, line: dict) -> list[dict]:
    """Takes a line of metrics.jsonl; what else is to be logged at its step."""

  def check(self) -> None:
    """WatchdogStop where the stage is to end with the lines that are written."""

  def sample(self, line: dict) -> None:
    """Takes a line of samples.jsonl."""


class RunLog:
  """The log of one stage. Each line carries `stage` and `step`, the updates done when it was written."""

  def __init__(self, run_dir: Path, stage: str, steps: int, step: int | None, watch: Watch | None = None,
               checksums: Mapping[str, str] | None = None):
    """Cuts off what was written after the checkpoint at `step` of `stage` (None: before any) by a run that died.

    steps: those of the whole stage, for whoever watches. checksums: what sync() gave for that checkpoint; where lines are
    others, it is said.
    """
    self.stage, self._watch = stage, watch
    self._files, self._sums, left = {}, {}, {}
    for name in LOGS:
      kept = RunDir(run_dir).keep_lines(name, lambda r: r["stage"] != stage or step is not None and r["step"] <= step)
      own = [(line, r) for line, r in kept if r["stage"] == stage]
      left[name], self._sums[name] = [r for _, r in own], xxhash.xxh3_128(b"".join(line for line, _ in own))
      self._files[name] = RunDir(run_dir).log(name).open("ab")
      if checksums and checksums[name] != self._sums[name].hexdigest():
        say(f"{RunDir(run_dir).log(name)}: the lines of stage {stage} are not those that were written")
    if watch is not None:
      watch.open(stage, steps, step or 0, left["metrics"], left["samples"])
    from tensorboardX import SummaryWriter  # here, as it brings torch where that is installed: seconds for every command

    self._tensorboard = SummaryWriter(str(Path(run_dir) / "tensorboard" / stage), purge_step=0 if step is None else step + 1)

  def _append(self, name: str, record: dict) -> None:
    line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
    self._files[name].write(line)
    self._files[name].flush()
    self._sums[name].update(line)

  def metrics(self, step: int, values: dict) -> None:
    """One line of numbers; names are `group/name`. NaN and infinity are written as null: JSON has neither. What the watch
    finds in it (an alert) follows as lines of the same step."""
    record = self._line(step, values)
    if self._watch is not None:
      for more in self._watch.line(record):
        self._line(step, more)
      self._watch.check()

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

  def sync(self) -> dict[str, str]:
    """Forces the lines to disk: call before the checkpoint that counts on them. log -> checksum of the stage's lines."""
    for f in self._files.values():
      f.flush()
      os.fsync(f.fileno())
    return {name: of.hexdigest() for name, of in self._sums.items()}

  def close(self) -> None:
    self.sync()
    for f in self._files.values():
      f.close()
    self._tensorboard.close()


def read_metrics(run_dir: Path, stage: str | None = None) -> list[dict]:
  """The lines of metrics.jsonl, of one stage or of all."""
  return RunDir(run_dir).records("metrics", stage)


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
