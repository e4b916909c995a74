"""The first thing that runs inside the sandbox: sets the limits, gives up root, and runs a program.

`r1jax.verifiers.sandbox` sends this file's code to a new interpreter and calls `main`. Standard library only, and little
of it, for an import here is paid by every program. Nothing in here is secret: the program can read all of it.
"""

import builtins
import os
import sys

STARTED = b"\x06"  # on standard error once the limits hold: what came before it is about the sandbox, not the program
EXIT_UNPARSABLE = 86  # the program is no Python; ours
NOT_PYTHON = (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError)  # what compile() raises for a text


def main(job: dict) -> None:
  """job: `limits` (resource -> value), `uid` to become (None to stay), `role` (a function `run_ROLE(job)`) and its needs."""
  _limit(job["limits"])
  if job["uid"] is not None:
    _become(job["uid"])
  os.write(2, STARTED)
  null = os.open(os.devnull, os.O_RDWR)
  os.dup2(null, 2)
  os.close(null)
  builtins.exit = builtins.quit = sys.exit  # which the module `site` makes, that is not there
  globals()["run_" + job["role"]](job)


def run_program(job: dict) -> None:
  """job: `source`. Runs it as `__main__`, as if it were a script."""
  try:
    code = compile(job["source"], "<program>", "exec", dont_inherit=True)
  except NOT_PYTHON:
    sys.exit(EXIT_UNPARSABLE)
  module = sys.modules["__main__"]
  module.__file__ = "/tmp/program.py"
  sys.argv = [module.__file__]
  exec(code, vars(module))


def _limit(limits: dict) -> None:
  import resource

  for name, value in limits.items():
    number = getattr(resource, name, None)  # not every system has all of them
    if number is not None:
      resource.setrlimit(number, (value, value))


def _become(uid: int) -> None:
  """From root to an ordinary user that no other process has, for good: all capabilities go with it."""
  os.setgroups([])
  os.setresgid(uid, uid, uid)
  os.setresuid(uid, uid, uid)
