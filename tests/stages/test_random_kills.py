"""The smoke variant of r1_tiny, all of its stages, ended twenty times at random: it ends bit for bit as one left alone."""
import json
import random
import signal
from pathlib import Path

import pytest
from all_experiments import entry_of
from test_resume import check_same_arrays, finish, lines, start, timeless

ARGUMENTS = (entry_of("r1_tiny"), "--smoke")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STATUSES = (-signal.SIGKILL, 143, -signal.SIGTERM, 130)  # -15: before the command has begun to listen
KILLS = 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  run_dir = tmp_path_factory.mktemp("whole") / "run"
  finish(run_dir, *ARGUMENTS)
  return run_dir


def ended_at_random(folder: Path, rng: random.Random, longest: float) -> Path:
  """A run that was ended KILLS times, each process after up to `longest` seconds. One that is done before is left for
  another, whose processes live half as long."""
  for number in range(8):
    run_dir, kills = folder / f"run{number}", 0
    while kills < KILLS:
      process = start(run_dir, *ARGUMENTS)
      if process.wait(timeout=rng.uniform(0, longest)) is None:
        process.send_signal(rng.choice(SIGNALS))
      if process.wait() == 0:
        break
      assert process.poll() in STATUSES, Path(f"{run_dir}.log").read_text(encoding="utf-8")
      kills += 1
    else:
      finish(run_dir, *ARGUMENTS)
      return run_dir
    longest /= 2
  raise AssertionError("no run was ended so often")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_twenty_ends_at_random_moments_change_nothing(whole, tmp_path, seed):
  seconds = json.loads((whole / "summary.json").read_text(encoding="utf-8"))["seconds"]
  run_dir = ended_at_random(tmp_path, random.Random(seed), longest=10 + seconds / 8)
  for stage in ("base", "r1_zero", "rl_1"):
    check_same_arrays(whole, run_dir, stage)
  assert timeless(lines(whole)) == timeless(lines(run_dir))
  assert timeless(lines(whole, "samples")) == timeless(lines(run_dir, "samples"))
