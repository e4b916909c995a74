"""Files that are read and written whole."""
import hashlib
import json
import os
from collections.abc import Iterator
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


def read_jsonl(file: str | os.PathLike[str], remedy: str = "Name a file of JSON objects, one per line.") -> Iterator[dict]:
  """The rows of a JSONL file, one after another. Raises InputError for a missing file, at once, and for a line that is no
  JSON object."""
  file = Path(file)
  if not file.is_file():
    raise InputError(str(file), "no such data set", remedy)
  return _rows(file)


def _rows(file: Path) -> Iterator[dict]:
  with file.open(encoding="utf-8", newline="\n") as lines:
    for number, line in enumerate(lines, 1):
      if not line.strip():
        continue
      try:
        row = json.loads(line)
      except ValueError as error:
        remedy = "Correct the line, or make the file anew."
        raise InputError(f"{file}, line {number}", f"not JSON ({error})", remedy) from None
      if not isinstance(row, dict):
        raise InputError(f"{file}, line {number}", "not a JSON object", "Correct the line, or make the file anew.")
      yield row


def sha256_of(file: str | os.PathLike[str]) -> str:
  """SHA-256 of a file's bytes, in hexadecimal digits."""
  with Path(file).open("rb") as f:
    return hashlib.file_digest(f, "sha256").hexdigest()
