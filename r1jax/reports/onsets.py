"""The alerts in the run: the rules of r1jax.reports.alerts on what a stage has logged so far, each onset once."""
import math
from array import array
from collections.abc import Iterable

import numpy as np

from r1jax.reports.alerts import LAGS, QUIET, RECENT, RULES, SPAN, Alert, StageLog, flags_of
from r1jax.reports.run import Series
from r1jax.reports.watchdogs import Watchdogs

KEPT = max(LAGS) + 5 * SPAN + RECENT + QUIET  # steps that a rule may look back, and those of a stretch that is over
START = 10  # steps at a stage's beginning that are kept, since rules compare with them
WATCHDOGS = Watchdogs()
SPARE = 256  # points that may be left over before they are thrown away


class Points:
  """A series that grows at its end and forgets its middle, so that a check costs the same however long a stage is."""

  def __init__(self):
    self._steps, self._values = array("q"), array("d")

  def add(self, step: int, value: float) -> None:
    """One point; steps do not fall."""
    self._steps.append(step)
    self._values.append(value)

  def series(self) -> Series:
    """Steps and values of the first START and the last KEPT steps, and perhaps some between."""
    steps = np.array(self._steps)
    head, tail = max(3, np.searchsorted(steps, steps[0] + START)), np.searchsorted(steps, steps[-1] - KEPT)
    if tail - head > SPARE:
      del self._steps[head:tail], self._values[head:tail]
    return np.array(self._steps), np.array(self._values)


class Onsets:
  """What the rules find while a stage is being logged.

  lines, samples: what a process that died has left of the stage; what they show has been told already.
  """

  def __init__(self, stage: str, lines: Iterable[dict] = (), samples: Iterable[dict] = (),
               watchdogs: Watchdogs = WATCHDOGS):
    self._stage, self._watchdogs = stage, watchdogs
    self._series: dict[str, Points] = {}
    self._flags: dict[str, Points] = {}
    self._held: dict[str, float] = {}  # rule -> the last step at which it is known to have held
    self._told: dict[str, float] = {}  # rule -> its last onset
    for line in lines:
      self._keep(line)
      self._told |= {name.removeprefix("alert/"): step for name, step in line.items() if name.startswith("alert/")}
    for sample in samples:
      self.sample(sample)
    self._new()

  def line(self, line: dict) -> list[Alert]:
    """Takes a line of metrics.jsonl; the onsets that it brings."""
    self._keep(line)
    return self._new()

  def sample(self, sample: dict) -> None:
    """Takes a line of samples.jsonl; it counts from the next line of metrics on."""
    for name, flag in flags_of(sample).items():
      self._flags.setdefault(name, Points()).add(sample["step"], flag)

  def _keep(self, line: dict) -> None:
    for name, value in line.items():
      if name not in ("stage", "step") and (
          value is None or isinstance(value, int | float) and not isinstance(value, bool)):
        number = math.nan if value is None or not math.isfinite(value) else float(value)
        self._series.setdefault(name, Points()).add(line["step"], number)

  def _new(self) -> list[Alert]:
    series, flags = ({name: points.series() for name, points in of.items()} for of in (self._series, self._flags))
    log, found = StageLog(self._stage, series, flags, self._watchdogs), []
    for rule in RULES:
      for onset in rule.onsets(log):
        held, told = (of.get(rule.name, -math.inf) for of in (self._held, self._told))
        if onset.step > held + QUIET and onset.since > told:
          found.append(Alert(rule.name, self._stage, onset.step, onset.message))
          self._told[rule.name] = onset.step
        self._held[rule.name] = max(onset.last, held)
    return found
