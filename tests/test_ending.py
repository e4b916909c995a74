"""Ctrl-C and SIGTERM within a run, and the handlers of those who called it."""
import signal

import pytest

from r1jax.ending import Ending
from r1jax.errors import Terminated


class Collected:
  """What Python runs of it, as of a library's callback, cannot raise."""

  def __del__(self):
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def interruptible():
  """A process that Ctrl-C reaches: what a shell starts in the background ignores it."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_a_callback_swallows_ends_the_run_at_its_next_step():
  ending = Ending()
  with ending.on_signals():
    ending.check()
    Collected()
    with pytest.raises(KeyboardInterrupt):
      ending.check()


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_at_once_and_sigterm_where_nothing_can_be_saved():
  ending = Ending()
  with ending.on_signals():
    with pytest.raises(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)
    with pytest.raises(Terminated):
      signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.default_int_handler], ids=["ignored", "default"])
def test_handlers_are_given_back_and_an_interrupt_that_was_ignored_stays_so(handler):
  before = signal.signal(signal.SIGINT, handler), signal.getsignal(signal.SIGTERM)
  try:
    with Ending().on_signals():
      if handler is signal.SIG_IGN:
        signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == (handler, before[1])
  finally:
    signal.signal(signal.SIGINT, before[0])
