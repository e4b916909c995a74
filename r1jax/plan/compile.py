"""Programs compiled one at a time, each in a process of its own with limits on time and memory.

The compiler of a large program takes minutes, gigabytes, and now and then its process down with it.
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from r1jax.errors import InputError
from r1jax.plan.topology import ENVIRONMENT, GIB, libtpu_version, slice_of

MOST_SECONDS, MOST_GIB = 1_800.0, 20.0  # of one program; the largest so far took 14 GiB
FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "r1jax" / "plan"
FITS, TOO_LARGE, UNKNOWN = "fits", "does not fit", "unknown"


@dataclass(frozen=True)
class Job:
  """One program of an experiment on a slice. program None: all of them, by name. settings: fields that change, "a.b=c"."""

  experiment: str
  topology: str
  smoke: bool = False
  settings: tuple[str, ...] = ()
  stage: str | None = None
  program: str | None = None
  length: int | None = None


@dataclass(frozen=True)
class Limits:
  """Of one process. folder: where results are kept."""

  seconds: float = MOST_SECONDS
  gib: float = MOST_GIB
  folder: Path = FOLDER


def program_names(job: Job, limits: Limits = Limits()) -> list[Job]:
  """A job for each program of the stages that a job asks for, in the order in which they first run.

  Raises:
    InputError: libtpu is missing, or the experiment cannot work, or its mesh does not form on the slice.
  """
  libtpu_version()
  slice_of(job.topology)
  said, why = _process(replace(job, program=None), limits)
  if said is None:
    raise InputError(job.experiment, why, "Programs are listed from shapes alone: see whether `r1jax explain` can.")
  return [replace(job, stage=stage, program=name, length=length) for stage, name, length in said]


def compile_program(job: Job, limits: Limits = Limits()) -> dict:
  """What the compiler says of a program, with `outcome`: FITS, TOO_LARGE or UNKNOWN, and `why`.

  UNKNOWN is neither a pass nor a failure: the time or the memory ran out, or the compiler crashed.
  """
  began = time.perf_counter()
  said, why = _process(job, limits)
  seconds = time.perf_counter() - began
  if said is None:
    return {"stage": job.stage, "program": job.program, "length": job.length, "outcome": UNKNOWN, "why": why,
            "seconds": seconds}
  outcome, why = judge(said, slice_of(job.topology).limit)
  return said | {"outcome": outcome, "why": why, "seconds": seconds}


def total_bytes(said: dict) -> float | None:
  """Bytes of main memory that a program takes on a device with all that is held beside it; None where nobody knows."""
  held = sum(said["resident"].values())
  if "memory" in said:
    memory = said["memory"]
    return memory["argument"] + memory["temp"] + memory["output"] - memory["alias"] + held
  return None if said["needs"] is None else said["needs"] + held


def judge(said: dict, limit: float) -> tuple[str, str]:
  """(outcome, why) of what a worker has found."""
  total = total_bytes(said)
  if total is None:
    return TOO_LARGE, f"too large by itself: {said['too_large'].splitlines()[0][:200]}"
  needs = f"needs {total / GIB:.2f} of {limit / GIB:.2f} GiB"
  return (FITS, needs) if total <= limit and "memory" in said else (TOO_LARGE, needs)


def _process(job: Job, limits: Limits) -> tuple[object, str]:
  """(what a worker printed, "") or (None, why there is nothing). InputError where the worker says so."""
  with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
    # -u: what the compiler's abort would not flush. A group of its own: the compiler may have children.
    command = [sys.executable, "-u", "-m", "r1jax.plan.worker", json.dumps(asdict(job)), str(limits.folder)]
    worker = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **ENVIRONMENT}, start_new_session=True)
    try:
      why = _wait(worker, limits)
    finally:
      if worker.poll() is None:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    for file in (out, err):
      file.seek(0)
    lines, errors = out.read().splitlines(), err.read()
  if why:
    return None, why
  if worker.returncode == 0:
    return json.loads(lines[-1]), ""
  refused = next((line for line in lines if line.startswith("InputError ")), None)
  if refused:
    raise InputError(*json.loads(refused.removeprefix("InputError ")))
  last = next((line for line in reversed(errors.splitlines()) if line.strip()), "nothing was said")
  return None, f"the compiler ended with status {worker.returncode}: {last[:300]}"


def _wait(worker: subprocess.Popen, limits: Limits) -> str:
  """Waits for a worker; why it was not waited for, "" where it ended by itself."""
  ends = time.monotonic() + limits.seconds
  while worker.poll() is None:
    if time.monotonic() > ends:
      return f"not compiled after {limits.seconds:.0f} s"
    if _resident_gib(worker.pid) > limits.gib:
      return f"compiling it takes more than {limits.gib:g} GiB of this machine's memory"
    time.sleep(0.2)
  return ""


def _resident_gib(pid: int) -> float:
  """Memory that a process holds; 0 where there is no /proc."""
  try:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / GIB
  except (OSError, IndexError):
    return 0.0
