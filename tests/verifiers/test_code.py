"""Programs judged by their tests: the three forms, what a verdict says, and the canonical solutions of real sets."""

import ast
import gzip
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from r1jax.errors import InputError
from r1jax.verifiers.code import CodeJudge, CodeTests, extract_program, read_tests, same_output
from r1jax.verifiers.sandbox import Limits, Sandbox
from r1jax.verifiers.verdict import SCORED, TIMED_OUT, UNPARSABLE

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


class _Mutation(ast.NodeTransformer):
  """Changes the `place`-th spot that can be changed: an operator, a comparison, a constant, a condition, a result."""

  SWAPS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
           ast.Lt: ast.GtE, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
           ast.And: ast.Or, ast.Or: ast.And}

  def __init__(self, place: int):
    self.place, self.seen = place, 0

  def _here(self) -> bool:
    self.seen += 1
    return self.seen == self.place + 1

  def visit(self, node):
    node = self.generic_visit(node)
    swap = self.SWAPS.get(type(node))
    if swap and self._here():
      return swap()
    if isinstance(node, ast.Constant) and type(node.value) is int and self._here():
      return ast.Constant(node.value + 1)
    if isinstance(node, ast.Return) and node.value is not None and self._here():
      return ast.Return(ast.Constant(None))
    return node


def mutants(program: str, wanted: int = 5) -> list[str]:
  """Up to `wanted` programs that differ from this one in one spot, spread over it."""
  counter = _Mutation(-1)
  counter.visit(ast.parse(program))
  places = sorted({i * counter.seen // wanted for i in range(wanted)}) if counter.seen else []
  return [ast.unparse(ast.fix_missing_locations(_Mutation(place).visit(ast.parse(program)))) for place in places]


def passes_outright(program: str, tests: CodeTests) -> bool:
  """What plain Python says: the program and its asserts in one file. For code that can be trusted."""
  call = f"\ncheck({tests.entry_point})\n" if tests.entry_point else "\n"
  source = f"{program}\n{tests.setup}\n{tests.test}{call}"  # some setups build what the program defines
  try:
    return subprocess.run([sys.executable, "-I", "-S", "-c", source], capture_output=True, timeout=10).returncode == 0
  except subprocess.TimeoutExpired:
    return False


# Mutants that change a helper of the question, poly or encode_shift, which the tests use too: plain Python runs the tests
# with the changed one, the judge with the question's, and says the opposite.
HELPER_CHANGED = {("HumanEval/32", 0), ("HumanEval/50", 0), ("HumanEval/50", 1), ("HumanEval/50", 2)}


@needs_bwrap
@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("problems", [human_eval, mbpp], ids=["HumanEval", "MBPP"])
def test_mutants_get_the_verdict_of_plain_python(problems):
  """A mutant that changes no output passes; every other one fails."""
  judge = CodeJudge(Sandbox(), deadline_seconds=30.0)

  def differs(problem) -> tuple[list, int]:
    name, row, solution, prompt = problem
    tests, found, failed = read_tests(row, str(name)), [], 0
    for i, mutant in enumerate(mutants(prompt + solution)):
      right = passes_outright(mutant, tests)
      failed += not right
      if judge.judge(mutant, tests, question=prompt)[0] != (right != ((name, i) in HELPER_CHANGED)):
        found.append((name, i, right))
    return found, failed

  with ThreadPoolExecutor(2) as threads:
    results = list(threads.map(differs, problems()))
  assert [found for founds, _ in results for found in founds] == []
  assert sum(failed for _, failed in results) > 3 * len(results)


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
