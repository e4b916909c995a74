"""A run that is killed at any moment and started again ends bit for bit as the run that was left alone."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest

HERE = Path(__file__).parent


def start(run_dir: Path, cache: Path, experiment: str = "small_run.py") -> subprocess.Popen:
  """A small experiment in a process of its own, on one device. Compiled programs are kept, to save the tests' time."""
  environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache),
                 "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
  command = [sys.executable, str(HERE / "counting_run.py"), str(HERE / experiment), "--run_dir", str(run_dir)]
  with open(f"{run_dir}.log", "a", encoding="utf-8") as log:
    return subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=run_dir.parent)


def lines(run_dir: Path, name="metrics") -> list[dict]:
  file = run_dir / f"{name}.jsonl"
  text = file.read_text(encoding="utf-8") if file.exists() else ""
  return [json.loads(line) for line in text.split("\n")[:-1]]


def timeless(records: list[dict]) -> list[dict]:
  """Without what may differ: the clock, and the programs that a process has compiled."""
  return [{k: v for k, v in r.items() if not k.startswith(("time/", "test/"))} for r in records]


def arrays(run_dir: Path, stage: str) -> dict[str, np.ndarray]:
  """Everything in the newest checkpoint of a stage, by path."""
  (*_, newest) = sorted((run_dir / "checkpoints" / stage).iterdir(), key=lambda folder: int(folder.name))
  found = {}
  for item in ("params", "opt_state", "reference"):
    if (newest / item).exists():
      tree = ocp.StandardCheckpointer().restore(newest / item)
      for path, leaf in ocp.tree.to_flat_dict(tree).items():
        found[f"{newest.name}/{item}/{path}"] = np.asarray(leaf)
  return found


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, cache):
  run_dir = tmp_path_factory.mktemp("whole") / "run"
  finish(run_dir, cache)
  return run_dir


def reached(stage: str, step: int):
  """The line of a step is there: its update is done, its checkpoint not yet written."""
  return lambda run_dir: any(r["stage"] == stage and r["step"] >= step for r in lines(run_dir))


def saving(stage: str, after: int):
  """A checkpoint later than `after` is being written."""
  def met(run_dir):
    folder = run_dir / "checkpoints" / stage
    names = [entry.name for entry in folder.iterdir()] if folder.exists() else []
    return any("tmp" in name and int(name.split(".")[0]) > after for name in names)
  return met


def saved(stage: str, step: int):
  """A checkpoint is there, and the next rollout under way."""
  def met(run_dir):
    if not (run_dir / "checkpoints" / stage / str(step)).exists():
      return False
    time.sleep(0.03)
    return True
  return met


MOMENTS = {
  "before its first checkpoint": reached("base", 25),
  "between checkpoints of the supervised stage": reached("base", 75),
  "while a checkpoint is written": saving("base", 100),
  "in the first rollout": reached("r1_zero", 0),
  "while a checkpoint of RL is written": saving("r1_zero", 0),
  "after the reference was replaced": saved("r1_zero", 4),
  "after the length changed": reached("r1_zero", 7),
  "in the last rollouts": saved("r1_zero", 10),
}


def killed_at(moments: dict, run_dir: Path, cache: Path, experiment: str = "small_run.py") -> Path:
  """A run that was killed once at each of the moments, then left alone. A moment: run_dir -> whether it has come."""
  for name, met in moments.items():
    process, deadline = start(run_dir, cache, experiment), time.time() + 600
    while not met(run_dir):
      assert process.poll() is None, f"ended before the moment {name!r}:\n" + Path(f"{run_dir}.log").read_text()
      assert time.time() < deadline, name
      time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"too late to kill it {name}"
  finish(run_dir, cache, experiment)
  return run_dir


def finish(run_dir: Path, cache: Path, experiment: str = "small_run.py") -> None:
  """Starts a run, or goes on with it, and waits for its end."""
  assert start(run_dir, cache, experiment).wait(timeout=900) == 0, Path(f"{run_dir}.log").read_text()


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, cache, uninterrupted):
  return killed_at(MOMENTS, tmp_path_factory.mktemp("killed") / "run", cache)


@pytest.mark.parametrize("stage", ["base", "r1_zero"])
def test_a_killed_run_ends_with_the_same_arrays(uninterrupted, interrupted, stage):
  expected, found = arrays(uninterrupted, stage), arrays(interrupted, stage)
  assert expected.keys() == found.keys()
  assert sum("/params/" in name for name in expected) > 10
  assert any("/reference/" in name for name in expected) == (stage == "r1_zero")
  for name, array in expected.items():
    assert array.dtype == found[name].dtype and array.tobytes() == found[name].tobytes(), name


@pytest.mark.parametrize("name", ["metrics", "samples"])
def test_a_killed_run_leaves_the_same_log(uninterrupted, interrupted, name):
  expected = timeless(lines(uninterrupted, name))
  assert len(expected) >= 10 and timeless(lines(interrupted, name)) == expected


def test_a_killed_run_leaves_the_same_summary(uninterrupted, interrupted):
  whole, killed = (json.loads((run / "summary.json").read_text()) for run in (uninterrupted, interrupted))
  for stage in ("base", "r1_zero"):
    for when in ("before", "after"):
      assert killed["stages"][stage][when] == whole["stages"][stage][when]
  assert whole["stages"]["r1_zero"]["before"]["eval/max_length"] == 24


def test_the_run_went_across_a_length_change_and_reference_replacements(uninterrupted):
  updates = [r for r in lines(uninterrupted) if "policy/kl" in r and r["stage"] == "r1_zero"]
  assert [r["step"] for r in updates] == list(range(1, 13))
  assert {r["step"]: r["length/max"] for r in updates if "length/max" in r} == {1: 14, 3: 14, 5: 14, 7: 24, 9: 24, 11: 24}
  # The first update after a replacement compares the policy with itself; the one before it did not.
  kl = {r["step"]: r["policy/kl"] for r in updates}
  for step in (1, 5, 9):
    assert kl[step] == 0 and kl[step + 3] > 0


def test_nothing_is_compiled_after_the_first_step_of_a_phase(uninterrupted):
  """A phase is a stage, or what it does at one maximum length; its first step is followed by its first evaluation."""
  records = lines(uninterrupted)
  base = [r["test/compiled"] for r in records if r["stage"] == "base"]
  assert len(set(base)) == 1
  by_step = {}
  for r in records:
    if r["stage"] == "r1_zero":
      by_step[r["step"]] = r["test/compiled"]  # the last line of a step: the evaluation, where there is one
  assert by_step[0] > base[0] and by_step[2] > by_step[0], "the counter must count"
  assert by_step[2] == by_step[4] == by_step[6]
  assert by_step[8] > by_step[6]
  assert by_step[8] == by_step[10] == by_step[12]
