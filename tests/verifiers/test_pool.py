"""Worker processes: hanging and dying verifiers, replacement, recycling, and nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError

import pytest

from r1jax.errors import InputError
from r1jax.verifiers.pool import VerifierPool
from r1jax.verifiers.verdict import CRASHED, SCORED, TIMED_OUT, UNPARSABLE

HALF = ("0.5", r"\frac{1}{2}")


def hang(pool):
  """An answer that is never judged: no answer makes the verifier of maths hang, so its process is stopped."""
  for pid in pool.pids():
    os.kill(pid, signal.SIGSTOP)
  return pool.submit(*HALF)


def alive(pid):
  try:
    with open(f"/proc/{pid}/stat") as file:
      return file.read().rsplit(")", 1)[1].split()[0] != "Z"
  except FileNotFoundError:
    return False


def wait_until(condition, seconds):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, "it did not happen in time"
    time.sleep(0.02)


def test_verdicts_replacement_and_recycling():
  """One pool through its life, since a start takes a second or more."""
  with VerifierPool(workers=1, timeout_seconds=3.0, max_tasks=4) as pool:
    assert pool.pids() == [] and pool.counts()["started"] == 0  # nothing runs before the first answer

    futures = [pool.submit(*HALF), pool.submit("1/3", r"\frac{1}{2}"), pool.submit("?", r"\frac{1}{2}")]
    assert [future.result() for future in futures] == [(True, SCORED), (False, SCORED), (False, UNPARSABLE)]
    modules = pool._submit({"op": "modules"}).result()["modules"]
    assert "mpmath" in modules and "math_verify" not in modules and "sympy" not in modules
    assert not [name for name in modules if name.split(".")[0] in ("jax", "jaxlib", "numpy", "pytest")]

    first = pool.pids()
    assert pool.submit(*HALF).result() == (True, SCORED)  # the fifth task: a new worker
    second = pool.pids()
    assert len(first) == len(second) == 1 and first != second and not alive(first[0])
    assert pool.counts() == {"checked": 4, TIMED_OUT: 0, CRASHED: 0, "started": 2}

    os.kill(second[0], signal.SIGKILL)  # between two answers: costs none
    wait_until(lambda: not alive(second[0]), 5)
    assert pool.submit(*HALF).result() == (True, SCORED)
    assert pool.counts() == {"checked": 5, TIMED_OUT: 0, CRASHED: 0, "started": 3}

    third = pool.pids()
    running = hang(pool)
    wait_until(running.running, 5)
    time.sleep(0.3)
    os.kill(third[0], signal.SIGKILL)  # in the middle of one: costs that one
    assert running.result(timeout=2) == (False, CRASHED)
    assert pool.submit(*HALF).result() == (True, SCORED)
    assert pool.counts() == {"checked": 7, TIMED_OUT: 0, CRASHED: 1, "started": 4}
    last = pool.pids()
  assert not any(map(alive, last))


def test_deadline_costs_one_answer():
  with VerifierPool(workers=1, timeout_seconds=1.5) as pool:
    assert pool.submit(*HALF).result() == (True, SCORED)
    began = time.monotonic()
    hanging, after = hang(pool), pool.submit(*HALF)
    assert hanging.result() == (False, TIMED_OUT)
    assert 1.4 < time.monotonic() - began < 6.0
    assert after.result() == (True, SCORED)
    assert pool.counts() == {"checked": 3, TIMED_OUT: 1, CRASHED: 0, "started": 2}


def test_close_ends_a_hanging_task_and_cancels_the_waiting():
  pool = VerifierPool(workers=1, timeout_seconds=60.0)
  assert pool.submit(*HALF).result() == (True, SCORED)
  running, waiting = hang(pool), pool.submit(*HALF)
  wait_until(running.running, 5)
  pids = pool.pids()
  began = time.monotonic()
  pool.close()
  assert time.monotonic() - began < 2.0
  assert len(pids) == 1 and not alive(pids[0]) and pool.pids() == []
  with pytest.raises(CancelledError):
    running.result(timeout=0)
  assert waiting.cancelled()
  pool.close()  # a second time does nothing
  with pytest.raises(RuntimeError, match="closed"):
    pool.submit(*HALF)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_die_with_a_killed_parent_and_never_run_its_main(tmp_path):
  script = tmp_path / "parent.py"
  script.write_text(
    "import time\n"
    "from r1jax.verifiers.pool import VerifierPool\n"
    "print('main', flush=True)\n"
    "pool = VerifierPool(timeout_seconds=600)\n"
    f"pool.submit(*{HALF!r}).result()\n"
    "import os, signal\n"
    "os.kill(pool.pids()[0], signal.SIGSTOP)\n"
    f"pool.submit(*{HALF!r})\n"
    "print(*pool.pids(), flush=True)\n"
    "time.sleep(600)\n"
  )
  (tmp_path / "json.py").write_text("raise RuntimeError('a file of the current directory was imported')")
  parent = subprocess.Popen(
    [sys.executable, "-P", str(script)], cwd=tmp_path, stdout=subprocess.PIPE, text=True
  )
  try:
    assert parent.stdout.readline() == "main\n"
    worker = int(parent.stdout.readline())
    time.sleep(0.3)
    assert alive(worker)
  finally:
    parent.kill()
    rest = parent.communicate()[0]
  wait_until(lambda: not alive(worker), 3)
  assert rest == ""


def test_a_verifier_that_cannot_start_is_an_error(monkeypatch):
  monkeypatch.setattr(sys, "executable", "/bin/false")
  with VerifierPool() as pool, pytest.raises(InputError, match="mpmath is installed"):
    pool.submit(*HALF).result(timeout=30)


@pytest.mark.parametrize("field", ["workers", "timeout_seconds", "max_tasks"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_impossible_numbers(field, value):
  with pytest.raises(InputError, match=f"VerifierPool.{field}"):
    VerifierPool(**{field: value})


def test_a_limit_of_threads_is_named_and_nothing_is_left(monkeypatch):
  def refused(thread):
    raise RuntimeError("can't start new thread")
  monkeypatch.setattr("r1jax.verifiers.pool.threading.Thread.start", refused)
  pool = VerifierPool(workers=2)
  with pytest.raises(InputError, match="verifier workers: 2, and no more than 0 start"):
    pool.submit(*HALF)
  pool.close()
