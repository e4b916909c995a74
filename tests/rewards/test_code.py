"""Programs judged by their tests: the three forms, what a verdict says, and the canonical solutions of real sets."""

import gzip
import json
import os
import shutil
from pathlib import Path

import pytest

from r1jax.errors import InputError
from r1jax.rewards.code import CodeJudge, CodeTests, extract_program, read_tests, same_output
from r1jax.rewards.sandbox import Limits, Sandbox
from r1jax.rewards.score import SCORED, TIMED_OUT, UNPARSABLE

needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
needs_data = pytest.mark.skipif("R1JAX_DATA" not in os.environ, reason="R1JAX_DATA names no folder of data sets")


@pytest.fixture(scope="module")
def judge():
  return CodeJudge(Sandbox(), Limits(cpu_seconds=2.0, wall_seconds=4.0), deadline_seconds=20.0)


@pytest.mark.parametrize(("response", "program"), [
  ("```python\nx = 1\n```", "x = 1\n"),
  ("<think>```python\nold\n```</think>text\n```py\na\n```\nthen\n```python\nb\n```", "b\n"),
  ("<answer>print(1)</answer>", "print(1)"),
  ("```\nplain\n```", "plain\n"),
  ("```python\nnever closed", "never closed"),
  ("x = 2", "x = 2"),
  ("", None),
  ("```python\n\n```", None),
])
def test_where_the_program_is(response, program):
  found = extract_program(response)
  assert (found and found.strip()) == (program and program.strip())


DOUBLE = CodeTests(cases=(("3\n", "6\n"), ("-4", "-8")))


@needs_bwrap
@pytest.mark.parametrize(("response", "verdict"), [
  ("print(2 * int(input()))", (True, SCORED)),
  ("print(2 * int(input()), end='  \\n\\n')", (True, SCORED)),
  ("print(6)", (False, SCORED)),
  ("print(1 / 0)", (False, SCORED)),
  ("while True: pass", (False, TIMED_OUT)),
  ("this is no program", (False, UNPARSABLE)),
  ("", (False, UNPARSABLE)),
])
def test_contest_programs(judge, response, verdict):
  assert judge.judge(response, DOUBLE) == verdict


@needs_bwrap
@pytest.mark.parametrize(("body", "verdict"), [("  return x + 1\n", (True, SCORED)), ("  return x\n", (False, SCORED))])
def test_functions_complete_or_continued(judge, body, verdict):
  prompt = 'def f(x):\n  """One more."""\n'
  tests = CodeTests(test="def check(c):\n  assert c(1) == 2\n  assert c(0.5) == 1.5\n", entry_point="f")
  assert judge.judge(body, tests, question=prompt) == verdict
  assert judge.judge(prompt + body, tests) == verdict
  assert judge.judge(prompt + body, CodeTests(test="assert f(1) == 2\nassert f(7) == 8")) == verdict


def test_output_is_compared_by_words():
  assert same_output(b"1 2\n3 \n", "1 2\n3") and not same_output(b"1 2 4", "1 2 3") and not same_output(b"\xff", "1")


@pytest.mark.parametrize("row", [
  {}, {"tests": []}, {"tests": "x"}, {"tests": [{"stdin": 1, "stdout": ""}]}, {"test": "assert"},
  {"test_list": ["assert ("]},
  {"tests": [{"stdin": "", "stdout": ""}], "test_list": ["assert True"]},
])
def test_bad_tests_are_refused_by_their_line(row):
  with pytest.raises(InputError) as caught:
    read_tests(row, "a.jsonl:3")
  assert caught.value.where.startswith("a.jsonl:3")


def human_eval():
  path = Path(os.environ["R1JAX_DATA"]) / "humaneval" / "HumanEval.jsonl.gz"
  for line in gzip.decompress(path.read_bytes()).decode("utf-8").splitlines():
    row = json.loads(line)
    yield row["task_id"], row, row["canonical_solution"], row["prompt"]


def mbpp():
  path = Path(os.environ["R1JAX_DATA"]) / "mbpp" / "mbpp.jsonl"
  for line in path.read_text(encoding="utf-8").splitlines():
    row = json.loads(line)
    yield row["task_id"], row, row["code"], ""


@needs_bwrap
@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("problems", [human_eval, mbpp], ids=["HumanEval", "MBPP"])
def test_canonical_solutions_pass_and_do_nothing_fails(problems):
  judge = CodeJudge(Sandbox(), deadline_seconds=60.0)
  wrong, passed = [], []
  for name, row, solution, prompt in problems():
    tests = read_tests(row, str(name))
    if judge.judge(solution, tests, question=prompt) != (True, SCORED):
      wrong.append(name)
    nothing = f"{prompt}  pass\n" if prompt else "def nothing(*_):\n  pass\n"
    if judge.judge(nothing, tests)[0]:
      passed.append(name)
  assert wrong == [] and passed == []
