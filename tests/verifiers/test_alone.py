"""The verifiers are a room of their own: they work where jax is not installed, and their README tells the truth."""
import doctest
import pathlib
import shutil
import subprocess
import sys

import pytest

import r1jax.verifiers

ROOT = pathlib.Path(__file__).parents[2]
# Refused as if not installed, in the worker processes too: Python imports sitecustomize by itself.
REFUSAL = """
import sys
class Refuse:
  def find_spec(self, name, path=None, target=None):
    if name.partition(".")[0] in ("jax", "jaxlib", "flax", "optax", "orbax", "grain", "transformers", "tokenizers", "torch"):
      raise ImportError(name)
sys.meta_path.insert(0, Refuse())
"""
USES = """
from r1jax.verifiers import VerifierPool, verify
assert verify("maths", "<answer>1/2</answer>", "0.5") == (True, "scored")
with VerifierPool() as pool:
  assert pool.submit("(B)", "B", "choice").result() == (True, "scored")
"""


@pytest.mark.parametrize("arguments", [
  ["-c", USES],
  ["-m", "r1jax", "score", "--kind", "maths", "--answers", "rows.jsonl", "--workers", "1"],
])
def test_they_work_where_jax_is_not_installed(tmp_path, arguments):
  (tmp_path / "sitecustomize.py").write_text(REFUSAL)
  (tmp_path / "rows.jsonl").write_text('{"answer": "1/2", "response": "so \\\\boxed{0.5}"}\n')
  environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin"}
  refused = subprocess.run([sys.executable, "-c", "import jax"], env=environment, capture_output=True, text=True)
  assert "ImportError: jax" in refused.stderr
  command = [sys.executable, *arguments]
  done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
  assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_the_examples_of_their_readme():
  file = pathlib.Path(r1jax.verifiers.__file__).with_name("README.md")
  failed, tried = doctest.testfile(str(file), module_relative=False)
  assert failed == 0 and tried > 5
