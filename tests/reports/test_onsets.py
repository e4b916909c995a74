"""The alerts in the run: the same labelled logs as for the report, told line by line."""

import json
import sys

import numpy as np
import pytest

from r1jax.errors import WatchdogStop
from r1jax.reports.alerts import QUIET, StageLog, alerts
from r1jax.reports.onsets import KEPT, SPARE, START, Onsets, Points
from r1jax.reports.watch import Reader, Watch, logged_alerts
from r1jax.training.metrics import RunLog, read_metrics

from . import logs
from .test_alerts import HEALTHY, PLANTED, ROOT, WITHIN

# Logs with a line for every step or two, which the rules go through 130 to 400 times; test_alerts.py always has all logs.
LONG = {case[:2] for case in (*PLANTED, *HEALTHY) if case[2] < 16} - {("hacking", 0), ("outlier", 0), ("learning", 1)}
REAL = sorted((ROOT / "experiments" / "results").rglob("metrics.jsonl"))


def some_slow(cases):
  """The cases as parameters; those of LONG are slow."""
  return [pytest.param(*case, marks=[pytest.mark.slow] if case[:2] in LONG else []) for case in cases]


def told(log: dict, samples: list[dict], first: int = 0, last: int = 1 << 30) -> list[tuple[int, str, int]]:
  """(step at which it was noticed, rule, step of the onset) of each alert from step `first` to `last`."""
  lines, found, waiting = lines_of(log), [], [sample for sample in samples if sample["step"] >= first]
  onsets = Onsets("r1_zero", [x for x in lines if x["step"] < first], [s for s in samples if s["step"] < first])
  for line in [x for x in lines if first <= x["step"] <= last]:
    found += [(line["step"], alert.rule, alert.step) for alert in onsets.line(line)]
    while waiting and waiting[0]["step"] <= line["step"]:  # a run logs samples behind the metrics of their step
      onsets.sample(waiting.pop(0))
  return found


def lines_of(log: dict) -> list[dict]:
  columns = {name: [None if np.isnan(x) else float(x) for x in values] for name, values in log.items() if name != "step"}
  return [{"stage": "r1_zero", "step": int(step), **{name: of[i] for name, of in columns.items()}}
          for i, step in enumerate(log["step"])]


@pytest.mark.parametrize(("failure", "seed", "every", "onset"), some_slow(PLANTED))
def test_a_planted_failure_is_told_once_within_50_steps_of_its_onset(failure, seed, every, onset):
  log, samples = logs.healthy(seed, steps=300 if every == 1 else 1200, every=every)
  logs.plant(failure, log, samples, onset, seed)
  found = [(noticed, first) for noticed, rule, first in told(log, samples, onset - 30, onset + 2 * WITHIN)
           if rule == failure]
  assert [onset <= first <= noticed <= onset + WITHIN for noticed, first in found] == [True], found


@pytest.mark.parametrize(("kind", "seed", "every", "noise"), some_slow(HEALTHY))
def test_a_healthy_run_raises_no_alert(kind, seed, every, noise):
  assert told(*logs.healthy(seed, 300 if every == 1 else 1600, every, noise, kind)) == []


@pytest.mark.parametrize("file", REAL, ids=str)
def test_nothing_is_told_of_the_runs_of_this_repository(file):
  onsets: dict[str, Onsets] = {}
  for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
    assert onsets.setdefault(line["stage"], Onsets(line["stage"])).line(line) == []


def test_a_failure_that_comes_back_is_told_again():
  log, samples = logs.healthy(0, steps=400, kind="flat")
  broken = (log["step"] >= 60) & (log["step"] < 80) | (log["step"] >= 80 + 20 + QUIET)
  log["verifier/crashed"] = np.where(broken, 6_000.0, 0.0)
  assert told(log, samples) == [(60, "verifier", 60), (300, "verifier", 300)]


def test_a_resumed_run_tells_what_the_uninterrupted_one_tells():
  log, samples = logs.healthy(0, steps=230)
  logs.plant("length", log, samples, 100, 0)
  log["verifier/crashed"] = np.where(log["step"] >= 200, 60.0, 0.0)
  whole, lines = told(log, samples), lines_of(log)
  assert {rule for _, rule, _ in whole} >= {"length", "verifier"}
  for cut in (180, *(noticed - before for noticed, _, _ in whole[:1] for before in (0, 1))):
    again = Onsets("r1_zero", [x for x in lines if x["step"] <= cut], [s for s in samples if s["step"] <= cut])
    later = [(x["step"], a.rule, a.step) for x in lines if x["step"] > cut for a in again.line(x)]
    assert later == [alert for alert in whole if alert[0] > cut]


def test_of_a_long_stage_the_beginning_and_the_last_steps_are_kept():
  points = Points()
  for step in range(1, 20_001):
    points.add(step, float(step))
    if step % 50 == 0:
      steps, values = points.series()
  assert len(steps) <= START + KEPT + SPARE + 50 and (steps == values).all()
  assert steps[:START].tolist() == list(range(1, START + 1)) and set(range(20_000 - KEPT, 20_001)) <= set(steps.tolist())


def test_a_long_log_read_line_by_line_has_the_alerts_of_the_whole():
  """What is forgotten changes nothing."""
  log, _ = logs.healthy(5, steps=2_100)
  logs.plant("entropy", log, [], 2_000, 5)
  whole = alerts(StageLog("r1_zero", {k: (log["step"], np.asarray(v, float)) for k, v in log.items() if k != "step"}))
  lines = lines_of(log)
  onsets = Onsets("r1_zero", lines[:1_980])
  found = [(a.rule, a.step) for line in lines[1_980:] for a in onsets.line(line)]
  assert found == [(a.rule, a.step) for a in whole] != []


def calls(steps: int) -> int:
  """Functions that are called for the last hundred lines of a stage."""
  log, _ = logs.healthy(0, steps=steps)
  onsets, lines, found = Onsets("r1_zero", lines_of(log)[:-100]), lines_of(log)[-100:], 0

  def called(frame, event, argument):
    nonlocal found
    found += event in ("call", "c_call")
  sys.setprofile(called)
  try:
    for line in lines:
      onsets.line(line)
  finally:
    sys.setprofile(None)
  return found


def test_a_check_takes_as_much_work_however_long_the_stage_is():
  """Counted, not timed: some 3 ms a line on an idle machine."""
  assert 0 < calls(10_400) < 1.5 * calls(1_000)


class Heard(Reader):
  """Remembers what it is told."""

  def __init__(self):
    self.of = []

  def begin(self, stage, steps, step):
    self.of.append(("begin", stage, steps, step))

  def metrics(self, line):
    self.of.append(("metrics", line["step"]))

  def alert(self, alert, rule):
    self.of.append(("alert", alert.rule, alert.step, rule.action))

  def sample(self, line):
    self.of.append(("sample", line["step"]))


class Broken(Reader):
  def metrics(self, line):
    raise RuntimeError("no network")


def test_an_alert_is_a_line_of_the_log_and_of_the_summary(tmp_path, capsys):
  heard = Heard()
  log = RunLog(tmp_path, "rl", 9, None, Watch([Broken(), heard]))
  log.metrics(1, {"policy/loss": 1.0})
  with pytest.raises(WatchdogStop, match="'not_a_number' at step 2"):
    log.metrics(2, {"policy/loss": float("nan")})
  log.sample(2, {"response": "x"})
  with pytest.raises(WatchdogStop):
    log.metrics(3, {"policy/loss": float("nan")})
  log.close()
  assert [of[:3] for of in heard.of] == [("begin", "rl", 9), ("metrics", 1), ("metrics", 2), ("alert", "not_a_number", 2),
                                         ("sample", 2), ("metrics", 3)]
  found = logged_alerts(read_metrics(tmp_path, "rl"))
  assert found == [{"rule": "not_a_number", "step": 2, "noticed": 2, "message": "Loss, gradient or reward is not a number: "
                    "policy/loss is NaN or infinite."}]
  assert capsys.readouterr().err == "Broken failed and is left out from here on: RuntimeError('no network')\n"
  log = RunLog(tmp_path, "rl", 9, 3, Watch([heard]))  # resumed: told before
  log.metrics(4, {"policy/loss": float("nan")})
  log.close()
  assert heard.of[-2:] == [("begin", "rl", 9, 3), ("metrics", 4)]
  assert logged_alerts(read_metrics(tmp_path, "rl")) == found

