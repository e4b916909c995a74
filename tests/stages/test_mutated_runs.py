"""Runs of which one field holds something else: each ends well, or is refused in one line before anything trains."""
import functools
import os
import resource
import signal
from pathlib import Path

import pytest
from commands import Command
from mutations import mutated
from test_resume import lines
from tiny_run import experiment

from r1jax.errors import InputError
from r1jax.stages.runner import check_run

HERE = Path(__file__).parent
ACCEPTED = 60  # mutations that are run
SECONDS, BYTES = 90, 16 << 30  # of a run


def accepted():
  """Seeds of mutations that no check of fields refuses."""
  for seed in range(10_000):
    try:
      check_run(mutated(experiment, seed))
      yield seed
    except InputError:
      pass


def _begin(seed: int) -> None:
  os.environ["R1JAX_MUTATION"] = str(seed)
  resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))


def outcome(seed: int, folder: Path) -> tuple[int, list[str], list[dict]]:
  """Status, what it printed to the end, and its log. What takes too long is asked to end."""
  run_dir, log = folder / str(seed), folder / f"{seed}.log"
  process = Command("run", str(HERE / "mutated_run.py"), "--run_dir", str(run_dir), log=log, folder=folder,
                    first=functools.partial(_begin, seed))
  if process.wait(timeout=SECONDS) is None:
    process.send_signal(signal.SIGTERM)
  status = process.wait(timeout=60)
  return status, log.read_text(encoding="utf-8").splitlines(), lines(run_dir)


@pytest.mark.slow
def test_what_is_accepted_runs_and_what_is_not_is_refused_before_it_trains(tmp_path):
  wrong = []
  for _, seed in zip(range(ACCEPTED), accepted(), strict=False):
    status, said, log = outcome(seed, tmp_path)
    ran = status == 0 or status == 3 and said[-1].startswith("stopped by watchdog") or status == 143 and log
    refused = status == 2 and not log and len(said) == 1 and not (tmp_path / str(seed)).exists()
    if not (ran or refused):
      wrong.append((seed, status, said[-1:], len(log)))
  assert not wrong
