"""Every hostile program fails, in time, and harms nothing: judged as root and as an ordinary user."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_programs import DEADLINE_SECONDS, PROGRAMS, SHADOWS, SOLUTIONS

HERE = Path(__file__).parent
NOBODY = 65534
pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


def interpreter_for(user: int) -> str | None:
  """An interpreter that a user can start on this checkout: this one, or the system's where it lies in root's folders."""
  for python in (sys.executable, "/usr/bin/python3"):
    command = [python, "-c", f"open({__file__!r}); import r1jax.verifiers.code"]
    try:
      if subprocess.run(command, user=user, capture_output=True, cwd="/", env=environment()).returncode == 0:
        return python
    except OSError:
      continue
  return None


def environment() -> dict:
  return {"PATH": os.environ["PATH"], "PYTHONPATH": str(HERE.parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}


def judged(python: str, user: int) -> dict:
  command = [python, str(HERE / "hostile_programs.py")]
  other = {"user": user, "group": user, "extra_groups": []} if user != os.geteuid() else {}
  done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd="/", env=environment(), **other)
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


@pytest.mark.parametrize("user", [0, NOBODY], ids=["as root", "as an ordinary user"])
def test_no_hostile_program_passes_hangs_or_leaves_anything(user):
  python = sys.executable
  if os.geteuid() != 0:
    if user == 0:
      pytest.skip("these tests do not run as root")
    user = os.geteuid()
  elif user:
    python = interpreter_for(user)
    if python is None:
      pytest.skip("an ordinary user can reach no interpreter, or not this checkout")
  found = judged(python, user)
  if user and "refused" in found:
    pytest.skip(f"no sandbox for ordinary users here: {found['refused']}")
  assert found["uid"] == user and found["harm"] == []
  assert len(found["verdicts"]) >= len(PROGRAMS) + len(SOLUTIONS) + len(SHADOWS) > 120
  assert [v["name"] for v in found["verdicts"] if v["passed"]] == []
  assert [v["name"] for v in found["verdicts"] if v["seconds"] > DEADLINE_SECONDS + 1] == []
