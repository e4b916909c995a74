"""One-step arithmetic word questions in plain English, small enough for a model of a hundred million parameters."""
import random

from r1jax.data.countdown import distinct
from r1jax.data.questions import Question
from r1jax.errors import InputError

NAMES = ("Tom", "Anna", "Sam", "Lucy", "Ben", "Mia", "Jack", "Emma")
THINGS = ("apples", "books", "coins", "cards", "pens", "eggs", "cups", "balls")


def word_problems(seed: int, count: int, max_number: int = 12, max_factor: int = 6) -> list[Question]:
  """Addition, subtraction and multiplication in one step, a third each; the answer is a whole number of at least 1.

  Args:
    seed, count: `count` distinct questions, the same for the same arguments.
    max_number: terms of sums and what is taken away are 2..max_number.
    max_factor: factors of products are 2..max_factor.

  Raises:
    InputError: a parameter below 3, or fewer distinct questions than `count`.
  """
  for name, value in (("max_number", max_number), ("max_factor", max_factor)):
    if value < 3:
      raise InputError(f"word_problems.{name}", value, "Give at least 3")

  def draw(rng: random.Random) -> tuple[str, str]:
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    form = rng.randrange(3)
    if form == 2:
      a, b = rng.randint(2, max_factor), rng.randint(2, max_factor)
      return f"{name} has {a} boxes with {b} {thing} in each. How many {thing} does {name} have?", str(a * b)
    a, b = rng.randint(2, max_number), rng.randint(2, max_number)
    if form == 0:
      return f"{name} has {a} {thing} and gets {b} more. How many {thing} does {name} have?", str(a + b)
    total = a + b
    return f"{name} has {total} {thing} and gives away {b}. How many {thing} does {name} have?", str(a)

  return distinct("word_problems", draw, seed, count, kind="maths")
