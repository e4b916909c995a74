"""The smoke variant of every experiment file runs to its end, as the user starts it."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from r1jax.launch import load_experiment
from r1jax.stages.grpo import GRPO
from r1jax.stages.sft import SFT

FILES = sorted((pathlib.Path(__file__).parent.parent / "experiments").glob("*.py"))
# One device's worth of XLA optimisation buys nothing in a program that runs twice.
QUICK_COMPILES = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
# Each runs the stages of one that is left, at another size or with one field changed.
ALIKE = ("distill_qwen7b", "distill_qwen14b", "distill_qwen32b", "distill_llama70b", "r1_zero_qwen2p5_7b",
         "ablate_model_reward_all_steps")
ODD_SLOTS = 33  # never halved, so that one decode program is compiled instead of several


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  """Experiments that build on one another have programs in common."""
  return {"JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
          "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}


@pytest.mark.parametrize("file", [
  pytest.param(file, id=file.stem, marks=[pytest.mark.slow] if file.stem in ALIKE else []) for file in FILES])
def test_the_smoke_variant_runs(file, tmp_path, cache):
  experiment = load_experiment(str(file), smoke=True, settings=[])
  run_dir = tmp_path / "run"
  command = [sys.executable, "-m", "r1jax", "run", str(file), "--smoke", "--run_dir", str(run_dir)]
  for stage in experiment.stages:
    if hasattr(stage, "decoding"):
      command += ["--set", f"stages.{stage.name}.decoding.slots={ODD_SLOTS}"]
  done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path,
                        env={**os.environ, **cache, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK_COMPILES})
  assert done.returncode == 0, done.stderr
  drawn = any(isinstance(stage, GRPO) for stage in experiment.stages)
  assert str(run_dir / "summary.json") in done.stdout and (str(run_dir / "curves.png") in done.stdout) == drawn
  summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
  assert summary["status"] == "finished"
  assert list(summary["stages"]) == [stage.name for stage in experiment.stages]
  for stage in experiment.stages:
    result = summary["stages"][stage.name]
    if isinstance(stage, GRPO | SFT):
      assert result["steps"] == stage.steps
    if isinstance(stage, GRPO):
      for when in ("before", "after"):
        assert 0 <= result[when]["eval/pass_at_1"] <= 1
        assert result[when]["eval/samples"] == stage.held_out.questions * stage.held_out.samples
  lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
  assert all(line.get("policy/loss", 0.0) is not None for line in lines)  # NaN is written as null
  assert (run_dir / "curves.png").exists() == drawn
