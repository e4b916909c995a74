r"""Multiple choice: the label of an option, its text, or its mathematical value.

A reference is text: the label of the right option, "B", or JSON that knows the options too, so that an answer may be
an option's text: {"answer": "B", "options": {"A": "4 m", "B": "5 m"}}. `reference` makes one of a question and its
answer, reading the options from the question where they are not given. Labels are letters, numbers or Roman numerals, and
their case does not matter.

An answer may be a label (B, (b), B!, 选B, \boxed{B}), a text, a label with its text (B. 5 m, B (5 m)) or a sentence that
states one: "It must be B.", "The capital is Rome." All that it names has to be the right option. Wrong is, whatever else it
says, an answer that names two options ("B or C", "Paris (B)", two boxes), that denies ("not B", "B is wrong") or that asks
("B?"); what follows "because" is not read. A letter that belongs to another word ("A cell", "vitamin B", "I think so") is no
label. An option's text may be given in another case unless options differ in nothing else (AA, Aa, aa). Values are compared
by `r1jax.verifiers.maths`, which may run for ever: this belongs in a worker process.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from r1jax.errors import InputError
from r1jax.verifiers import maths
from r1jax.verifiers.answers.text import tidy
from r1jax.verifiers.verdict import SCORED, UNPARSABLE, Verdict

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")
MAX_LENGTH = 4000  # characters of an answer that is read; ours

_CHARACTERS = {
  **{0xFF01 + i: 0x21 + i for i in range(94)},  # of full width
  0x3001: ",", 0x3002: ".", 0x2019: "'", 0x2018: "'", 0x201C: '"', 0x201D: '"', 0x300C: '"', 0x300D: '"',
}  # fmt: skip
_DRESSING = re.compile(
  r"\\(?:text|textbf|mathrm|mathbf|mbox|textit|boxed|fbox)\s*(?:\{([^{}]*)\}|([A-Za-z0-9])(?![A-Za-z]))"
  r"|</?(?:b|i|u|em|strong)>|\*+|[$`\"]|(?<!\w)'|'(?!\w)"
)
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|(?<=[!?;])(?=[^\x00-\x7f])|\n")
_EXPLANATION = re.compile(r"(?:\b(?:because|since|as (?:it|the|this|that)|due to|given that)\b|因为|由于).*",
  re.IGNORECASE | re.DOTALL)
_DENIAL = re.compile(
  r"\b(?:not|no(?! doubt)|never|cannot|except|neither|nor|or|either|unless|if|but|instead|rather|unlike|opposite|wrong"
  r"|incorrect|false|untrue|eliminat\w*|exclud\w*|reject\w*|rul\w+ out)\b|n't\b|[?不错除否或]|非(?!常)", re.IGNORECASE)
_LABEL = re.compile(r"([(\[]\s*)?(?<![A-Za-z0-9_'\\])([A-Za-z]{1,4}|\d{1,2})(?![A-Za-z0-9_'])(\s*[)\]])?")
_STATES = re.compile(  # what may stand before a label or a text that is stated
  r"(?:\b(?:is|are|was|be|options?|choices?|answers?|ans|letter|think|say|guess|believe|choose|chose|pick|select|mark|circle"
  r"|with|for|so|thus|therefore|hence|then|definitely|probably|clearly|obviously|surely|just|only|equals)|'s|[:=,]"
  r"|[→>]|\s[-–—]|[选择是为项案填故])\s*(?:the\s+|an?\s+)?[(\[]?\s*$", re.IGNORECASE)
_GOES_ON = re.compile(  # what may follow it
  r"\s*(?:$|[^\w\s\-–—'+*^<>\\]|[选项正对是和或与]|[-–—](?!\w)"
  r"|(?:is|are|was|it|would|should|must|seems|looks|for|here|or|and|which|that|in|to|on|from|with|based|by)\b)",
  re.IGNORECASE)
_SEPARATED = re.compile(r"\s*(?:$|[).:,!;\]]|\s[-–—=]\s|\s+(?:or|and)\b|[/&])", re.IGNORECASE)
_JOINED = re.compile(r"(?:\b(?:or|and|nor|not|versus|vs)|[,/&+和或与])\s*[(\[]?$", re.IGNORECASE)
_LISTED = re.compile(
  r"(?<![A-Za-z0-9_\\])(?:\((?P<a>[A-Za-z]{1,4}|\d{1,2})\)|\[(?P<b>[A-Z])\]|(?P<c>[A-Za-z]{1,4}|\d{1,2})\)"
  r"|(?P<d>[A-Z])\s?[.:：、．])\s*")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_FIRST_TEXT = 0xE000  # of private use: stand-ins for the texts of options
_PRIVATE = re.compile("[\ue000-\uf8ff]")
_MENTION = re.compile(rf"{_LABEL.pattern}|(?P<text>[\ue000-\ue0ff])")


# ---- references


def reference(question: str, answer: str | int, options: object = None) -> str:
  """The reference of a question: JSON with the options where they are known, otherwise the label.

  answer: the right option's label, its place (a number: 0 is the first; as text, "1" is), its text, or label and text.
  options: label -> text, [{"label", "text"}, ...], {"label": [..], "text": [..]}, or the texts in order, with or without
  their letters; by default they are read from the question. Raises InputError where the answer is none of them, or two.
  """
  try:
    lists = [_as_options(options)] if options is not None else [*_lists(question), {}]
  except (ValueError, TypeError, KeyError) as error:
    remedy = 'Give texts, {"A": "..", "B": ".."} or [{"label": "A", "text": ".."}, ..].'
    raise InputError("options of a multiple-choice question", f"{options!r:.200}: {error}", remedy) from None
  for known in lists:
    found = _labels_of(answer, known, isinstance(options, list | tuple))
    if len(found) == 1:
      return json.dumps({"answer": found[0], "options": known}, ensure_ascii=False) if known else found[0]
    if found:
      break
  labels = ", ".join(lists[0]) or "none could be read"
  what = f"{answer!r:.200}, which may be {' or '.join(found)}" if found else f"{answer!r:.200}"
  raise InputError("answer of a multiple-choice question", what, f"Give the label of an option ({labels}).")


def _labels_of(answer: str | int, known: Mapping[str, str], in_order: bool) -> list[str]:
  """The options that an answer may mean. A label is one before it is a text, and so is a number where the options are texts
  `in_order`, without labels: it is then a place. Elsewhere it may be a place and a text."""
  labels = list(known or LETTERS)
  if isinstance(answer, int) and not isinstance(answer, bool):
    return [str(answer)] if str(answer) in known else labels[answer : answer + 1] if answer >= 0 else []
  if not isinstance(answer, str):
    return []
  bare = answer.strip().strip("()[].").upper()
  if bare in labels:
    return [bare]
  both = re.match(r"[(\[]?(\w{1,4})[)\].:：]\s*(.+)", answer.strip(), re.DOTALL)
  if both and both[1].upper() in known and _same_text(known[both[1].upper()], both[2]):
    return [both[1].upper()]
  found = [label for label, text in known.items() if _same_text(text, answer)]
  if known and bare.isascii() and bare.isdigit() and len(bare) < 3 and int(bare):
    place = labels[int(bare) - 1 : int(bare)]
    found = place if in_order and place else found + [label for label in place if label not in found]
  return found


def read_options(question: str) -> dict[str, str]:
  """label -> text of the last list "A. .. B. .. C. .." or "(a) .. (b) .." in a question; {} without one. Linear."""
  return next(_lists(question), {})


def _lists(question: str) -> Iterator[dict[str, str]]:
  """The lists of options in a question: of capital letters, small ones, Roman numerals, numbers; the longest of each."""
  marks = [(next(filter(None, match.groups())), match.start(), match.end(), match["d"] is None)
           for match in _LISTED.finditer(question)]
  small = [label.lower() for label in ROMAN]
  for labels in (LETTERS, LETTERS.lower(), ROMAN, small, [str(i) for i in range(1, 27)]):
    best, run = [], []
    for mark in marks:
      if mark[0] == labels[0]:
        run = []
      elif not run or len(run) >= len(labels) or mark[0] != labels[len(run)]:
        continue
      run.append(mark)
      # A list of two needs brackets: "A point A. Then B. What?" has none.
      if len(run) >= (2 if mark[3] else 3) and len(run) >= len(best):
        best = run
    ends = [start for _, start, _, _ in best[1:]] + [len(question)][: len(best)]
    texts = [question[begin:end].strip().rstrip(",;").strip() for (_, _, begin, _), end in zip(best, ends, strict=True)]
    if texts and all(texts):
      yield {mark[0].upper(): text for mark, text in zip(best, texts, strict=True)}


def check_reference(text: str) -> None:
  """Raises InputError for a reference that `judge` cannot use. For data loading."""
  try:
    _read_reference(text)
  except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
    remedy = 'Give a letter, or {"answer": "B", "options": {"A": "..", "B": ".."}}.'
    raise InputError("reference of a multiple-choice question", f"{text!r:.200}: {error}", remedy) from None


@lru_cache(maxsize=256)
def _read_reference(text: str) -> tuple[str, dict[str, str]]:
  """(label, options or {})."""
  if text.strip() in tuple(LETTERS):
    return text.strip(), {}
  found = json.loads(text)
  gold, options = found["answer"], _as_options(found.get("options") or {})
  if gold not in (options or tuple(LETTERS)):
    raise ValueError(f"the answer {gold!r} is no option")
  return gold, options


def _as_options(options: object) -> dict[str, str]:
  """label in capitals -> text, of what `reference` takes."""
  if isinstance(options, Mapping) and set(options) == {"label", "text"}:
    pairs = list(zip(options["label"], options["text"], strict=True))
  elif isinstance(options, Mapping):
    pairs = list(options.items())
  elif isinstance(options, Sequence) and not isinstance(options, str):
    if len(options) > len(LETTERS):
      raise ValueError(f"more than {len(LETTERS)} options")
    pairs = [(each["label"], each["text"]) if isinstance(each, Mapping) else (letter, _unlabelled(letter, str(each)))
             for letter, each in zip(LETTERS, options, strict=False)]
  else:
    raise TypeError("neither a list nor an object")
  result = {str(label).strip().upper(): str(text) for label, text in pairs}
  if len(result) != len(pairs):
    raise ValueError("a label occurs twice")
  wrong = [label for label in result if label not in (*LETTERS, *ROMAN) and not re.fullmatch(r"\d{1,2}", label)]
  if wrong:
    raise ValueError(f"{wrong[0]!r} is no letter, number or Roman numeral")
  return result


def _unlabelled(letter: str, text: str) -> str:
  match = re.match(rf"\s*(?:\({letter}\)|{letter}\s?[).:：、．])\s*", text)
  return text[match.end() :].strip() if match else text.strip()


# ---- answers


def judge(answer: str, reference: str) -> Verdict:
  """(right, "scored" or "unparsable") of one answer: "unparsable" when no option can be read in it.

  A malformed reference raises whatever it raises; `check_reference` finds it beforehand.
  """
  gold, options = _read_reference(reference)
  if len(answer) > MAX_LENGTH:
    return False, UNPARSABLE
  if len(maths.boxes(answer)) > 1:
    return False, SCORED
  labels = options or dict.fromkeys(LETTERS[: max(10, LETTERS.index(gold) + 1)], "")
  lines = [line for line in map(_plain, answer.splitlines()) if line]
  whole = " ".join(lines)
  text = _EXPLANATION.sub("", whole).rstrip(" ,;:(")
  bare = text.strip(" ()[].,:;!")
  if bare in labels:  # a capital letter is a label before it is a text
    return bare == gold, SCORED
  named = _named_by_text(whole, options, gold) or (bare.upper() if bare.upper() in labels else None)
  if named is not None:
    return named == gold, SCORED
  label, rest = _leading_label(text, labels)
  if rest:
    named = _named_by_text(rest, options, gold)
    if named is None and not _WORD.search(rest):
      named = _named_by_value(rest, options, gold)
    if named is not None:
      return named == gold and label in (gold, ""), SCORED
  stated, denied = _statements("\n".join(lines), labels, options, gold)
  if stated:
    return stated == {gold} and not denied, SCORED
  named = _named_by_value(text, options, gold)
  return (False, UNPARSABLE) if named is None else (named == gold, SCORED)


def _plain(text: str) -> str:
  """Without full-width characters, quotes, Markdown and LaTeX dressing, on one line."""
  text = text.translate(_CHARACTERS).replace("\\(", " ").replace("\\)", " ")
  for _ in range(3):  # \boxed{\text{B}}
    text, replaced = _DRESSING.subn(lambda match: match[1] or match[2] or "", text)
    if not replaced:
      break
  return " ".join(text.split())


def _same_text(left: str, right: str) -> bool:
  return _plain(left).rstrip(".") == _plain(right).rstrip(".")


def _leading_label(text: str, labels: Mapping[str, str]) -> tuple[str, str]:
  """(the label that the text begins with, what follows it) of "B. 5 m", "B (5 m)", "The answer is B: 5 m", otherwise
  ("", ""). The label of "A triangle" is "", as it may be an article."""
  first = next((match for match in _LABEL.finditer(text[:80]) if match[2].upper() in labels), None)
  if first is None or (text[: first.start()].strip() and not _STATES.search(text[: first.start()])):
    return "", ""
  rest = text[first.end() :].strip()
  if first[2] in ("A", "a") and not first[3] and re.match(r"\s+[a-z]", text[first.end() :]):
    return "", rest
  inside = re.fullmatch(r"\((.*)\)[.!]?", rest)
  return first[2].upper(), inside[1] if inside else re.sub(r"^[\s.:,]+|^[-–—=]\s+", "", rest)


def _statements(text: str, labels: Mapping[str, str], options: Mapping[str, str], gold: str) -> tuple[set[str], bool]:
  """(labels of all options that are named where one is stated, whether one of these is denied)."""
  named: set[str] = set()
  refused: set[str] = set()
  for sentence in _SENTENCE_END.split(_stand_ins(text, options, gold)):
    sentence = _EXPLANATION.sub("", sentence)
    stated, mentioned = _mentions(sentence, labels)
    if stated:
      named |= mentioned
    if _DENIAL.search(sentence):
      refused |= mentioned
  return named, bool(named & refused)


def _mentions(sentence: str, labels: Mapping[str, str]) -> tuple[set[str], set[str]]:
  """(labels that are stated, labels that are mentioned at all, these included) of one sentence."""
  stated, mentioned = set(), set()
  for match in _MENTION.finditer(sentence):
    text, opened, closed = match["text"], match[1], match[3]
    label = list(labels)[ord(text) - _FIRST_TEXT] if text else match[2].upper()
    if label not in labels:
      continue
    before, after = sentence[max(0, match.start() - 24) : match.start()], sentence[match.end() :][:24]
    capital = bool(text) or match[2].isupper()
    bracketed = opened and closed and not re.search(r"[A-Za-z0-9]$", before)
    introduced = not before.strip(" -–—*") or _STATES.search(before)
    if bracketed or (introduced and (closed or (_GOES_ON if capital else _SEPARATED).match(after))):
      stated.add(label)
    article = match[2] in ("A", "I") and re.match(r"\s+(?!(?:and|or|nor|is)\b)[a-z]", after)
    if label in stated or _JOINED.search(before) or (capital and not article):
      mentioned.add(label)
  return stated, mentioned


def _stand_ins(text: str, options: Mapping[str, str], gold: str) -> str:
  """The text with one character in place of each option's text; where options have the same text, of the right one."""
  text = _PRIVATE.sub(" ", text)
  if not options:
    return text
  pattern, labels = _texts(tuple(options.items()))
  places = list(options)

  def stand_in(match: re.Match) -> str:
    same = labels.get(match[0]) or labels[match[0].casefold()]
    return chr(_FIRST_TEXT + places.index(gold if gold in same else same[0]))

  return pattern.sub(stand_in, text) if pattern else text


@lru_cache(maxsize=256)
def _texts(options: tuple[tuple[str, str], ...]) -> tuple[re.Pattern | None, dict[str, list[str]]]:
  """(what finds the texts of options, the longest first; text -> labels). Not texts that look like labels."""
  texts = {label: _plain(text).rstrip(".").strip() for label, text in options}
  exact = len({text.casefold() for text in texts.values()}) < len(set(texts.values()))
  labels: dict[str, list[str]] = {}
  patterns = []
  for label, text in sorted(texts.items(), key=lambda item: -len(item[1])):
    if not text or (len(text) == 1 and not text.isdigit()) or (len(text) == 2 and text.islower()):
      continue  # "is" and "x" stand in answers that do not mean the option
    any_case = len(text) > 3 and not exact
    for key in {text, text.casefold()} if any_case else {text}:
      labels.setdefault(key, []).append(label)
    pattern = f"(?i:{re.escape(text)})" if any_case else re.escape(text)
    if text[0].isdigit():  # no part of a longer number or of a calculation
      pattern = r"(?<!\d[.,])(?<![-+*/^<>])(?<![-+*/^<>] )" + pattern
    patterns.append(pattern + (r"(?!\s*[-+*/^%<>])(?![.,]\d)" if text[-1].isdigit() else ""))
  return (re.compile(rf"(?<![A-Za-z0-9_])(?:{'|'.join(patterns)})(?![A-Za-z0-9_])") if patterns else None), labels


def _named_by_text(text: str, options: Mapping[str, str], gold: str) -> str | None:
  """The option that the text is: letter for letter, or in another case where that leaves only one. Of options that are
  the same, which is a fault of the question, the right one."""
  text = text.rstrip(".!").strip()
  texts = {label: _plain(option).rstrip(".").strip() for label, option in options.items()}
  same = [label for label, option in texts.items() if option == text]
  if not same:
    same = [label for label, option in texts.items() if option.casefold() == text.casefold()]
    return same[0] if len(same) == 1 else None
  return gold if gold in same else same[0]


def _named_by_value(text: str, options: Mapping[str, str], gold: str) -> str | None:
  """The option that the text is mathematically equal to; of several that are equal the right one."""
  if not options or not tidy(text):
    return None
  same = [label for label, option in options.items() if maths.judge(text, option)[0]]
  return gold if gold in same else same[0] if same else None
