"""Whoever reads along while a run writes its log: a terminal, a tracker, and the alerts. All of them see the very lines of
metrics.jsonl and samples.jsonl, and only a watchdog can stop the run."""
import sys
from collections.abc import Sequence

from r1jax.errors import WatchdogStop
from r1jax.reports.alerts import RULES, Alert, Rule
from r1jax.reports.onsets import Onsets
from r1jax.reports.watchdogs import Watchdogs

_RULES = {rule.name: rule for rule in RULES}


class Reader:
  """What can be told to a reader; here each of them does nothing."""

  def enter(self, stage: str, number: int, of: int) -> None:
    """A stage starts, the number-th of so many."""

  def begin(self, stage: str, steps: int, step: int) -> None:
    """The stage's log is open, `step` of its steps being done."""

  def metrics(self, line: dict) -> None:
    """A line of metrics.jsonl."""

  def sample(self, line: dict) -> None:
    """A line of samples.jsonl."""

  def alert(self, alert: Alert, rule: Rule) -> None:
    """An onset, as it is noticed."""

  def leave(self, stage: str, seconds: float) -> None:
    """A stage has ended, after so many seconds of this process."""


class Watch(Reader):
  """Hands everything on to the readers, and runs the alerts. A reader that fails is named on stderr and told no more."""

  def __init__(self, readers: Sequence[Reader] = ()):
    self._readers = list(readers)
    self._onsets: Onsets | None = None
    self._stop: WatchdogStop | None = None
    self.watchdogs = Watchdogs()  # of the stage under way

  def _tell(self, what: str, *of) -> None:
    for reader in list(self._readers):
      try:
        getattr(reader, what)(*of)
      except Exception as error:  # a display or a network is not worth a run
        self._readers.remove(reader)
        print(f"{type(reader).__name__} failed and is left out from here on: {error!r}", file=sys.stderr, flush=True)

  def enter(self, stage: str, number: int, of: int) -> None:
    self._tell("enter", stage, number, of)

  def leave(self, stage: str, seconds: float) -> None:
    self._tell("leave", stage, seconds)

  def open(self, stage: str, steps: int, step: int, lines: Sequence[dict], samples: Sequence[dict]) -> None:
    """The log of a stage is open. lines, samples: those that a process before this one has left of it."""
    self._onsets, self._stop = Onsets(stage, lines, samples, self.watchdogs), None
    self._tell("begin", stage, steps, step)

  def line(self, line: dict) -> list[dict]:
    """Takes a line of metrics.jsonl; what else is to be logged at its step: a record for each alert."""
    self._tell("metrics", line)
    found = self._onsets.line(line) if self._onsets else []
    for alert in found:
      self._tell("alert", alert, _RULES[alert.rule])
      if self._stop is None and self.watchdogs.stops(alert.rule):
        self._stop = WatchdogStop(alert.rule, alert.step, alert.message)
    return [{f"alert/{alert.rule}": alert.step, "alert": f"{_RULES[alert.rule].title}: {alert.message}"} for alert in found]

  def check(self) -> None:
    """WatchdogStop where the last line is to be that."""
    if self._stop is not None:
      raise self._stop

  def sample(self, line: dict) -> None:
    if self._onsets:
      self._onsets.sample(line)
    self._tell("sample", line)


def logged_alerts(lines: Sequence[dict]) -> list[dict]:
  """Alerts as metrics.jsonl has them, for summary.json: rule, step of the onset, step at which it was noticed, message."""
  return [{"rule": name.removeprefix("alert/"), "step": step, "noticed": line["step"], "message": line.get("alert", "")}
          for line in lines for name, step in line.items() if name.startswith("alert/")]
