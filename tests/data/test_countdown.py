import itertools
import json
import re
from fractions import Fraction

import pytest

from r1jax.data.countdown import countdown, sums
from r1jax.data.questions import normalise
from r1jax.errors import InputError
from r1jax.verifiers.logic import judge
from r1jax.verifiers.verdict import SCORED

GENERATORS = [sums, countdown]


@pytest.mark.parametrize("generate", GENERATORS)
def test_repeatable_distinct_and_seeded(generate):
  questions = generate(3, 400)
  assert questions == generate(3, 400)
  assert len(questions) == len({normalise(question.text) for question in questions}) == 400
  assert len({question.id for question in questions}) == 400
  for seed in (4, -3):
    assert {question.text for question in generate(seed, 400)} != {question.text for question in questions}


@pytest.mark.parametrize("generate", GENERATORS)
def test_more_questions_begin_with_the_same(generate):
  assert generate(0, 50) == generate(0, 200)[:50]


def test_sums_answers_are_right():
  questions = sums(0, 300, min_terms=2, max_terms=6, max_number=12, operators="+-*")
  for question in questions:
    expression = re.fullmatch(r"What is ([\d+*\- ]+)\?", question.text)[1]
    assert question.answer == str(eval(expression))  # our own digits and operators, nothing else
  shown = " ".join(question.text for question in questions)
  assert all(f" {operator} " in shown for operator in "+-*")
  lengths = {len(re.findall(r"\d+", question.text)) for question in questions}
  assert lengths == {2, 3, 4, 5, 6}


def solvable(numbers: list[Fraction], target: int) -> bool:
  """Whether + - * / can make the target, each number used once. All pairs, all operations."""
  if len(numbers) == 1:
    return numbers[0] == target
  for i, j in itertools.permutations(range(len(numbers)), 2):
    rest = [number for k, number in enumerate(numbers) if k not in (i, j)]
    a, b = numbers[i], numbers[j]
    results = {a + b, a - b, a * b} | ({a / b} if b else set())
    if any(solvable([*rest, result], target) for result in results):
      return True
  return False


@pytest.mark.parametrize(("generate", "levels"), [(sums, {"2", "3", "4"}), (countdown, {"3", "4"})])
def test_the_level_is_how_many_numbers_there_are(generate, levels):
  questions = generate(0, 60)
  assert {question.level for question in questions} == levels
  for question in questions:
    text = question.text.partition("]")[0]  # the target of countdown stands behind
    assert question.level == str(len(re.findall(r"\d+", text)))


def test_countdown_is_solvable():
  questions = countdown(0, 120, max_numbers=4, max_target=60)
  sizes = set()
  for question in questions:
    found = re.match(r"Using the numbers \[([\d, ]+)\], make (\d+)\.", question.text)
    numbers = [int(number) for number in found[1].split(", ")]
    sizes.add(len(numbers))
    assert numbers == sorted(numbers) and min(numbers) >= 1 and max(numbers) <= 25
    target = int(found[2])
    assert 1 <= target <= 60 and target not in numbers
    assert solvable([Fraction(number) for number in numbers], target)
    assert question.kind == "logic"
    assert json.loads(question.answer) == {"puzzle": "countdown", "numbers": numbers, "target": target, "use": "all"}
    assert judge(str(target), question.answer) == (False, SCORED), "the bare target uses no numbers"
  assert sizes == {3, 4}


@pytest.mark.parametrize(
  "generate, parameters, named",
  [
    (sums, {"min_terms": 1}, "min_terms: 1"),
    (sums, {"max_terms": 1}, "max_terms: 1"),
    (sums, {"max_number": 0}, "max_number: 0"),
    (sums, {"operators": "+/"}, "operators: '\\+/'"),
    (sums, {"operators": ""}, "operators: ''"),
    (countdown, {"min_numbers": 1}, "min_numbers: 1"),
    (countdown, {"max_numbers": 2}, "max_numbers: 2"),
    (countdown, {"max_number": 0}, "max_number: 0"),
    (countdown, {"max_target": 0}, "max_target: 0"),
  ],
)
def test_parameters_out_of_range(generate, parameters, named):
  with pytest.raises(InputError, match=named):
    generate(0, 5, **parameters)


def test_too_many_questions_for_the_world():
  # 2 numbers of 1..3 and one operator: nine sums in all.
  with pytest.raises(InputError, match="count=10.*only 9 different"):
    sums(0, 10, max_terms=2, max_number=3, operators="+")
