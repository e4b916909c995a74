"""run --seeds: which runs are started, and what is written of them. The runs themselves are replaced by their summaries."""
import dataclasses
import json
import subprocess
from pathlib import Path

import pytest

from r1jax import seeds
from r1jax.errors import InputError
from r1jax.evaluation.claims import Claim
from r1jax.experiment_file import load_experiment
from r1jax.launch import main

FILE = str(Path(__file__).parent.parent / "experiments" / "r1_zero_tiny.py")
CLAIM = Claim("RL learns", "r1_zero eval/pass_at_1", "r1_zero.before eval/pass_at_1", by=0.5)


@pytest.fixture
def started(monkeypatch):
  """Every command that is run; seed 3 fails, seed 2 learns less."""
  commands = []

  def run(command, **_):
    commands.append(command)
    seed = int(command[command.index("--set") + 1].removeprefix("seed="))
    folder = Path(command[command.index("--run_dir") + 1])
    folder.mkdir(exist_ok=True)
    after = {1: 0.9, 2: 0.4}.get(seed)
    stage = {"before": {"eval/pass_at_1": 0.1}, "after": {} if after is None else {"eval/pass_at_1": after}}
    (folder / "summary.json").write_text(json.dumps({"seconds": 30.0, "stages": {"r1_zero": stage}}), encoding="utf-8")
    return subprocess.CompletedProcess(command, int(seed == 3))

  monkeypatch.setattr(seeds.subprocess, "run", run)
  return commands


def experiment():
  return dataclasses.replace(load_experiment(FILE, True, []), claims=(CLAIM,))


def test_each_seed_has_a_run_and_a_column(tmp_path, started):
  assert not seeds.run_seeds(experiment(), [FILE, "--smoke"], (1, 2, 3), tmp_path, at_once=2)
  assert sorted(command[-1] for command in started) == [str(tmp_path / f"seed_{seed}") for seed in (1, 2, 3)]
  assert all(command[3:6] == ["run", FILE, "--smoke"] for command in started)
  text = (tmp_path / "seeds.md").read_text(encoding="utf-8")
  assert "| 0.900 / 0.100 yes | 0.400 / 0.100 **no** | – / 0.100 not measured | 1 of 3 |" in text
  assert "Seed 3 did not finish" in text and "| r1_zero eval/pass_at_1 | 0.650 | 0.400 | 0.900 | 2 of 3 |" in text
  found = json.loads((tmp_path / "seeds.json").read_text(encoding="utf-8"))
  assert found["finished"] == [1, 2] and found["claims"] == {"RL learns": {"1": True, "2": False, "3": None}}


def test_all_is_well_when_every_claim_holds_on_every_seed(tmp_path, started):
  assert seeds.run_seeds(experiment(), [FILE], (1,), tmp_path, at_once=1)


def test_a_seed_takes_over_the_stages_of_its_own_seed(tmp_path, started):
  (tmp_path / "old" / "seed_1").mkdir(parents=True)
  (tmp_path / "old" / "seed_1" / "summary.json").write_text("{}", encoding="utf-8")
  seeds.run_seeds(experiment(), [FILE], (1,), tmp_path / "new", 1, reuse=tmp_path / "old")
  assert started[0][-2:] == ["--reuse", str(tmp_path / "old" / "seed_1")]
  with pytest.raises(InputError, match="no run of seed 2"):
    seeds.run_seeds(experiment(), [FILE], (1, 2), tmp_path / "newer", 1, reuse=tmp_path / "old")
  assert not (tmp_path / "newer").exists()


@pytest.mark.parametrize(("arguments", "said"), [
  (["--seeds", "5-1"], "--seeds: '5-1'"), (["--seeds", "a"], "--seeds: 'a'"), (["--seeds", ""], "--seeds: ''"),
  (["--seeds", "1", "--set", "seed=2"], "leave --set seed and --stage out"),
  (["--seeds", "1", "--at_once", "0"], "--at_once: 0"),
])
def test_bad_arguments_are_one_line_and_start_nothing(capfd, tmp_path, started, arguments, said):
  assert main(["run", FILE, "--smoke", "--run_dir", str(tmp_path / "runs"), *arguments]) == 2
  error = capfd.readouterr().err
  assert said in error and error.count("\n") == 1 and not started and not (tmp_path / "runs").exists()


def test_a_folder_that_holds_one_run_is_not_mixed_with_others(tmp_path, started):
  (tmp_path / "config.json").write_text("{}", encoding="utf-8")
  with pytest.raises(InputError, match="holds a run of one seed"):
    seeds.run_seeds(experiment(), [FILE], (1,), tmp_path, 1)
