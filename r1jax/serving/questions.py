"""Questions out of a file for `r1jax sample`: a line each, or JSON rows."""
from pathlib import Path

from r1jax.errors import InputError
from r1jax.files import read_jsonl


def read_questions(file: str, field: str = "question") -> list[dict]:
  """The rows of a file, whose `field` is a question: those of a .jsonl file; of any other, {field: line} for each line that
  is not blank. InputError for a missing file, no questions, or a row without the field."""
  path = Path(file).expanduser()
  if path.suffix == ".jsonl":
    rows = list(read_jsonl(path))
  else:
    rows = [{field: line.strip()} for line in _lines(path) if line.strip()]
  if not rows:
    raise InputError(file, "no questions in it", "Give one a line, or a .jsonl file of rows.")
  for number, row in enumerate(rows, 1):
    if not isinstance(row.get(field), str) or not row[field].strip():
      known = ", ".join(key for key, value in row.items() if isinstance(value, str)) or "none"
      raise InputError(f"{file}, row {number}: {field}", repr(row.get(field)),
                       f"Name the field that holds the question with --field; fields with text: {known}.")
  return rows


def _lines(path: Path) -> list[str]:
  try:
    return path.read_text(encoding="utf-8").splitlines()
  except FileNotFoundError:
    raise InputError(str(path), "no such file", "Name a .jsonl file, or a text file with a question a line.") from None
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(str(path), f"not readable as text ({error})", "Give UTF-8 text.") from None
