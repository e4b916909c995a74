"""The one exception that r1jax raises for bad input."""


class InputError(ValueError):
  """Bad input from the user: a config field, a file, a line.

  The message is one sentence that names where (file, line or field), the value found and the remedy. The
  command line prints it without a traceback and exits with status 2.
  """

  def __init__(self, where: str, found: object, remedy: str):
    self.where, self.found, self.remedy = where, found, remedy
    super().__init__(f"{where}: {found}. {remedy}")
