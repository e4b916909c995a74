"""The building of data sets: nothing stale, nothing half-built, no question in both splits."""

import contextlib
import dataclasses
import decimal
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import tensorflow_datasets as tfds
from pyarrow import parquet

from r1jax.data import builders
from r1jax.data.prompts import Generated, Jsonl, Tfds, check_split, load_questions, read_all
from r1jax.data.questions import Question, normalise
from r1jax.errors import InputError


def write_jsonl(path: Path, rows) -> Path:
  path.parent.mkdir(exist_ok=True)
  path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
  return path


def rows(n: int, answer: str = "{}"):
  return [{"question": f"What is {i} + 0?", "answer": answer.format(i)} for i in range(n)]


def parse(text: str | bytes, **fields) -> list[Question]:
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "set" / "file.jsonl"
    path.parent.mkdir()
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_all(Jsonl(path, **fields))


def built(data_dir: Path) -> list[str]:
  return sorted(path.parent.name for path in data_dir.glob("*/*/3.0.0"))


# Reading JSONL.


def test_fields_and_ids():
  text = '{"q": " Wie viel? ", "a": 12, "x": 1}\n\n{"q": "B?", "a": "0.10"}\n{"q": "C?", "a": 0.10}'
  questions = parse(text, question_field="q", answer_field="a", kind="choice", language="de")
  assert questions[0] == Question("set/file.jsonl:1", "Wie viel?", "12", "choice", "de")
  assert [question.id for question in questions[1:]] == ["set/file.jsonl:3", "set/file.jsonl:4"]
  assert [question.answer for question in questions] == ["12", "0.10", "0.10"]


def test_a_level_is_read_where_a_field_for_it_is_named():
  text = '{"question": "A?", "answer": 1, "level": "Level 5"}\n{"question": "B?", "answer": 2, "level": 3}\n'
  assert [question.level for question in parse(text)] == ["", ""]
  assert [question.level for question in parse(text, level_field="level")] == ["5", "3"]
  assert parse('{"question": "A?", "answer": 1, "of": "a/b level c"}', level_field="of")[0].level == "a-b level c"
  with pytest.raises(InputError, match="no field 'level'.*level_field"):
    parse('{"question": "A?", "answer": 1}', level_field="level")


def test_byte_order_mark_and_windows_line_ends():
  content = b'\xef\xbb\xbf{"question": "A?", "answer": "1"}\r\n{"question": "B?", "answer": "2"}\r\n'
  assert [question.text for question in parse(content)] == ["A?", "B?"]


def test_line_separators_within_a_row():
  text = '{"question": "A\u2028B\x85C\u2029D?", "answer": "1"}\n{"question": "E?", "answer": "2"}'
  assert [question.text for question in parse(text)] == ["A\u2028B\x85C\u2029D?", "E?"]


def test_max_rows_reads_no_further():
  text = '{"question": "A?", "answer": "1"}\n{"question": "B?", "answer": "2"}\nbroken'
  assert len(parse(text, max_rows=2)) == 2


@pytest.mark.parametrize(
  "answer, remove_commas, gold",
  [
    ("He has 3 * 4 = 12.\n#### 12", False, "12"),
    ("#### 1\n#### 2 ", False, "2"),
    ("#### 1,234", False, "1,234"),
    ("#### 1,234,567.5", True, "1234567.5"),
    ("#### $-70,000", True, "$-70000"),
    ("#### (1, 2,3)", True, "(1, 2,3)"),
    ("#### 12,34 and 1,2345", True, "12,34 and 1,2345"),
    ("#### 1234,567 and 0.5,123", True, "1234,567 and 0.5,123"),
  ],
)
def test_gold_answer(answer, remove_commas, gold):
  text = json.dumps({"question": "A?", "answer": answer})
  assert parse(text, answer_pattern="#### (.+)", remove_commas=remove_commas)[0].answer == gold


def test_answers_that_cannot_judge_are_left_out_and_counted_when_asked_for(capsys):
  answers = ["12", "N/A", "hello world!", r"\frac{1}{2}", "minimum at $x=2$", "x+1"]
  text = "\n".join(json.dumps({"question": f"Question {i}?", "answer": answer}) for i, answer in enumerate(answers))
  assert [question.answer for question in parse(text)] == answers  # whoever judges by them refuses
  assert capsys.readouterr().err == ""
  assert [question.answer for question in parse(text, unusable="drop")] == ["12", r"\frac{1}{2}", "x+1"]
  assert "3 of 6 questions left out" in (said := capsys.readouterr().err) and "lines 2, 3, 5" in said


GOOD = '{"question": "A?", "answer": "1"}\n'


@pytest.mark.parametrize(
  "line, message",
  [
    ('{"question": "B?", "answer": ', r"file\.jsonl:2: not JSON \(.*\): '\{\"question\": \"B"),
    ('["B?", "1"]', r"file\.jsonl:2: not a JSON object: '\[\"B\?\""),
    ('{"question": "B?", "solution": "1"}', r":2: no field 'answer'; .*'solution'\].*answer_field"),
    ('{"answer": "1"}', r":2: no field 'question'.*question_field"),
    ('{"question": "  ", "answer": "1"}', r":2, field 'question': it is empty"),
    ('{"question": "B?", "answer": ""}', r":2, field 'answer': it is empty"),
    ('{"question": "B?", "answer": null}', r":2, field 'answer': 'null'"),
    ('{"question": "B?", "answer": true}', r":2, field 'answer': 'true'"),
    ('{"question": ["B?"], "answer": "1"}', r":2, field 'question': '\[\"B\?\"\]'"),
    ('{"question": "B?", "answer": NaN}', r":2: not JSON \(NaN"),
    ('{"question": "B\\ud800?", "answer": "1"}', r":2, field 'question': half of a surrogate"),
    ("[" * 100_000, r":2: not JSON \(nested too deeply\)"),
  ],
)  # fmt: skip
def test_broken_line(line, message):
  with pytest.raises(InputError, match=message):
    parse(GOOD + line + "\n" + GOOD)


def test_not_utf8_names_the_line():
  with pytest.raises(InputError, match=r"file\.jsonl:3: byte 0xe9 is not UTF-8"):
    parse(GOOD.encode() * 2 + '{"question": "é", "answer": "1"}'.encode("latin-1"))


def test_answer_pattern_must_match():
  text = GOOD.replace('"1"', '"#### 1"') + GOOD.replace('"1"', '"a long working, then 7"')
  with pytest.raises(InputError, match=r":2, field 'answer': no answer where answer_pattern '#### .*then 7"):
    parse(text, answer_pattern="#### (.+)")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_empty_file(content):
  with pytest.raises(InputError, match="file.jsonl: the file has no rows"):
    parse(content)


def test_paths_that_are_no_file(tmp_path):
  for path, found in ((tmp_path / "nowhere.jsonl", "no such file"), (tmp_path, "a folder")):
    with pytest.raises(InputError, match=f"{path}: {found}"):
      load_questions(Jsonl(path), "train", tmp_path / "data")


# Questions that contradict one another.


def answered(*pairs: tuple[str, str]) -> str:
  return "".join(json.dumps({"question": question, "answer": answer}) + "\n" for question, answer in pairs)


def test_a_question_with_two_answers_is_named_with_both_lines():
  text = answered(("A?", "1/2"), ("B?", "7"), ("A?", "0.5"), ("B?", "8"), ("A?", "3"))
  with pytest.raises(InputError, match=r"jsonl:4: the question of line 2 with the answer '8' instead of '7'; 2 questions"):
    parse(text)


def test_contradictory_questions_are_left_out_and_counted_when_asked_for(capsys):
  text = answered(("A?", "1"), ("B?", "7"), ("A?", "1.0"), ("B ?", "8"), (" B?", "9"))
  assert [question.answer for question in parse(text, unusable="drop")] == ["1", "1.0", "8"]
  said = capsys.readouterr().err
  assert "2 of 5 questions left out" in said and "contradict" in said and "lines 2, 5" in said


@pytest.mark.parametrize(("kind", "answers"), [
  ("maths", ("1/2", r"$\frac{1}{2}$", "0.50")), ("choice", ("B", "(b)")), ("helpful", ("so", "thus")),
  ("code", ('{"test_list": ["assert f(1)"]}', '{"test_list": ["assert f(2)"]}'))])
def test_answers_that_say_the_same_and_tests_and_baselines_do_not_contradict(kind, answers):
  assert len(parse(answered(*(("A?", answer) for answer in answers)), kind=kind)) == len(answers)


def test_options_contradict_too():
  with pytest.raises(InputError, match="'C' instead of 'B'"):
    parse(answered(("A?", "B"), ("A?", "C")), kind="choice")


# Parquet and the TFDS catalogue.


def test_parquet_gives_the_same_questions(tmp_path):
  path = tmp_path / "set" / "file.parquet"
  path.parent.mkdir()
  answers = [decimal.Decimal("0.10"), decimal.Decimal("7.00")]
  parquet.write_table(pyarrow.table({"q": ["A?", "B\u2028?"], "a": answers, "level": [1, 2]}), path)
  source = Jsonl(path, question_field="q", answer_field="a", level_field="level", held_out=1e-6)
  assert list(load_questions(source, "all", tmp_path / "data")) == [
    Question("set/file.parquet:1", "A?", "0.10", level="1"), Question("set/file.parquet:2", "B\u2028?", "7.00", level="2")]
  parquet.write_table(pyarrow.table({"q": ["A?", None], "a": [1, 2]}), path)
  with pytest.raises(InputError, match=r"file.parquet:2, field 'q': 'null'"):
    read_all(dataclasses.replace(source, level_field=None))


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory) -> Path:
  """A folder of TFDS data sets with one of 20 and 3 questions, as array_record, and the same as tfrecord."""
  class Writer(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    name = "tiny_sums"

    def _info(self):
      text, number = tfds.features.Text(), np.int64
      return tfds.core.DatasetInfo(builder=self, disable_shuffling=True, features=tfds.features.FeaturesDict(
        {"question": text, "answer": number, "share": np.float32, "other": {"x": tfds.features.Sequence(number)}}))

    def _split_generators(self, dl_manager):
      return {"train": self._generate_examples(20), "test": self._generate_examples(3)}

    def _generate_examples(self, count):
      for i in range(count):
        yield i, {"question": f"What is {i} + 1?", "answer": i + 1, "share": i / 10, "other": {"x": [i]}}

  folder = tmp_path_factory.mktemp("catalogue")
  with builders._quiet():
    Writer(data_dir=folder, file_format="array_record").download_and_prepare()
  return folder


def test_a_data_set_of_the_catalogue(tmp_path, catalogue):
  source = Tfds("tiny_sums", data_dir=catalogue, held_out=0.3)
  train, held_out = (list(load_questions(source, split, tmp_path)) for split in ("train", "held_out"))
  found = {question.id: question for question in train + held_out}
  assert len(found) == 20 and held_out
  assert found["tiny_sums/train:3"] == Question("tiny_sums/train:3", "What is 2 + 1?", "3")
  assert [q.id for q in read_all(Tfds("tiny_sums:1.0.0", "test+train[:2]", data_dir=catalogue))][-1] == (
    "tiny_sums:1.0.0/test+train[:2]:5")
  assert [q.answer for q in read_all(Tfds("tiny_sums", "test", answer_field="share", data_dir=catalogue))] == [
    "0.0", "0.1", "0.2"]


def test_a_data_set_of_the_catalogue_is_its_content(tmp_path, catalogue):
  moved = tmp_path / "moved"
  shutil.copytree(catalogue, moved)
  for folder in (catalogue, moved):
    load_questions(Tfds("tiny_sums", data_dir=folder), "all", tmp_path / "data")
  assert len(built(tmp_path / "data")) == 1
  (shard,) = moved.glob("tiny_sums/1.0.0/*train*")
  content = bytearray(shard.read_bytes())
  content[len(content) // 2] ^= 255
  shard.write_bytes(content)
  with pytest.raises(InputError, match=r"tiny_sums/train:\d+: cannot be read"):
    read_all(Tfds("tiny_sums", data_dir=moved))


@pytest.mark.parametrize(("fields", "message"), [
  ({"name": "nowhere"}, "nowhere/train: no such data set.*tfds build nowhere --file_format=array_record"),
  ({"name": "tiny_sums:9.9.9"}, "no such data set.*No version matching"), ({"name": "tiny_sums/config"}, "no such data set"),
  ({"split": "nope"}, "Tfds.split of tiny_sums: 'nope'"), ({"split": "train[x]"}, r"Tfds.split of tiny_sums: 'train\[x\]'"),
  ({"question_field": "text"}, "tiny_sums/train:1: no field 'text'.*question_field"),
  ({"answer_field": "other"}, "tiny_sums/train:1, field 'other'"),
])
def test_a_data_set_that_is_not_there_or_has_other_fields(catalogue, fields, message):
  with pytest.raises(InputError, match=message):
    read_all(Tfds(**{"name": "tiny_sums", "data_dir": catalogue} | fields))


# Building and splitting.


def test_splits_hold_every_row_once_and_never_overlap(tmp_path):
  written = rows(200)
  # Every question a second and a third time, spelt differently.
  written += [{**row, "question": row["question"].upper().replace(" ", "  ")} for row in written]
  written += [{**row, "question": row["question"].replace(" ", "\t") + "\n"} for row in rows(200)]
  source = Jsonl(write_jsonl(tmp_path / "set" / "file.jsonl", written), held_out=0.3)
  train, held_out, everything, validation, test = (
    list(load_questions(source, split, tmp_path / "data")) for split in ("train", "held_out", "all", "validation", "test")
  )
  assert held_out == validation + test and not {q.text for q in validation} & {q.text for q in test}
  lines = [int(question.id.split(":")[1]) for question in train + held_out]
  assert sorted(lines) == list(range(1, 601))
  assert lines[: len(train)] == sorted(lines[: len(train)])  # the order of the file
  assert not {normalise(q.text) for q in train} & {normalise(q.text) for q in held_out}
  assert 3 * 30 < len(held_out) < 3 * 90
  assert everything == train + held_out


@pytest.mark.parametrize("generator", ["sums", "countdown"])
def test_generated_questions(tmp_path, generator):
  source = Generated(generator, count=150, seed=5, held_out=0.2)
  train, held_out = (list(load_questions(source, split, tmp_path)) for split in ("train", "held_out"))
  assert sorted(train + held_out, key=str) == sorted(builders.GENERATORS[generator](5, 150), key=str)
  assert not {normalise(q.text) for q in train} & {normalise(q.text) for q in held_out}
  assert built(tmp_path)[0].startswith(generator)


def test_parameters_reach_the_generator(tmp_path):
  source = Generated("sums", count=40, parameters={"operators": "+", "max_terms": 2})
  questions = load_questions(source, "all", tmp_path)
  assert all(question.text.count("+") == 1 and "-" not in question.text for question in questions)


def test_random_access(tmp_path):
  questions = load_questions(Generated(count=30), "train", tmp_path)
  listed = list(questions)
  assert len(listed) == len(questions) and questions[-1] == listed[-1] and questions[1:4] == listed[1:4]
  with pytest.raises(IndexError):
    questions[len(questions)]


def test_an_empty_split_is_an_error_only_when_asked_for(tmp_path):
  source = Jsonl(write_jsonl(tmp_path / "set" / "file.jsonl", rows(1)), held_out=1e-6)
  assert len(load_questions(source, "train", tmp_path / "data")) == 1
  assert len(load_questions(source, "all", tmp_path / "data")) == 1
  with pytest.raises(InputError, match="split 'held_out' of .*file.jsonl.*empty"):
    load_questions(source, "held_out", tmp_path / "data")


# What is on the disk.


def test_built_once_then_read(tmp_path, monkeypatch):
  source = Jsonl(write_jsonl(tmp_path / "set" / "file.jsonl", rows(20)))
  first = list(load_questions(source, "train", tmp_path / "data"))
  monkeypatch.setattr(builders.LocalQuestions, "_questions", None)  # a second build would call it
  assert list(load_questions(source, "train", tmp_path / "data")) == first


def test_a_changed_file_or_field_is_another_set(tmp_path):
  path, data = tmp_path / "set" / "file.jsonl", tmp_path / "data"
  sources = [Jsonl(path), Jsonl(path, held_out=0.5), Jsonl(path, max_rows=3), Jsonl(path, kind="stem")]
  for answer in ("{}", "{}.0"):
    write_jsonl(path, rows(20, answer))
    stamp = os.stat(path)
    for source in sources:
      questions = load_questions(source, "all", data)
      assert questions[0].answer.endswith(".0") is (answer == "{}.0")
      assert questions[0].kind == source.kind and len(questions) == (source.max_rows or 20)
    os.utime(path, ns=(0, 0))  # the time of the file plays no part
  assert stamp and len(built(data)) == 8


def test_the_folders_above_do_not_matter(tmp_path):
  data = tmp_path / "data"
  for above in ("a", "b"):
    (tmp_path / above).mkdir()
    path = write_jsonl(tmp_path / above / "set" / "file.jsonl", rows(5))
    assert load_questions(Jsonl(path), "all", data)[0].id.startswith("set/file.jsonl:")
  assert len(built(data)) == 1


def test_a_changed_generator_is_another_set(tmp_path, monkeypatch):
  load_questions(Generated(count=20), "train", tmp_path)
  monkeypatch.setattr(builders.inspect, "getsource", lambda module: "other code")
  load_questions(Generated(count=20), "train", tmp_path)
  load_questions(Generated(count=20, seed=1), "train", tmp_path)
  load_questions(Generated(count=20, parameters={"max_terms": 3}), "train", tmp_path)
  assert len(built(tmp_path)) == 4


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
  path = write_jsonl(tmp_path / "set" / "file.jsonl", rows(5))
  sha256_of = builders.sha256_of

  def sha256_then_append(file):
    found = sha256_of(file)
    with path.open("ab") as file:
      file.write(b"\n")
    return found

  with monkeypatch.context() as patch:
    patch.setattr(builders, "sha256_of", sha256_then_append)
    for read in (lambda: read_all(Jsonl(path)), lambda: load_questions(Jsonl(path), "train", tmp_path / "data")):
      with pytest.raises(InputError, match="changed while it was being read"):
        read()
  assert built(tmp_path / "data") == []


def test_a_file_that_changes_between_its_name_and_its_building(tmp_path, monkeypatch):
  path = write_jsonl(tmp_path / "set" / "file.jsonl", rows(5))
  config = builders._config

  def name_then_change(source):
    named = config(source)
    write_jsonl(path, rows(6))
    return named

  monkeypatch.setattr(builders, "_config", name_then_change)
  with pytest.raises(InputError, match="changed while it was being read"):
    load_questions(Jsonl(path), "train", tmp_path / "data")
  assert built(tmp_path / "data") == []


READ_ONCE = ["open", "parse", "open"]  # for its hash, and for its rows, of which no more than one is held at a time


@pytest.fixture
def readings(monkeypatch):
  """What is done to files of questions from here on: "open" and "parse", in order."""
  done = []
  open_file, questions_of = Path.open, builders.questions_of

  def counted_open(self, *arguments, **keywords):
    if self.suffix == ".jsonl":
      done.append("open")
    return open_file(self, *arguments, **keywords)

  def counted_parse(rows, source):
    done.append("parse")
    return questions_of(rows, source)

  monkeypatch.setattr(Path, "open", counted_open)
  monkeypatch.setattr(builders, "questions_of", counted_parse)
  return done


def use_everywhere(source, data: Path) -> tuple[int, int, int]:
  """As the start of a run and a stage of it do; how many questions there are in all, to train on, and held out."""
  check_split(source, 1)
  return len(read_all(source)), *(len(load_questions(source, split, data)) for split in ("train", "held_out"))


def test_a_file_is_read_and_parsed_once(tmp_path, readings):
  paths = [write_jsonl(tmp_path / "set" / f"{name}.jsonl", rows(100)) for name in "ab"]
  source = tuple(map(Jsonl, paths))
  readings.clear()
  for _ in range(2):
    count, train, held_out = use_everywhere(source, tmp_path / "data")
    assert count == train + held_out == 200 and held_out > 2
    assert readings == READ_ONCE * 2


@pytest.mark.parametrize("how", ["written over", "replaced", "of the same size and time"])
def test_a_changed_file_is_read_anew(tmp_path, readings, how):
  path = write_jsonl(tmp_path / "set" / "file.jsonl", rows(100))
  use_everywhere(Jsonl(path), tmp_path / "data")
  before = path.stat()
  if how == "replaced":
    os.replace(write_jsonl(tmp_path / "set" / "new.jsonl", rows(120, "{}.0")), path)
  elif how == "written over":
    write_jsonl(path, rows(120, "{}.0"))
  else:
    path.write_text(path.read_text().replace("What is", "What Is"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
  readings.clear()
  assert use_everywhere(Jsonl(path), tmp_path / "data")[0] == (100 if "same" in how else 120)
  assert readings == READ_ONCE
  first = read_all(Jsonl(path))[0]
  assert first.answer.endswith(".0") or first.text.startswith("What Is")


def test_what_was_read_cannot_be_changed_from_outside(tmp_path):
  source = Jsonl(write_jsonl(tmp_path / "set" / "file.jsonl", rows(5)))
  read_all(source).clear()
  assert len(read_all(source)) == 5


def test_a_bad_line_leaves_nothing_behind(tmp_path):
  path = write_jsonl(tmp_path / "set" / "file.jsonl", [*rows(5), {"question": "?"}])
  with pytest.raises(InputError, match="file.jsonl:6"):
    load_questions(Jsonl(path), "train", tmp_path / "data")
  assert list((tmp_path / "data").glob("*/*/*")) == []


def test_another_process_that_is_faster_wins(tmp_path, monkeypatch):
  source = Jsonl(write_jsonl(tmp_path / "set" / "file.jsonl", rows(20)))
  questions, data = builders.LocalQuestions._questions, tmp_path / "data"
  built_meanwhile = []

  def wait_while_the_other_builds(self):
    monkeypatch.setattr(builders.LocalQuestions, "_questions", questions)
    built_meanwhile.append(builders.prepare(source, data).is_prepared())
    return questions(self)

  monkeypatch.setattr(builders.LocalQuestions, "_questions", wait_while_the_other_builds)
  assert len(load_questions(source, "all", data)) == 20
  assert built_meanwhile == [True]
  assert len(list(data.glob("*/*/*"))) == 1  # no "incomplete." is left


def test_a_damaged_set_is_refused(tmp_path):
  load_questions(Generated(count=20), "train", tmp_path)
  (info,) = tmp_path.glob("*/*/*/dataset_info.json")
  info.unlink()
  with pytest.raises(InputError, match="3.0.0: the data set is damaged.*Delete that folder"):
    load_questions(Generated(count=20), "train", tmp_path)


@pytest.mark.parametrize("damage", ["cut", "overwritten", "gone"])
def test_a_set_that_is_damaged_while_it_is_read_is_named_or_gives_what_was_written(tmp_path, damage):
  questions = load_questions(Generated(count=2000), "train", tmp_path)
  whole = list(questions)
  again = load_questions(Generated(count=2000), "train", tmp_path)
  assert again[0] == whole[0]
  for file in tmp_path.rglob("*.array_record*"):
    if damage == "gone":
      file.unlink()
    else:
      content = file.read_bytes()
      file.write_bytes(content[:len(content) // 2] + (b"" if damage == "cut" else b"x" * (len(content) // 2)))
  with contextlib.suppress(InputError):
    assert list(again) == whole
  if damage != "gone":
    with pytest.raises(InputError, match=r"3\.0\.0: damaged \(question \d+: .*Start the run again"):
      list(again)


def test_a_data_dir_that_cannot_be_written(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(InputError, match="data_dir=.*file: the data set cannot be written"):
    load_questions(Generated(count=20), "train", tmp_path / "file")


def run(code: str, *arguments) -> subprocess.CompletedProcess:
  command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
  return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_killed_build_is_not_taken_for_a_complete_one(tmp_path):
  killed = run(
    """
    import os, signal, sys
    from r1jax.data import builders, prompts
    generate = builders.LocalQuestions._generate_examples
    def die(self, questions):
      for i, example in enumerate(generate(self, questions)):
        if i == 20:
          os.kill(os.getpid(), signal.SIGKILL)
        yield example
    builders.LocalQuestions._generate_examples = die
    prompts.load_questions(prompts.Jsonl(sys.argv[1]), "train", sys.argv[2])
    """,
    write_jsonl(tmp_path / "set" / "file.jsonl", rows(60)),
    tmp_path / "data",
  )
  assert killed.returncode == -signal.SIGKILL, killed.stderr
  assert [path.name.startswith("incomplete.") for path in (tmp_path / "data").glob("*/*/*")] == [True]
  assert len(load_questions(Jsonl(tmp_path / "set" / "file.jsonl"), "all", tmp_path / "data")) == 60


def test_building_and_reading_need_neither_tensorflow_nor_jax_nor_a_word(tmp_path, catalogue):
  """grain imports jax, so only question_stream imports grain."""
  done = run(
    """
    import sys
    from r1jax.data.prompts import Jsonl, Generated, Tfds, encode_prompts, load_questions
    from r1jax.data.templates import Template
    from r1jax.data.tokenizer import word_level_tokenizer
    for source in (Jsonl(sys.argv[1]), Generated(count=30), Tfds("tiny_sums", data_dir=sys.argv[3])):
      for _ in range(2):
        questions = list(load_questions(source, "train", sys.argv[2]))
    words = sorted({word for question in questions for word in question.text.split()})
    encode_prompts(questions, Template("{question}"), word_level_tokenizer(words), 20)
    loaded = {"tensorflow", "jax", "jaxlib", "torch"} & set(sys.modules)
    assert not loaded, loaded
    """,
    write_jsonl(tmp_path / "set" / "file.jsonl", rows(20)),
    tmp_path / "data", catalogue,
  )
  assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_gsm8k(tmp_path):
  path = Path(os.environ.get("R1JAX_DATA", "/nonexistent")) / "gsm8k" / "train.jsonl"
  if not path.is_file():
    pytest.skip("set R1JAX_DATA to a folder with gsm8k/train.jsonl")
  source = Jsonl(path, answer_pattern="#### (.+)", remove_commas=True)
  train, held_out = (list(load_questions(source, split, tmp_path)) for split in ("train", "held_out"))
  assert len(train) + len(held_out) == 7473 and 650 < len(held_out) < 850
  assert not {normalise(q.text) for q in train} & {normalise(q.text) for q in held_out}
  assert all(float(question.answer) is not None for question in train + held_out)
  assert train[0].answer == "72"
