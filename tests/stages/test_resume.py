"""A run that is killed at any moment and started again ends bit for bit as the run that was left alone."""
import json
import signal
import time
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest
from commands import Command
from counting_run import count

HERE = Path(__file__).parent


def start(run_dir: Path, experiment: str = "small_run.py", *arguments: str) -> Command:
  """A small experiment in a process of its own, on one device. Compiled programs are kept for the session: conftest.py."""
  return Command("run", str(HERE / experiment), "--run_dir", str(run_dir), *arguments, log=Path(f"{run_dir}.log"),
                 folder=run_dir.parent, first=count)


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
def uninterrupted(tmp_path_factory):
  run_dir = tmp_path_factory.mktemp("whole") / "run"
  finish(run_dir)
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
  "before its first checkpoint": reached("base", 10),
  "between checkpoints of the supervised stage": reached("base", 35),
  "while a checkpoint is written": saving("base", 50),
  "in the first rollout": reached("r1_zero", 0),
  "while a checkpoint of RL is written": saving("r1_zero", 0),
  "after the reference was replaced": saved("r1_zero", 4),
  "after the length changed": reached("r1_zero", 7),
  "in the last rollouts": saved("r1_zero", 10),
}


def killed_at(moments: dict, run_dir: Path, experiment: str = "small_run.py", *arguments: str) -> Path:
  """A run that was killed once at each of the moments, then left alone. A moment: run_dir -> whether it has come."""
  for name, met in moments.items():
    process, deadline = start(run_dir, experiment, *arguments), time.time() + 600
    while not met(run_dir):
      assert process.poll() is None, f"ended before the moment {name!r}:\n" + Path(f"{run_dir}.log").read_text()
      assert time.time() < deadline, name
      time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"too late to kill it {name}"
  finish(run_dir, experiment, *arguments)
  return run_dir


def finish(run_dir: Path, experiment: str = "small_run.py", *arguments: str) -> None:
  """Starts a run, or goes on with it, and waits for its end."""
  assert start(run_dir, experiment, *arguments).wait(timeout=900) == 0, Path(f"{run_dir}.log").read_text()


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, uninterrupted):
  return killed_at(MOMENTS, tmp_path_factory.mktemp("killed") / "run")


def check_same_arrays(run_dir: Path, other: Path, stage: str) -> dict[str, np.ndarray]:
  expected, found = arrays(run_dir, stage), arrays(other, stage)
  assert expected.keys() == found.keys()
  for name, array in expected.items():
    assert array.dtype == found[name].dtype and array.tobytes() == found[name].tobytes(), name
  return expected


@pytest.mark.parametrize("stage", ["base", "r1_zero"])
def test_a_killed_run_ends_with_the_same_arrays(uninterrupted, interrupted, stage):
  expected = check_same_arrays(uninterrupted, interrupted, stage)
  assert sum("/params/" in name for name in expected) > 10
  assert any("/reference/" in name for name in expected) == (stage == "r1_zero")


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


def test_nothing_is_compiled_after_the_first_use_of_a_shape(uninterrupted):
  """A shape comes with the stage, with the maximum length, and when the sampler's cache grows; the first step of a length is
  followed by its first evaluation."""
  records = lines(uninterrupted)
  base = [r["test/compiled"] for r in records if r["stage"] == "base"]
  assert len(set(base)) == 1
  compiled, decoded = {}, {}
  for r in records:
    if r["stage"] == "r1_zero":  # the last line of a step: the evaluation, where there is one
      compiled[r["step"]], decoded[r["step"]] = r["test/compiled"], r["test/decoded"]
  assert compiled[0] > base[0] and compiled[2] > compiled[0], "the counter must count"
  assert compiled[8] > compiled[6]
  assert decoded[8] > decoded[6] > 1, "the cache must grow"
  for steps in ((2, 4, 6), (8, 10, 12)):
    for before, after in zip(steps, steps[1:], strict=False):
      assert (compiled[after] == compiled[before]) == (decoded[after] == decoded[before])
    assert decoded[steps[-2]] == decoded[steps[-1]], "some steps must need nothing new"


# Sampling the next rollout while one trains


AHEAD = {
  "before its first checkpoint, a stale rollout trained on": reached("r1_zero", 3),
  "behind a checkpoint, while a stale rollout is sampled": reached("r1_zero", 7),
}


@pytest.fixture(scope="module")
def ahead(tmp_path_factory, uninterrupted):
  """Of the same base: left alone, once more, and killed."""
  folder, arguments = tmp_path_factory.mktemp("ahead"), ("small_run.py", "--smoke", "--reuse", str(uninterrupted))
  for name in ("whole", "again"):
    finish(folder / name, *arguments)
  return folder / "whole", folder / "again", killed_at(AHEAD, folder / "killed", *arguments)


@pytest.mark.parametrize("which", [1, 2], ids=["again", "killed"])
def test_sampling_ahead_repeats_bit_for_bit_even_if_it_is_killed(ahead, which):
  whole, other = ahead[0], ahead[which]
  check_same_arrays(whole, other, "r1_zero")
  for name in ("metrics", "samples"):
    assert timeless(lines(whole, name)) == timeless(lines(other, name))


def test_rollouts_sampled_ahead_are_stale_by_one_rollout_except_behind_a_checkpoint(ahead, uninterrupted):
  def updates(run_dir):
    return {r["step"]: r for r in lines(run_dir) if r["stage"] == "r1_zero" and "policy/loss" in r}
  found, expected = updates(ahead[0]), updates(uninterrupted)
  stale = {step: r["rollout/staleness"] for step, r in found.items() if "rollout/staleness" in r}
  assert stale == {1: 0, 3: 2, 5: 2, 7: 0, 9: 2, 11: 2}
  assert {r["rollout/staleness"] for r in expected.values() if "rollout/staleness" in r} == {0}
  # A stale rollout's ratio is to the policy that sampled it; a fresh one's is 1 until the policy moves.
  assert abs(found[1]["policy/ratio"] - 1) < 1e-6 and abs(found[7]["policy/ratio"] - 1) < 1e-6
  assert all(abs(found[step]["policy/ratio"] - 1) > 1e-6 for step in (3, 5, 9, 11))
  assert all(np.isfinite(value) for r in found.values() for value in r.values() if isinstance(value, float))
