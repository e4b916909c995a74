"""`r1jax score` and `r1jax bench rewards`: rows in, verdicts out in order, and a bad row refused by file and line."""
import json
import shutil

import pytest

from r1jax.launch import main
from r1jax.verifiers.rows import candidates

MATHS = [
  {"id": "tag", "question": "?", "answer": "\\frac{1}{2}", "response": "<think>1</think> <answer>0.5</answer>"},
  {"id": "box", "question": "?", "answer": "\\frac{1}{2}", "response": "so \\boxed{\\frac{2}{4}}"},
  {"id": "last", "question": "?", "answer": "42", "response": "First 7.\nThe sum of all of them is 42 in the end"},
  {"id": "wrong", "question": "?", "answer": 42, "response": "41"},
  {"id": "none", "question": "?", "answer": "42", "response": "<think>no idea</think>"},
]
COUNTDOWN = {"puzzle": "countdown", "numbers": [3, 5, 7], "target": 26, "use": "all"}


def run(tmp_path, capsys, kind, rows, verb=("score",), *arguments):
  """(exit status, lines of stdout as JSON, stderr)."""
  file = tmp_path / "answers.jsonl"
  file.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
  status = main([*verb, "--kind", kind, "--answers", str(file), "--workers", "2", *arguments])
  out, err = capsys.readouterr()
  return status, out, err


def test_verdicts_come_in_order_with_a_summary(tmp_path, capsys):
  status, out, err = run(tmp_path, capsys, "maths", MATHS)
  results = [json.loads(line) for line in out.splitlines()]
  assert status == 0
  assert [r["id"] for r in results] == ["tag", "box", "last", "wrong", "none"]
  assert [r["value"] for r in results] == [1.0, 1.0, 1.0, 0.0, 0.0] == [r["parts"]["accuracy"] for r in results]
  assert [r["status"] for r in results] == ["scored"] * 4 + ["unparsable"]
  assert all(set(r) == {"id", "value", "parts", "status", "seconds"} and r["seconds"] >= 0 for r in results)
  assert "5 rows, 3 right (60.0%)" in err and "1 unparsable" in err


def test_choice_and_logic(tmp_path, capsys):
  rows = [{"question": "? (A) 4 m (B) 5 m", "answer": "B", "response": "I say (B)."},
          {"question": "?", "options": ["4 m", "5 m"], "answer": "B", "response": "<answer>5 m</answer>"},
          {"question": "?", "options": ["4 m", "5 m"], "answer": "B", "response": "A"}]
  assert [json.loads(line)["value"] for line in run(tmp_path, capsys, "choice", rows)[1].splitlines()] == [1.0, 1.0, 0.0]
  rows = [{"question": "?", "answer": puzzle, "response": text} for puzzle, text in (
    (COUNTDOWN, "3*7+5"), (json.dumps(COUNTDOWN), "<answer>(3 * 7) + 5</answer>"), (COUNTDOWN, "26"))]
  found = [json.loads(line) for line in run(tmp_path, capsys, "logic", rows)[1].splitlines()]
  assert [r["value"] for r in found] == [1.0, 1.0, 0.0]
  assert [r["id"] for r in found] == [1, 2, 3]  # the lines' numbers


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_code_in_its_three_forms(tmp_path, capsys):
  rows = [
    {"question": "double", "tests": [{"stdin": "3\n", "stdout": "6\n"}], "response": "```py\nprint(2*int(input()))\n```"},
    {"question": 'def f(x):\n  """one more"""\n', "test": "def check(c):\n  assert c(1) == 2\n", "entry_point": "f",
     "response": "  return x + 1\n"},
    {"question": "g", "test_list": ["assert g(2) == 4"], "response": "<answer>def g(x):\n  return x*x\n</answer>"},
    {"question": "g", "test_list": ["assert g(2) == 4"], "response": "import os; os._exit(0)"}]
  assert [json.loads(line)["value"] for line in run(tmp_path, capsys, "code", rows)[1].splitlines()] == [1.0, 1.0, 1.0, 0.0]


def test_bench_says_how_many_rows_a_second(tmp_path, capsys):
  status, out, _ = run(tmp_path, capsys, "maths", MATHS, ("bench", "rewards"), "--repeats", "3")
  found = json.loads(out)
  assert status == 0 and (found["rows"], found["repeats"], found["workers"], found["right"]) == (5, 3, 2, 0.6)
  rates = found["rows_per_second"]
  assert 0 < rates["min"] <= rates["median"] <= rates["max"]


@pytest.mark.parametrize(("kind", "row", "said"), [
  ("maths", "{not json\n", "not JSON"),
  ("maths", "[1]\n", "not a JSON object"),
  ("maths", {"answer": "4"}, "'response'"),
  ("maths", {"response": "4"}, "'answer'"),
  ("maths", {"answer": " ", "response": "4"}, "'answer'"),
  ("maths", {"answer": r"\frac{1}{", "response": "4"}, "cannot be read as mathematics"),
  ("choice", {"answer": "Q", "options": ["x", "y"], "response": "A"}, "Q"),
  ("logic", {"answer": {"puzzle": "chess"}, "response": "e4"}, "chess"),
  ("code", {"response": "print(1)"}, "no tests"),
])
def test_a_bad_row_is_refused_by_file_and_line(tmp_path, capsys, kind, row, said):
  good = {"maths": MATHS[0], "choice": {"answer": "A", "response": "A"}, "logic": {"answer": COUNTDOWN, "response": "x"},
          "code": {"test_list": ["assert f(1)"], "response": "x"}}[kind]
  status, out, err = run(tmp_path, capsys, kind, [good, row])
  assert status == 2 and out == ""
  assert "answers.jsonl:2" in err and said in err and err.count("\n") == 1


def test_a_missing_or_empty_file_and_bad_numbers_are_refused(tmp_path, capsys):
  assert run(tmp_path, capsys, "maths", [])[0] == 2
  assert main(["score", "--kind", "maths", "--answers", str(tmp_path / "gone.jsonl")]) == 2
  assert "gone.jsonl" in capsys.readouterr().err
  assert run(tmp_path, capsys, "maths", MATHS, ("score",), "--seconds", "0")[0] == 2


def test_where_an_answer_is_looked_for():
  assert candidates("\\boxed{3} <answer>4</answer>", "maths") == ["4"]
  assert candidates("<think>9</think>so\nit is 5", "maths") == ["so\nit is 5", "it is 5", "5"]
  assert candidates("<think>9</think>so\nB", "choice") == ["so\nB", "B"]
  assert candidates("x", "code") == ["x"]
