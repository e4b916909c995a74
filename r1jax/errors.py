"""The exceptions of r1jax: for bad input, and for a run that ends before its time."""


class InputError(ValueError):
  """Bad input from the user: a config field, a file, a line.

  The message is one sentence that names where (file, line or field), the value found and the remedy. The
  command line prints it without a traceback and exits with status 2.
  """

  def __init__(self, where: str, found: object, remedy: str):
    self.where, self.found, self.remedy = where, found, remedy
    super().__init__(f"{where}: {found}. {remedy}")


class WatchdogStop(Exception):
  """A watchdog has ended a stage before its checkpoint was replaced. The command line prints it and exits with status 3."""

  def __init__(self, rule: str, step: int, message: str):
    self.rule, self.step, self.message = rule, step, message
    super().__init__(f"watchdog {rule!r} at step {step}: {message}")


class Terminated(BaseException):
  """SIGTERM came. What could be saved in time has been; the command line exits with status 143."""
