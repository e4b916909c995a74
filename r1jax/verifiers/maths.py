r"""Equality of mathematical answers: where a response has its answer, what the answer says, whether that is the gold one.

`judge` tries texts that are equal as they stand and plain numbers first (`verify_plain`, cheap enough for any thread), then
the reader of forms in `r1jax.verifiers.answers`, whose docstring says what counts as equal. All of it is exact where it can
be and bounded in time. What stands around a formula or a box is part of the answer: `-\boxed{42}` is -42.
Where the answer is a sentence, it is what the sentence states (`r1jax.verifiers.answers.statement`).

An answer that stands in the question while the gold answer does not is no result: `\sqrt{242}`, where 11\sqrt2 is asked for.
Beyond that form is not judged: (a+5)(b+2) may be multiplied out.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from functools import lru_cache

from r1jax.verifiers import answers
from r1jax.verifiers.answers.boxes import boxes, with_boxes, with_formulas
from r1jax.verifiers.answers.compare import is_literal
from r1jax.verifiers.answers.labels import says_more
from r1jax.verifiers.answers.question import is_copied, is_passage
from r1jax.verifiers.answers.records import Clock, Group, Named, Scalar, Words
from r1jax.verifiers.answers.statement import last_step, stated
from r1jax.verifiers.answers.text import plain_words, tidy
from r1jax.verifiers.answers.units import is_spelled_out, marked_units, nouns_of
from r1jax.verifiers.tags import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from r1jax.verifiers.verdict import SCORED, UNPARSABLE, Verdict

__all__ = ["Extraction", "boxes", "extract_answer", "judge", "usable_gold", "verify_maths", "verify_plain"]

MAX_NUMBER_LENGTH = 64  # characters of a plain number; ours
MAX_LENGTH = 2000  # characters of an answer that is read; ours
MAX_WORDS = 4  # of a gold answer in words; more are a sentence; ours
MAX_LINES = 16  # of an answer that is a list, one item a line; ours
MAX_NESTING = 40  # brackets open at once, of which real answers have fewer than ten; ours
CACHED_FORMS = 1024  # answers and gold answers that a process remembers as read: a group repeats them; ours

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

class Extraction(Enum):
  r"""Where the answer of a response is looked for.

  TAGGED: the last `<answer>` block, R1-Zero's; a lone \boxed{..} in it is opened. BOXED: the \boxed{..} of what follows
  the last `</think>`, or of the whole text without one; a thought that is not closed has none. LAST_NUMBER: the last
  number, fraction or percentage there.
  """

  TAGGED = "tagged"
  BOXED = "boxed"
  LAST_NUMBER = "last_number"


def extract_answer(response: str, prefill: str = "", how: Extraction = Extraction.TAGGED) -> str | None:
  r"""The answer of `prefill + response`; None where there is none, or an empty one. Linear in the length of the text.

  TAGGED: the content of the last complete block outside the thinking, as it stands. BOXED: the content of the one box;
  several that differ are returned as a list, which equals a single answer only where all of them do. See Extraction.
  """
  text = prefill + response
  if how is Extraction.TAGGED:
    text = _outside_thinking(text)
    last_close = text.rfind(ANSWER_CLOSE)
    start = text.rfind(ANSWER_OPEN, 0, last_close) if last_close >= 0 else -1
    if start < 0:
      return None
    start += len(ANSWER_OPEN)
    content = text[start : text.index(ANSWER_CLOSE, start)].strip()
    return content if _EMPTY_BOX.sub("", content).strip() else None
  text = text.rpartition(THINK_CLOSE)[2].partition(THINK_OPEN)[0]
  if how is Extraction.BOXED:
    return ", ".join(boxes(text)) or None
  numbers = [match[0].strip() for match in _LAST_NUMBER.finditer(text.translate(_ASCII_DIGITS))]
  return numbers[-1] if numbers else None


def _outside_thinking(text: str) -> str:
  """What is no chain of thought: neither between the tags, nor before a lone closing one, nor after a lone open one."""
  *closed, last = text.split(THINK_CLOSE)
  visible = [part.partition(THINK_OPEN)[0] for part in closed if THINK_OPEN in part]
  return "".join([*visible, last.partition(THINK_OPEN)[0]])


_EMPTY_BOX = re.compile(r"\\boxed\s*\{\s*\}")
_ASCII_DIGITS = {**{0xFF10 + i: 0x30 + i for i in range(10)}, 0xFF0E: ".", 0xFF0D: "-", 0xFF05: "%"}


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


def verify_maths(answer: str, gold: str, question: str = "") -> bool:
  """Whether the answer is mathematically equal to the gold answer; see `judge`."""
  return judge(answer, gold, question)[0]


def judge(answer: str, gold: str, question: str = "") -> Verdict:
  """(equal, "scored" or "unparsable") of one answer. Bounded in time, but belongs in a worker process all the same.

  "unparsable": the answer says nothing that can be read as mathematics. Texts that are equal as they stand are equal,
  readable or not; a gold answer that cannot be read (`usable_gold`) equals nothing else.
  """
  equal = verify_plain(answer, gold)
  if equal is not None:
    return equal, SCORED
  gold_form = _gold_form(gold)
  if gold_form is None or len(answer) > MAX_LENGTH:
    return _same_words(answer, gold), SCORED if gold_form is None else UNPARSABLE
  nouns = _nouns(question, gold) if _LETTER.search(answer) else frozenset()
  status = UNPARSABLE
  for text in _readings(answer, gold_form, question):
    form = _form(text, nouns, question)
    if form is None:
      continue
    status = SCORED
    right = answers.equal(form, gold_form, text, _gold_text(gold)) or _equal_in_letters(text, gold, gold_form, nouns)
    if right or not isinstance(form, Words):  # words may be a sentence that states the gold answer's
      return right and not is_copied(text, gold, question), SCORED
  return _same_words(answer, gold), status


def usable_gold(gold: str, question: str = "") -> str | None:
  """None for a gold answer that answers can be compared with, otherwise the reason why not. For data loading, in any thread.

  It is read as `judge` reads it: what this refuses would match nothing but its own text.
  """
  words = plain_words(gold)
  if words in _MISSING:
    return "it says that there is no answer"
  form = _gold_form(gold)
  if form is None:
    return "it cannot be read as mathematics"
  if isinstance(form, Words) and len(form.text.split()) > MAX_WORDS:
    return "it is a sentence"
  return None


_MISSING = frozenset(
  "proof|n/a|na|none|nan|null|nil|unknown|tbd|todo|omitted|see solution|see proof|answer|?|-|--|_|...".split("|")  # noqa: SIM905
)


def _gold_form(gold: str) -> object:
  form = _form(_gold_text(gold), None, "") if _is_bounded(gold) else None
  return None if says_more(form) else form


@lru_cache(maxsize=CACHED_FORMS)
def _gold_text(gold: str) -> str:
  """The text that is read of a gold answer: what stands in its boxes, or else all of it."""
  return tidy(", ".join(boxes(gold))) or _whole(gold)


def _readings(answer: str, gold_form: object, question: str) -> Iterator[str]:
  """Texts that may be what the answer says, the first readable one counts."""
  if not _is_bounded(answer):
    return
  found = boxes(answer)
  if len(found) > 1:  # one answer in several writings, or several answers
    yield tidy(", ".join(found))
    return
  if found and not with_boxes(answer, lambda content: "").strip(" \n$.,;"):
    yield tidy(found[0])  # once or several times, and nothing beside it
    return
  if "=" in answer and (step := last_step(answer)):
    yield tidy(step)
    return
  lines = [line.strip() for line in answer.split("\n") if line.strip()]
  if 1 < len(lines) <= MAX_LINES and all(_LINE_OF_LIST.fullmatch(line) for line in lines):
    yield tidy(", ".join(lines))
  yield _whole(answer)
  if is_passage(answer, question):
    return
  if isinstance(gold_form, Words) and (said := _YES_OR_NO.match(answer.strip())):
    yield said[1] or said[2]
  gold_form = gold_form.form if isinstance(gold_form, Named) else gold_form
  numbers = (isinstance(gold_form, Scalar) and is_literal(gold_form.node)) or isinstance(gold_form, Clock) or (
    isinstance(gold_form, Group) and gold_form.kind == "ratio")
  for text in stated(answer, numbers, _numbers_of(question)):
    yield tidy(text)


def _whole(text: str) -> str:
  """All of an answer as one formula: boxes and dollars are dressing, formulas side by side are a list."""
  formulas: list[str] = []

  def marked(content: str) -> str:
    if not any(map(str.isalnum, content)):
      return content  # a lone sign
    formulas.append(content)
    return f"\ue000{len(formulas) - 1}\ue001"

  text = with_formulas(with_boxes(text, _opened), marked)
  text = re.sub("\ue001\\s*(?=\ue000)", "\ue001, ", text) if formulas else text
  for _ in range(2 if formulas else 0):
    text = re.sub("\ue000(\\d+)\ue001", lambda match: f" {formulas[int(match[1])]} ", text)
  return tidy(text)


def _opened(content: str) -> str:
  """A box's content: in braces where it may be the argument of something."""
  return f"{{{content}}}" if re.fullmatch(r"[-\w.+*/\\{}()^ ]*", content) and not content.startswith("\\text") else content


def _equal_in_letters(answer: str, gold: str, gold_form: object, nouns: frozenset[str]) -> bool:
  """Whether they are equal where no letter is a unit, 6 m n for 6mn; or where the last one is, 24m^2 for 24 m^2."""
  letter = _UNIT_LETTER.search(answer)
  if letter and isinstance(gold_form, Scalar) and (gold_form.unit or _is_unit_of(letter[1][0], gold_form, nouns)):
    form = _form(_UNIT_LETTER.sub(r" \1", answer), frozenset(), "")
    return form is not None and answers.equal(form, gold_form)
  if not (_FACTOR_LETTER.search(answer) and _FACTOR_LETTER.search(gold)):
    return False
  forms = [_form(text, frozenset(), "", units=False) for text in (answer, _gold_text(gold))]
  return None not in forms and answers.equal(*forms)


def _is_unit_of(letter: str, gold: Scalar, nouns: frozenset[str]) -> bool:
  """Whether a letter is a unit though the gold answer, a number, has none: 28L where a question asks for liters."""
  return is_literal(gold.node) and is_spelled_out(letter, nouns)


_LETTER = re.compile("[A-Za-z]")
_UNIT_LETTER = re.compile(r"(?<=\d)([A-Za-z](?:\^\{?[23]\}?)?)$")
_YES_OR_NO = re.compile(r"(?:(yes)|(no))\b[,.!;:](?!.*\b(?:yes|no|but|or|maybe|however|if|unless|wait|wrong|"
  r"actually)\b)(?(1)(?!.*(?:\bnot\b|n't\b)))", re.IGNORECASE | re.DOTALL)
_FACTOR_LETTER = re.compile(r"[\d}] ?[A-Za-z](?![A-Za-z])")
_LINE_OF_LIST = re.compile(r"(?!.*(?<![A-Za-z\\])[A-Za-z]{3})[^-+*/=,&\s](?:.{0,60}[^-+*/=,&\\\s])?")


@lru_cache(maxsize=CACHED_FORMS)
def _form(text: str, nouns: frozenset[str] | None, question: str, units: bool = True) -> object:
  """The form of a tidy text; None when it cannot be read. nouns: None for a gold answer, where any word may be a unit."""
  try:
    return answers.read(marked_units(text, nouns or frozenset(), question, any_word=nouns is None) if units else text)
  except answers.Unreadable:
    return None


@lru_cache(maxsize=CACHED_FORMS)
def _nouns(question: str, gold: str) -> frozenset[str]:
  return nouns_of(question, gold)


@lru_cache(maxsize=CACHED_FORMS)
def _numbers_of(question: str) -> frozenset[str]:
  return frozenset(number.replace(",", "") for number in re.findall(r"\d[\d,]*(?:\.\d+)?", question))


def _same_words(answer: str, gold: str) -> bool:
  return bool(gold.strip()) and plain_words(tidy(answer[:MAX_LENGTH])) == plain_words(tidy(gold[:MAX_LENGTH]))


def _is_bounded(text: str) -> bool:
  """Whether it is short and flat enough to be read."""
  if len(text) > MAX_LENGTH or "\ue000" in text:  # which is what stands for formulas below
    return False
  if sum(map(text.count, "([{")) <= MAX_NESTING:
    return True
  depth = deepest = 0
  for c in text:
    if c in "([{":
      depth += 1
      deepest = max(deepest, depth)
    elif c in ")]}":
      depth -= 1
  return deepest <= MAX_NESTING
