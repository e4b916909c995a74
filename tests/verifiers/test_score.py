"""`r1jax score` and `r1jax bench rewards`: rows in, verdicts out in order, and a bad row refused by file and line."""
import json
import os
import shutil
import subprocess
import sys

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


GOOD = {"maths": MATHS[0], "choice": {"answer": "A", "response": "A"}, "logic": {"answer": COUNTDOWN, "response": "x"},
        "code": {"test_list": ["assert f(1)"], "response": "x"}}


@pytest.mark.parametrize(("kind", "row", "said"), [
  ("maths", "{not json\n", "not JSON"), ("maths", "[" * 100_000 + "\n", "not JSON"), ("maths",
  '{"answer": 1' + "0" * 5000 + "}\n", "JSON"),
  ("maths", "[1]\n", "not a JSON object"),
  ("maths", {"answer": "4"}, "'response'"), ("code", {"test_list": ["assert f(1)"], "response": None}, "'response'"),
  ("choice", {"answer": "A", "response": "A", "question": 7}, "'question'"),
  ("maths", {"answer": "4", "response": "4", "expected": 2}, "'expected'"),
  ("maths", {"answer": "4", "response": "4", "expected": "1"}, "'expected'"),
  ("maths", {"answer": "4", "response": "4", "expected": [1]}, "'expected'"),
])
def test_a_row_that_is_none_is_refused_by_file_and_line(tmp_path, capsys, kind, row, said):
  status, out, err = run(tmp_path, capsys, kind, [GOOD[kind], row])
  assert status == 2 and out == ""
  assert "answers.jsonl:2" in err and said in err and err.count("\n") == 1


@pytest.mark.parametrize(("kind", "row", "said"), [
  ("maths", {"response": "4"}, "'answer'"), ("maths", {"answer": " ", "response": "4"}, "'answer'"),
  ("maths", {"answer": True, "response": "4"}, "'answer'"), ("maths", {"answer": {"a": 1}, "response": "4"}, "'answer'"),
  ("maths", {"answer": r"\frac{1}{", "response": "4"}, "cannot be read as mathematics"),
  ("choice", {"answer": "Q", "options": ["x", "y"], "response": "A"}, "Q"), ("choice", {"response": "A"}, "None"),
  ("choice", {"answer": "A", "options": 5, "response": "A"}, "neither a list nor an object"),
  ("choice", {"answer": "2", "options": {"A": "2", "B": "4"}, "response": "A"}, "A or B"),
  ("logic", {"answer": {"puzzle": "chess"}, "response": "e4"}, "chess"), ("logic", {"response": "e4"}, "'answer'"),
  ("logic", {"answer": {"puzzle": "countdown", "numbers": [1], "target": "1/0"}, "response": "1"}, "target"),
  ("logic", {"answer": {"puzzle": "countdown", "numbers": [1], "target": "1e999999999"}, "response": "1"}, "target"),
  ("code", {"response": "print(1)"}, "no tests"), ("code", {"tests": 5, "response": "x"}, "tests"),
  ("code", {"test_list": ["assert close(f(1), 1)"], "response": "x"}, "close, f"),
  ("code", {"test_list": ["assert f(1)"], "test_imports": 5, "response": "x"}, "test_imports"),
])
def test_a_row_that_cannot_judge_is_counted_and_the_others_are_judged(tmp_path, capsys, kind, row, said):
  if kind == "code" and shutil.which("bwrap") is None:
    pytest.skip("bubblewrap is not installed")
  status, out, err = run(tmp_path, capsys, kind, [GOOD[kind], {**row, "expected": 1}, GOOD[kind]])
  first, unusable, last = (json.loads(line) for line in out.splitlines())
  assert status == 0 and first["status"] == last["status"] != "unusable"
  assert unusable["status"] == "unusable" and unusable["value"] == 0.0
  assert "answers.jsonl:2" in unusable["why"] and said in unusable["why"]
  assert "1 unusable" in err and "1 false rejects (2)" in err


def test_agreement_with_what_is_expected(tmp_path, capsys):
  rows = [{"id": f"row {i}", "answer": "4", "response": f"<answer>{answer}</answer>", "expected": expected}
          for i, (answer, expected) in enumerate([("4", 1), ("5", 0), ("4", 0), ("5", True), ("4", 1.0)])]
  status, _, err = run(tmp_path, capsys, "maths", [*rows, GOOD["maths"]])
  assert status == 0 and "agreement 60.00% of 5 rows; 1 false accepts (row 2); 1 false rejects (row 3)" in err
  assert run(tmp_path, capsys, "maths", rows, ("score",), "--require", "0.61")[0] == 1
  assert run(tmp_path, capsys, "maths", rows, ("score",), "--require", "0.6")[0] == 0
  assert "agreement" not in run(tmp_path, capsys, "maths", MATHS)[2]
  for rows_, share in ((MATHS, "0.9"), (rows, "0"), (rows, "1.5"), (rows, "nan")):
    status, out, err = run(tmp_path, capsys, "maths", rows_, ("score",), "--require", share)
    assert status == 2 and out == "" and "--require" in err


def test_texts_of_any_size_and_kind(tmp_path, capsys):
  for kind, good in GOOD.items():
    if kind == "code" and shutil.which("bwrap") is None:
      continue
    texts = ["x" * 10**6, "<answer>" * 10**5, "```python\nx\n```\n" * 50_000, "(" * 10**6, "\ud800", "\x00", "", "9" * 10**6]
    status, out, _ = run(tmp_path, capsys, kind, ["\ufeff" + json.dumps(good) + "\n", *({**good, "id": "\udfff",
    "response": text} for text in texts)])
    assert status == 0 and [json.loads(line)["value"] for line in out.splitlines()[1:]] == [0.0] * len(texts)


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
  file = tmp_path / "answers.jsonl"
  file.write_text(json.dumps(GOOD["choice"]) + "\n" + (json.dumps(GOOD["choice"]) + "\n") * 3000)
  command = f"{sys.executable} -m r1jax score --kind choice --answers {file} --workers 1 | head -1"
  done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
  assert json.loads(done.stdout)["value"] == 1.0 and done.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
@pytest.mark.parametrize("verb", [["score", "--kind", "choice", "--workers", "1", "--answers"], ["explain", "--json"]])
def test_a_full_disk_is_one_line(tmp_path, verb):
  file = tmp_path / "answers.jsonl"
  file.write_text(json.dumps(GOOD["choice"]) + "\n")
  given = str(file) if verb[0] == "score" else os.path.join(os.path.dirname(__file__), "../../experiments/r1_zero_tiny.py")
  with open("/dev/full", "w") as full:
    done = subprocess.run([sys.executable, "-m", "r1jax", *verb, given], stdout=full, stderr=subprocess.PIPE, text=True)
  assert (done.returncode, done.stderr) == (
    74, "cannot write the output (No space left on device); start the same command again once it can\n")


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
