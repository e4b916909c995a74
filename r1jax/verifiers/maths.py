r"""Equality of mathematical answers: extraction, our own reading of answers, and math-verify for the rest.

`judge` tries, in this order: texts that are equal as they stand and plain numbers (`verify_plain`, which is cheap
enough for any thread); our own reader of forms (`r1jax.verifiers.answers`, whose docstring says what counts as
equal), exact, bounded in time and a hundred times faster than a parser of all of
LaTeX; and math-verify where that reader cannot read one of the two: integrals, sums, limits.

math-verify can run for ever on hostile input: call `judge` in a worker of `r1jax.verifiers.pool`, whose deadline is the
only time limit (math-verify's own is a signal and does not work outside the main thread). Where the gold answer is a
plain number or fraction, it is never asked, so those cannot hang.

math-verify 0.9 on its own can be hacked, and misses what it should see. Our reader judges all of this, and differently:
* it takes 0.333333 for 1/3, 2\pi 10^{-20} for \pi 10^{-20}, 52_9 for 52_8, cm^3 for cm^2, x^2+2=0 for x^2+1=0;
* it evaluates what the model left undone, so that `12+7+9`, the question repeated, earns the reward of 28, and it adds
  numbers that stand side by side (`12 7 9`);
* it does not know `x<3 or x>5` for a union of intervals, 45 degrees for pi/4, "no solution" for the empty set, units
  beyond its list, nor anything Chinese.
For what is left to it: decimals are read as exact fractions before the comparison, text is read as LaTeX as a whole and
never searched for numbers, and deep nesting, which takes it seconds to refuse, is refused before it is asked.

What stays open: an answer that repeats a question whose gold answer is no plain number (`\sqrt{117}` for 3\sqrt{13}) is
equal to it. Form is not judged: (a+5)(b+2) may be multiplied out.
"""

import logging
import re
from decimal import Decimal
from enum import Enum
from functools import cache, lru_cache

from r1jax.verifiers import answers
from r1jax.verifiers.answers.equality import is_literal
from r1jax.verifiers.answers.forms import Scalar, Words, has_unknown_commands
from r1jax.verifiers.answers.text import plain_words, split_unit, tidy
from r1jax.verifiers.tags import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE
from r1jax.verifiers.verdict import SCORED, UNPARSABLE

MAX_NUMBER_LENGTH = 64  # characters of a plain number; ours
MAX_LENGTH = 2000  # characters of an answer that is read; ours
MAX_NESTING = 40  # brackets open at once, of which real answers have fewer than ten; ours
CACHED_FORMS = 1024  # answers and gold answers that a process remembers as read: a group repeats them; ours

_BOXED = "\\boxed{"
_PLAIN_NUMBER = re.compile(
  r"(?P<sign>[-+\u2212]?)(?P<currency>(?:\\?\$)?)(?P<whole>\d{1,3}(?:,\d{3})+|\d*)(?P<fraction>(?:\.\d+)?)"
  r"(?P<percent>(?: ?\\?%)?)",
  re.ASCII,
)
_SPACED_THOUSANDS = re.compile(r"(?<=\d)(?:,\\!|\{,\}|\\[,!; ])(?=\d{3}(?!\d))", re.ASCII)
_LAST_NUMBER = re.compile(
  r"(?<![\w.])[-+\u2212]?\s?(?:\\?[$\uffe5\u00a5])?(?:\\[dt]?frac\s?\{-?\d{1,20}\}\s?\{\d{1,20}\}"
  r"|(?:\d{1,3}(?:,\d{3}){1,20}(?!\d)|\d{1,64})(?:\.\d{1,64})?(?:\s?/\s?\d{1,64})?|\.\d{1,64})(?:\s?\\?%)?",
  re.ASCII,
)
_SEGMENT = re.compile(
  r"\$\$([^$]+)\$\$|(?<!\\)\$((?:[^$\\]|\\.)+)\$|\\\(((?:[^\\]|\\[^)])*)\\\)|\\\[((?:[^\\]|\\[^\]])*)\\\]"
)
_JOINT = re.compile(r"\s*(?:,|;|,?\s*(?:and|or|和|或|、))?\s*")


class Extraction(Enum):
  r"""Where the answer of a response is looked for.

  TAGGED: the last `<answer>` block, R1-Zero's; a lone \boxed{..} in it is opened. BOXED: the \boxed{..} of what follows
  the last `</think>`, or of the whole text without one. LAST_NUMBER: the last number, fraction or percentage there.
  """

  TAGGED = "tagged"
  BOXED = "boxed"
  LAST_NUMBER = "last_number"


def extract_answer(response: str, prefill: str = "", how: Extraction = Extraction.TAGGED) -> str | None:
  r"""The answer of `prefill + response`; None where there is none, or an empty one. Linear in the length of the text.

  TAGGED: the content of the last complete block. When that holds exactly one `\boxed{..}`, its content is the answer;
  with several the block is returned as it stands. BOXED: the content of the one box; several that differ are
  returned as a list, which equals a single answer only where all of them do. See Extraction.
  """
  text = prefill + response
  if how is Extraction.TAGGED:
    last_close = text.rfind(ANSWER_CLOSE)
    start = text.rfind(ANSWER_OPEN, 0, last_close) if last_close >= 0 else -1
    if start < 0:
      return None
    start += len(ANSWER_OPEN)
    content = text[start : text.index(ANSWER_CLOSE, start)].strip()
    return _unbox(content).strip() or None
  text = text[text.rfind(THINK_CLOSE) + len(THINK_CLOSE) :] if THINK_CLOSE in text else text
  if how is Extraction.BOXED:
    return ", ".join(boxes(text)) or None
  numbers = [match[0].strip() for match in _LAST_NUMBER.finditer(text.translate(_ASCII_DIGITS))]
  return numbers[-1] if numbers else None


_ASCII_DIGITS = {**{0xFF10 + i: 0x30 + i for i in range(10)}, 0xFF0E: ".", 0xFF0D: "-", 0xFF05: "%"}


def boxes(text: str) -> list[str]:
  r"""The different contents of the complete \boxed{..}, in order; of boxes in each other the outer one."""
  found, place = [], 0
  while (start := text.find(_BOXED, place)) >= 0:
    start += len(_BOXED)
    end = _closing(text, start)
    if end is None:
      break  # never closed, and so is every later one within it
    content = text[start:end].strip()
    if content and content not in found[-MAX_BOXES:]:
      found.append(content)
    place = end
  return found[-MAX_BOXES:]


MAX_BOXES = 16  # the last ones count; ours


def _unbox(text: str) -> str:
  if text.count(_BOXED) != 1:
    return text
  start = text.index(_BOXED) + len(_BOXED)
  end = _closing(text, start)
  return text if end is None else text[start:end]


def _closing(text: str, start: int) -> int | None:
  """The place of the brace that closes the one before `start`; None when it is never closed."""
  depth, escaped = 1, False
  for i in range(start, len(text)):
    if not escaped and text[i] in "{}":
      depth += 1 if text[i] == "{" else -1
      if depth == 0:
        return i
    escaped = text[i] == "\\" and not escaped
  return None


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
  stand are equal, parsable or not. The first call that needs more than plain numbers imports math-verify, a second,
  so that a worker has it before its first deadline begins.
  """
  equal = verify_plain(answer, gold)
  if equal is not None:
    return equal, SCORED
  load_math_verify()
  answer, gold = _mathematics(answer), _mathematics(gold)
  if not answer or not gold:
    return False, UNPARSABLE
  answer_form, gold_form = _form(answer), _form(gold)
  if answer_form is not None and gold_form is not None:
    return answers.equal(answer_form, gold_form, answer, gold), SCORED
  if isinstance(gold_form, Words):
    return plain_words(answer) == plain_words(gold), SCORED
  if isinstance(gold_form, Scalar) and is_literal(gold_form.node):
    return False, UNPARSABLE  # a number is asked for, and this is none
  unread = [text for text, form in ((answer, answer_form), (gold, gold_form)) if form is None]
  if not all(has_unknown_commands(text) for text in unread):
    return False, UNPARSABLE  # malformed: math-verify would guess
  return _ask_math_verify(answer, gold)


def _ask_math_verify(answer: str, gold: str) -> tuple[bool, str]:
  parsed_answer, parsed_gold = _parse(answer), _parse(gold)
  if not parsed_answer or not parsed_gold:
    return False, UNPARSABLE
  return bool(load_math_verify().verify(parsed_gold, parsed_answer, timeout_seconds=None)), SCORED


def check_gold(gold: str) -> bool:
  """Whether a gold answer can be scored against: words, a number, or mathematics that we or math-verify read.

  For data loading, in any thread. Imports math-verify (a second) at the first answer that our own reader does not
  know.
  """
  text = _mathematics(gold)
  return bool(text) and (_plain_number(_normalise(gold)) is not None or _form(text) is not None or bool(_parse(text)))


def _mathematics(text: str) -> str:
  r"""The part of an answer that is mathematics, tidy: what stands in boxes or dollars, if anything does.

  Several boxes, or several formulas with nothing but "and", "or" or commas between, are a list; of formulas in a sentence
  the last counts. "" for a text that is too long or nested too deeply to be read.
  """
  if len(text) > MAX_LENGTH or _nesting(text) > MAX_NESTING:
    return ""
  text = tidy(text)
  if _BOXED in text:
    return ", ".join(tidy(box) for box in boxes(text)) or text
  segments = [match for match in _SEGMENT.finditer(text) if not _is_currency(match)]
  if not segments:
    return text
  contents = [tidy(next(filter(None, match.groups()), "")) for match in segments]
  if len(segments) == 1:
    before, after = text[: segments[0].start()].strip(), text[segments[0].end() :].strip(" .")
    with_unit = f"{contents[0]} \\text{{{after}}}"
    return with_unit if after and not before and split_unit(with_unit)[1] else contents[0]
  between = [text[a.end() : b.start()] for a, b in zip(segments, segments[1:], strict=False)]
  if all(_JOINT.fullmatch(each) for each in between) and not text[segments[-1].end() :].strip(" ."):
    joints = (joint.strip() or "," for joint in between)
    return contents[0] + "".join(f" {joint} {content}" for joint, content in zip(joints, contents[1:], strict=True))
  return contents[-1]


def _is_currency(match: re.Match) -> bool:
  """Whether two dollars are the signs of two amounts, "$5 or $6", and no formula."""
  content = match[2]
  return bool(content) and content[0].isdigit() and content[-1].isspace()


@lru_cache(maxsize=CACHED_FORMS)
def _form(text: str) -> object:
  """The form of a tidy text; None when our reader does not know it."""
  try:
    return answers.read(text)
  except answers.Unreadable:
    return None


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
