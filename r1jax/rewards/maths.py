r"""Equality of mathematical answers: extraction, a fast path for plain numbers, and math-verify.

The fast path needs no worker process. Everything else is math-verify's and can run for ever on hostile
input (`10^{9}!`): call `judge` and `verify_maths` in a worker of `r1jax.rewards.pool`, whose deadline
is the only time limit (math-verify's own is a signal and does not work outside the main thread).

math-verify 0.9 on its own can be hacked, and misses what it should see. What is done about it here is ours:
* it takes 0.333333 for 1/3: decimals are read as exact fractions before the comparison;
* it evaluates what the model left undone, so that `12+7+9`, the question repeated, earns the reward of 28,
  and it adds numbers that stand side by side (`12 7 9`, `3(4)`): where the gold answer is a plain number, the
  answer has to be a number too (`_is_settled`). Other gold answers leave that way open;
* with its number patterns it picks the 2 out of a malformed `\sqrt{ 2`: text is read as LaTeX as a whole,
  never searched for numbers. A sentence around a number is no answer, unless it stands in `$..$` or
  `\boxed{}`;
* deep nesting takes it seconds to refuse: refused before it is asked.

It stays wrong on `x<3 or x>5` against a union of intervals, 45 degrees against pi/4 and "no solution" against
the empty set.
"""

import logging
import re
from decimal import Decimal
from functools import cache

from r1jax.rewards.format import ANSWER_CLOSE, ANSWER_OPEN
from r1jax.rewards.score import SCORED, UNPARSABLE

MAX_NUMBER_LENGTH = 64  # characters of a plain number; ours
MAX_LENGTH = 2000  # characters of an answer that math-verify gets to see; ours
MAX_NESTING = 40  # brackets open at once, of which real answers have fewer than ten; ours

_BOXED = "\\boxed{"
_PLAIN_NUMBER = re.compile(
  r"(?P<sign>[-+\u2212]?)(?P<currency>(?:\\?\$)?)(?P<whole>\d{1,3}(?:,\d{3})+|\d*)(?P<fraction>(?:\.\d+)?)"
  r"(?P<percent>(?: ?\\?%)?)",
  re.ASCII,
)
_SPACED_THOUSANDS = re.compile(r"(?<=\d)(?:,\\!|\{,\}|\\[,!; ])(?=\d{3}(?!\d))", re.ASCII)
_EQUALS = re.compile(r"(?<![<>!\\])=")
_NUMERAL = re.compile(r"\d(?:[\d.,]*\d)?|\.\d+", re.ASCII)
_FRACTION = re.compile(
  r"-? ?(?:\d+ ?/ ?\d+|(?:\d+ ?)?\\[dt]?frac ?(?:\{-?\d+\} ?\{-?\d+\}|\d ?\d))", re.ASCII
)
_SCIENTIFIC = re.compile(
  r"-? ?\d+(?:\.\d+)? ?(?:\\times|\\cdot|\u00d7|\*) ?10 ?\^ ?(?:\d|\{-?\d+\})", re.ASCII
)


def extract_answer(response: str, prefill: str = "") -> str | None:
  r"""Content of the last complete `<answer>` block of `prefill + response`; None without one or when empty.

  When the block holds exactly one `\boxed{..}`, its content is the answer; with several the block is
  returned as it stands. Linear in the length of the text.
  """
  text = prefill + response
  last_close = text.rfind(ANSWER_CLOSE)
  start = text.rfind(ANSWER_OPEN, 0, last_close) if last_close >= 0 else -1
  if start < 0:
    return None
  start += len(ANSWER_OPEN)
  content = text[start : text.index(ANSWER_CLOSE, start)].strip()
  return _unbox(content).strip() or None


def _unbox(text: str) -> str:
  if text.count(_BOXED) != 1:
    return text
  start = text.index(_BOXED) + len(_BOXED)
  depth, escaped = 1, False
  for i in range(start, len(text)):
    if not escaped and text[i] in "{}":
      depth += 1 if text[i] == "{" else -1
      if depth == 0:
        return text[start:i]
    escaped = text[i] == "\\" and not escaped
  return text  # never closed


def verify_plain(answer: str, gold: str) -> bool | None:
  r"""Equality where it needs no algebra: two plain numbers, or two identical texts. None: ask `judge`.

  A plain number is, after trimming one pair of `$..$` and a final full stop: a sign or none, a currency `$`
  or `\$` or none, ASCII digits with or without thousands commas and decimals, a percent sign or none, and
  no more than MAX_NUMBER_LENGTH characters. Both values are compared exactly (0.3333333 is not 0.3333334,
  5.0 is 5). A percentage and a number are left to `judge`.
  """
  answer, gold = _normalise(answer), _normalise(gold)
  left, right = _plain_number(answer), _plain_number(gold)
  if left is not None and right is not None and left[1] == right[1]:
    return left[0] == right[0]
  return True if answer and answer == gold else None


def _normalise(text: str) -> str:
  """One line, without an outer pair of dollars, a final full stop or LaTeX spacing between thousands."""
  text = " ".join(text.split()).removesuffix(".").rstrip()
  if len(text) > 2 and text[0] == text[-1] == "$" and text.count("$") == 2 and text[-2] != "\\":
    text = text[1:-1].strip().removesuffix(".")
  return _SPACED_THOUSANDS.sub("", text)


def _plain_number(text: str) -> tuple[Decimal, bool] | None:
  """(value, is it a percentage) of a normalised plain number."""
  match = _PLAIN_NUMBER.fullmatch(text) if len(text) <= MAX_NUMBER_LENGTH else None
  if match is None or not (match["whole"] or match["fraction"]) or (match["currency"] and match["percent"]):
    return None
  digits = (match["whole"] or "0").replace(",", "") + match["fraction"]
  value = Decimal(digits)
  return (value if match["sign"] in ("", "+") else value.copy_negate()), bool(match["percent"])


def verify_maths(answer: str, gold: str) -> bool:
  """Whether the answer is mathematically equal to the gold answer; see `judge`."""
  return judge(answer, gold)[0]


def judge(answer: str, gold: str) -> tuple[bool, str]:
  """(equal, "scored" or "unparsable") of one answer. May run for ever: belongs in a worker process.

  "unparsable": the answer, or the gold answer, cannot be read as mathematics. Texts that are equal as they
  stand are equal, parsable or not.
  """
  equal = verify_plain(answer, gold)
  if equal is not None:
    return equal, SCORED
  answer, gold = _normalise(answer), _normalise(gold)
  parsed_answer, parsed_gold = _parse(answer), _parse(gold)
  if not parsed_answer or not parsed_gold:
    return False, UNPARSABLE
  if _plain_number(gold) and not _is_settled(answer, parsed_answer):
    return False, SCORED
  verify = load_math_verify().verify
  return bool(verify(parsed_gold, parsed_answer, timeout_seconds=None)), SCORED


def check_gold(gold: str) -> bool:
  """Whether a gold answer can be scored against: a plain number, or mathematics that math-verify reads.

  For data loading, in any thread. Imports math-verify (a second) at the first answer that is not a plain
  number.
  """
  text = _normalise(gold)
  return _plain_number(text) is not None or bool(_parse(text))


@cache
def load_math_verify():
  """The module `math_verify`, imported on first use: most programs never need its second of import time."""
  import math_verify

  for module in ("parser", "grader"):  # they warn that the time limit is left to us
    logging.getLogger(f"math_verify.{module}").setLevel(logging.ERROR)
  return math_verify


def _parse(text: str) -> list:
  """The sympy expressions that math-verify reads in a normalised text; [] when there are none."""
  if not text or len(text) > MAX_LENGTH or _nesting(text) > MAX_NESTING:
    return []
  math_verify = load_math_verify()
  dollars = text.replace(r"\$", "").count("$")
  delimited = dollars > 1 or any(mark in text for mark in (r"\(", r"\[", r"\boxed"))
  found = math_verify.parse(
    text if delimited else f"${text}$",
    extraction_config=[math_verify.LatexExtractionConfig()],
    parsing_timeout=None,
  )
  return [_exact(expression) for expression in found if not isinstance(expression, str)]


def _nesting(text: str) -> int:
  depth = deepest = 0
  for character in text:
    if character in "([{":
      depth += 1
      deepest = max(deepest, depth)
    elif character in ")]}":
      depth -= 1
  return deepest


def _exact(expression):
  """The expression with each decimal number as the fraction that its digits say, so that 0.333 is not 1/3."""
  from sympy import Float, MatrixBase, Rational

  if isinstance(expression, MatrixBase):
    return expression.applyfunc(_exact)
  if isinstance(expression, Float):
    return Rational(str(expression)) if expression.is_finite else expression
  if not expression.has(Float):
    return expression
  # math-verify's own sets remember the order in which they were written, and compare by it.
  arguments = getattr(expression, "_unsorted_args", expression.args)
  return expression.func(*(_exact(argument) for argument in arguments))


def _is_settled(text: str, parsed: list) -> bool:
  """Whether an answer to a question whose gold answer is a plain number is a number, not work left to be
  done.

  Settled: a single numeral (units, degrees, a percent sign or `x =` beside it are fine), a fraction or
  mixed number that is no integer, a number in scientific notation. Not settled: sums, products, roots,
  factorials, 10/2, several numbers. What is left of the last `=` does not count.
  """
  from sympy import Integer, Mul, Number, Rational

  right_side = _EQUALS.split(text)[-1].strip(" $")
  if _SCIENTIFIC.fullmatch(right_side):
    return True
  value = _last_side(parsed[0])
  if _FRACTION.fullmatch(right_side):
    return isinstance(value, Rational) and not isinstance(value, Integer)
  if isinstance(value, Mul) and len(value.args) == 2 and value.args[1].func.__name__ == "UnevaluatedExpr":
    value = value.args[0]  # a percentage: math-verify keeps the 1/100 unevaluated
  return isinstance(value, Number) and len(_NUMERAL.findall(right_side)) == 1


def _last_side(expression):
  """The right side of an equation or of the last equation of a chain; other expressions as they are."""
  from sympy import And, Eq

  while isinstance(expression, And | Eq):
    expression = getattr(expression, "_unsorted_args", expression.args)[-1]
  return expression
