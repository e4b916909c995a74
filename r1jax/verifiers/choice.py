r"""Multiple choice: the letter of an option, its text, or its mathematical value.

A reference is text: the letter of the right option, "B", or JSON that knows the options too, so that an answer may be
an option's text: {"answer": "B", "options": {"A": "4 m", "B": "5 m"}}. `reference` makes one of a question and its
answer, reading the options from the question where they are not given.

Read as a letter: B, (B), B., [B], "Option B", \boxed{B}, "The answer is (B) 5 m.", 选B, （Ｂ）. Wrong is, whatever else it
says, an answer that names two options ("B or C", two boxes), that puts one option's letter to another one's text, or
that names a letter which is no option. A lone article ("A cell") is no letter. An option's text may be given in
another case unless options differ in nothing else (AA, Aa, aa). Values are compared by `r1jax.verifiers.maths`, which
may run for ever: this belongs in a worker process.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from r1jax.errors import InputError
from r1jax.verifiers import maths
from r1jax.verifiers.answers.text import tidy
from r1jax.verifiers.verdict import SCORED, UNPARSABLE

LETTERS = "ABCDEFGHIJ"  # R1's questions have four to eight options, MMLU-Pro's up to ten
MAX_LENGTH = 4000  # characters of an answer that is read; ours
_CHARACTERS = {**{0xFF01 + i: 0x21 + i for i in range(94)}, 0x3001: ",", 0x3002: ".", 0x2019: "'"}  # of full width
_DRESSING = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|textit)\s*\{([^{}]*)\}|\*+|[$`]")
_INTRODUCTION = re.compile(
  r"(?:so|thus|therefore|hence)?,?\s*(?:the\s+)?(?:final |correct |right |best )?"
  r"(?:answer|choice|option|选项|答案|正确答案)\s*(?:is|are|would be|应该是|应是|是|为)?\s*[::]?\s*"
  r"(?:the\s+)?(?:option|choice|letter)?\s*|(?:应该|应|故|所以)?选择?\s*[::]?\s*",
  re.IGNORECASE,
)
_LEADING = re.compile(
  r"\(([A-Ja-j])\)|\[([A-Ja-j])\]|([A-Ja-j])\s*(?=[).:,])|([A-Ja-j])\s*$|([A-J])(?=\s*[-–—=]|\s+(?:because|since|as)\b)"
)
_AFTER_INTRODUCTION = re.compile(r"([A-J])(?![A-Za-z'])")
_SAID = re.compile(r"([A-J])\s+is\s+(?:the\s+)?(?:correct|right|best|true|answer)\b|([A-J])\s*(?:正确|是正确的|对)")
_JOINED = r"(?:\bor|\band|\bnot|[,/&;和或与不])\s*[(\[]?([A-J])(?![A-Za-z'])(?=\s*(?:$|[?)\].,;:/&和或与]|or\b|and\b|is\b))"
_MARKED = re.compile(
  r"(?<![A-Za-z0-9])[(\[]([A-J])[)\]]|(?<![A-Za-z0-9(])([A-J])\)"
  rf"|(?:[Oo]ption|[Cc]hoice|选项?)\s*[(\[]?([A-J])(?![A-Za-z])|{_JOINED}"
)
_NEGATED = re.compile(r"(?:\bnot|n't|\bexcept|不选?|非)\s*(?:option|choice|选项)?\s*[(\[]?[A-J](?![A-Za-z'])", re.IGNORECASE)
_OPTION = re.compile(r"(?<![A-Za-z0-9_\\])(?:\(([A-J])\)|\[([A-J])\]|([A-J])\s?[).:：、．])\s*")


def reference(question: str, answer: str | int, options: Sequence[str] | Mapping[str, str] | None = None) -> str:
  """The reference of a question: JSON with the options where they are known, otherwise the letter.

  answer: the letter of the right option, its place (0 is A) or its text. options: letter -> text, or the texts in order,
  with or without their letters; by default they are read from the question. Raises InputError where the answer is
  none of them.
  """
  known = _as_options(options) if options is not None else read_options(question)
  letter = None
  if isinstance(answer, int):
    letter = LETTERS[answer] if 0 <= answer < len(LETTERS) else None
  elif answer.strip().strip("().").upper() in tuple(LETTERS):
    letter = answer.strip().strip("().").upper()
  elif known:
    matching = [key for key, text in known.items() if _same_text(text, answer)]
    letter = matching[0] if len(matching) == 1 else None
  if letter is None or (known and letter not in known):
    options_text = ", ".join(known) if known else "none could be read"
    raise InputError("answer of a multiple-choice question", repr(answer), f"Give the letter of an option ({options_text}).")
  return json.dumps({"answer": letter, "options": known}, ensure_ascii=False) if known else letter


def read_options(question: str) -> dict[str, str]:
  """letter -> text of the last list "A. .. B. .. C. .." or "(A) .. (B) .. (C) .." in a question; {} without one of
  three or more. Linear."""
  best: list[tuple[str, int, int]] = []
  run: list[tuple[str, int, int]] = []
  for match in _OPTION.finditer(question):
    letter = match[1] or match[2] or match[3]
    if letter == "A":
      run = []
    elif len(run) >= len(LETTERS) or letter != LETTERS[len(run)]:
      continue
    run.append((letter, match.start(), match.end()))
    if len(run) >= 3 and len(run) >= len(best):
      best = run
  ends = [start for _, start, _ in best[1:]] + [len(question)][: len(best)]
  return {
    letter: question[begin:end].strip().rstrip(",;").strip()
    for (letter, _, begin), end in zip(best, ends, strict=True)
  }


def check_reference(text: str) -> None:
  """Raises InputError for a reference that `judge` cannot use. For data loading."""
  try:
    _read_reference(text)
  except (ValueError, TypeError, AttributeError, LookupError) as error:
    remedy = 'Give a letter, or {"answer": "B", "options": {"A": "..", "B": ".."}}.'
    raise InputError("reference of a multiple-choice question", f"{text!r:.200}: {error}", remedy) from None


def judge(answer: str, reference: str) -> tuple[bool, str]:
  """(right, "scored" or "unparsable") of one answer: "unparsable" when no option can be read in it.

  A malformed reference raises whatever it raises; `check_reference` finds it beforehand.
  """
  gold, options = _read_reference(reference)
  if len(answer) > MAX_LENGTH:
    return False, UNPARSABLE
  boxes = maths.boxes(answer)
  if len(boxes) > 1:
    return False, SCORED
  text = _plain(boxes[0] if boxes else answer)
  if options and not (len(text) == 1 and text in options):  # a capital letter is the option of that letter
    named = _named_by_text(text, options, gold)
    if named is not None:
      return named == gold, SCORED
  letter, rest = _leading_letter(text)
  if letter and rest and options:
    named = _named_by_text(rest, options, gold) or _named_by_value(rest, options, gold)
    if named is not None:
      return named == letter == gold, SCORED
  letters = {letter or "", *_marked_letters(rest)} - {""}
  if letters:
    return letters == {gold} and not _NEGATED.search(text), SCORED
  named = _named_by_value(text, options, gold) if options else None
  return (False, UNPARSABLE) if named is None else (named == gold, SCORED)


# ---- reading


@lru_cache(maxsize=256)
def _read_reference(text: str) -> tuple[str, dict[str, str]]:
  """(letter, options or {})."""
  if text.strip() in tuple(LETTERS):
    return text.strip(), {}
  found = json.loads(text)
  gold, options = found["answer"], _as_options(found.get("options") or {})
  if gold not in tuple(LETTERS) or (options and gold not in options):
    raise ValueError(f"the answer {gold!r} is no option")
  return gold, options


def _as_options(options: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
  """letter -> text, of such a mapping or of a list whose texts may begin with their letters."""
  if isinstance(options, Mapping):
    pairs = [(str(letter), str(text)) for letter, text in options.items()]
  else:
    pairs = [(letter, _unlabelled(letter, str(text))) for letter, text in zip(LETTERS, options, strict=False)]
  if any(letter not in tuple(LETTERS) for letter, _ in pairs) or len(pairs) != len(options):
    raise ValueError(f"options have the letters {LETTERS[0]} to {LETTERS[-1]}")
  return dict(pairs)


def _unlabelled(letter: str, text: str) -> str:
  match = re.match(rf"\s*(?:\({letter}\)|{letter}\s?[).:：、．])\s*", text)
  return text[match.end() :].strip() if match else text.strip()


def _plain(text: str) -> str:
  """Without full-width characters, Markdown and LaTeX dressing, on one line."""
  text = text.translate(_CHARACTERS).replace("\\(", " ").replace("\\)", " ")
  text = _DRESSING.sub(lambda match: match[1] or "", text)
  return " ".join(text.split())


def _same_text(left: str, right: str) -> bool:
  return _plain(left).rstrip(".") == _plain(right).rstrip(".")


def _leading_letter(text: str) -> tuple[str | None, str]:
  """(the letter that the text begins with, after an introduction or without, what follows it)."""
  introduced = _INTRODUCTION.match(text)
  start = introduced.end() if introduced else 0
  match = _LEADING.match(text, start) or _SAID.match(text, start)
  if match is None and start:
    match = _AFTER_INTRODUCTION.match(text, start)
  if match is None:
    return None, text
  return next(filter(None, match.groups())).upper(), re.sub(r"^[\s.:)]+|^\s*[-–—=]\s+", "", text[match.end() :])


def _marked_letters(text: str) -> set[str]:
  return {next(filter(None, groups)) for groups in _MARKED.findall(text)}


def _named_by_text(text: str, options: Mapping[str, str], gold: str) -> str | None:
  """The option that the text is: letter for letter, or in another case where that leaves only one. Of options that are
  the same, which is a fault of the question, the right one."""
  text = text.rstrip(".").strip()
  texts = {letter: _plain(option).rstrip(".").strip() for letter, option in options.items()}
  same = {letter for letter, option in texts.items() if option == text}
  if not same:
    same = {letter for letter, option in texts.items() if option.casefold() == text.casefold()}
    return same.pop() if len(same) == 1 else None
  return gold if gold in same else same.pop()


def _named_by_value(text: str, options: Mapping[str, str], gold: str) -> str | None:
  """The option that the text is mathematically equal to; of several that are equal the right one."""
  if not tidy(text):
    return None
  same = [letter for letter, option in options.items() if maths.judge(text, option)[0]]
  return gold if gold in same else same[0] if same else None
