"""Token sequences on disk, in any number: written once as a stream, read by index.

    FOLDER/KEY/rows.array_record   each row's ids, int32, little-endian
    FOLDER/KEY/lengths.npy         int32 [N, 2]: tokens in each row, and how many of them are context

A set is written to KEY.incomplete and renamed at the end, so KEY is there whole or not at all. KEY.lock is held meanwhile:
another process that wants the same set waits, and then reads what the first one wrote.
"""

import contextlib
import fcntl
import hashlib
import json
import operator
import os
import shutil
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from r1jax.errors import InputError

ROWS, LENGTHS = "rows.array_record", "lengths.npy"
ID = np.dtype("<i4")
ONE_BY_ONE = "group_size:1"  # a record to a compressed chunk, so that reading one row decompresses nothing else
AT_RANDOM = "readahead_buffer_size:0,max_parallelism:0"  # what array_record's documentation gives for random access


class TokenRows(Sequence[tuple[np.ndarray, int]]):
  """N rows (ids, context); each access reads one record from the disk.

  ids: int32 [tokens], read-only. context: how many of the first ids are not trained on. Of the whole set only two numbers
  a row and the place of its record are in memory.
  """

  def __init__(self, path: Path):
    """Opens the set in the folder `path`. InputError for a file that is missing, damaged or cut off."""
    self._path = path
    try:
      table = np.load(path / LENGTHS)
    except (OSError, ValueError, EOFError) as error:
      raise _damaged(path / LENGTHS, str(error)) from None
    if table.dtype != np.int32 or table.ndim != 2 or table.shape[1] != 2:
      raise _damaged(path / LENGTHS, f"{table.dtype} {list(table.shape)}, not int32 [N, 2]")
    self._lengths, self._contexts = np.ascontiguousarray(table.T)
    self._reader = ArrayRecordReader(os.fspath(path / ROWS), AT_RANDOM)
    # The reader does not raise here: of a file that is missing or cut off it says "not ok", and counts no records.
    if not self._reader.ok() or self._reader.num_records() != len(table):
      raise _damaged(path / ROWS, f"{self._reader.num_records()} rows can be read, not {len(table)}")

  @property
  def lengths(self) -> np.ndarray:
    """int32 [N], tokens in each row, context included; from memory."""
    return self._lengths

  def __len__(self) -> int:
    return len(self._lengths)

  def __getitem__(self, index):
    if isinstance(index, slice):
      return [self[i] for i in range(len(self))[index]]
    i = range(len(self))[operator.index(index)]
    try:
      (record,) = self._reader.read(i, i + 1)  # not read([i]), which takes time in proportion to the size of the set
    except RuntimeError as error:  # a checksum is wrong
      raise _damaged(self._path / ROWS, f"row {i}: {error}") from None
    if len(record) != ID.itemsize * self._lengths[i]:
      raise _damaged(self._path / ROWS, f"row {i} has {len(record)} bytes, not those of {self._lengths[i]} ids")
    return np.frombuffer(record, ID).astype(np.int32, copy=False), int(self._contexts[i])


def write_token_rows(
  folder: str | os.PathLike[str], key: str, rows: Iterable[tuple[Sequence[int], int]]
) -> TokenRows:
  """Writes rows to the disk one after another, holding none in memory; or opens them if they have been written.

  Args:
    folder: where sets of rows are kept; made if it is not there.
    key: names everything that decides the rows (rows_key). A finished set of this key is opened, and `rows` is not
      touched.
    rows: (ids, context) of each row.

  Raises:
    InputError: a folder that cannot be written, a set that is damaged; and whatever `rows` raises, after which nothing
      is left of the set.
  """
  target = Path(folder) / key
  if not target.exists():
    with _locked(target):
      if not target.exists():
        _write(target, rows)
  return open_token_rows(folder, key)


def open_token_rows(folder: str | os.PathLike[str], key: str) -> TokenRows:
  """The rows that write_token_rows wrote under this key.

  Raises:
    InputError: there are none, or a file of theirs is damaged.
  """
  target = Path(folder) / key
  if not target.is_dir():
    raise InputError(str(target), "no such token rows", "Start the run again, which writes them")
  return TokenRows(target)


def rows_key(*parts: object) -> str:
  """16 hexadecimal digits that name what some content was made of: SHA-256 over the parts, all JSON values, as JSON."""
  return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8")).hexdigest()[:16]


def _write(target: Path, rows: Iterable[tuple[Sequence[int], int]]) -> None:
  incomplete = target.with_name(f"{target.name}.incomplete")
  try:
    with _to_disk(target):
      shutil.rmtree(incomplete, ignore_errors=True)  # a killed process's
      incomplete.mkdir()
    table = _write_records(incomplete / ROWS, target, rows)
    with _to_disk(target):
      np.save(incomplete / LENGTHS, table)
      for name in (ROWS, LENGTHS):
        with (incomplete / name).open("rb") as file:
          os.fsync(file.fileno())
      incomplete.rename(target)
  except BaseException:
    shutil.rmtree(incomplete, ignore_errors=True)
    raise


def _write_records(file: Path, target: Path, rows: Iterable[tuple[Sequence[int], int]]) -> np.ndarray:
  """Writes the ids of each row; int32 [N, 2], what lengths.npy holds."""
  table = array("i")
  writer = ArrayRecordWriter(os.fspath(file), ONE_BY_ONE)
  try:
    for ids, context in rows:
      record = np.asarray(ids, ID).tobytes()
      with _to_disk(target):
        writer.write(record)
      table.extend((len(ids), context))
  finally:
    with _to_disk(target):
      writer.close()
  return np.array(table, np.int32).reshape(-1, 2)


@contextlib.contextmanager
def _to_disk(target: Path) -> Iterator[None]:
  """InputError for what the disk refuses; array_record's writer raises RuntimeError then."""
  try:
    yield
  except (OSError, RuntimeError) as error:
    found = f"the rows cannot be written ({error})"
    raise InputError(str(target), found, "Give a folder that can be written, with room on its disk") from error


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
  """Holds the lock of a set; waits for another process that has it. A killed process leaves no lock."""
  with contextlib.ExitStack() as stack:
    with _to_disk(target):
      target.parent.mkdir(parents=True, exist_ok=True)
      file = stack.enter_context(target.with_name(f"{target.name}.lock").open("a"))
      fcntl.flock(file, fcntl.LOCK_EX)
    yield


def _damaged(file: Path, found: str) -> InputError:
  return InputError(str(file), f"damaged ({found})", f"Delete the folder {file.parent} and start again: it is built again")
