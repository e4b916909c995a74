"""`r1jax ARGUMENTS` in a process of its own, forked from one that has imported everything and used nothing.

Imports would take longer than what is tested. Programs are compiled with the least optimisation, as by tiny.quick_compiles.
"""
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

IMPORTED = multiprocessing.get_context("forkserver")
IMPORTED.set_forkserver_preload([
  "r1jax.launch", "r1jax.experiment_file", "r1jax.stages.runner", "r1jax.stages.compare", "r1jax.stages.curate",
  "r1jax.stages.general", "r1jax.stages.preferences", "r1jax.stages.reward_model", "r1jax.stages.sft", "tensorboardX"])


class Command:
  """A command that has been started, by the names of subprocess.Popen."""

  def __init__(self, *arguments: str, log: Path, folder: Path, first: Callable[[], None] | None = None):
    """log: a file that what it prints is added to. first: called in the process before anything else."""
    self._process = IMPORTED.Process(target=_run, args=(arguments, log, folder, first), daemon=True)
    self._process.start()
    self.pid = self._process.pid

  def poll(self) -> int | None:
    """The exit status, negative where a signal has ended it; None while it runs."""
    return self._process.exitcode

  def wait(self, timeout: float | None = None) -> int | None:
    """Until it has ended, or for some seconds; as poll()."""
    self._process.join(timeout)
    return self.poll()

  def send_signal(self, number: int) -> None:
    os.kill(self.pid, number)


def _run(arguments, log, folder, first) -> None:
  import jax

  from r1jax.launch import main

  output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  os.dup2(output, 1)
  os.dup2(output, 2)
  os.chdir(folder)
  signal.signal(signal.SIGINT, signal.default_int_handler)  # as a shell's jobs in the foreground have it
  jax.config.update("jax_disable_most_optimizations", True)
  if first is not None:
    first()
  sys.exit(main(list(arguments)))
