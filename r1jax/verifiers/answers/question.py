r"""What an answer has from its question: whether it only repeats it."""

import re
from functools import lru_cache
from itertools import accumulate

from r1jax.verifiers.answers.parts import enclosed

MIN_PASSAGE = 4  # words of a passage; ours

_NOISE = re.compile(r"\\(?:left|right|displaystyle|,|!|;|:|quad|qquad)(?![A-Za-z])|\\ |[\s$~]|\\[()\[\]](?=\s|$)")
_TIMES = re.compile(r"\\(?:cdot|times|ast)(?![A-Za-z])|×|·")
_SMALL_GROUP = re.compile(r"\{([A-Za-z0-9])\}")
_SIMPLE_FRACTION = re.compile(r"\\frac\{?([A-Za-z0-9]+)\}?\{?([A-Za-z0-9]+)\}?")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_UNIT = re.compile(r"\s*(?:\\(?:text|mbox|mathrm)\s*\{[^{}]*\}(?:\^\{?[23]\}?)?|\^\s*\{?\\circ\}?)\s*$")
_SIDES = frozenset(["", "=", "<", ">", ",", ";", ":", ".", "?"])
_STRUCTURE = re.compile(r"[\d\\+*/^=-]")  # a letter or a word of the question may well be the answer
_NUMERAL = re.compile(r"-?\d+(?:\.\d+)?")


def is_copied(answer: str, gold: str, question: str) -> bool:
  r"""Whether the answer stands in the question, and the gold answer does not: \sqrt{242} where 11\sqrt{2} is wanted.

  An equation of the question is never its result, x+y = 7 no more than 7. A number in other digits (5.0 for 5) is no copy.
  """
  if not question:
    return False
  whole, wanted = _normal(answer)[0], _normal(_core(gold))[0]
  if "=" in whole and "=" not in gold and _stands(whole, _normal(question)):
    return True
  last = whole.rpartition("=")[2]
  if last != whole and last != wanted and not _NUMERAL.fullmatch(last) and _STRUCTURE.search(last):
    asked = _normal(question)
    if _stands(last, asked) and not _stands(wanted, asked, as_a_side=True):
      return True  # 10/2 = 10/2
  written = _normal(_core(answer))[0]
  if written == wanted or not _STRUCTURE.search(written) or (_NUMERAL.fullmatch(written) and _NUMERAL.fullmatch(wanted)):
    return False
  asked = _normal(question)
  return (_stands(written, asked) or _stands(whole, asked)) and not _stands(wanted, asked, as_a_side=True)


def is_passage(answer: str, question: str) -> bool:
  """Whether a sentence or a part of one is the question's own."""
  return len(answer.split()) >= MIN_PASSAGE and _stands(_normal(answer)[0], _normal(question))


def _stands(text: str, question: tuple[str, frozenset[int]], as_a_side: bool = False) -> bool:
  """Whether it occurs as a whole, not as a part of a longer number or word; as_a_side: nor of a longer expression."""
  asked, borders = question
  place = asked.find(text) if text else -1
  while place >= 0:
    end = place + len(text)
    before, after = asked[place - 1 : place], asked[end : end + 1]
    if as_a_side:
      whole = (place in borders or before in _SIDES) and (end in borders or after in _SIDES)
    else:
      whole = (place in borders or not _joins(before, text[0])) and (end in borders or not _joins(text[-1], after))
    if whole:
      return True
    place = asked.find(text, place + 1)
  return False


def _joins(left: str, right: str) -> bool:
  if not left or not right:
    return False
  return (left.isdigit() and right.isdigit()) or (left.isalpha() and right.isalpha())


def _core(text: str) -> str:
  """Without a name before it and a unit behind it."""
  text = re.sub(r"\\(?:text|textbf|mathrm)\s*\{\(?([A-Za-z ]+)\)?\}", r"\1", text)
  text = _UNIT.sub("", text.strip().strip("$").rstrip(" .,;"))
  text = enclosed(text, "{", "}") or text
  name, equals, rest = text.rpartition("=")
  return rest if equals and re.fullmatch(r"\s*\\?[A-Za-z]+\s*(?:\([a-z]\))?\s*", name) else text


@lru_cache(maxsize=1024)
def _normal(text: str) -> tuple[str, frozenset[int]]:
  """(the text without what only spaces it, the places where there was a blank or a dollar)."""
  if "\\" in text:
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\$", "").replace("\\%", "%")
    text = _SIMPLE_FRACTION.sub(r"\1/\2", _TIMES.sub("*", _NOISE.sub(" ", text)))
  else:
    text = text.replace("$", " ").replace("~", " ").replace("\u00d7", "*").replace("\u00b7", "*")
  text = _SMALL_GROUP.sub(r"\1", text) if "{" in text else text
  text = _THOUSANDS.sub("", text) if "," in text else text
  pieces = text.split()
  return "".join(pieces).rstrip(".,;?"), frozenset((0, *accumulate(map(len, pieces))))
