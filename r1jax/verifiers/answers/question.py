r"""What an answer has from its question: whether it only repeats it."""

import re
from functools import lru_cache

_NOISE = re.compile(r"\\(?:left|right|displaystyle|,|!|;|:|quad|qquad)(?![A-Za-z])|\\ |[\s$~]|\\[()\[\]](?=\s|$)")
_TIMES = re.compile(r"\\(?:cdot|times|ast)(?![A-Za-z])|×|·")
_SMALL_GROUP = re.compile(r"\{([A-Za-z0-9])\}")
_SIMPLE_FRACTION = re.compile(r"\\frac\{?([A-Za-z0-9]+)\}?\{?([A-Za-z0-9]+)\}?")
_UNIT = re.compile(r"\s*(?:\\(?:text|mbox|mathrm)\s*\{[^{}]*\}(?:\^\{?[23]\}?)?|\^\s*\{?\\circ\}?|\\?%)\s*$")
_NUMERAL = re.compile(r"-?\d+(?:\.\d+)?")


def is_copied(answer: str, gold: str, question: str) -> bool:
  r"""Whether the answer stands in the question as it is, and the gold answer does not: \sqrt{242} where 11\sqrt{2} is wanted.

  A number in other digits (5.0 for 5) is none: then the gold answer stands there too.
  """
  written = _normal(_core(answer))
  if not written or not question:
    return False
  wanted, asked = _normal(_core(gold)), _normal_question(question)
  if _NUMERAL.fullmatch(written) and _NUMERAL.fullmatch(wanted):
    return False
  return any(_stands(each, asked) for each in {written, _normal(answer)}) and not _stands(wanted, asked)


def _stands(text: str, question: str) -> bool:
  """Whether it occurs as a whole, not as a part of a longer number, word or command."""
  place = question.find(text)
  while place >= 0:
    before, after = question[place - 1 : place], question[place + len(text) : place + len(text) + 1]
    if not (_joins(before, text[0]) or _joins(text[-1], after)):
      return True
    place = question.find(text, place + 1)
  return False


def _joins(left: str, right: str) -> bool:
  if not left or not right:
    return False
  return (left.isdigit() and (right.isdigit() or right == ".")) or (left.isalpha() and right.isalpha() and len(left + right) == 2)


def _core(text: str) -> str:
  """Without a name before it and a unit behind it."""
  text = _UNIT.sub("", text.strip().strip("$").rstrip(" .,;"))
  name, equals, rest = text.rpartition("=")
  return rest if equals and re.fullmatch(r"\s*\\?[A-Za-z]+\s*(?:\([a-z]\))?\s*", name) else text


def _normal(text: str) -> str:
  text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\$", "")
  text = _TIMES.sub("*", _NOISE.sub("", text))
  text = _SIMPLE_FRACTION.sub(r"\1/\2", text)
  text = _SMALL_GROUP.sub(r"\1", text).rstrip(".,;?")
  return re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)


@lru_cache(maxsize=256)
def _normal_question(question: str) -> str:
  return _normal(question)
