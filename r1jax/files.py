"""Files that are read and written whole, and how they are known to be what was written.

Checksums are XXH3 of 128 bits: made for accidents, not for adversaries, and several times as fast as a disk.
"""
import hashlib
import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path

import xxhash

from r1jax.errors import InputError

CHECKSUMS = "checksums.json"  # of a folder: {file below it: checksum}


def write_atomically(path: Path, content: str | bytes) -> None:
  """Replaces a file whole: whoever reads it sees the old content or the new."""
  temporary = path.with_name(path.name + ".tmp")
  try:
    with temporary.open("wb") as f:
      f.write(content.encode("utf-8") if isinstance(content, str) else content)
      f.flush()
      os.fsync(f.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)  # where the disk is full


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
        remedy = "Correct the line, or write the file again."
        raise InputError(f"{file}, line {number}", f"not JSON ({error})", remedy) from None
      if not isinstance(row, dict):
        raise InputError(f"{file}, line {number}", "not a JSON object", "Correct the line, or write the file again.")
      yield row


def sha256_of(file: str | os.PathLike[str]) -> str:
  """SHA-256 of a file's bytes, in hexadecimal digits."""
  with Path(file).open("rb") as f:
    return hashlib.file_digest(f, "sha256").hexdigest()


def checksum(file: str | os.PathLike[str]) -> str:
  """The checksum of a file's bytes, in hexadecimal digits."""
  with Path(file).open("rb") as f:
    return hashlib.file_digest(f, xxhash.xxh3_128).hexdigest()


def seal(folder: Path, but: Collection[str] = ()) -> None:
  """Writes the checksums of all files below a folder into it, but those named `but`."""
  files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in (CHECKSUMS, *but))
  write_atomically(folder / CHECKSUMS, json.dumps({file.relative_to(folder).as_posix(): checksum(file) for file in files}))


def damage(folder: Path) -> str | None:
  """What is wrong with a folder that was sealed; None where every byte is the one that was written."""
  try:
    expected = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    wrong = [name for name, known in expected.items() if checksum(folder / name) != known]
  except FileNotFoundError as error:
    return f"{Path(error.filename).name} is missing"
  except (OSError, ValueError, AttributeError) as error:
    return f"it cannot be read ({error})"
  return f"{wrong[0]} is not what was written" if wrong else None
