"""What is copied from the question earns nothing: every formula of it, each side of its equations, its arithmetic."""

import json
import os
import re
from pathlib import Path

import pytest

from r1jax.verifiers.maths import judge

_FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$(.+?)(?<!\\)\$|\\\[(.+?)\\\]|\\\((.+?)\\\)", re.DOTALL)
_ARITHMETIC = re.compile(r"(?<![\w.])[\d(][\d\s().,]*(?:[-+*/×÷=:^%][\d\s().,]*)+")


def formulas_of(question):
  """The formulas of a question, whole and side by side, and the arithmetic in its text."""
  found = [next(filter(None, match.groups())) for match in _FORMULA.finditer(question)]
  found += [side for formula in found for side in re.split(r"=|<|>|\\leq?|\\geq?|,", formula)]
  found += [match[0] for match in _ARITHMETIC.finditer(_FORMULA.sub(" ", question))]
  return {each.strip(" .,;:?\n") for each in found} - {""}


def rows_of(name):
  folder = os.environ.get("R1JAX_DATA")
  path = Path(folder or "") / name / "test.jsonl"
  if not folder or not path.is_file():
    pytest.skip(f"R1JAX_DATA names no folder with {name}/test.jsonl")
  rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
  return [(row.get("problem") or row["question"], row["answer"].rsplit("#### ", 1)[-1]) for row in rows]


@pytest.mark.parametrize("name, most", [("math500", 0.003), ("gsm8k", 0.0), ("cmath", 0.0)])
def test_copying_from_the_question_earns_nothing(name, most):
  rows, paid = rows_of(name), []
  for question, gold in rows:
    # The gold answer itself is no copy.
    copies = [formula for formula in formulas_of(question) if "".join(formula.split()) != "".join(gold.split())]
    paid += [(gold, copy) for copy in copies if judge(copy, gold, question)[0]][:1]
  print(f"{name}: {len(paid)} of {len(rows)} questions pay for a copy: {paid}")
  assert len(paid) <= most * len(rows)
