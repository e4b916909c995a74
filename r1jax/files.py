"""Files that are written whole, how they are known to be what was written, and rows of files, read one after another.

Checksums are XXH3 of 128 bits: made for accidents, not for adversaries, and several times as fast as a disk. `read_rows` is
the one reader of rows for all of r1jax: it holds a line of JSONL, or a batch of Parquet, at a time.
"""
import datetime
import decimal
import gzip
import hashlib
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import xxhash

from r1jax.errors import InputError

CHECKSUMS = "checksums.json"  # of a folder: {file below it: checksum}
MAX_LINE = 1 << 28  # bytes of a line, so that what gzip blows up ends in a message; ours
PARQUET_BATCH = 256  # rows that are held at a time; ours
NAME_A_FILE = "Name a file of JSON objects, one per line, or a .parquet file."
_OTHER_FILES = {  # how a file begins that is no UTF-8
  b"\xff\xfe": "UTF-16, not UTF-8", b"\xfe\xff": "UTF-16, not UTF-8", b"\0\0\xfe\xff": "UTF-32, not UTF-8",
  b"PAR1": "Parquet, and its name does not end in .parquet"}
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # the escape of half a surrogate pair, whether or not the other half follows


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


def holds_rows(file: str | os.PathLike[str]) -> bool:
  """Whether a file's name says that it is for read_rows: .jsonl, .jsonl.gz or .parquet."""
  return os.fspath(file).lower().removesuffix(".gz").endswith((".jsonl", ".parquet"))


def read_rows(file: str | os.PathLike[str], remedy: str = NAME_A_FILE, decimals_as_text: bool = False,
              half_surrogates: bool = False) -> Iterator[tuple[int, dict]]:
  """(number, row) of each row, one after another; FILE:NUMBER is its place in messages.

  A file whose name ends in .parquet is read as Parquet: the number is the row's, from 1; times become text; NaN,
  infinity and bytes that are no UTF-8 become None. Any other is JSONL, read as `read_lines` reads it, one object a line:
  the number is the line's, and blank lines are left out.

  Args:
    remedy: what to do about a file that is not there.
    decimals_as_text: 0.10 stays "0.10", of Parquet's decimals too.
    half_surrogates: accept text with half of a surrogate pair in it, which cannot be written as UTF-8.

  Raises:
    InputError: at once for a file that is not there; when it is reached, naming file and line, for a line that is no JSON
      object, is nested too deeply, has NaN or a number that is too large, or half of a surrogate pair; as `read_lines`.
  """
  file = _existing(file, remedy)
  if file.suffix.lower() == ".parquet":
    return _parquet_rows(file, decimals_as_text)
  return _json_rows(file, decimals_as_text, half_surrogates)


def read_lines(file: str | os.PathLike[str], remedy: str = NAME_A_FILE) -> Iterator[tuple[int, str]]:
  r"""(number from 1, text with its end) of each line of a text file in UTF-8, with a byte order mark or without, packed by
  gzip or not, whatever its name. "\n" alone ends a line: text in JSON may have U+2028 and others in it.

  InputError at once for a file that is not there; when it is reached, naming line and byte, for what is not UTF-8, for a
  line of more than MAX_LINE bytes, and for a packed file that is damaged.
  """
  return _lines(_existing(file, remedy))


def parse_json(text: str, where: str, decimals_as_text: bool = False):
  """The value of a JSON text; InputError naming `where` for what is none, NaN, or a number too large for a float."""
  return _decoded(_decoder(decimals_as_text), text, where)


def _existing(file: str | os.PathLike[str], remedy: str) -> Path:
  path = Path(file).expanduser()
  try:
    if path.is_dir():
      raise InputError(str(file), "a folder", remedy)
    if not path.exists():
      raise InputError(str(file), "no such file", remedy)
  except OSError as error:
    raise InputError(str(file), f"cannot be read ({error.strerror})", remedy) from None
  return path


def _lines(file: Path) -> Iterator[tuple[int, str]]:
  number = 0
  try:
    with file.open("rb") as content:
      lines = gzip.GzipFile(fileobj=content) if content.peek(2)[:2] == b"\x1f\x8b" else content
      while line := lines.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
          raise InputError(f"{file}:{number}", f"a line of more than {MAX_LINE:,} bytes", "Give one JSON object a line.")
        yield number, _text(line if number > 1 else _start(line, file), f"{file}:{number}")
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise InputError(f"{file}:{number + 1}", f"what gzip has packed is damaged ({error})", "Copy the file again.") from None
  except OSError as error:
    raise InputError(str(file), f"cannot be read ({error.strerror or error})", "Give a readable file.") from None


def _start(line: bytes, file: Path) -> bytes:
  """The first line without a byte order mark; InputError for a file that is no UTF-8 from its first byte on."""
  found = next((what for start, what in _OTHER_FILES.items() if line.startswith(start)), None)
  if found is None and b"\0" in line[:4]:
    found = "UTF-16 or binary, not UTF-8"
  if found is not None:
    raise InputError(f"{file}:1", f"byte 1 (0x{line[0]:02x}): this is {found}",
                     "Rename the file." if "Parquet" in found else "Save the file as UTF-8.")
  return line.removeprefix(b"\xef\xbb\xbf")


def _text(line: bytes, where: str) -> str:
  try:
    return line.decode("utf-8")
  except UnicodeDecodeError as error:
    byte = line[error.start]
    raise InputError(where, f"byte 0x{byte:02x} is not UTF-8 (byte {error.start + 1} of the line; in latin-1 it is "
                     f"{chr(byte)!r})", "Save the file as UTF-8.") from None


def _json_rows(file: Path, decimals_as_text: bool, half_surrogates: bool) -> Iterator[tuple[int, dict]]:
  decoder = _decoder(decimals_as_text)
  for number, line in _lines(file):
    if not line.strip():
      continue
    where = f"{file}:{number}"
    row = _decoded(decoder, line, where)
    if not isinstance(row, dict):
      raise InputError(where, f"not a JSON object: {_excerpt(line)}", "Give one JSON object a line.")
    if not half_surrogates and _HALF.search(line):
      _check_surrogates(row, where)
    yield number, row


def _decoder(decimals_as_text: bool) -> json.JSONDecoder:
  return json.JSONDecoder(parse_float=str if decimals_as_text else _number, parse_constant=_no_constant)


def _number(text: str) -> float:
  value = float(text)
  if math.isinf(value):
    raise ValueError(f"{text:.40} is too large a number")
  return value


def _no_constant(name: str):
  raise ValueError(f"{name} is not a JSON value")


def _decoded(decoder: json.JSONDecoder, text: str, where: str):
  try:
    return decoder.decode(text)
  except json.JSONDecodeError as error:
    found = f"{error.msg} at character {error.pos + 1}"
  except (ValueError, RecursionError) as error:
    found = "nested too deeply" if isinstance(error, RecursionError) else str(error)
  raise InputError(where, f"not JSON ({found}): {_excerpt(text)}", "Correct or remove it.")


def _check_surrogates(row: dict, where: str) -> None:
  for name, value in row.items():
    try:
      json.dumps([name, value], ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
      shown = name.encode("utf-8", "backslashreplace").decode()
      raise InputError(f"{where}, field {shown!r}", "half of a surrogate pair", "Correct the \\u escape.") from None


def _excerpt(text: str, width: int = 80) -> str:
  text = text.strip()
  return repr(text) if len(text) <= width else repr(text[:width]) + "..."


def _parquet_rows(file: Path, decimals_as_text: bool) -> Iterator[tuple[int, dict]]:
  import pyarrow  # here, because most files are JSONL, and the verifiers' workers need neither
  import pyarrow.parquet

  number = 0
  try:
    with pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20) as content:
      for batch in content.iter_batches(PARQUET_BATCH):
        for row in batch.to_pylist():
          number += 1
          yield number, _plain(row, str if decimals_as_text else float)
  except (pyarrow.ArrowException, OSError, ValueError) as error:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise InputError(f"{file}:{number + 1}", f"cannot be read as Parquet ({text:.200})",
                     "Copy or write the file again.") from None


def _plain(value, decimal_as: Callable):
  """A value of Parquet as JSON could have it."""
  match value:
    case dict():
      return {str(name): _plain(each, decimal_as) for name, each in value.items()}
    case list() | tuple():
      return [_plain(each, decimal_as) for each in value]
    case float() | decimal.Decimal():
      return decimal_as(value) if math.isfinite(value) else None
    case bytes():
      try:
        return value.decode("utf-8")
      except UnicodeDecodeError:
        return None
    case datetime.date() | datetime.time() | datetime.timedelta():
      return str(value)
  return value
