"""What tests of plans share: the slices of declared experiments, and a process in which libtpu can be loaded."""
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from r1jax.plan.topology import ENVIRONMENT

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
# As their files say; experiments that are not here run on any device.
DECLARED = {
  "r1_zero_qwen2p5_math_1p5b": "v6e:2x4", "r1_zero_qwen2p5_7b": "v5p:4x4x4", "r1_zero_qwen2p5_32b": "v5p:8x8x8",
  "r1_qwen2p5_32b": "v5p:8x8x8", "r1_deepseek_v3": "v5p:8x8x8", "distill:qwen1p5b": "v5p:4x4x4",
  "distill:qwen7b": "v5p:4x4x4", "distill:qwen14b": "v5p:4x4x8", "distill:qwen32b": "v5p:8x8x8",
  "distill:llama8b": "v5p:4x4x4", "distill:llama70b": "v5p:8x8x8",
}


def with_libtpu(*arguments: str) -> str:
  """What `python ARGUMENTS` prints, in a process that libtpu can be loaded in; AssertionError where it fails."""
  paths = os.pathsep.join(str(folder) for folder in (Path(__file__).parents[2], Path(__file__).parents[1]))
  done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300,
                        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": paths})
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout
