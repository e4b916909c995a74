"""metrics.jsonl, samples.jsonl and tensorboard of a run: appended line by line, cut back to the checkpoint on resume."""
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tensorboardX import SummaryWriter

from r1jax.files import write_atomically

PROGRESS_SECONDS = 10.0
PROGRESS = ("policy/loss", "reward/accuracy", "reward/format", "length/mean", "eval/pass_at_1", "eval/format", "eval/length",
            "data/questions", "data/rows")


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

  def __init__(self, run_dir: Path, stage: str, steps: int, step: int | None, finished: set[str]):
    """Cuts off what was written after the checkpoint at `step` of `stage` (None: before any) by a run that died.

    steps: those of the whole stage, for the progress lines.
    """
    self.stage, self.steps = stage, steps
    self._shown = -math.inf  # when the last progress line was printed
    self._files = {}
    for name in ("metrics", "samples"):
      path = Path(run_dir) / f"{name}.jsonl"
      kept = [r for r in _lines(path) if r["stage"] in finished or (
        r["stage"] == stage and step is not None and r["step"] <= step)]
      write_atomically(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in kept))
      self._files[name] = path.open("a", encoding="utf-8")
    self._tensorboard = SummaryWriter(str(Path(run_dir) / "tensorboard" / stage), purge_step=0 if step is None else step + 1)

  def _append(self, name: str, record: dict) -> None:
    self._files[name].write(json.dumps(record, ensure_ascii=False) + "\n")
    self._files[name].flush()

  def metrics(self, step: int, values: dict) -> None:
    """One line of numbers; names are `group/name`. NaN and infinity are written as null: JSON has neither."""
    values = {k: (float(v) if not isinstance(v, int | str) else v) for k, v in values.items()}
    self._append("metrics", {"stage": self.stage, "step": step, **{
      k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}})
    for name, value in values.items():
      if not isinstance(value, str):
        self._tensorboard.add_scalar(name, value, step)
    self._show(step, values)

  def _show(self, step: int, values: dict) -> None:
    """A progress line on stderr, of evaluations always and otherwise not more often than PROGRESS_SECONDS."""
    shown = [f"{name.split('/')[1]} {values[name]:.3g}" for name in PROGRESS if name in values]
    due = time.monotonic() - self._shown >= PROGRESS_SECONDS or "eval/pass_at_1" in values
    if shown and due:
      self._shown = time.monotonic()
      print(f"{self.stage} {step}/{self.steps}  {'held out: ' * ('eval/pass_at_1' in values)}{', '.join(shown)}",
            file=sys.stderr, flush=True)

  def sample(self, step: int, record: dict) -> None:
    """One rollout as text, with its rewards."""
    self._append("samples", {"stage": self.stage, "step": step, **record})

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
