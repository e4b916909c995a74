"""A run that was damaged, stopped or short of disk ends as one that was left alone, or says why it does not."""
import dataclasses
import functools
import importlib
import json
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import Command
from test_resume import arrays, lines, timeless
from test_run_dir import flip

from r1jax.errors import InputError, WatchdogStop
from r1jax.launch import main
from r1jax.reports.watchdogs import Watchdog, WatchdogPolicy, Watchdogs
from r1jax.run_dir import RunDir
from r1jax.sharding import make_mesh
from r1jax.stages import runner
from r1jax.stages.reuse import take_over
from r1jax.stages.runner import run_experiment

tiny = importlib.import_module("tiny_run").experiment
HERE = Path(__file__).parent
# What says nothing of a result: drawings of the log, the clock, the lock, and what orbax writes and r1jax does not read.
WITHOUT_RESULTS = ("curves.png", "processes.jsonl", "lock", "tensorboard", "_CHECKPOINT_METADATA", "commit_success.txt")


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  """Runs in this process are on one device, as those in processes of their own."""
  monkeypatch.setattr(runner, "make_mesh", lambda shape: make_mesh(shape, jax.devices()[:1]))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  run_dir = tmp_path_factory.mktemp("whole") / "run"
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(runner, "make_mesh", lambda shape: make_mesh(shape, jax.devices()[:1]))
    run_experiment(tiny, run_dir)
  return run_dir


def copied(run_dir: Path, target: Path) -> Path:
  shutil.copytree(run_dir, target)
  return target


def results(run_dir: Path) -> dict:
  """All that a run says and leaves, but for times."""
  summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
  said = {name: {k: v for k, v in entry.items() if k not in ("seconds", "made", "log")}
          for name, entry in summary["stages"].items()}
  left = {k: v.tobytes() for stage in said for k, v in arrays_of(run_dir, stage).items()}
  logged = {(name, stage): [line for line in timeless(lines(run_dir, name)) if line["stage"] == stage]
            for name in ("metrics", "samples") for stage in said}
  return {"stages": said, "status": summary["status"], **left, **logged}


def arrays_of(run_dir: Path, stage: str) -> dict[str, np.ndarray]:
  for folder in run_dir.glob("checkpoints/*/*.unsound*"):
    shutil.rmtree(folder)
  return arrays(run_dir, stage)


# Files that are lost or damaged


@pytest.mark.parametrize("lost", ["summary.json", "checkpoints/r1_zero", "checkpoints/r1_zero/3", "data"])
def test_what_was_lost_is_made_again(whole, tmp_path, lost):
  run_dir = copied(whole, tmp_path / "run")
  path = run_dir / lost
  path.unlink() if path.is_file() else shutil.rmtree(path)
  run_experiment(tiny, run_dir)
  assert results(run_dir) == results(whole)


def test_a_stage_whose_checkpoint_is_gone_or_damaged_is_not_taken_over(whole, tmp_path, capsys):
  other, summary = copied(whole, tmp_path / "other"), {"stages": {}}
  shutil.rmtree(other / "checkpoints" / "base")
  (array, *_) = (other / "checkpoints/r1_zero/3/params/d").iterdir()
  flip(array, 1000)
  assert list(take_over(tiny, RunDir(other), RunDir(tmp_path / "run"), summary)) == [] and summary == {"stages": {}}
  said = capsys.readouterr().err
  assert "base: not taken over:" in said and "r1_zero: not taken over:" in said


def outcome_of_a_flip(whole: Path, run_dir: Path, rng: random.Random, capsys) -> str:
  """Flips one bit of a file of a finished run and runs it again: how that was noticed, or "" if it changed nothing."""
  file = rng.choice(sorted(f for f in run_dir.rglob("*") if f.is_file() and f.stat().st_size))
  if any(part in WITHOUT_RESULTS for part in file.relative_to(run_dir).parts):
    return "without results"
  flip(file, rng.randrange(file.stat().st_size * 8))
  named, _ = RunDir(run_dir).faults(), capsys.readouterr()
  try:
    run_experiment(tiny, run_dir)
  except InputError as error:
    return f"refused: {error}"
  said = capsys.readouterr().err
  try:
    same = results(run_dir) == results(whole)
  except ValueError:  # a line of the log of a finished stage is no JSON any more
    same = False
  assert same or "are not those that were written" in said or "damaged lines" in said, f"{file}: silent"
  assert named or same, f"{file}: not named by check"
  return said or str(named)


def flips(whole: Path, folder: Path, count: int, seed: int, capsys) -> list[str]:
  rng, found = random.Random(seed), []
  for number in range(count):
    run_dir = copied(whole, folder / str(number))
    found.append(outcome_of_a_flip(whole, run_dir, rng, capsys))
    shutil.rmtree(run_dir)
  return found


def test_a_flipped_bit_is_never_silent(whole, tmp_path, capsys):
  assert any(flips(whole, tmp_path, 6, 1, capsys))


@pytest.mark.slow
def test_200_flipped_bits_are_never_silent(whole, tmp_path, capsys):
  found = flips(whole, tmp_path, 200, 0, capsys)
  assert sum("set aside" in how for how in found) > 10 and sum(how.startswith("refused") for how in found) >= 1


def test_the_log_lines_of_a_later_finished_stage_stay(whole, tmp_path):
  """The first stage is run again, and the second, which is finished, keeps what it has logged."""
  run_dir = copied(whole, tmp_path / "run")
  shutil.rmtree(run_dir / "checkpoints" / "base" / "6")
  run_experiment(tiny, run_dir, only="base")
  assert results(run_dir) == results(whole)


def test_a_finished_run_on_a_disk_that_cannot_be_written_says_what_it_says(whole, tmp_path, monkeypatch):
  held = RunDir.held

  def read_only(self):
    self.read_only = True
    return held(self)
  before = {f: f.stat().st_mtime_ns for f in whole.rglob("*") if f.is_file() and f.name != "lock"}
  monkeypatch.setattr(RunDir, "held", read_only)
  assert run_experiment(tiny, whole)["status"] == "finished"
  assert before == {f: f.stat().st_mtime_ns for f in whole.rglob("*") if f.is_file() and f.name != "lock"}


# Watchdogs


def with_base(**changes):
  return dataclasses.replace(tiny, stages=(dataclasses.replace(tiny.stages[0], **changes),))


def test_what_is_not_finite_stops_the_run_before_its_checkpoint_is_replaced(tmp_path, capsys, monkeypatch):
  experiment = with_base(optimizer=dataclasses.replace(tiny.stages[0].optimizer, lr=1e30, warmup_steps=1))
  monkeypatch.setattr("r1jax.experiment_file.load_experiment", lambda *arguments: experiment)
  assert main(["run", "x.py", "--run_dir", str(tmp_path / "run")]) == 3
  said = capsys.readouterr().err.strip().splitlines()[-1]
  assert said.startswith("stopped by watchdog 'not_a_number' at step ")
  summary = json.loads((tmp_path / "run" / "summary.json").read_text())
  assert summary["status"] == "stopped" and summary["stopped"]["stage"] == "base" and summary["stages"] == {}
  for step in (tmp_path / "run" / "checkpoints" / "base").iterdir():
    assert all(np.isfinite(x).all() for x in arrays(tmp_path / "run", "base").values()), step


def test_parameters_that_are_not_finite_are_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(runner, "init_params", lambda *of: {"w": jnp.array([1.0, jnp.nan])})
  with pytest.raises(InputError, match="stages.base: the parameters that it starts from have a NaN"):
    run_experiment(with_base(), tmp_path / "run")


def test_a_policy_decides_whether_an_alert_stops_the_run(tmp_path):
  def run(policy):
    dogs = Watchdogs(outlier=Watchdog(1e-9, policy))
    experiment = with_base(steps=24, checkpoint_every=8, watchdogs=dogs)
    return run_experiment(experiment, tmp_path / "run")
  with pytest.raises(WatchdogStop, match="'outlier' at step 21: policy/grad_norm"):
    run(WatchdogPolicy.STOP)
  assert sorted(f.name for f in (tmp_path / "run/checkpoints/base").iterdir()) == ["16", "8"]
  summary = run(WatchdogPolicy.WARN)  # it goes on, and says so
  assert [alert["rule"] for alert in summary["stages"]["base"]["alerts"]] == ["outlier"] and "stopped" not in summary


@pytest.mark.parametrize(("dog", "said"), [
  (Watchdog(float("nan")), "slow.threshold: nan"), (Watchdog(1.0, "halt"), "'halt'")])
def test_a_watchdog_that_cannot_be_is_refused(dog, said):
  with pytest.raises(InputError, match=said):
    with_base(watchdogs=Watchdogs(slow=dog)).check()


# Signals, and a disk that is full: in processes of their own


def start(run_dir: Path, first=None) -> Command:
  return Command("run", str(HERE / "tiny_run.py"), "--run_dir", str(run_dir), log=Path(f"{run_dir}.log"),
                 folder=run_dir.parent, first=first)


def said_by(run_dir: Path) -> list[str]:
  """The lines that the processes of a run have printed so far, but for the progress of its stages."""
  text = Path(f"{run_dir}.log").read_text(encoding="utf-8")
  return [line for line in text.splitlines() if not line.startswith(("base", "r1_zero"))]


def finish(run_dir: Path) -> None:
  """Runs to the end. Here too and not in this process, whose eight devices share the threads that round differently."""
  assert start(run_dir).wait(timeout=500) == 0, said_by(run_dir)


@pytest.fixture(scope="module")
def whole_by_command(tmp_path_factory):
  run_dir = tmp_path_factory.mktemp("command") / "run"
  finish(run_dir)
  return run_dir


@pytest.mark.parametrize(("number", "status", "says"), [
  (signal.SIGTERM, 143, "terminated; the same command goes on"),
  (signal.SIGINT, 130, "interrupted; the same command goes on"), (signal.SIGKILL, -9, "")],
  ids=["SIGTERM", "SIGINT", "SIGKILL"])
def test_a_stopped_run_says_so_in_one_line_and_goes_on_bit_for_bit(whole_by_command, tmp_path, number, status, says):
  run_dir = tmp_path / "run"
  process = start(run_dir)
  while not any(r["stage"] == "base" and r["step"] >= 3 for r in lines(run_dir)):
    assert process.poll() is None, said_by(run_dir)
    time.sleep(0.01)
  process.send_signal(number)
  assert process.wait(timeout=300) == status, said_by(run_dir)
  rest = [line for line in said_by(run_dir) if not line.startswith("SIGTERM: saves")]
  assert len(rest) == bool(says) and all(line.startswith(says) for line in rest), rest
  if number == signal.SIGTERM:
    step = max(r["step"] for r in lines(run_dir) if r["stage"] == "base")
    assert (run_dir / "checkpoints" / "base" / str(step)).is_dir()  # the very step it was at
  finish(run_dir)
  assert results(run_dir) == results(whole_by_command)


@pytest.mark.parametrize("limit", [
  2_000, pytest.param(10_000, marks=pytest.mark.slow), 16_000, pytest.param(30_000, marks=pytest.mark.slow)],
  ids=["config", "sharding", "arrays", "questions"])
def test_a_full_disk_is_one_line_and_nothing_is_lost(whole_by_command, tmp_path, limit):
  """A limit to the size of files stands in for it."""
  run_dir = tmp_path / "run"
  full = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
  assert start(run_dir, full).wait(timeout=300) in (2, 74) and len(said_by(run_dir)) == 1, said_by(run_dir)
  finish(run_dir)
  assert results(run_dir) == results(whole_by_command)
