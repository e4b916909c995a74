"""The smoke variant of every experiment file runs to its end, as the user starts it."""

import json
import os
import subprocess
import sys

import pytest
from all_experiments import ENTRIES, entry_of, label

from r1jax.experiment_file import load_experiment
from r1jax.stages.grpo import GRPO
from r1jax.stages.sft import SFT

# Slow ones, and the one that stands in for each: with the same stages at another size, in another family or but for a field.
ALIKE = {
  **dict.fromkeys((f"distill:{student}" for student in ("qwen7b", "qwen14b", "qwen32b", "llama8b", "llama70b")),
                  "distill:qwen1p5b"),
  **dict.fromkeys(("r1_qwen2p5_32b", "r1_zero_qwen2p5_math_1p5b", "r1_zero_qwen2p5_7b", "r1_zero_qwen2p5_32b"),
                  "r1_deepseek_v3"),
  **dict.fromkeys(("r1_smollm2", "r1_zero_smollm2", "r1_zero_tiny", "r1_zero_quick"), "r1_tiny"),  # quick: notebooks run it
  **dict.fromkeys(("ablate_language_reward", "ablate_model_reward_all_steps", "ablate_clip", "ablate_group_size",
                   "ablate_reference", "ablate_length_normalisation"), "r1_tiny")}
ODD_SLOTS = 33  # never halved, so that one decode program is compiled instead of several


def smoke_variant(name: str):
  return load_experiment(entry_of(name), smoke=True)


@pytest.mark.parametrize(("name", "like"), ALIKE.items())
def test_a_smoke_variant_that_is_slow_can_work_and_is_like_one_that_runs(name, like):
  experiment = smoke_variant(name)
  experiment.check()
  assert like not in ALIKE and {type(s) for s in experiment.stages} <= {type(s) for s in smoke_variant(like).stages}


@pytest.mark.parametrize("entry", [
  pytest.param(entry, id=label(entry), marks=[pytest.mark.slow] if label(entry) in ALIKE else []) for entry in ENTRIES])
def test_the_smoke_variant_runs(entry, tmp_path):
  experiment = load_experiment(entry, smoke=True)
  run_dir = tmp_path / "run"
  command = [sys.executable, "-m", "r1jax", "run", entry, "--smoke", "--run_dir", str(run_dir)]
  for stage in experiment.stages:
    if hasattr(stage, "decoding"):
      command += ["--set", f"stages.{stage.name}.decoding.slots={ODD_SLOTS}"]
  done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path,
                        env={**os.environ, "JAX_PLATFORMS": "cpu"})
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
