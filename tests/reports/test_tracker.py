"""--report_to: what a tracker is told, and one clear error where there is none."""

import importlib.util
import pathlib
import sys
from types import SimpleNamespace

import pytest

from r1jax import launch
from r1jax.errors import InputError
from r1jax.reports.alerts import RULES, Alert
from r1jax.reports.tracker import Tracker, check_tracker


class Told:
  """A tracker's module that remembers its calls."""

  def __init__(self, refuses: str = ""):
    self.calls, self.refuses = [], refuses

  def __getattr__(self, name):
    if name not in ("init", "log", "finish", "alert", "define_metric"):
      raise AttributeError(name)

    def call(*arguments, **named):
      if name == "init" and self.refuses:
        raise RuntimeError(self.refuses)
      self.calls.append((name, arguments, named))
    return call


@pytest.fixture
def told(monkeypatch):
  module = Told()
  monkeypatch.setitem(sys.modules, "wandb", module)
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(name=name))
  return module


def test_lines_and_alerts_reach_the_tracker_under_their_stage(told, tmp_path):
  with Tracker("wandb", tmp_path, "toy", {"seed": 1}) as tracker:
    tracker.begin("rl", 10, 0)
    tracker.metrics({"stage": "rl", "step": 3, "reward/mean": 0.5, "policy/loss": None, "alert": "x"})
    tracker.alert(Alert("verifier", "rl", 3, "9 of 10."), RULES[0])
  (init, _, named), define, log, alert, finish = told.calls
  assert init == "init" and named["project"] == "r1jax" and named["config"] == {"seed": 1} and named["resume"] == "allow"
  assert named["name"] == f"toy-{named['id']}" and named["dir"] == str(tmp_path)
  assert define == ("define_metric", ("rl/*",), {"step_metric": "rl/step"})
  assert log == ("log", ({"rl/step": 3, "rl/reward/mean": 0.5},), {})
  assert alert[0] == "alert" and "9 of 10." in alert[2]["text"] and finish[0] == "finish"


def test_a_run_that_goes_on_is_the_same_run_there(told, tmp_path):
  for _ in range(2):
    Tracker("wandb", tmp_path, "toy", {})
  Tracker("wandb", tmp_path.parent / tmp_path.name, "toy", {})
  (tmp_path / "other").mkdir()
  Tracker("wandb", tmp_path / "other", "toy", {})
  ids = [named["id"] for _, _, named in told.calls]
  assert ids[0] == ids[1] == ids[2] != ids[3]


def test_a_tracker_that_does_not_start_gives_one_error(told, tmp_path):
  told.refuses = "api_key not configured"
  with pytest.raises(InputError, match="--report_to wandb: it does not start: api_key not configured.*WANDB_MODE=offline"):
    Tracker("wandb", tmp_path, "toy", {})


def test_an_unknown_tracker_and_one_that_is_not_installed(monkeypatch):
  with pytest.raises(InputError, match="--report_to: 'mlflow'.*wandb, trackio"):
    check_tracker("mlflow")
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(InputError, match=r"--report_to: trackio is not installed.*pip install -e '.\[trackio\]'"):
    check_tracker("trackio")


@pytest.mark.parametrize("more", [[], ["--seeds", "1-2"]], ids=["one", "seeds"])
def test_the_verb_refuses_it_before_anything_is_made(tmp_path, capsys, more):
  experiment = str(pathlib.Path(__file__).parents[2] / "experiments" / "r1_zero_tiny.py")
  assert launch.main(["run", experiment, "--run_dir", str(tmp_path / "run"), "--report_to", "mlflow", *more]) == 2
  assert capsys.readouterr().err.startswith("error: --report_to: 'mlflow'") and not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_the_real_one_takes_it(name, tmp_path, monkeypatch):
  pytest.importorskip(name)
  monkeypatch.setenv("WANDB_MODE", "offline")
  monkeypatch.setenv("WANDB_SILENT", "true")
  monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
  for _ in range(2):  # started, and resumed
    with Tracker(name, tmp_path, "toy", {"seed": 1, "stages": [{"name": "rl"}]}) as tracker:
      tracker.begin("rl", 10, 0)
      tracker.metrics({"stage": "rl", "step": 3, "reward/mean": 0.5, "policy/loss": None})
      tracker.alert(Alert("verifier", "rl", 3, "9 of 10."), RULES[0])
