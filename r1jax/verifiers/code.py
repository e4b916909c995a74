"""Programs judged by their tests, in sandboxes: contest tests by what they print, asserts by what their functions return.

A verdict is (passed, status). Passed: every test passed. Status, of `r1jax.verifiers.verdict`: "unparsable" (no program in
the response, or no Python), "timed_out" (a test's CPU or wall seconds, or the deadline), "crashed" (the sandbox or the
tests themselves failed), otherwise "scored": wrong output, an exception, an exit status other than 0, too much memory or
output are all a wrong answer.

What a program cannot do to its verdict:
* see what is expected. Printed output is compared here, outside of the sandbox; asserts are evaluated in a second sandbox
  that sends calls as JSON to the first and compares what comes back (`r1jax.verifiers.asserts`). Frames, /proc, descriptors,
  environment and files hold nothing;
* change the comparison. Patched builtins, an AssertionError of its own, `__eq__` that says yes, sys.modules, tracing,
  atexit, exit and os._exit all happen in an interpreter that compares nothing;
* supply what tests use beside the function under test: a helper that neither they nor the question define is an error of
  theirs. Only classes (capitalised names) come from the program, whose objects tests can build and pass to it, no more;
* outlast it, or leave something behind: `r1jax.verifiers.sandbox`.
What it can: know the tests by heart, answer by trial what a weak test accepts (`assert f(x)` is passed by returning
True; tests whose expected side calls the solution again trust it twice), and anything that a wrong but fast program does.
Tests of randomised or floating-point output are compared token by token as text: no tolerance, no special judges.
"""

import keyword
import math
import os
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from r1jax.errors import InputError
from r1jax.verifiers import asserts, sandbox
from r1jax.verifiers.inside import EXIT_UNPARSABLE
from r1jax.verifiers.names import names_under_test, program_of
from r1jax.verifiers.sandbox import Limits, Process, Sandbox
from r1jax.verifiers.tags import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE
from r1jax.verifiers.verdict import CRASHED, SCORED, TIMED_OUT, UNPARSABLE, Verdict

MAX_PROGRAM = 1 << 18  # characters; ours
REFERENCE_SECONDS = 0.050  # of _WORK on the machine where the default limits were chosen: 2 vCPUs of a 2020s server
MAX_SCALE = 10.0  # a machine slower than this is taken for busy; ours
_WORK = """
import time
best = 1e9
for _ in range(3):
  began, total, table = time.process_time(), 0, {}
  for i in range(300_000):
    total += i * i % 7
    table[i & 1023] = total
  best = min(best, time.process_time() - began)
print(best)
"""
_FENCE = re.compile(r"\s*(`{3,}|~{3,})\s*([^`]*)$")
_PYTHON_LABEL = re.compile(r"[{.\s]*(?:i?python|py)(?:[23](?:\.\d+)?)?\b")


@dataclass(frozen=True)
class CodeTests:
  """The tests of one question: `cases`, or `test` with an entry point (HumanEval) or without one (MBPP).

  cases: (stdin, expected stdout) pairs. test: Python that defines check(candidate), or asserts. setup: Python to run
  before `test`, not seen by the program either.
  """

  cases: tuple[tuple[str, str], ...] = ()
  test: str = ""
  setup: str = ""
  entry_point: str = ""


@lru_cache(maxsize=1024)
def names_of(tests: CodeTests) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """What asserts take from the program, and what nobody but the question may define: see `names_under_test`."""
  return names_under_test(tests.setup, tests.test, tests.entry_point)


def read_tests(row: Mapping, where: str) -> CodeTests:
  """The tests in a row of data: `tests`, `test` and `entry_point`, or `test_list` (`test_setup_code`, `test_imports`).

  where: file and line, for the InputError that is raised when they are missing, ambiguous, of a wrong type or no Python.
  """
  forms = [name for name in ("tests", "test", "test_list") if row.get(name)]
  if len(forms) != 1:
    remedy = 'Give one of "tests" ([{"stdin", "stdout"}, ...]), "test" with "entry_point", or "test_list".'
    raise InputError(where, f"{', '.join(forms) or 'no tests'} in the row", remedy)
  if forms == ["tests"]:
    return CodeTests(cases=tuple(_case(case, f"{where}, tests[{i}]") for i, case in enumerate(_list(row, "tests", where))))
  if forms == ["test"]:
    entry = _text(row, "entry_point", where)
    if not entry.isidentifier() or keyword.iskeyword(entry):
      raise InputError(f"{where}, entry_point", f"{entry!r}", "Give the name of the function under test.")
    tests = CodeTests(test=_text(row, "test", where), entry_point=entry)
  else:
    imports = _list(row, "test_imports", where) if row.get("test_imports") else []
    setup = [*imports, row.get("test_setup_code") or ""]
    asserts = _list(row, "test_list", where)
    if not all(isinstance(part, str) for part in (*asserts, *setup)):
      raise InputError(f"{where}, test_list", "a part of it or of its setup is no text", "Give Python as text.")
    tests = CodeTests(test="\n".join(asserts), setup="\n".join(setup))
  try:
    names_of(tests)
  except InputError as error:
    raise InputError(f"{where}, {error.where}", error.found, error.remedy) from None
  return tests


def extract_program(response: str, prefill: str = "", names: Sequence[str] = ()) -> str | None:
  """The program in a response; None when there is none.

  Looked for in what follows the last `</think>`, there in the last complete `<answer>` block if there is one. It is the last
  fenced block marked python or py, in any spelling; or the last unmarked one; or, where nothing is fenced, all of the text.
  Blocks after it that only show how it is used are passed over, and blocks that do not define `names` where another does. A
  last fence that is never closed reaches to the end. Linear in the length of the text.
  """
  text = _answer(prefill + response).replace("\ufeff", "")
  blocks = _fenced(text)
  for wanted in (_PYTHON_LABEL.match, lambda label: not label):
    bodies = [body for label, body in blocks if wanted(label)]
    if bodies:
      body = program_of(bodies, names)
      return body if body.strip() else None
  return text if text.strip() and not blocks else None


class CodeJudge:
  """Judges responses by running them in `box`, at most `parallel` sandboxes at a time for each call of `judge`.

  limits: of one test's run; `cpu_seconds` and `wall_seconds` are multiplied by `scale`, by default `calibrate(box)`,
  which is 1 or more. deadline_seconds: for a verdict, whatever the number of tests; it comes at most a second later.
  Asserts of one question are one test: a solution and its judge, two sandboxes. Safe to call from several threads.
  """

  def __init__(
    self,
    box: Sandbox,
    limits: Limits | None = None,
    parallel: int = 2,
    deadline_seconds: float = 30.0,
    scale: float | None = None,
  ):
    for name, value in (("parallel", parallel), ("deadline_seconds", deadline_seconds), ("scale", scale or 1)):
      if not 0 < value < math.inf:
        raise InputError(f"CodeJudge.{name}", f"{value!r}", "Give a finite number greater than 0.")
    limits = limits or Limits()
    self.scale = scale or calibrate(box)
    self.box, self.parallel, self.deadline_seconds = box, parallel, deadline_seconds
    self.limits = replace(
      limits, cpu_seconds=limits.cpu_seconds * self.scale, wall_seconds=limits.wall_seconds * self.scale)

  def judge(self, response: str, tests: CodeTests, question: str = "", prefill: str = "") -> Verdict:
    """(passed, status) of one response. Raises nothing.

    question: a response that only continues the question's code (HumanEval) is put after it.
    """
    deadline = time.monotonic() + self.deadline_seconds
    try:
      names = () if tests.cases else names_of(tests)[0]
      program = extract_program(response, prefill, names)
      if program is None or len(program) > MAX_PROGRAM:
        return False, UNPARSABLE
      if tests.cases:
        return self._judge_cases(program, tests.cases, deadline)
      return self._judge_asserts(program, tests, _prompt(question), deadline)
    except Exception:  # no descriptors or processes left on this machine
      return False, CRASHED

  def _judge_cases(self, program: str, cases: tuple[tuple[str, str], ...], deadline: float) -> Verdict:
    waiting = deque(cases)
    running: list[tuple[Process, str]] = []
    try:
      while waiting or running:
        while waiting and len(running) < self.parallel:
          stdin, expected = waiting.popleft()
          job = {"role": "program", "source": program}
          running.append((self.box.start(job, self.limits, stdin.encode("utf-8", "surrogatepass")), expected))
        sandbox.wait([process for process, _ in running], deadline)
        for process, expected in [item for item in running if item[0].ended]:
          running.remove((process, expected))
          passed, status = _verdict_on_output(process.result, expected)
          if not passed:
            return False, status
        if time.monotonic() >= deadline:
          return False, TIMED_OUT
    finally:
      for process, _ in running:
        process.kill()
    return True, SCORED

  def _judge_asserts(self, program: str, tests: CodeTests, prompt: str, deadline: float) -> Verdict:
    from_judge, to_solution = os.pipe()
    from_solution, to_judge = os.pipe()
    pipes = (from_judge, to_solution, from_solution, to_judge)
    solution_job = {"role": "solution", "source": program, "prompt": prompt, "reader": from_judge, "writer": to_judge}
    names, unknown = names_of(tests)
    judge_job = {
      "role": "judge", "test": tests.test, "setup": tests.setup, "entry_point": tests.entry_point, "prompt": prompt,
      "names": list(names), "unknown": list(unknown), "reader": from_solution, "writer": to_solution,
    }  # fmt: skip
    processes = []
    try:
      try:
        for job in (judge_job, solution_job):
          processes.append(self.box.start(job, self.limits, keep=[job["reader"], job["writer"]], role=asserts))
      finally:
        for fd in pipes:
          os.close(fd)
      judge, solution = processes
      while not judge.ended and time.monotonic() < deadline:
        sandbox.wait(processes, deadline)
      if judge.ended and judge.result.stdout == asserts.GONE:  # the solution has ended or is about to: why?
        until = min(deadline, time.monotonic() + 0.5)
        while not solution.ended and time.monotonic() < until:
          sandbox.wait([solution], until)
    finally:
      for process in processes:
        process.kill()
    return _verdict_on_asserts(judge.result, solution.result)


def calibrate(box: Sandbox) -> float:
  """How many times longer than on the reference machine a fixed loop takes here, in [1, MAX_SCALE].

  CPU seconds of the best of three, some 0.2 s in all; a busy machine changes it little.
  """
  run = box.run(_WORK)
  try:
    return min(max(float(run.stdout) / REFERENCE_SECONDS, 1.0), MAX_SCALE)
  except ValueError:
    return MAX_SCALE


def _verdict_on_output(run: sandbox.Run, expected: str) -> Verdict:
  if run.outcome == sandbox.TIMED_OUT:
    return False, TIMED_OUT
  if run.outcome == sandbox.BROKEN:
    return False, CRASHED
  if run.outcome == sandbox.TOO_LONG:
    return False, SCORED
  if run.exit_code == EXIT_UNPARSABLE:
    return False, UNPARSABLE
  return run.exit_code == 0 and same_output(run.stdout, expected), SCORED


def same_output(found: bytes, expected: str) -> bool:
  """Whether two outputs hold the same tokens between white space. Numbers are compared as text."""
  return found.split() == expected.encode("utf-8", "surrogatepass").split()


def _verdict_on_asserts(judge: sandbox.Run, solution: sandbox.Run) -> Verdict:
  if judge.stdout == asserts.PASSED:
    return True, SCORED
  if judge.stdout in (asserts.FAILED, asserts.UNPARSABLE):
    return False, SCORED if judge.stdout == asserts.FAILED else UNPARSABLE
  if sandbox.BROKEN in (judge.outcome, solution.outcome):
    return False, CRASHED
  if judge.stdout == asserts.GONE:  # the solution has died, or broken the protocol
    return False, TIMED_OUT if solution.outcome == sandbox.TIMED_OUT else SCORED
  if judge.outcome in (sandbox.TIMED_OUT, sandbox.STOPPED):  # stopped by the deadline
    return False, TIMED_OUT
  return False, CRASHED


def _answer(text: str) -> str:
  """Where the answer is: the last block of what follows the thought, with the white space that Python needs."""
  text = text[text.rfind(THINK_CLOSE) + len(THINK_CLOSE):] if THINK_CLOSE in text else text
  last_close = text.rfind(ANSWER_CLOSE)
  start = text.rfind(ANSWER_OPEN, 0, last_close) if last_close >= 0 else -1
  if start < 0:
    return text
  start += len(ANSWER_OPEN)
  return text[start:text.index(ANSWER_CLOSE, start)]


def _fenced(text: str) -> list[tuple[str, str]]:
  """(label, content) of each fenced block, in order."""
  blocks = []
  fence, label, indent, body = None, "", 0, []
  for line in text.split("\n"):
    mark = _FENCE.match(line)
    if fence is None:
      if mark:
        fence, label, indent, body = mark[1], mark[2].strip().lower(), len(line) - len(line.lstrip()), []
    elif mark and not mark[2].strip() and mark[1].startswith(fence):
      blocks.append((label, "\n".join(body) + "\n"))
      fence = None
    else:
      body.append(line[indent:] if not line[:indent].strip() else line)
  if fence is not None:
    blocks.append((label, "\n".join(body) + "\n"))
  return blocks


def _prompt(question: str) -> str:
  """The code of a question that is code, or has some."""
  bodies = [body for label, body in _fenced(question) if _PYTHON_LABEL.match(label)]
  return bodies[-1] if bodies else question


def _list(row: Mapping, name: str, where: str) -> list:
  if not isinstance(row[name], list):
    raise InputError(f"{where}, {name}", f"{type(row[name]).__name__}", "Give a list.")
  return row[name]


def _text(row: Mapping, name: str, where: str) -> str:
  if not isinstance(row.get(name), str):
    raise InputError(f"{where}, {name}", f"{row.get(name)!r}", "Give text.")
  return row[name]


def _case(case: object, where: str) -> tuple[str, str]:
  if not isinstance(case, Mapping):
    raise InputError(where, f"{type(case).__name__}", 'Give {"stdin": "..", "stdout": ".."}.')
  return _text(case, "stdin", where), _text(case, "stdout", where)
