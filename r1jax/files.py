"""Files that are read and written whole."""
import json
import os
from pathlib import Path

from r1jax.errors import InputError


def write_atomically(path: Path, text: str) -> None:
  """Replaces a file whole: whoever reads it sees the old text or the new."""
  temporary = path.with_name(path.name + ".tmp")
  with temporary.open("w", encoding="utf-8") as f:
    f.write(text)
    f.flush()
    os.fsync(f.fileno())
  os.replace(temporary, path)


def read_jsonl(file: str | os.PathLike[str], remedy: str = "Name a file of JSON objects, one a line.") -> list[dict]:
  """The rows of a JSONL file. Raises InputError for a missing file and for a line that is no JSON object."""
  file = Path(file)
  if not file.is_file():
    raise InputError(str(file), "no such data set", remedy)
  rows = []
  for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), 1):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
    except ValueError as error:
      raise InputError(f"{file}, line {number}", f"not JSON ({error})", "Correct the line, or make the file anew.") from None
    if not isinstance(row, dict):
      raise InputError(f"{file}, line {number}", "not a JSON object", "Correct the line, or make the file anew.")
    rows.append(row)
  return rows
