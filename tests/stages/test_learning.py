"""RL that must learn: the reward rises past a threshold, and a world in which thinking does not pay loses its thoughts.

Both are slow; the quick one is the first notebook, in test_notebooks.py, whose run has to learn format and accuracy."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parent / "small_learning.py"


def evaluations(tmp_path, *arguments) -> tuple[dict, dict]:
  """The held-out metrics before and after the RL stage of a run."""
  command = [sys.executable, "-m", "r1jax", "run", str(FILE), "--run_dir", str(tmp_path / "run"), *arguments]
  done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=tmp_path,
                        env={**os.environ, "JAX_PLATFORMS": "cpu"})
  assert done.returncode == 0, done.stderr
  stage = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))["stages"]["r1_zero"]
  return stage["before"], stage["after"]


@pytest.mark.slow  # in every run, test_notebooks.py sees format and accuracy rise
def test_the_format_is_learnt(tmp_path):
  before, after = evaluations(tmp_path)
  assert before["eval/format"] < 0.7
  assert after["eval/format"] > 0.95


@pytest.mark.slow
def test_answers_shrink_to_guesses_where_working_does_not_pay(tmp_path):
  """The collapse that a base of wrong or untagged workings ends in: well-formatted, short, and rarely right."""
  before, after = evaluations(tmp_path, "--smoke")
  assert after["eval/format"] > 0.95
  assert after["eval/length"] < 0.9 * before["eval/length"]
  assert after["eval/length"] < 8.5  # a tagged guess has 8 tokens
