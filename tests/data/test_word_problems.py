"""Word questions: right answers, the operations asked for, and no other."""
import re
from collections import Counter

import pytest

from r1jax.data.word_problems import word_problems
from r1jax.errors import InputError


def solve(text: str) -> tuple[str, int]:
  a, b = (int(n) for n in re.findall(r"\d+", text))
  if "gives away" in text:
    return "-", a - b
  return ("+", a + b) if "gets" in text else ("*", a * b)


@pytest.mark.parametrize("operations", ["+-*", "-", "*+"])
def test_answers_are_right_and_operations_equally_frequent(operations):
  questions = word_problems(0, 900, max_number=9, operations=operations)
  assert len({q.text for q in questions}) == 900
  found = Counter()
  for question in questions:
    operation, answer = solve(question.text)
    found[operation] += 1
    assert int(question.answer) == answer >= 2
    assert max(int(n) for n in re.findall(r"\d+", question.text)) <= 18
  assert found.keys() == set(operations)
  assert min(found.values()) > 900 / len(operations) * 0.8


@pytest.mark.parametrize(("arguments", "message"), [
  ({"max_number": 2}, "max_number: 2"),
  ({"operations": "+/"}, "operations: '\\+/'"),
  ({"operations": ""}, "operations: ''"),
])
def test_a_bad_parameter_is_refused(arguments, message):
  with pytest.raises(InputError, match=message):
    word_problems(0, 10, **arguments)
