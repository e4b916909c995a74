"""Rows on disk: what was written comes back by index; nothing is half-written, and nothing damaged is read."""

import os
import resource
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from r1jax.data.prompts import question_stream
from r1jax.data.token_rows import TokenRows, open_token_rows, rows_key, write_token_rows
from r1jax.errors import InputError


def row(i: int) -> tuple[list[int], int]:
  """1 to 40 ids as large as any tokenizer's, of which 1 to 3 are context."""
  n = 1 + i * 7 % 40
  return [(i * 1_000 + k * 37) % 262_144 for k in range(n)], min(n, 1 + i % 3)


def written(folder, count=200, key="key") -> TokenRows:
  return write_token_rows(folder, key, map(row, range(count)))


def check_rows(rows: TokenRows, count: int) -> None:
  assert len(rows) == count
  for i in np.random.default_rng(0).permutation(count):
    ids, context = rows[i]
    assert ids.dtype == np.int32 and (ids.tolist(), context) == row(i) and type(context) is int


def test_rows_come_back_by_index(tmp_path):
  check_rows(written(tmp_path), 200)
  rows = open_token_rows(tmp_path, "key")
  check_rows(rows, 200)
  assert rows[-1][0].tolist() == row(199)[0] and [ids.tolist() for ids, _ in rows[3:5]] == [row(3)[0], row(4)[0]]
  assert [ids.tolist() for ids, _ in rows] == [row(i)[0] for i in range(200)]
  with pytest.raises(IndexError):
    rows[200]


def test_lengths_are_known_without_the_records(tmp_path, monkeypatch):
  rows = written(tmp_path)
  monkeypatch.setattr(TokenRows, "__getitem__", None)
  assert rows.lengths.dtype == np.int32 and rows.lengths.tolist() == [len(row(i)[0]) for i in range(200)]


def test_numpy_rows_empty_rows_and_no_rows(tmp_path):
  rows = write_token_rows(tmp_path, "a", [(np.arange(3), 1), ([], 0), ((7,), 1)])
  assert [(ids.tolist(), context) for ids, context in rows] == [([0, 1, 2], 1), ([], 0), ([7], 1)]
  assert len(write_token_rows(tmp_path, "b", [])) == 0 and open_token_rows(tmp_path, "b").lengths.shape == (0,)


def test_rows_in_shuffled_order(tmp_path):
  rows = written(tmp_path)
  order = question_stream(range(len(rows)), 0)
  assert sorted(rows[order[i]][0].tolist() for i in range(200)) == sorted(row(i)[0] for i in range(200))


def test_a_finished_set_is_not_written_again(tmp_path):
  written(tmp_path)

  def untouchable():
    raise AssertionError("the rows were asked for")
    yield

  check_rows(write_token_rows(tmp_path, "key", untouchable()), 200)
  assert len(written(tmp_path, 5, "other")) == 5  # another key is another set
  check_rows(open_token_rows(tmp_path, "key"), 200)


def run(code: str, *arguments) -> subprocess.CompletedProcess:
  command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
  return subprocess.run(command, capture_output=True, text=True, timeout=60)


KILLED = """
import os, signal, sys
from r1jax.data.token_rows import write_token_rows
def rows():
  for i in range(5_000):
    yield [i] * 500, 1
  os.kill(os.getpid(), signal.SIGKILL)
  yield [0], 1
write_token_rows(sys.argv[1], "key", rows())
"""


def test_a_killed_write_leaves_nothing_under_the_name(tmp_path):
  assert run(KILLED, tmp_path).returncode == -signal.SIGKILL
  assert sorted(os.listdir(tmp_path)) == ["key.incomplete", "key.lock"]
  with pytest.raises(InputError, match="key: no such token rows"):
    open_token_rows(tmp_path, "key")
  check_rows(written(tmp_path), 200)
  assert sorted(os.listdir(tmp_path)) == ["key", "key.lock"]


def test_a_bad_row_leaves_nothing_and_says_what_it_said(tmp_path):
  def rows():
    yield [1], 1
    raise OSError("of the rows, not of the disk")

  with pytest.raises(OSError, match="of the rows"):
    write_token_rows(tmp_path, "key", rows())
  assert os.listdir(tmp_path) == ["key.lock"]
  check_rows(written(tmp_path), 200)


def test_a_second_process_waits_and_reads_what_the_first_wrote(tmp_path):
  other = []

  def rows():
    yield [1, 2], 1
    other.append(subprocess.Popen(
      [sys.executable, "-c", "import sys; from r1jax.data.token_rows import write_token_rows; print('ready', flush=True); "
       "print(write_token_rows(sys.argv[1], 'key', [([9], 1)])[0][0].tolist())", str(tmp_path)],
      stdout=subprocess.PIPE, text=True))
    assert other[0].stdout.readline() == "ready\n"
    with pytest.raises(subprocess.TimeoutExpired):
      other[0].wait(0.5)
    yield [3], 1

  assert len(write_token_rows(tmp_path, "key", rows())) == 2
  assert other[0].communicate(timeout=30)[0] == "[1, 2]\n"


@pytest.mark.parametrize("name", ["rows.array_record", "lengths.npy"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "another"])
def test_a_damaged_file_is_named(tmp_path, name, damage):
  written(tmp_path)
  file = tmp_path / "key" / name
  if damage == "gone":
    file.unlink()
  elif damage == "another":
    written(tmp_path, 150, "other")
    os.replace(tmp_path / "other" / name, file)
  else:
    file.write_bytes(file.read_bytes()[:0 if damage == "empty" else -1])
  for read in (lambda: open_token_rows(tmp_path, "key"), lambda: written(tmp_path)):
    with pytest.raises(InputError, match=rf"key/{'rows.array_record' if damage == 'another' else name}: damaged .*"
                                         r"Delete the folder .*/key and start again"):
      read()


def test_a_table_of_another_shape_is_refused(tmp_path):
  written(tmp_path)
  np.save(tmp_path / "key" / "lengths.npy", np.zeros(200))
  with pytest.raises(InputError, match=r"lengths.npy: damaged \(float64 \[200\]"):
    open_token_rows(tmp_path, "key")


def test_a_damaged_row_is_named_when_it_is_read(tmp_path):
  table = np.random.default_rng(0).integers(0, 2**31, (5, 100), dtype=np.int32)  # not compressible: bytes stay as they are
  write_token_rows(tmp_path, "key", ((ids, 1) for ids in table))
  file = tmp_path / "key" / "rows.array_record"
  content = bytearray(file.read_bytes())
  content[content.index(table[2, 50].tobytes())] ^= 1
  file.write_bytes(content)
  rows = open_token_rows(tmp_path, "key")
  with pytest.raises(InputError, match="rows.array_record: damaged .row 2: .*mismatch.*Delete the folder"):
    rows[2]
  assert all((rows[i][0] == table[i]).all() for i in (0, 1, 3, 4))


def test_rows_of_another_set_with_as_many_are_refused(tmp_path):
  written(tmp_path)
  write_token_rows(tmp_path, "other", (([1, 2], 1) for _ in range(200)))
  os.replace(tmp_path / "other" / "rows.array_record", tmp_path / "key" / "rows.array_record")
  with pytest.raises(InputError, match="row 0 has 8 bytes, not those of 1 ids"):
    open_token_rows(tmp_path, "key")[0]


def test_a_folder_that_cannot_be_written(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(InputError, match="file/key: the rows cannot be written"):
    written(tmp_path / "file")


def test_a_full_disk(tmp_path):
  """A limit to the size of files stands in for it."""
  done = run("""
    import os, resource, signal, sys
    from r1jax.data.token_rows import write_token_rows
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    write_token_rows(sys.argv[1], "key", (([int.from_bytes(os.urandom(3), "big") for _ in range(1_000)], 1)
                                          for _ in range(1_000)))
    """, tmp_path)
  assert "InputError" in done.stderr and "key: the rows cannot be written (write() failed: File too large" in done.stderr
  assert os.listdir(tmp_path) == ["key.lock"]


def test_writing_and_reading_hold_no_rows_in_memory(tmp_path):
  def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB

  ids = np.random.default_rng(0).integers(0, 100_000, 200_000)
  write_token_rows(tmp_path, "warm", ((ids[i:i + 5_000], 1) for i in range(5)))[0]
  before = peak()
  rows = write_token_rows(tmp_path, "key", ((ids[i:i + 5_000], 1) for i in range(4_000)))  # 80 MB
  assert rows[3_000][0].tolist() == ids[3_000:8_000].tolist()
  assert peak() - before < 40


def test_reading_a_row_takes_no_time_for_the_others(tmp_path, monkeypatch):
  """array_record's read of a list of indices goes over all chunks of the file; read of a range does not."""
  rows = written(tmp_path)
  calls = []

  class Reader:
    def read(self, *arguments, reader=rows._reader):
      calls.append(arguments)
      return reader.read(*arguments)

  monkeypatch.setattr(rows, "_reader", Reader())
  assert rows[7][0].tolist() == row(7)[0] and calls == [(7, 8)]


def test_keys():
  key = rows_key("sft", [1, 2], {"a": 1, "b": None})
  assert key == rows_key("sft", (1, 2), {"b": None, "a": 1}) and len(key) == 16 and int(key, 16)
  assert len({rows_key(), rows_key("a"), rows_key("a", "b"), rows_key(["a", "b"]), rows_key("ab"), key}) == 6


def test_needs_neither_tensorflow_nor_jax(tmp_path):
  done = run("""
    import sys
    from r1jax.data.token_rows import write_token_rows
    write_token_rows(sys.argv[1], "key", [([1], 1)])[0]
    loaded = {"tensorflow", "jax", "grain", "tensorflow_datasets"} & set(sys.modules)
    assert not loaded, loaded
    """, tmp_path)
  assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
