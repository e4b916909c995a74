"""SIGTERM and Ctrl-C. At SIGTERM a stage that can save does so at its next step, and after SECONDS the process is gone
whatever it is doing. Ctrl-C ends it at once, or at the next step where a library's callback has swallowed the exception."""
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from r1jax.errors import Terminated
from r1jax.run_dir import say

SECONDS = 20.0  # schedulers that send SIGTERM give 30 before SIGKILL; ours
STATUS = 143  # as a shell has it for SIGTERM


class Ending:
  """Whether the run has been asked to end. saves: the stage under way looks at `asked` after each step, and ends there."""

  def __init__(self):
    self.asked, self.saves, self._interrupted = False, False, False

  @contextmanager
  def on_signals(self) -> Iterator[None]:
    """Listens while it is entered; elsewhere than in the main thread it does nothing. A Ctrl-C that somebody else handles,
    or that is ignored, stays theirs."""
    if threading.current_thread() is not threading.main_thread():
      yield
      return
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, frame: self._ask())}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
      before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda number, frame: self._interrupt())
    try:
      yield
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)

  def _interrupt(self) -> None:
    self._interrupted = True
    raise KeyboardInterrupt

  def _ask(self) -> None:
    if self.asked or not self.saves:
      raise Terminated
    self.asked = True
    say(f"SIGTERM: saves at the end of this step, if that is within {SECONDS:.0f} s")
    timer = threading.Timer(SECONDS, self._leave)
    timer.daemon = True
    timer.start()

  def _leave(self) -> None:
    say("SIGTERM: the step took too long; the same command goes on from the last checkpoint")
    sys.stdout.flush()
    os._exit(STATUS)  # the kernel releases the lock, and whatever is half written has not got its name yet

  def check(self) -> None:
    """KeyboardInterrupt or Terminated where the run has been asked to end."""
    if self._interrupted:
      raise KeyboardInterrupt
    if self.asked:
      raise Terminated
