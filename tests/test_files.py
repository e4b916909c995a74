"""The one reader of rows: what it accepts, what it refuses by file and line, and how little of a file it holds."""
import datetime
import decimal
import gzip
import json
import math
import os
import subprocess
import sys
import textwrap

import pyarrow
import pytest
from pyarrow import parquet

from r1jax.curation.datasets import Rows
from r1jax.errors import InputError
from r1jax.evaluation.benchmarks import BENCHMARKS, load
from r1jax.files import read_lines, read_rows
from r1jax.launch import main
from r1jax.serving.questions import read_questions
from r1jax.verifiers import rows as verifiers_rows

ROW = b'{"question": "A?", "answer": "1", "response": "1"}\n'
# Without the time of packing: it would be in the names of tests, which the workers have to agree on.
PACKED_ROWS, PACKED_NOTHING = gzip.compress(ROW * 1000, mtime=0), gzip.compress(b"", mtime=0)


def written(tmp_path, content: bytes, name="rows.jsonl"):
  file = tmp_path / name
  file.write_bytes(content)
  return file


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("content", [
  ROW * 3, b"\xef\xbb\xbf" + ROW * 3, (ROW * 3).replace(b"\n", b"\r\n"), ROW + b"\n \n" + ROW + ROW.strip()])
def test_forms_of_a_file_that_say_the_same(tmp_path, content, pack):
  file = written(tmp_path, pack(content))
  found = list(read_rows(file))
  assert [row for _, row in found] == [json.loads(ROW)] * 3
  assert [number for number, _ in found] == ([1, 4, 5] if b"\n \n" in content else [1, 2, 3])
  # ... and all who read rows read them so
  assert [dict(row) for row in Rows(path=file).examples("")] == [json.loads(ROW)] * 3 == read_questions(str(file))
  assert [row.id for row in verifiers_rows.read_rows(file, "maths")] == [number for number, _ in found]
  assert len(load(BENCHMARKS["math500"], file)) == 3


def test_line_separators_of_unicode_are_text(tmp_path):
  texts = ["a\u2028b", "c\u2029d", "e\x85f", "g\x0bh", "i\x1cj"]
  file = written(tmp_path, "".join(json.dumps({"q": text}, ensure_ascii=False) + "\n" for text in texts).encode())
  assert [row["q"] for _, row in read_rows(file)] == texts
  assert [text.rstrip("\n") for _, text in read_lines(file)] == [json.dumps({"q": t}, ensure_ascii=False) for t in texts]


BAD = {  # name -> (content after two good lines, what is said, in which line)
  "latin-1": ('{"question": "caf\xe9"}\n'.encode("latin-1"), r"byte 0xe9 is not UTF-8 \(byte 18 of the line; in latin-1", 3),
  "cut": (b'{"question": "A?", "ans', r"not JSON \(.* at character \d+\): '\{\"question", 3),
  "deep": (b"[" * 200_000 + b"\n", r"not JSON \(nested too deeply\)", 3),
  "deep object": (b'{"a":' * 200_000 + b"\n", r"not JSON \(nested too deeply\)", 3),
  "list": (b"[1]\n", r"not a JSON object: '\[1\]'", 3),
  "nan": (b'{"question": NaN}\n', "NaN is not a JSON value", 3),
  "infinite": (b'\n{"question": -Infinity}\n', "-Infinity is not a JSON value", 4),
  "too large": (b'{"question": 1e999}\n', "1e999 is too large", 3),
  "many digits": (b'{"question": ' + b"1" * 5000 + b"}\n", "digits", 3),
  "half surrogate": (b'{"x": 1, "question": ["\\ud83d"]}\n', "field 'question': half of a surrogate pair", 3),
  "half surrogate in a name": (b'{"\\udc00": 1}\n', r"field '\\\\udc00': half of a surrogate pair", 3),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_bad_line_is_refused_by_file_and_line(tmp_path, name, pack):
  content, said, line = BAD[name]
  file = written(tmp_path, pack(ROW * 2 + content + ROW))
  rows = read_rows(file)
  assert [next(rows)[0], next(rows)[0]] == [1, 2]  # what stands before it has been read
  with pytest.raises(InputError, match=rf"rows\.jsonl:{line}[,:].*{said}"):
    list(rows)


def test_both_halves_of_a_surrogate_pair_are_a_character(tmp_path):
  assert list(read_rows(written(tmp_path, b'{"q": "\\ud83d\\ude00 \\\\ud800"}'))) == [(1, {"q": "\U0001f600 \\ud800"})]


@pytest.mark.parametrize(("content", "said"), [
  (ROW.decode().encode("utf-16"), "byte 1 .0xff.: this is UTF-16, not UTF-8"),
  (ROW.decode().encode("utf-16-be"), "UTF-16 or binary, not UTF-8"), (ROW.decode().encode("utf-16-le"), "UTF-16 or binary"),
  (ROW.decode().encode("utf-32"), "UTF-16, not UTF-8"), (b"PAR1....", "Parquet.*Rename"), (b"\0" * 100, "binary"),
  (PACKED_ROWS[:-20], "gzip has packed is damaged"), (b"\x1f\x8bnot gzip", "gzip has packed is damaged"),
])
def test_a_file_that_is_no_text_is_refused_by_what_it_is(tmp_path, content, said):
  with pytest.raises(InputError, match=rf"rows\.jsonl:\d+: .*{said}"):
    list(read_rows(written(tmp_path, content)))


def test_what_gzip_blows_up_ends_in_a_message(tmp_path, monkeypatch):
  monkeypatch.setattr("r1jax.files.MAX_LINE", 1 << 20)
  with pytest.raises(InputError, match=r"rows\.jsonl:2: a line of more than 1,048,576 bytes"):
    list(read_rows(written(tmp_path, gzip.compress(ROW + b" " * (1 << 24)))))


def test_paths_that_are_no_file(tmp_path):
  for name, said in (("", "a folder"), ("gone", "no such file"), ("x" * 300, "cannot be read")):
    path = tmp_path / name
    with pytest.raises(InputError, match=said):
      read_rows(path)  # at once, before the first row is asked for


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
  file = written(tmp_path, ROW)
  file.chmod(0)
  with pytest.raises(InputError, match="cannot be read .Permission denied."):
    list(read_rows(file))


def test_parquet_has_the_values_of_json(tmp_path):
  table = pyarrow.table({
    "text": ["a", None], "number": pyarrow.array([0.5, math.nan]),
    "exact": [decimal.Decimal("0.10"), decimal.Decimal("2.00")],
    "day": [datetime.date(2025, 1, 20), None], "bytes": [b"utf-8 \xc3\xa9", b"\xff"], "list": [[1, 2], []],
    "record": [{"a": 1.5}, None]})
  parquet.write_table(table, tmp_path / "rows.parquet")
  assert list(read_rows(tmp_path / "rows.parquet")) == [
    (1, {"text": "a", "number": 0.5, "exact": 0.1, "day": "2025-01-20", "bytes": "utf-8 é", "list": [1, 2],
         "record": {"a": 1.5}}),
    (2, {"text": None, "number": None, "exact": 2.0, "day": None, "bytes": None, "list": [], "record": None})]
  assert next(read_rows(tmp_path / "rows.parquet", decimals_as_text=True))[1]["exact"] == "0.10"


def test_parquet_wherever_rows_are_read(tmp_path, capsys):
  file = tmp_path / "rows.parquet"
  rows = [{"question": f"What is {i}+1?", "problem": "?", "answer": str(i + 1), "response": str(i + i)} for i in range(3)]
  parquet.write_table(pyarrow.Table.from_pylist(rows), file)
  assert list(Rows(path=str(file)).examples("")) == rows == read_questions(str(file))
  assert [q.id for q in load(BENCHMARKS["math500"], file)] == [f"{tmp_path.name}/rows.parquet:{i}" for i in (1, 2, 3)]
  assert main(["score", "--kind", "maths", "--answers", str(file), "--workers", "1"]) == 0
  assert [json.loads(line)["value"] for line in capsys.readouterr().out.splitlines()] == [0.0, 1.0, 0.0]


def test_a_damaged_parquet_file_is_refused(tmp_path):
  table = pyarrow.table({"question": [f"{i}?" * 50 for i in range(5000)]})
  parquet.write_table(table, tmp_path / "rows.parquet", compression="zstd", use_dictionary=False)
  whole = (tmp_path / "rows.parquet").read_bytes()
  for content in (b"", ROW, whole[:-9], whole[:1000] + b"\0" * 200 + whole[1200:]):
    with pytest.raises(InputError, match=r"rows\.parquet:1: cannot be read as Parquet"):
      list(read_rows(written(tmp_path, content, "rows.parquet")))


@pytest.mark.parametrize(("row", "said"), [
  (b'{"question": "A?"}\n', r"rows\.jsonl:2: no text 'response'; the row has \['question'\]"),
  (b'{"question": 7, "response": "a"}\n', "no text 'question'"),
  (b'{"question": "A?", "response": " "}\n', r"rows\.jsonl:2, field 'response': it is empty"),
  (b'{"question": "", "response": "a"}\n', r"rows\.jsonl:2, field 'question': it is empty")])
def test_rows_to_train_on_need_a_question_and_a_response(tmp_path, row, said):
  with pytest.raises(InputError, match=said):
    list(Rows(path=str(written(tmp_path, ROW + row))).examples(""))


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf", PACKED_NOTHING])
def test_a_file_to_train_on_without_rows_is_named(tmp_path, content):
  with pytest.raises(InputError, match=r"rows\.jsonl: the file has no rows"):
    list(Rows(path=str(written(tmp_path, content))).examples(""))


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.parquet"])
def test_a_large_file_is_never_held(tmp_path, name):
  file = tmp_path / name
  rows = 15_000
  if name.endswith("parquet"):
    writer = parquet.ParquetWriter(file, pyarrow.schema([("response", pyarrow.string())]))
    for start in range(0, rows, 2000):
      writer.write_table(pyarrow.table({"response": [f"{i} " + "x" * 4000 for i in range(start, start + 2000)]}))
    writer.close()
  else:
    with gzip.open(file, "wt", compresslevel=1) as f:
      f.writelines(json.dumps({"response": f"{i} " + "x" * 4000}) + "\n" for i in range(rows))
  code = """
    import resource, sys
    from r1jax.files import read_rows
    import pyarrow.parquet
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(len(row["response"]) for _, row in read_rows(sys.argv[1])) > 60_000_000
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
  command = [sys.executable, "-c", textwrap.dedent(code), str(file)]
  done = subprocess.run(command, capture_output=True, text=True, timeout=120)
  assert done.returncode == 0, done.stderr
  assert int(done.stdout) < 32 * 1024  # KiB, of 60 MB of text
