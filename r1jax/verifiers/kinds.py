"""Kinds of questions and what judges their answers: one table for training, evaluation and `r1jax score`.

A question's answer, its reference, is text in every kind:
* maths: the gold answer as a number or in LaTeX (`r1jax.verifiers.maths`);
* choice: a letter, or JSON with the options (`r1jax.verifiers.choice`);
* logic: JSON with "puzzle" and its fields (`r1jax.verifiers.logic`);
* code: JSON with the tests (`r1jax.verifiers.code.read_tests`);
* instructions: JSON with rules that a response has to follow (`r1jax.verifiers.instructions`, IFEval).
"""
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from r1jax.errors import InputError
from r1jax.verifiers import choice, instructions, logic, maths
from r1jax.verifiers.code import CodeJudge, read_tests
from r1jax.verifiers.sandbox import Limits, Sandbox
from r1jax.verifiers.verdict import Verdict

CODE_SECONDS = 20.0  # for all tests of a program together; ours
MAX_PLACES = 10  # of bad answers that an error names; ours
UNSAFE = "R1JAX_UNSAFE_CODE"  # set to 1, programs run without a sandbox, with the rights of this process
NUMPY = "R1JAX_SANDBOX_NUMPY"  # set to 1, programs can import numpy
START_SECONDS = 30.0  # for the first program of a worker, which makes its sandbox and measures the machine; ours


@dataclass(frozen=True)
class Kind:
  """How answers of a kind are judged.

  judge: (answer, reference, question) -> (right, status); belongs in a worker process, since it may run for ever.
  check: (reference, where) -> None, or InputError naming `where`, for data loading.
  whole_response: the judge finds the answer in the response itself; otherwise it is given what the tags hold.
  seconds: the least deadline of a verdict.
  """

  judge: Callable[[str, str, str], Verdict]
  check: Callable[[str, str], None]
  whole_response: bool = False
  seconds: float = 0.0


def kind_of(name: str) -> Kind:
  """The kind of a name; InputError for an unknown one."""
  if name not in KINDS:
    raise InputError("kind of a question", repr(name), f"Known kinds: {', '.join(KINDS)}.")
  return KINDS[name]


def check_references(references: Iterable[tuple[str, str, str]]) -> None:
  """InputError for references that no response could be compared with, or for a machine without a sandbox.

  references: (where it stands, kind, reference). The error names the first and says how many there are and where.
  """
  kinds, total, bad = set(), 0, []
  for where, kind, reference in references:
    if kind not in KINDS:
      raise InputError(where, f"kind {kind!r}", f"Known kinds: {', '.join(KINDS)}.")
    kinds.add(kind)
    total += 1
    error = unusable(kind, reference, where)
    if error is not None:
      bad.append((where, error))
  if bad:
    where, error = bad[0]
    places = ", ".join(place for place, _ in bad[:MAX_PLACES]) + (", ..." if len(bad) > MAX_PLACES else "")
    more = f"; {len(bad)} of {total} answers cannot judge: {places}" if len(bad) > 1 else ""
    raise InputError(error.where, error.found + more, f"{error.remedy} unusable=\"drop\" of a source does so.")
  check_machine(kinds)


def check_machine(kinds: Iterable[str]) -> None:
  """InputError where this machine cannot judge one of the kinds: programs without a sandbox."""
  if "code" in kinds:
    _sandbox()  # refuses here, once, what every worker would refuse later


def unusable(kind: str, reference: str, where: str) -> InputError | None:
  """Why no response could be compared with a reference of a known kind; None where it can be."""
  try:
    KINDS[kind].check(reference, where)
  except InputError as error:
    return error
  return None


def _sandbox() -> Sandbox:
  return Sandbox(unsafe=os.environ.get(UNSAFE) == "1", numpy=os.environ.get(NUMPY) == "1")


@cache
def _code_judge() -> CodeJudge:
  # A worker judges one program at a time; it is the pool that has several.
  return CodeJudge(_sandbox(), Limits(), parallel=1, deadline_seconds=CODE_SECONDS)


@cache
def _tests(reference: str):
  return read_tests(json.loads(reference), "tests")


def _judge_code(response: str, reference: str, question: str) -> Verdict:
  tests = _tests(reference)
  # HumanEval's questions are the beginning of the program; no other question is code.
  return _code_judge().judge(response, tests, question if tests.entry_point else "")


def _check_maths(reference: str, where: str) -> None:
  reason = maths.usable_gold(reference)
  if reason is not None:
    raise InputError(where, f"the answer {reference!r:.200} cannot judge: {reason}",
                     "Write it as a number or in LaTeX (3/4, \\frac{3}{4}, x^2+1), or remove the line.")


def _check_code(reference: str, where: str) -> None:
  try:
    row = json.loads(reference)
  except (ValueError, RecursionError) as error:
    raise InputError(where, f"the tests are no JSON ({error})", "Give an object with tests, test or test_list.") from None
  if not isinstance(row, dict):
    raise InputError(where, f"the tests are no JSON object: {reference!r:.80}", "Give one with tests, test or test_list.")
  read_tests(row, where)


def _located(check: Callable[[str], None]) -> Callable[[str, str], None]:
  def located(reference: str, where: str) -> None:
    try:
      check(reference)
    except InputError as error:
      raise InputError(f"{where}, {error.where}", error.found, error.remedy) from None
  return located


KINDS = {
  "maths": Kind(maths.judge, _check_maths),
  "choice": Kind(lambda answer, reference, _: choice.judge(answer, reference), _located(choice.check_reference)),
  "logic": Kind(lambda answer, reference, _: logic.judge(answer, reference), _located(logic.check_reference)),
  "code": Kind(_judge_code, _check_code, whole_response=True, seconds=CODE_SECONDS + START_SECONDS),
  "instructions": Kind(lambda answer, reference, _: instructions.judge(answer, reference),
                       _located(instructions.check_reference), whole_response=True),
}
