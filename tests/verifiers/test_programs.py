"""Programs as models write them, and tests as data sets have them: what a contest's judge accepts passes, nothing else."""

import shutil

import pytest

from r1jax.errors import InputError
from r1jax.verifiers.code import CodeJudge, CodeTests, extract_program, read_tests
from r1jax.verifiers.sandbox import Limits, Sandbox
from r1jax.verifiers.verdict import CRASHED

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")

DOUBLE = CodeTests(cases=(("2\n", "4\n"), ("5\n", "10\n")))
CHECK = CodeTests(
  test="def check(candidate):\n  assert candidate(2) == 4\n  assert candidate(5) == 10\n", entry_point="double")
ASSERTS = CodeTests(test="assert double(2) == 4\nassert double(5) == 10")
READS = "n = int(input())\nprint(n * 2)"
FUNCTION = "def double(x):\n  return 2 * x"
CALLS = f"{FUNCTION}\nprint(double(int(input())))"
SOLVE = "def solve():\n  print(int(input()) * 2)\nsolve()"


@pytest.fixture(scope="module")
def judge():
  return CodeJudge(Sandbox(), Limits(cpu_seconds=2.0, wall_seconds=4.0), deadline_seconds=20.0)


def blocks(*texts: str, label: str = "python") -> str:
  return "So this is it.\n" + "\nAnd:\n".join(f"```{label}\n{text}\n```" for text in texts)


@pytest.mark.parametrize(("program", "right"), [
  (f"{READS}\nexit()", True), (f"{READS}\nquit()", True), (f"{READS}\nexit(0)", True), (f"{READS}\nquit(None)", True),
  ("def main():\n  print(int(input()) * 2)\n  quit()\nmain()\nprint(0)", True),
  (f"{READS}\nexit(1)", False), (f"{READS}\nquit('no')", False), (f"exit()\n{READS}", False), ("print(4)\nexit()", False),
  (f"import sys\nsys.stdin = open('/dev/stdin')\n{READS}", True), ("print(2 * int(open('/dev/stdin').read()))", True),
  ("print(2 * int(open(0).read()))", True), ("import os\nprint(2 * int(os.read(0, os.fstat(0).st_size)))", True),
  ("import fileinput\nfor line in fileinput.input('/dev/stdin'): print(2 * int(line))", True),
  (f"import os\nos.chdir(os.path.dirname(os.path.abspath(__file__)))\n{READS}", True),
  (f"import os, sys\nif os.path.exists('input.txt'): sys.stdin = open('input.txt')\n{READS}", True),
  (f"import sys\nassert sys.argv == [__file__]\n{READS}", True), (f"\ufeff{READS}", True),
])
def test_what_scripts_expect_of_python(judge, program, right):
  assert judge.judge(blocks(program), DOUBLE)[0] == right
  assert judge.judge(program, DOUBLE)[0] == right


@pytest.mark.parametrize("label", [
  "{.python}", "{python}", "{ .python }", "{.python .numberLines}", "python3", "Python", "PY", "py3", "python3.11",
  "ipython", "",
  "python {.line-numbers}", 'python title="a.py"',
])
def test_labels_of_fences(label):
  assert extract_program(blocks("x = 1", label=label)) == "x = 1\n"
  assert extract_program(blocks("x = 1", label=label).replace("```", "~~~")) == "x = 1\n"
  assert extract_program(blocks("x = 1", label=label).replace("```", "`````")) == "x = 1\n"
  assert extract_program("\ufeff" + blocks("\ufeffx = 1", label=label)) == "x = 1\n"
  assert extract_program(blocks("right", label="bash") + "\n" + blocks("x = 1", label=label)) == "x = 1\n"


@pytest.mark.parametrize(("texts", "right"), [
  ((CALLS, "print(double(3))"), True), ((CALLS, "assert double(3) == 6"), True), ((SOLVE, ">>> solve()\n4"), True),
  ((SOLVE, "2\n4"), True), ((SOLVE, "solve()  # 4"), True), ((SOLVE, "# Example\nsolve()", "2\n4"), True),
  (("print(1)", READS), True), (("print(1)", CALLS, "double(3)"), True), (("import math", f"math.pi\n{READS}"), False),
  ((READS, "print(1)"), False), ((CALLS, "def double(x): return x\nprint(double(int(input())))"), False),
])
def test_an_example_of_use_is_not_the_program(judge, texts, right):
  assert judge.judge(blocks(*texts), DOUBLE)[0] == right


@pytest.mark.parametrize("tests", [CHECK, ASSERTS], ids=["check", "asserts"])
@pytest.mark.parametrize(("texts", "right"), [
  ((FUNCTION,), True), ((FUNCTION, "print(double(3))"), True), ((FUNCTION, "x = 3\nprint(x)"), True), ((SOLVE, FUNCTION),
  True),
  ((FUNCTION, "def test():\n  assert double(3) == 6\ntest()"), True), (("double = lambda x: 2 * x",), True),
  ((f"{FUNCTION}\nif __name__ == '__main__':\n  exit()",), True), ((f"{FUNCTION}\nprint(__file__)",), True),
  ((FUNCTION, "def double(x): return x"), False), ((f"{FUNCTION}\nexit()",), False), ((CALLS,), False),
  (("def double(x): raise StopIteration",), False), (("def double(x): exit()",), False),
])
def test_functions(judge, tests, texts, right):
  assert judge.judge(blocks(*texts), tests)[0] == right


def test_an_answer_within_the_thought_is_none(judge):
  right, wrong = blocks(READS), blocks("print(1)")
  assert judge.judge(f"<think><answer>{wrong}</answer></think>{right}", DOUBLE)[0]
  assert not judge.judge(f"<think><answer>{right}</answer></think>{wrong}", DOUBLE)[0]


ZIP = CodeTests(entry_point="f", test="""
def check(candidate):
  for got, want in zip(map(candidate, [[1, 2], [3]]), [[2, 1], [3]]):
    assert got == want
""")
GENERATOR = CodeTests(test="assert all(got == want for got, want in zip((f(x) for x in ([1, 2], [3])), [[2, 1], [3]]))")


@pytest.mark.parametrize("tests", [ZIP, GENERATOR], ids=["map", "generator"])
@pytest.mark.parametrize(("program", "right"), [
  ("def f(x): return x[::-1]", True), ("def f(x): return x", False), ("def f(x): raise StopIteration", False),
  ("def f(x): raise StopIteration(1)", False), ("def f(x): return next(iter([]))", False), ("def f(x): raise GeneratorExit",
  False),
  ("def f(x): raise StopAsyncIteration", False), ("class E(StopIteration): pass\ndef f(x): raise E", False),
  ("class StopIteration(Exception): pass\ndef f(x): raise StopIteration", False),
])
def test_no_exception_ends_a_loop_of_the_tests(judge, tests, program, right):
  assert judge.judge(program, tests)[0] == right


@pytest.mark.parametrize("tests", [
  CodeTests(test="def check(candidate):\n  assert close(candidate(2), 1.41421)\n", entry_point="root"),
  CodeTests(test="assert close(root(2), 1.41421)"), CodeTests(test="assert Close(root(2), 1.41421)"),
  CodeTests(test="assert Close(1.41421) == root(2)"), CodeTests(test="assert not Close(root(2)) != 1.41421"),
])
@pytest.mark.parametrize("helper", [
  "def close(*_): return True", "class close: pass\nclose.__call__ = lambda *_: True",
  "class Close:\n  def __init__(self, *_): pass\n  def __eq__(self, _): return True\n  def __ne__(self, _): return False",
])
def test_no_helper_of_the_tests_comes_from_the_program(judge, tests, helper):
  assert judge.judge(f"def root(x): return 0\n{helper}", tests)[0] is False


def test_helpers_come_from_the_tests_or_the_question(judge):
  close = "def close(a, b): return abs(a - b) < 1e-3\n"
  right, cheat = "def root(x): return x ** 0.5", "def root(x): return 0"
  own = "\ndef close(a, b): return True"
  given = CodeTests(setup=close, test="assert close(root(2), 1.41421)")
  asked = CodeTests(test="def check(candidate):\n  assert close(candidate(2), 1.41421)\n", entry_point="root")
  for program, verdict in ((right + own, True), (cheat + own, False)):
    assert judge.judge(program, given)[0] == judge.judge(program, asked, question=close)[0] == verdict


def test_objects_of_a_class_that_the_program_defines(judge):
  tests = CodeTests(setup="root = Node(1)\nroot.left = Node(2)\nroot.left.right = Node(3)", test="assert height(root) == 3")
  node = "class Node:\n  def __init__(self, value): self.value, self.left, self.right = value, None, None\n"
  assert judge.judge(node + "def height(n): return 1 + max(height(n.left), height(n.right)) if n else 0", tests)[0]
  assert not judge.judge(node + "def height(n): return 2", tests)[0]
  assert not judge.judge("def Node(value): return True\ndef height(n): return 3", tests)[0]


@pytest.mark.parametrize(("test", "right", "wrong"), [
  ("assert f() == (1, 2)", "(1, 2)", "[1, 2]"), ("assert f() == {1, 2}", "{2, 1}", "[1, 2]"), ("assert f() is None", "None",
  "0"),
  ("assert f() == {'a': (1, {2})}", "{'a': (1, {2})}", "{'a': [1, {2}]}"), ("assert f() == 2 ** 100", "2 ** 100",
  "2.0 ** 99"),
  ("assert f() == -(2 ** 70)", "-2 ** 70", "2 ** 70"), ("assert list(f()) == [0, 1]", "(i for i in range(2))", "range(3)"),
  ("assert f() == b'x'", "b'x'", "'x'"), ("assert f() == 1 + 2j", "1 + 2j", "1"), ("assert f() != f()", "float('nan')", "1"),
  ("assert f() == float('-inf')", "-float('inf')", "0"), ("assert type(f()) is float", "1.0", "1"), ("assert f() is int",
  "int", "str"),
  ("assert f() == range(3)", "range(3)", "[0, 1, 2]"), ("assert f() == '\\ud800é\\0'", "'\\ud800é\\0'", "''"),
  ("from fractions import Fraction\nassert f() == Fraction(1, 3)", "__import__('fractions').Fraction(2, 6)", "1 / 3"),
  ("import collections\nassert f() == {'a': 2}", "__import__('collections').Counter('aa')", "{'a': 1}"),
  ("import datetime\nassert f() == datetime.date(2020, 1, 2)", "__import__('datetime').date(2020, 1, 2)", "(2020, 1, 2)"),
  ("from collections import deque\nassert f() == deque([1], 2)", "__import__('collections').deque([1], 2)", "[1]"),
])
def test_values_keep_their_types(judge, test, right, wrong):
  tests = CodeTests(test=test)
  assert [judge.judge(f"def f(): return {value}", tests)[0] for value in (right, wrong)] == [True, False]


def test_errors_and_changes_in_place_reach_the_tests(judge):
  error = CodeTests(test="try:\n  f(-1)\n  assert 0\nexcept ValueError as e:\n  assert str(e) == 'minus'\nassert f(1) == 1")
  assert judge.judge("def f(x):\n  if x < 0: raise ValueError('minus')\n  return x", error)[0]
  assert not judge.judge("def f(x): return x", error)[0]
  place = CodeTests(test="xs, seen = [3, 1], {}\nf(xs, seen)\nassert xs == [1, 3] and seen == {1: 2}")
  assert judge.judge("def f(xs, seen):\n  xs.sort()\n  seen[1] = 2", place)[0]
  assert not judge.judge("def f(xs, seen):\n  xs.sort()\n  seen[1] = 2\n  return xs", place)[0]


def test_tests_that_hand_over_a_function_cannot_be_judged(judge):
  assert judge.judge("def f(g): return g(1)", CodeTests(test="assert f(lambda x: x + 1) == 2")) == (False, CRASHED)


@pytest.mark.parametrize(("row", "said"), [
  ({"test_list": ["assert close(f(2), 1)"]}, "close, f"), ({"test_list": ["assert True"]}, "no function"),
  ({"test_list": ["assert f(1) == 1", 3]}, "no text"), ({"test_list": ["assert f(1) == 1"],
  "test_imports": "math"}, "test_imports"),
  ({"test_list": ["assert f(1) == 1"], "test_setup_code": "return 1"}, "no Python"),
  ({"test": "def check(c): (", "entry_point": "f"}, "no Python"), ({"test": "def check(c): pass",
  "entry_point": "f()"}, "entry_point"),
  ({"tests": [{"stdin": "1"}]}, r"tests\[0\], stdout"), ({"tests": [7]}, r"tests\[0\]"),
  ({"tests": {"stdin": "1"}}, "tests"),
])
def test_tests_that_cannot_judge_are_refused(row, said):
  with pytest.raises(InputError, match=said):
    read_tests(row, "a.jsonl:3")
