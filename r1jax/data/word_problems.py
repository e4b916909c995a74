"""One-step arithmetic word questions in plain English, small enough for a model of a hundred million parameters."""
import random

from r1jax.data.countdown import distinct
from r1jax.data.questions import Question
from r1jax.errors import InputError

NAMES = ("Tom", "Anna", "Sam", "Lucy", "Ben", "Mia", "Jack", "Emma")
THINGS = ("apples", "books", "coins", "cards", "pens", "eggs", "cups", "balls")
FORMS = {  # each with two numbers and the answer
  "+": lambda a, b: ("has {} {thing} and gets {} more", a, b, a + b),
  "-": lambda a, b: ("has {} {thing} and gives away {}", a + b, b, a),
  "*": lambda a, b: ("has {} boxes with {} {thing} in each", a, b, a * b),
}


def word_problems(seed: int, count: int, max_number: int = 12, operations: str = "+-*") -> list[Question]:
  """Additions, subtractions and multiplications in one step, equally often; answers are whole numbers of at least 2.

  Args:
    seed, count: `count` distinct questions, the same for the same arguments.
    max_number: terms, factors, what is taken away and what is left are 2..max_number.
    operations: which of "+", "-" and "*".

  Raises:
    InputError: max_number below 3, an unknown operation or none, or fewer distinct questions than `count`.
  """
  if max_number < 3:
    raise InputError("word_problems.max_number", max_number, "Give at least 3")
  if not operations or set(operations) - set(FORMS):
    raise InputError("word_problems.operations", repr(operations), f"Give some of {''.join(FORMS)}")

  def draw(rng: random.Random) -> tuple[str, str]:
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    text, first, second, answer = FORMS[rng.choice(operations)](rng.randint(2, max_number), rng.randint(2, max_number))
    return f"{name} {text.format(first, second, thing=thing)}. How many {thing} does {name} have?", str(answer)

  return distinct("word_problems", draw, seed, count, kind="maths")
