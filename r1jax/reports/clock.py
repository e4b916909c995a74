"""The clock of a run: which process ran when and on how many chips, so that what a killed process spent is counted too.

RUN_DIR/processes.jsonl is only appended to, never cut back as metrics.jsonl is when a run resumes. A line: {"process": name,
"at": Unix seconds, "stage": name or null, "chips": number, "device": kind, "event": began, alive or ended}.
"""
import json
import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

NAME = "processes.jsonl"
BEAT_SECONDS = 1.0  # between lines of a young process
BEAT_SHARE = 0.004  # of an old one's age: what a kill leaves uncounted stays below 1%, and a week makes 2,700 lines


class Clock:
  """Writes the lines of this process while it is entered, in a thread of its own, for a step can take minutes.

  began: when the process started to work for this run, Unix seconds; None: now.
  """

  def __init__(self, run_dir: Path, chips: int, device: str, began: float | None = None):
    self._file = Path(run_dir) / NAME
    self._began = time.time() if began is None else began
    self._about = {"chips": chips, "device": device}
    self._process = f"{self._began:.3f}-{os.getpid()}"
    self._stage: str | None = None
    self._stop, self._lock = threading.Event(), threading.Lock()
    self._thread = threading.Thread(target=self._beat, daemon=True)

  def _write(self, event: str, at: float | None = None) -> None:
    line = {"process": self._process, "at": round(time.time() if at is None else at, 3), "stage": self._stage, **self._about,
            "event": event}
    with self._lock, self._file.open("a", encoding="utf-8") as file:
      file.write(json.dumps(line) + "\n")

  def _beat(self) -> None:
    while not self._stop.wait(max(BEAT_SECONDS, BEAT_SHARE * (time.time() - self._began))):
      with suppress(OSError):  # the disk is full: whoever writes what matters says so
        self._write("alive")

  def spent(self, stage: str) -> float:
    """Seconds that all processes of this run have spent on a stage, killed ones too."""
    lines = []
    for line in self._file.read_bytes().split(b"\n"):
      with suppress(ValueError):
        lines.append(json.loads(line))
    return sum(process.seconds.get(stage, 0.0) for process in processes(line for line in lines if isinstance(line, dict)))

  def enter(self, stage: str | None) -> None:
    """What the time from now on is spent on; None: on none of the stages."""
    self._stage = stage
    self._write("alive")

  def __enter__(self) -> "Clock":
    if self._file.exists() and not self._file.read_bytes().endswith(b"\n"):
      with self._file.open("a", encoding="utf-8") as file:
        file.write("\n")  # a kill tore the last line: the next one must not be lost with it
    self._write("began", self._began)
    self._write("alive")
    self._thread.start()
    return self

  def __exit__(self, *exception) -> None:
    self._stop.set()
    self._thread.join()
    with suppress(OSError):
      self._write("ended")


@dataclass(frozen=True)
class Process:
  """One process of a run. seconds: by stage, None for time between stages. ended: it left by itself, not by a kill."""

  began: float
  last: float
  chips: int
  device: str
  ended: bool
  seconds: dict[str | None, float]


def processes(lines: Iterable[dict]) -> list[Process]:
  """The processes of a run, by their beginning. Time from one line to the next belongs to the stage of the first."""
  by_name: dict[str, list[dict]] = {}
  for line in lines:
    if isinstance(line.get("at"), int | float) and isinstance(line.get("process"), str):
      by_name.setdefault(line["process"], []).append(line)
  found = []
  for own in by_name.values():
    own.sort(key=lambda line: line["at"])
    seconds: dict[str | None, float] = {}
    for line, following in zip(own, own[1:], strict=False):
      seconds[line.get("stage")] = seconds.get(line.get("stage"), 0.0) + following["at"] - line["at"]
    chips = own[0].get("chips")
    found.append(Process(own[0]["at"], own[-1]["at"], chips if isinstance(chips, int) and chips > 0 else 1,
                         str(own[0].get("device", "")), own[-1].get("event") == "ended", seconds))
  return sorted(found, key=lambda process: process.began)
