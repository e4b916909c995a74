"""Loaders: what rows of each form become, that right answers are judged right, what is refused, and real files."""
import base64
import collections
import gzip
import json
import os
import pickle
import shutil
import zlib
from pathlib import Path

import pytest

from r1jax.data.templates import Template
from r1jax.errors import InputError
from r1jax.evaluation.benchmarks import BENCHMARKS, JUDGED, judgeable, load, named, solutions
from r1jax.verifiers import verify

DATA = os.environ.get("R1JAX_DATA")
ROWS = {  # name -> (row, what the question begins with, a right response, a wrong one)
  "gsm8k": ({"question": "How many?", "answer": "2 * 600 = <<2*600=1200>>1200\n#### 1,200"}, "How many?",
            "\\boxed{1200}", "120"),
  "math500": ({"problem": "Half?", "answer": "\\frac12", "solution": "..", "level": 2}, "Half?",
              "\\boxed{0.5}", "\\boxed{2}"),
  "aime": ({"ID": "2024-I-1", "Problem": "Walk?", "Answer": 204}, "Walk?", "\\boxed{204}", "\\boxed{240}"),
  "own": ({"question": "3 + 4", "answer": 7}, "3 + 4", "\\boxed{7}", "\\boxed{8}"),
  "cmath": ({"question": "还剩多少页？", "answer": "9"}, "还剩多少页？", "\\boxed{9}", "\\boxed{90}"),
  "mmlu_stem": ({"question": "Why?", "type": "physics", "choices": ["No", "Yes", "Who", "You"], "answer": 2},
                "Why?\n\nA) No\nB) Yes\nC) Who\nD) You", "Answer: C", "Answer: B"),
  "aqua": ({"question": "How far?", "options": ["A)5(m)", "B)6", "C)7", "D)8", "E)None"], "correct": "B", "rationale": ".."},
           "How far?\n\nA) 5(m)\nB) 6\n", "Answer: B", "Answer: A"),
  "humaneval": ({"task_id": "HumanEval/0", "prompt": "def twice(x):\n  \"\"\"2 x\"\"\"\n", "entry_point": "twice",
                 "canonical_solution": "  return 2 * x", "test": "def check(candidate):\n  assert candidate(2) == 4"},
                "def twice", "```python\ndef twice(x):\n  return x + x\n```", "```python\ndef twice(x):\n  return x\n```"),
  "mbpp": ({"task_id": 11, "text": "Double.", "code": "..", "test_list": ["assert d(2) == 4"], "test_setup_code": ""},
           "Double. Your code should pass these tests:\n\nassert d(2) == 4", "```python\ndef d(x):\n  return 2 * x\n```",
           "```python\ndef d(x):\n  return x\n```"),
  "ifeval": ({"key": 1, "prompt": "Write.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
             "Write.", "so", "so, so"),
}
GPQA = {"Question": "Which?", "Correct Answer": "this", "Incorrect Answer 1": "that", "Incorrect Answer 2": "these",
        "Incorrect Answer 3": "those", "Explanation": "because"}


def packed(cases) -> str:
  return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases)))).decode()


LCB = {"question_content": "Double it.", "platform": "x", "starter_code": "",
       "public_test_cases": json.dumps([{"input": "3\n", "output": "6\n", "testtype": "stdin"}]),
       "private_test_cases": packed([{"input": "4\n", "output": "8\n", "testtype": "stdin"}]), "metadata": "{}"}
LCB_FUNCTION = {"question_content": "Double it.", "starter_code": "class Solution:\n  def twice(self, x: int) -> int:\n",
                "public_test_cases": json.dumps([{"input": "3\n", "output": "6", "testtype": "functional"}]),
                "private_test_cases": packed([{"input": "[4]\n", "output": "[4, 4]", "testtype": "functional"}]),
                "metadata": json.dumps({"func_name": "twice"})}


def jsonl(tmp_path, *rows, name="test.jsonl") -> Path:
  file = tmp_path / name
  file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
  return file


@pytest.mark.parametrize("name", ROWS)
def test_a_row_becomes_a_question_whose_right_answer_is_right(name, tmp_path):
  row, begins, right, wrong = ROWS[name]
  (question,) = load(BENCHMARKS[name], jsonl(tmp_path, row))
  assert question.text.startswith(begins) and question.kind == BENCHMARKS[name].kind
  assert question.id == f"{tmp_path.name}/test.jsonl:1"
  if question.kind == "code" and shutil.which("bwrap") is None:
    pytest.skip("bubblewrap is not installed")
  for response, expected in ((right, True), (wrong, False)):
    assert verify(question.kind, response, question.answer, question.text)[0] is expected


def test_options_of_gpqa_are_shuffled_by_the_question_alone(tmp_path):
  rows = [{**GPQA, "Question": f"Which of {i}?"} for i in range(60)]
  head = ",".join(GPQA)
  file = tmp_path / "gpqa_diamond.csv"
  file.write_text(head + "\n" + "".join(",".join(f'"{row[name]}"' for name in GPQA) + "\n" for row in rows))
  questions = load(BENCHMARKS["gpqa"], file)
  letters = collections.Counter(json.loads(q.answer)["answer"] for q in questions)
  assert set(letters) == set("ABCD") and max(letters.values()) < 30
  assert all(json.loads(q.answer)["options"][json.loads(q.answer)["answer"]] == "this" for q in questions)
  backwards = load(BENCHMARKS["gpqa"], jsonl(tmp_path, *reversed(rows)))
  assert [q.answer for q in reversed(backwards)] == [q.answer for q in questions]
  assert solutions(BENCHMARKS["gpqa"], file)[questions[0].id] == "because"


def test_programs_of_livecodebench_are_judged_by_public_and_private_tests(tmp_path):
  (question,) = load(BENCHMARKS["livecodebench"], jsonl(tmp_path, LCB))
  assert "standard input" in question.text
  assert [case["stdin"] for case in json.loads(question.answer)["tests"]] == ["3\n", "4\n"]


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_functions_of_livecodebench_are_methods_of_solution(tmp_path):
  (question,) = load(BENCHMARKS["livecodebench"], jsonl(tmp_path, LCB_FUNCTION))
  assert "def twice" in question.text
  program = "```python\nclass Solution:\n  def twice(self, x):\n    return {}\n```"
  assert verify("code", program.format("2 * x if isinstance(x, int) else x + x"), question.answer) == (True, "scored")
  assert verify("code", program.format("6"), question.answer)[0] is False


def test_a_pickle_that_calls_something_is_refused(tmp_path):
  class Shell:
    def __reduce__(self):
      return os.system, (f"touch {tmp_path}/called",)

  hostile = base64.b64encode(zlib.compress(pickle.dumps(Shell()))).decode()
  with pytest.raises(InputError, match="test.jsonl:1, test cases: cannot be read .it names .*system"):
    load(BENCHMARKS["livecodebench"], jsonl(tmp_path, {**LCB, "private_test_cases": hostile}))
  assert not (tmp_path / "called").exists()


def test_the_forms_that_a_judge_compares(tmp_path):
  arena = {"uid": "u1", "category": "x", "cluster": "y", "prompt": "Write a tune."}
  old = {"question_id": "q1", "turns": [{"content": "Write a song."}]}
  found = load(BENCHMARKS["arena_hard"], jsonl(tmp_path, arena, old))
  assert [(q.text, json.loads(q.answer), q.kind) for q in found] == [
    ("Write a tune.", {"uid": "u1"}, JUDGED), ("Write a song.", {"uid": "q1"}, JUDGED)]
  file = tmp_path / "alpaca_eval.json"
  file.write_text(json.dumps([{"instruction": "Who?", "output": "Nobody.", "generator": "g"}]))
  (question,) = load(BENCHMARKS["alpaca_eval"], file)
  assert (question.text, json.loads(question.answer)) == ("Who?", {"baseline": "Nobody."})
  assert judgeable(found) == found


def test_files_may_be_packed_and_have_line_separators_in_their_text(tmp_path):
  row = {"question": "a\u2028b", "answer": "#### 3"}
  file = tmp_path / "test.jsonl.gz"
  file.write_bytes(gzip.compress((json.dumps(row, ensure_ascii=False) + "\n\n").encode()))
  assert [q.text for q in load(BENCHMARKS["gsm8k"], file)] == ["a\u2028b"]


def test_only_the_test_split_of_mbpp_is_asked(tmp_path):
  rows = [{**ROWS["mbpp"][0], "task_id": i} for i in (10, 11, 510, 511)]
  assert [q.id[-1] for q in load(BENCHMARKS["mbpp"], jsonl(tmp_path, *rows))] == ["2", "3"]


def test_what_is_asked_stands_inside_the_models_own_template():
  around = Template("User: {question} Assistant:", prefill="<think>")
  found = BENCHMARKS["gsm8k"].template(around)
  asked = "Please reason step by step, and put your final answer within \\boxed{}."
  assert found.text == f"User: {{question}}\n{asked} Assistant:"
  assert found.prefill == "<think>"


@pytest.mark.parametrize(("name", "row", "said"), [
  ("gsm8k", {"question": "How many?", "answer": "1200"}, "test.jsonl:2, answer.*####"),
  ("gsm8k", {"question": "How many?"}, "test.jsonl:2: no answer in it"),
  ("math500", {"problem": "Half?", "answer": " "}, "test.jsonl:2: answer is ' '"),
  ("math500", {"problem": "Half?", "answer": None}, "no answer"),
  ("math500", ["Half?"], "not a JSON object"),
  ("mmlu_stem", {"question": "Why?", "choices": ["a", "b"], "answer": 4}, "test.jsonl:2, answer.*4"),
  ("mmlu_stem", {"question": "Why?", "answer": 1}, "test.jsonl:2, options: None"),
  ("humaneval", {"prompt": "def f():", "entry_point": "f"}, "no test in it"),
  ("mbpp", {"task_id": 11, "text": "Double."}, "test_list: None"),
  ("ifeval", {"prompt": "Write."}, "no instruction_id_list"),
  ("livecodebench", {**LCB, "public_test_cases": "[", "private_test_cases": ""}, "test cases: cannot be read"),
  ("livecodebench", {**LCB, "public_test_cases": "[]", "private_test_cases": "[]"}, "there are none"),
  ("livecodebench", {**LCB_FUNCTION, "metadata": "{}"}, "names no function"),
  ("alpaca_eval", {"instruction": "Who?"}, "no output in it"),
  ("arena_hard", {"prompt": "Who?"}, "no uid or question_id in it"),
])
def test_a_damaged_row_is_refused_by_its_line(name, row, said, tmp_path):
  good = {**ROWS, "livecodebench": (LCB,), "alpaca_eval": ({"instruction": "a", "output": "b"},),
          "arena_hard": ({"uid": "u", "prompt": "a"},)}[name][0]
  with pytest.raises(InputError, match=said):
    load(BENCHMARKS[name], jsonl(tmp_path, good, row))


def test_answers_that_cannot_judge_are_refused_with_their_number_or_left_out(tmp_path):
  rows = [{"problem": "Prove it.", "answer": answer} for answer in ("1", "proof", "2", "N/A")]
  questions = load(BENCHMARKS["math500"], jsonl(tmp_path, *rows))
  with pytest.raises(InputError, match="test.jsonl:2.*2 of 4 answers cannot judge.*--drop_unusable"):
    judgeable(questions)
  assert [q.answer for q in judgeable(questions, drop=True)] == ["1", "2"]


@pytest.mark.parametrize(("content", "said"), [
  (None, "no such file"), (b"", "no question"), (b"{", "test.jsonl:1: not JSON"),
  (b"\xff", "test.jsonl:1: byte 0xff is not UTF-8")])
def test_a_damaged_file_is_refused(content, said, tmp_path):
  file = tmp_path / "test.jsonl"
  if content is not None:
    file.write_bytes(content)
  with pytest.raises(InputError, match=said):
    load(BENCHMARKS["gsm8k"], file)


def test_benchmarks_are_named_with_their_file_or_found_in_a_folder(tmp_path):
  (tmp_path / "gsm8k").mkdir()
  assert named("gsm8k", tmp_path) == (BENCHMARKS["gsm8k"], tmp_path / "gsm8k/test.jsonl")
  assert named("gsm8k", tmp_path / "mine.jsonl")[1] == tmp_path / "mine.jsonl"
  assert named("aime=a=b.jsonl", tmp_path)[1] == Path("a=b.jsonl")
  for text, folder, said in (("mmlu", tmp_path, "Known benchmarks: gsm8k"), ("gsm8k", None, "--benchmark gsm8k=FILE")):
    with pytest.raises(InputError, match=said):
      named(text, folder)


# MBPP's test split is 500 of 974 rows. Five gold answers of AQuA, MATH-500 and others may say nothing that can be compared.
SIZES = {"gsm8k": 1319, "math500": 500, "cmath": 600, "mmlu_stem": 3018, "aqua": 254, "humaneval": 164, "mbpp": 500,
         "ifeval": 541, "arena_hard": 500}


@pytest.mark.skipif(DATA is None, reason="R1JAX_DATA is not set")
@pytest.mark.parametrize("name", SIZES)
def test_real_files_are_read_whole(name):
  benchmark, file = named(name, DATA)
  questions = load(benchmark, file)
  assert len(questions) == SIZES[name] == len({q.id for q in questions})
  if benchmark.kind not in ("code", "instructions"):
    assert len(judgeable(questions)) == SIZES[name]
  assert bool(solutions(benchmark, file)) == bool(benchmark.solution)
