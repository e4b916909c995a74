"""Benchmarks in local files, as their authors publish them: which fields hold question and answer, and how they are asked.

    questions = load(BENCHMARKS["gsm8k"], "data/gsm8k/test.jsonl")

A file is JSONL, JSON (a list of objects) or CSV, packed by gzip or not, or Parquet. Nothing is downloaded. Prompts and
numbers of samples are those of R1 (arXiv V2, appendix D.1 and Table 32); what it leaves open is marked as ours.
"""
import csv
import hashlib
import json
import os
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1jax.data.questions import Question
from r1jax.data.templates import PLACE, Template
from r1jax.errors import InputError
from r1jax.evaluation.livecodebench import tests_of
from r1jax.files import parse_json, read_lines, read_rows
from r1jax.verifiers import choice, instructions
from r1jax.verifiers.choice import LETTERS
from r1jax.verifiers.kinds import check_references, unusable

JUDGED = "judged"  # kind of a question whose responses another model compares; its answer is JSON with "uid" or "baseline"
BOXED = PLACE + "\nPlease reason step by step, and put your final answer within \\boxed{}."  # Table 32
BOXED_CHINESE = PLACE + "\n请逐步推理，并把最终答案写在 \\boxed{} 中。"  # ours: the same in Chinese
# simple-evals' words, whose prompts R1 takes for MMLU and GPQA (appendix D.1).
CHOICE = ("Answer the following multiple choice question. The last line of your response should be of the following format: "
          "'Answer: $LETTER' (without quotes) where LETTER is one of {letters}. Think step by step before answering.\n\n"
          + PLACE)
COMPLETE = "Complete this Python function. Give the whole function in a ```python block.\n\n" + PLACE  # ours
PROGRAM = PLACE + "\n\nGive the function in a ```python block."  # ours
CONTEST = PLACE  # what is asked for depends on the problem: livecodebench.tests_of adds it to the question


@dataclass(frozen=True)
class Benchmark:
  """One benchmark.

  file: where it lies in a folder of benchmarks. kind: what judges it (r1jax.verifiers.kinds), or JUDGED. samples: responses
  to a question, k of pass@1. prompt: what is asked, with a place for the question. parse: (row, where) -> (question,
  answer), or None for a row that is no part of the benchmark; where: file and line, for an InputError. solution: the field
  with a reference solution, "" for none. language: of the questions.
  """

  name: str
  file: str
  kind: str
  samples: int
  prompt: str
  parse: Callable[[Mapping, str], tuple[str, str] | None]
  solution: str = ""
  language: str = "en"

  def template(self, around: Template) -> Template:
    """The whole prompt: what is asked, inside a model's own template."""
    return Template(around.text.replace(PLACE, self.prompt), around.prefill)


def load(benchmark: Benchmark, path: str | os.PathLike[str]) -> list[Question]:
  """The questions of a file, in its order. A question's id is FOLDER/FILE:ROW; rows count from 1.

  Raises InputError for a file that is missing, empty or damaged, and for a row without question or answer.
  """
  path = Path(path)
  questions = []
  for number, row in _rows(path):
    found = benchmark.parse(row, f"{path}:{number}")
    if found is not None:
      questions.append(Question(f"{path.parent.name}/{path.name}:{number}", *found, benchmark.kind, benchmark.language))
  if not questions:
    raise InputError(str(path), "no question in it", f"Give a file of {benchmark.name} as its authors publish it.")
  return questions


def judgeable(questions: Sequence[Question], drop: bool = False) -> list[Question]:
  """The questions, if all of them can be judged on this machine.

  drop: leave out those whose answers cannot judge, or whose rules need what is not installed. Raises InputError for them
  otherwise, with their number and the first of them; and for programs without a sandbox.
  """
  if drop:
    questions = [q for q in questions if q.kind == JUDGED or unusable(q.kind, q.answer, q.id) is None]
  try:
    check_references((q.id, q.kind, q.answer) for q in questions if q.kind != JUDGED)
  except InputError as error:
    remedy = error.remedy.replace('unusable="drop" of a source does so.', "--drop_unusable leaves such questions out.")
    raise InputError(error.where, error.found, remedy) from None
  return list(questions)


def solutions(benchmark: Benchmark, path: str | os.PathLike[str]) -> dict[str, str]:
  """Question's id -> its reference solution, of the rows that have one."""
  path = Path(path)
  found = {f"{path.parent.name}/{path.name}:{number}": {str(name).lower(): value for name, value in row.items()}
           for number, row in _rows(path)} if benchmark.solution else {}
  return {key: row[benchmark.solution] for key, row in found.items() if isinstance(row.get(benchmark.solution), str)}


# ---- files


def _rows(path: Path) -> Iterator[tuple[int, Mapping]]:
  """(number from 1, row) of each row of a file."""
  remedy = "Give the benchmark's file: --benchmark NAME=FILE."
  kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
  if kind not in ("csv", "json"):
    yield from read_rows(path, remedy)
    return
  lines = (line for _, line in read_lines(path, remedy))
  rows = _csv_rows(lines, path) if kind == "csv" else parse_json("".join(lines), str(path))
  if isinstance(rows, dict) or not isinstance(rows, Iterable):
    raise InputError(str(path), "not a list", "Give a JSON list of objects, or JSONL.")
  for number, row in enumerate(rows, start=1):
    if not isinstance(row, dict):
      raise InputError(f"{path}:{number}", "not a JSON object", "Correct it, or copy the file again.")
    yield number, row


def _csv_rows(lines: Iterator[str], path: Path) -> Iterator[dict]:
  rows = csv.DictReader(lines)
  try:
    yield from rows
  except csv.Error as error:
    raise InputError(f"{path}:{rows.line_num}", f"not CSV ({error})", "Correct it, or copy the file again.") from None


def _field(row: Mapping, names: Sequence[str], where: str) -> str:
  """The first of the fields that a row has, as text; case does not matter. InputError where none is there or it is empty."""
  known = {str(name).lower(): value for name, value in row.items()}
  value = next((known[name] for name in names if known.get(name) is not None), None)
  if isinstance(value, int | float) and not isinstance(value, bool):
    value = str(value)
  if not isinstance(value, str) or not value.strip():
    raise InputError(where, f"no {' or '.join(names)} in it" if value is None else f"{names[0]} is {value!r:.60}",
                     "Fill it in, or remove the row.")
  return value


# ---- rows


def _gsm8k(row: Mapping, where: str) -> tuple[str, str]:
  solution = _field(row, ("answer",), where)
  _, marked, answer = solution.rpartition("####")
  if not marked or not answer.strip():
    raise InputError(f"{where}, answer", f"no '####' followed by an answer: {solution[-40:]!r}", "Correct the row.")
  return _field(row, ("question",), where), answer.strip().replace(",", "")


def _maths(row: Mapping, where: str) -> tuple[str, str]:
  return _field(row, ("problem", "question"), where), _field(row, ("answer",), where)


def _multiple_choice(row: Mapping, where: str, options: Sequence, answer: str | int) -> tuple[str, str]:
  if not isinstance(options, list | tuple) or len(options) < 2 or not all(isinstance(each, str) for each in options):
    raise InputError(f"{where}, options", f"{options!r:.80}", "Give a list of at least two texts.")
  marks = [re.match(rf"\s*\(?{letter}\s?[).:]\s*", text) for letter, text in zip(LETTERS, options, strict=False)]
  texts = [text[mark.end():] for mark, text in zip(marks, options, strict=False)] if all(marks) else list(options)
  try:
    reference = choice.reference("", answer, texts)
  except InputError as error:
    raise InputError(f"{where}, {error.where}", error.found, error.remedy) from None
  listed = "\n".join(f"{letter}) {text}" for letter, text in zip(LETTERS, texts, strict=False))
  return f"{_field(row, ('question',), where)}\n\n{listed}", reference


def _aqua(row: Mapping, where: str) -> tuple[str, str]:
  return _multiple_choice(row, where, row.get("options"), _field(row, ("correct", "answer"), where))


def _mmlu(row: Mapping, where: str) -> tuple[str, str]:
  return _multiple_choice(row, where, row.get("choices"), row.get("answer"))


def _gpqa(row: Mapping, where: str) -> tuple[str, str]:
  """The options in an order that depends on the question alone; the file has the right one first."""
  question = _field(row, ("question",), where)
  right = _field(row, ("correct answer",), where).strip()
  options = [right, *(_field(row, (f"incorrect answer {i}",), where).strip() for i in (1, 2, 3))]
  random.Random(hashlib.sha256(question.encode()).digest()).shuffle(options)
  return _multiple_choice({"question": question}, where, options, LETTERS[options.index(right)])


def _humaneval(row: Mapping, where: str) -> tuple[str, str]:
  tests = {name: _field(row, (name,), where) for name in ("test", "entry_point")}
  return _field(row, ("prompt",), where), json.dumps(tests)


def _mbpp(row: Mapping, where: str) -> tuple[str, str] | None:
  """Tasks 11 to 510, the test split. The tests are shown, as their authors do."""
  number = row.get("task_id")
  if isinstance(number, int) and not 11 <= number <= 510:
    return None
  tests = row.get("test_list")
  if not isinstance(tests, list) or not tests or not all(isinstance(test, str) for test in tests):
    raise InputError(f"{where}, test_list", f"{tests!r:.80}", "Give a list of asserts.")
  asked = f"{_field(row, ('text', 'prompt'), where)} Your code should pass these tests:\n\n" + "\n".join(tests)
  return asked, json.dumps({name: row[name] for name in ("test_list", "test_setup_code", "test_imports") if row.get(name)})


def _ifeval(row: Mapping, where: str) -> tuple[str, str]:
  try:
    reference = instructions.reference(row["instruction_id_list"], row["kwargs"])
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise InputError(where, f"no instruction_id_list with its kwargs ({error!r})", "Correct the row.") from None
  return _field(row, ("prompt",), where), reference


def _arena(row: Mapping, where: str) -> tuple[str, str]:
  """The question of version 0.1 or, in `turns`, of an older one. What it is compared with is in another file, by its uid."""
  turns = row.get("turns")
  if isinstance(turns, list) and turns and isinstance(turns[0], dict):
    row = {**row, "prompt": turns[0].get("content")}
  return _field(row, ("prompt",), where), json.dumps({"uid": _field(row, ("uid", "question_id"), where)})


def _alpaca(row: Mapping, where: str) -> tuple[str, str]:
  return _field(row, ("instruction",), where), json.dumps({"baseline": _field(row, ("output",), where)})


# k of pass@1: 64 for AIME and GPQA, 16 for MATH, 8 for LiveCodeBench; "between 4 and 64" else (V2, appendix D.1): 4. One for
# what a judge compares is ours.
BENCHMARKS = {each.name: each for each in (
  Benchmark("gsm8k", "gsm8k/test.jsonl", "maths", 4, BOXED, _gsm8k, "answer"),
  Benchmark("math500", "math500/test.jsonl", "maths", 16, BOXED, _maths, "solution"),
  Benchmark("aime", "aime/test.jsonl", "maths", 64, BOXED, _maths, "solution"),
  Benchmark("cmath", "cmath/test.jsonl", "maths", 4, BOXED_CHINESE, _maths, language="zh"),
  Benchmark("mmlu_stem", "mmlu_stem/test.jsonl", "choice", 4, CHOICE.replace("{letters}", "ABCD"), _mmlu),
  Benchmark("gpqa", "gpqa/gpqa_diamond.csv", "choice", 64, CHOICE.replace("{letters}", "ABCD"), _gpqa, "explanation"),
  Benchmark("aqua", "aqua/test.jsonl", "choice", 4, CHOICE.replace("{letters}", "ABCDE"), _aqua, "rationale"),
  Benchmark("humaneval", "humaneval/HumanEval.jsonl.gz", "code", 4, COMPLETE, _humaneval, "canonical_solution"),
  Benchmark("mbpp", "mbpp/mbpp.jsonl", "code", 4, PROGRAM, _mbpp, "code"),
  Benchmark("livecodebench", "livecodebench/test.jsonl", "code", 8, CONTEST, tests_of),
  Benchmark("ifeval", "ifeval/input_data_en.jsonl", "instructions", 4, PLACE, _ifeval),
  Benchmark("arena_hard", "arena_hard_v0.1/question.jsonl", JUDGED, 1, PLACE, _arena),
  Benchmark("alpaca_eval", "alpaca_eval/alpaca_eval.json", JUDGED, 1, PLACE, _alpaca),
  Benchmark("own", "own/test.jsonl", "maths", 4, BOXED, _maths, "solution"),  # a file of the user: question, answer
)}


def named(text: str, folder: str | os.PathLike[str] | None) -> tuple[Benchmark, Path]:
  """(benchmark, its file) of NAME or NAME=FILE; folder: of benchmarks, or the one file that is meant."""
  name, given, file = text.partition("=")
  if name not in BENCHMARKS:
    raise InputError("--benchmark", repr(name), f"Known benchmarks: {', '.join(BENCHMARKS)}.")
  if given:
    return BENCHMARKS[name], Path(file)
  if folder is None:
    raise InputError(f"--benchmark {name}", "no file for it", f"Give --data FOLDER with {BENCHMARKS[name].file} in it, or "
                     f"--benchmark {name}=FILE.")
  folder = Path(folder)
  return BENCHMARKS[name], folder / BENCHMARKS[name].file if folder.is_dir() else folder
