"""Generated problems whose answer is known for sure: sums and countdown.

A generator is called as generator(seed, count, **parameters) and returns `count` questions, all different
under questions.normalise; the same arguments give the same questions.
"""

import json
import random
from collections.abc import Callable
from fractions import Fraction

from r1jax.data.questions import Question, normalise
from r1jax.errors import InputError

OPERATORS = "+-*/"


def sums(
  seed: int, count: int, min_terms: int = 2, max_terms: int = 4, max_number: int = 99, operators: str = "+-"
) -> list[Question]:
  """Word-free sums, "What is 12 + 7 - 3?", answer "16", level "3", which is how many numbers it has.

  Args:
    seed, count: see the module.
    min_terms, max_terms: how many numbers a sum has, uniform in this range.
    max_number: numbers are uniform in 1..max_number.
    operators: each place draws one of these out of "+-*"; products bind first.

  Raises:
    InputError: a parameter out of range, or fewer distinct sums than `count`.
  """
  _require(min_terms >= 2, "sums.min_terms", min_terms, "Give at least 2")
  _require(max_terms >= min_terms, "sums.max_terms", max_terms, f"Give at least min_terms ({min_terms})")
  _require(max_number >= 1, "sums.max_number", max_number, "Give at least 1")
  _require(
    operators and set(operators) <= set("+-*"), "sums.operators", repr(operators), 'Give some of "+-*"'
  )

  def draw(rng: random.Random) -> tuple[str, str, str]:
    numbers = [rng.randint(1, max_number) for _ in range(rng.randint(min_terms, max_terms))]
    places = [rng.choice(operators) for _ in numbers[1:]]
    rest = (f" {operator} {number}" for operator, number in zip(places, numbers[1:], strict=True))
    return f"What is {numbers[0]}{''.join(rest)}?", str(_evaluate_sum(numbers, places)), str(len(numbers))

  return distinct("sums", draw, seed, count, kind="maths")


def countdown(
  seed: int,
  count: int,
  min_numbers: int = 3,
  max_numbers: int = 4,
  max_number: int = 25,
  max_target: int = 100,
) -> list[Question]:
  """Countdown: "Using the numbers [3, 5, 7], make 26 ...", of kind logic.

  Each problem has a solution that uses every number once: the target is made by combining the numbers. The
  numbers are shown in order of size, so that one problem has one text.

  The answer is what the verifier of puzzles wants to know, {"puzzle": "countdown", "numbers", "target", "use": "all"}; the
  level is how many numbers there are.

  Args:
    seed, count: see the module.
    min_numbers, max_numbers: how many numbers a problem has, uniform in this range.
    max_number: numbers are uniform in 1..max_number.
    max_target: targets are whole numbers in 1..max_target.

  Raises:
    InputError: a parameter out of range, or fewer distinct problems found than `count`.
  """
  _require(min_numbers >= 2, "countdown.min_numbers", min_numbers, "Give at least 2")
  _require(
    max_numbers >= min_numbers,
    "countdown.max_numbers",
    max_numbers,
    f"Give at least min_numbers ({min_numbers})",
  )
  _require(max_number >= 1, "countdown.max_number", max_number, "Give at least 1")
  _require(max_target >= 1, "countdown.max_target", max_target, "Give at least 1")

  def draw(rng: random.Random) -> tuple[str, str, str] | None:
    numbers = [rng.randint(1, max_number) for _ in range(rng.randint(min_numbers, max_numbers))]
    target = _combine(numbers, rng)
    if target.denominator != 1 or not 1 <= target <= max_target or target in numbers:
      return None
    text = (
      f"Using the numbers {sorted(numbers)}, make {target}. "
      "Use each number exactly once, with the operations +, -, * and /."
    )
    puzzle = {"puzzle": "countdown", "numbers": sorted(numbers), "target": int(target), "use": "all"}
    return text, json.dumps(puzzle), str(len(numbers))

  return distinct("countdown", draw, seed, count, kind="logic")


def _evaluate_sum(numbers: list[int], operators: list[str]) -> int:
  """The value of numbers joined by + - *, products first."""
  total, product = 0, numbers[0]
  for operator, number in zip(operators, numbers[1:], strict=True):
    if operator == "*":
      product *= number
    else:
      total += product
      product = number if operator == "+" else -number
  return total + product


def _combine(numbers: list[int], rng: random.Random) -> Fraction:
  """The value of a random expression that uses each number once: two values at a time become one."""
  values = [Fraction(number) for number in numbers]
  while len(values) > 1:
    left = values.pop(rng.randrange(len(values)))
    right = values.pop(rng.randrange(len(values)))
    operator = rng.choice(OPERATORS if right else "+-*")
    if operator == "+":
      values.append(left + right)
    elif operator == "-":
      values.append(left - right)
    elif operator == "*":
      values.append(left * right)
    else:
      values.append(left / right)
  return values[0]


def distinct(
  name: str, draw: Callable[[random.Random], tuple[str, ...] | None], seed: int, count: int, kind: str
) -> list[Question]:
  """`count` questions out of `draw`, each text once. draw: (text, answer), or with a level behind; None: no good."""
  rng = random.Random(f"{name} {seed}")  # as text: Random(-1) is Random(1)
  seen, questions, misses = set(), [], 0
  while len(questions) < count:
    problem = draw(rng)
    key = normalise(problem[0]) if problem else None
    if key is None or key in seen:
      misses += 1
      if misses > 1000 + 20 * count:
        raise InputError(
          f"generator {name!r}, count={count}",
          f"only {len(questions)} different questions were found",
          "Lower count or widen the generator's parameters",
        )
      continue
    seen.add(key)
    text, answer, *level = problem
    questions.append(Question(f"{name}-{seed}:{len(questions)}", text, answer, kind, level=level[0] if level else ""))
  return questions


def _require(holds: object, where: str, found: object, remedy: str) -> None:
  if not holds:
    raise InputError(where, found, remedy)
