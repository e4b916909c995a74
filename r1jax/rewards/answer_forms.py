r"""Forms of mathematical answers and their equality: numbers, expressions, equations, lists, sets, tuples, intervals
and their unions, inequalities, matrices, numerals of a base, words.

`read` makes a form of a tidy text (r1jax.rewards.answer_text) or raises Unreadable; `equal` compares two. Both are
bounded in time for a text of bounded length. What counts as equal, where mathematics leaves a choice (ours):

* a decimal of at least ROUNDED_DIGITS significant digits equals a value that no decimal equals (1/3, \pi) when it
  is that value correctly rounded; any shorter one does not: 0.333333 is not 1/3;
* a unit may be left out; two different units are different answers, and nothing is converted. The degree sign is
  such a unit, and besides 45^\circ is \pi/4. So is the percent sign of a number above 1, and besides 50% is 0.5;
* where the gold answer is a plain number or fraction, the answer has to be one: work left undone (2^{10}, 10/2,
  12+7) is wrong. Expressions may have any form: (x+1)^2 is x^2+2x+1;
* in lists and sets the order does not matter, in tuples it does; {1,1,2} is {1,2}, the list 1,1,2 is not 1,2;
* `x =` may be left out or added, x = 1 is not y = 1; equations are equal when their sides differ by a factor;
* numerals of a base are compared as written: 52_8 is neither 52_9 nor 52 nor 42.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from r1jax.rewards import expression
from r1jax.rewards.answer_text import (
  chinese_number,
  plain_words,
  same_units,
  scaled,
  split_unit,
  without_repetition,
  without_thousands,
)
from r1jax.rewards.expression import Node, Undefined, Unreadable, evaluate, parse

ROUNDED_DIGITS = 8  # what a pocket calculator shows, and more than people round to; ours
MAX_ITEMS = 64  # of a list, set or matrix; ours
_INFINITY = float("inf")


@dataclass(frozen=True)
class Scalar:
  """A number or expression. mark: "", "degrees" or "percent". unit: a name or None."""

  node: Node
  mark: str = ""
  unit: str | None = None


@dataclass(frozen=True)
class Group:
  """Several forms. kind: "list", "set", "ratio", or the two brackets of a tuple or interval, "()" to "]["."""

  kind: str
  items: tuple


@dataclass(frozen=True)
class Named:
  """An assignment, `name = form`."""

  name: str
  form: object


@dataclass(frozen=True)
class Relation:
  """left - right stands in this relation to 0: one of = < <= (others are turned round)."""

  sign: str
  left: Node
  right: Node


@dataclass(frozen=True)
class Region:
  """Real numbers: disjoint intervals (low, low is in it, high, high is in it), in order. name: of the variable."""

  intervals: tuple
  name: str | None = None


@dataclass(frozen=True)
class Matrix:
  rows: tuple


@dataclass(frozen=True)
class Based:
  digits: str
  base: int


@dataclass(frozen=True)
class Words:
  """Words, in the normal form of plain_words, or the canonical one of several ways to say the same."""

  text: str


_SYNONYMS = {
  "empty": "no solution|no solutions|no real solution|no real solutions|no roots|no real roots|there is no solution|"
  "there are no solutions|there are no real solutions|no solution exists|no solutions exist|none|empty set|the empty set|"
  "\\emptyset|\\varnothing|\\{\\}|\\{ \\}|{}|无解|没有解|方程无解|无实数解|无实根|无实数根|空集",
  "undefined": "undefined|not defined|does not exist|dne|不存在|无意义|无定义",
  "infinitely many": "infinitely many|infinitely many solutions|infinite solutions|infinite number of solutions|无数个|"
  "无穷多|无穷多个|有无数个|无数解|无穷多解",
  "yes": "yes|是|是的|对|能|可以",
  "no": "no|否|不是|不对|不能|不可以",
}
_CANONICAL = {phrase: name for name, phrases in _SYNONYMS.items() for phrase in phrases.split("|")}
_ALL_REALS = frozenset(
  ["\\mathbb{R}", "\\mathbb R", "\\mathbf{R}", "\\R", "all real numbers", "all reals", "the real numbers", "any real number"]
  + ["全体实数", "实数集", "一切实数", "任意实数", "所有实数"]
)
_LETTERS = re.compile(r"[A-Za-z][A-Za-z' -]*")
_BASED = re.compile(
  r"\(?([0-9A-Za-z]{1,64})\)?(?:_(?:\{(?:\\text\{)?(\d{1,2})\}?\}|(\d))| (?:in )?base[- ](\d{1,2}))", re.ASCII
)


def _joint(words: str, commands: str, others: str) -> re.Pattern:
  r"""One of the words, alone or as \text{, word }, one of the LaTeX commands, or one of the other marks."""
  text = rf"\\(?:text|mbox|mathrm)\{{\s*,?\s*(?:{words})\s*,?\s*\}}|(?<![A-Za-z\\])(?:{words})(?![A-Za-z])"
  return re.compile(rf"{text}|{others}" + (rf"|\\(?:{commands})(?![A-Za-z])" if commands else ""))


_SEPARATOR = _joint("and|or", "", "[,;和或与]|以及")
_OR = _joint("or", "cup|lor|vee", "(?<![A-Za-z])U(?![A-Za-z])|或者?")
_AND = _joint("and", "land|wedge", "且")
_SIGNS = {
  "=": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "!=": "!=", "\\le": "<=", "\\leq": "<=", "\\leqslant": "<=",
  "\\ge": ">=", "\\geq": ">=", "\\geqslant": ">=", "\\lt": "<", "\\gt": ">", "\\ne": "!=", "\\neq": "!=",
}  # fmt: skip
_SIGN = re.compile(r"<=|>=|!=|\\(?:leqslant|geqslant|leq|geq|neq|le|ge|lt|gt|ne)(?![A-Za-z])|[<>=]")
_TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
_NAME = re.compile(r"(?:\\?[A-Za-z]+(?:_(?:\{[A-Za-z0-9]+\}|[A-Za-z0-9]))?)(?:\s*\(\s*[A-Za-z]\s*\)|')?")
_MEMBER = re.compile(r"(\\?[A-Za-z]+)\s*\\in(?![A-Za-z])\s*")
_BUILDER = re.compile(r"\\\{\s*([A-Za-z])\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\||:|\\mid|\\vert)\s*(.*)\\\}")
_MATRIX = re.compile(r"\\begin\{([pbBvV]?matrix|array)\}(?:\s*\{[lcr|]*\})?(.*)\\end\{\1\}")
_OWN_COMMANDS = (
  "text mbox mathrm textbf textrm textit operatorname mathbf mathbb cup lor vee land wedge pm mp in mid vert setminus "
  "backslash le leq leqslant ge geq geqslant lt gt ne neq emptyset varnothing langle rangle begin end R"
)
_COMMANDS = expression.KNOWN_COMMANDS | set(_OWN_COMMANDS.split())
_PERCENT_WORD = re.compile(
  r"\s*(?:percent|per cent|pct\.?)$|\s*\\(?:text|mbox)\{\s*(?:percent|per cent|%|\\%)\s*\}$", re.IGNORECASE
)
_DRESSED = re.compile(
  r"\\(?:text|mathrm|mathbf|mathit|operatorname|mbox)\s*\{\s*([A-Za-z]|[\d.]+|sin|cos|tan|ln|log)\s*\}", re.ASCII
)
_ALL_BUT = re.compile(
  r"(?:\\mathbb\s*\{?R\}?|\(-\s*\\infty\s*,\s*\+?\\infty\s*\))\s*(?:\\setminus|\\backslash|-)\s*(\\\{.*\\\})"
)
_WHOLE_TEXT = re.compile(r"\\(?:text|mbox|textbf|textrm|textit|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}")


def read(text: str) -> object:
  """The form that a tidy text says. Raises Unreadable."""
  if not text:
    raise Unreadable("nothing")
  return _words(text) or _read_together(text)


def has_unknown_commands(text: str) -> bool:
  r"""Whether it holds LaTeX that no form here is written in, such as \int: then others may be able to read it."""
  return any(command not in _COMMANDS for command in re.findall(r"\\([A-Za-z]+)", text))


# ---- reading


def _words(text: str) -> Words | Region | None:
  """Words, where the text is words and no mathematics."""
  words = plain_words(text)
  if words in _CANONICAL or text in _CANONICAL:
    return Words(_CANONICAL.get(words) or _CANONICAL[text])
  if words in _ALL_REALS or text in _ALL_REALS:
    return Region(((-_INFINITY, False, _INFINITY, False),))
  if _WHOLE_TEXT.fullmatch(text) and not any(c.isdigit() for c in words):
    return Words(_without_article(words))
  if re.fullmatch(r"[A-Z]{2,4}", text) or (_LETTERS.fullmatch(text) and _long_word(text)):
    return Words(_without_article(words))
  if text and all("\u4e00" <= c <= "\u9fff" for c in text) and chinese_number(text) == text:
    return Words(words)
  return None


def _without_article(words: str) -> str:
  return words if len(words) == 1 else re.sub(r"^(?:the|an|a) (?=..)", "", words)


def _long_word(text: str) -> bool:
  return any(len(word) > expression.MAX_WORD and word not in ("sqrt",) for word in re.findall("[A-Za-z]+", text))


def _read_together(text: str) -> object:
  """What may consist of several parts: regions, lists, matrices, tuples, sets; otherwise a relation or a scalar."""
  matrix = _MATRIX.fullmatch(text)
  if matrix:
    return _matrix(matrix[2])
  member = _MEMBER.match(text)
  if member:
    form = _as_region(read(text[member.end() :]))
    if form is None:
      raise Unreadable("membership of what is no set of numbers")
    return Region(form.intervals, member[1])
  region = _region(text)
  if region is not None:
    return region
  if "(" not in text and "[" not in text and "\\{" not in text:
    text = without_thousands(text)
  parts = _split(text, _SEPARATOR)
  if len(parts) > 1:
    parts = [part for part in parts if part]
    return Group("list", _items(parts)) if len(parts) > 1 else read(parts[0] if parts else "")
  group = _bracketed(text)
  if group is not None:
    return group
  return _relation_or_scalar(text)


def _items(parts: list[str]) -> tuple:
  r"""The forms of the parts; one with \pm is two."""
  found = []
  for part in parts:
    for signed in _both_signs(part.strip()):
      found.append(read(signed))
    if len(found) > MAX_ITEMS:
      raise Unreadable("too many items")
  return tuple(found)


def _both_signs(text: str) -> list[str]:
  if "\\pm" not in text and "\\mp" not in text:
    return [text]
  plus = text.replace("\\pm", "+").replace("\\mp", "-")
  minus = text.replace("\\pm", "-").replace("\\mp", "+")
  return [plus, minus]


def _split(text: str, separator: re.Pattern) -> list[str]:
  """The parts between separators that stand outside all brackets."""
  depth, depths = 0, []
  for c in text:
    depth += (c in "([{") - (c in ")]}")
    depths.append(depth)
  parts, start = [], 0
  for match in separator.finditer(text):
    # Of \text{ or } the brackets are its own.
    if (depths[match.start() - 1] if match.start() else 0) == 0:
      parts.append(text[start : match.start()].strip())
      start = match.end()
  return [*parts, text[start:].strip()]


def _enclosed(text: str, begin: str, end: str) -> str | None:
  """What stands between the two brackets when they open at the first character and close at the last."""
  if not (text.startswith(begin) and text.endswith(end)) or len(text) < len(begin) + len(end):
    return None
  inside, depth = text[len(begin) : len(text) - len(end)], 0
  for c in inside:
    depth += (c in "([{") - (c in ")]}")
    if depth < 0:
      return None
  return inside.strip() if depth == 0 else None


def _bracketed(text: str) -> Group | Words | None:
  for begin, end, kind in (
    ("\\{", "\\}", "set"), ("(", ")", "()"), ("[", "]", "[]"), ("(", "]", "(]"), ("[", ")", "[)"), ("]", "[", "]["),
    ("{", "}", "set"),
  ):  # fmt: skip
    inside = _enclosed(text, begin, end)
    if inside is None:
      continue
    parts = _split(inside, re.compile("[,;]"))
    if kind == "set":
      return Group("set", _items(parts))
    if len(parts) > 1:
      return Group(kind, tuple(read(part) for part in parts[: MAX_ITEMS + 1]))
    if kind == "()" and not inside.isascii():
      return None
  ratio = _split(text, re.compile(":"))
  if len(ratio) > 1 and all(ratio):
    return Group("ratio", tuple(read(part) for part in ratio[:MAX_ITEMS]))
  return None


def _matrix(body: str) -> Matrix:
  rows = [row for row in (part.strip() for part in body.split("\\\\")) if row]
  cells = tuple(tuple(_relation_or_scalar(cell.strip()) for cell in row.split("&")) for row in rows)
  if not cells or len({len(row) for row in cells}) != 1 or len(cells) * len(cells[0]) > MAX_ITEMS:
    raise Unreadable("a matrix")
  return Matrix(cells)


def _relation_or_scalar(text: str) -> object:
  signs = [_SIGNS[match[0]] for match in _SIGN.finditer(text)]
  if not signs:
    if "\\pm" in text or "\\mp" in text:
      return Group("list", _items([text]))
    return _scalar(text)
  parts = [part.strip() for part in _SIGN.split(text)]
  if len(signs) > 20 or not all(parts[1:]) or any(sign != "=" for sign in signs) and len(signs) > 1:
    raise Unreadable("a chain of relations")
  if signs[0] == "!=":
    raise Unreadable("an inequation that is no region")
  if signs[0] == "=":
    if not parts[0]:
      return _relation_or_scalar(parts[-1])
    for name, other in ((parts[0], parts[-1]), (parts[-1], parts[0])):
      if _is_name(name):
        return Named("".join(name.split()).replace("{", "").replace("}", ""), read(other))
    nodes = [parse(without_thousands(part)) for part in parts[:-1]]
    if not any(expression.symbols(node) for node in nodes):
      return read(parts[-1])  # 12+7 = 19: the last side is the answer
    if len(signs) > 1:
      raise Unreadable("a chain of equations")
    return Relation("=", nodes[0], parse(parts[1]))
  left, right = parse(parts[0]), parse(parts[1])
  return Relation(signs[0], left, right) if signs[0] in ("<", "<=") else Relation(_TURNED[signs[0]], right, left)


def _is_name(text: str) -> bool:
  """Whether it is a letter, with or without a subscript or the letter that it is a function of."""
  if not _NAME.fullmatch(text) or text in ("\\pi", "e", "i"):
    return False
  return text.startswith("\\") or len(re.sub(r"_.*|\W.*", "", text)) == 1


def _scalar(text: str) -> object:
  based = _BASED.fullmatch(text)
  if based:
    base = int(based[2] or based[3] or based[4])
    digits = based[1].upper().lstrip("0") or "0"
    if 2 <= base <= 36 and all(int(c, 36) < base for c in digits) and (digits[0].isdigit() or base > 10):
      return Based(digits, base) if base != 10 else Scalar(parse(digits))
  text = chinese_number(scaled(text))
  text = _PERCENT_WORD.sub(r"\\%", text)
  rest, unit = split_unit(text)
  rest = without_repetition(chinese_number(scaled(rest)))
  if unit == "degree":
    rest, unit = rest + "^\\circ", None
  node, mark = parse(_unwrapped(without_thousands(rest))), ""
  negative = node.kind == "neg"
  inner = node.args[0] if negative else node
  if inner.kind in ("degrees", "percent"):
    mark, node = inner.kind, (Node("neg", inner.args) if negative else inner.args[0])
  return Scalar(node, mark, unit)


def _unwrapped(text: str) -> str:
  r"""\text{..} and \mathrm{..} around digits or one letter are dressing."""
  return _DRESSED.sub(r"\1 ", text)


# ---- sets of real numbers


def _region(text: str) -> Region | None:
  """Unions of intervals, and inequalities in one letter; None when the text is neither."""
  builder = _BUILDER.fullmatch(text)
  if builder:
    region = _region(builder[2].strip())
    return region and Region(region.intervals, None)
  without = _ALL_BUT.fullmatch(text)
  if without:
    points = _bracketed(without[1])
    return _complement([_end(item) for item in points.items]) if points else None
  parts = _split(text, _OR)
  if len(parts) == 1 and not _SIGN.search(text) and not ("\\infty" in text and text[:1] in "([]"):
    return None
  found, names = [], set()
  for part in parts:
    intervals, name = _one_region(part.strip())
    if intervals is None:
      return None
    found.extend(intervals)
    names.add(name)
  names.discard(None)
  if len(names) > 1 or len(found) > MAX_ITEMS:
    return None
  return Region(_merged(found), names.pop() if names else None)


def _one_region(text: str) -> tuple[list | None, str | None]:
  """(intervals, letter) of an interval, a finite set, a chain of inequalities or several joined by "and"."""
  parts = _split(text, _AND)
  if len(parts) > 1:
    all_found, names = None, set()
    for part in parts:
      intervals, name = _one_region(part)
      if intervals is None:
        return None, None
      names.add(name)
      all_found = intervals if all_found is None else _intersection(all_found, intervals)
    return (all_found, names.pop()) if len(names) == 1 else (None, None)
  if _SIGN.search(text):
    return _inequalities(text)
  try:
    group = _bracketed(text)
    region = _as_region(group) if group is not None else None
  except (Unreadable, Undefined):
    return None, None
  return (list(region.intervals), None) if region is not None else (None, None)


def _inequalities(text: str) -> tuple[list | None, str | None]:
  signs = [_SIGNS[match[0]] for match in _SIGN.finditer(text)]
  sides = [part.strip() for part in _SIGN.split(text)]
  if len(signs) > 4 or not all(sides) or all(sign == "=" for sign in signs):
    return None, None
  try:
    if signs == ["!="] and "," in sides[1]:  # x \ne 1, 2
      nodes = [parse(sides[0])]
      points = [_end(read(part)) for part in _split(sides[1], re.compile(","))]
      return (_complement(points).intervals, nodes[0].name) if nodes[0].kind == "symbol" else (None, None)
    ends = [_infinite(side) or parse(_without_unit(side)) for side in sides]
    letters = frozenset().union(*(expression.symbols(end) for end in ends if isinstance(end, Node)))
    if len(letters) != 1:
      return None, None
    (letter,) = letters
    found = [(-_INFINITY, False, _INFINITY, False)]
    for (left, right), sign in zip(pairwise(ends), signs, strict=True):
      one = _half_line(left, sign, right, letter)
      if one is None:
        return None, None
      found = _intersection(found, one)
    return found, letter
  except (Unreadable, Undefined):
    return None, None


def _without_unit(text: str) -> str:
  return without_thousands(split_unit(text)[0])


def _infinite(text: str) -> float | None:
  text = text.replace(" ", "")
  if text in ("\\infty", "+\\infty", "oo", "infinity"):
    return _INFINITY
  return -_INFINITY if text in ("-\\infty", "-oo", "-infinity") else None


def _half_line(left, sign: str, right, letter: str) -> list | None:
  """The numbers for which left `sign` right, where their difference is linear in the letter."""
  for one, other, way in ((left, right, sign), (right, left, _TURNED[sign])):
    if isinstance(other, float) and isinstance(one, Node):  # x < \infty
      return [(-_INFINITY, False, _INFINITY, False)] if (other > 0) == (way[0] == "<") else None
  at = [expression.difference(*(evaluate(side, {letter: Fraction(x)}) for side in (left, right))) for x in range(4)]
  if not all(expression.is_real(value) for value in at):
    return None
  at = [expression.real(value) for value in at]
  slope = expression.difference(at[1], at[0])
  if expression.is_zero(slope) or any(not expression.same(expression.difference(b, a), slope) for a, b in pairwise(at[1:])):
    return None
  root = -expression.quotient(at[0], slope)
  if sign == "!=":
    return [(-_INFINITY, False, root, False), (root, False, _INFINITY, False)]
  if sign == "=":
    return [(root, True, root, True)]
  closed = len(sign) == 2
  below = (sign[0] == "<") == (slope > 0)
  return [(-_INFINITY, False, root, closed)] if below else [(root, closed, _INFINITY, False)]


def _as_region(form: object) -> Region | None:
  """A pair in brackets as the interval, a finite set as its points; None for other forms."""
  if isinstance(form, Region):
    return form
  if isinstance(form, Words) and form.text == "empty":
    return Region(())
  if not isinstance(form, Group):
    return None
  try:
    if form.kind == "set":
      points = [_end(item) for item in form.items]
      return Region(_merged([(point, True, point, True) for point in points])) if _INFINITY not in map(abs, points) else None
    if form.kind in ("list", "ratio") or len(form.items) != 2:
      return None
    low, high = (_end(item) for item in form.items)
    low_in, high_in = form.kind[0] == "[", form.kind[1] == "]"
    if not _below(low, high) or (low_in and abs(low) == _INFINITY) or (high_in and abs(high) == _INFINITY):
      return None  # no interval of real numbers holds an infinity
    return Region(((low, low_in, high, high_in),))
  except (Unreadable, Undefined):
    return None


def _end(form: object):
  """The real number that an end of an interval is, or an infinity. Raises Unreadable, Undefined."""
  if not isinstance(form, Scalar) or form.mark == "percent" or expression.symbols(form.node):
    raise Unreadable("an end that is no number")
  node = form.node
  if node.kind == "constant" and node.name == "oo":
    return _INFINITY
  if node.kind == "neg" and node.args[0].kind == "constant" and node.args[0].name == "oo":
    return -_INFINITY
  value = evaluate(_marked(form), {})
  if not expression.is_real(value):
    raise Unreadable("an end that is not real")
  return expression.real(value)


def _below(left, right) -> bool:
  return _place(left) < _place(right) and not _alike(left, right)


def _place(value):
  """A key for the order of real numbers of all kinds."""
  return value if isinstance(value, float) else expression.inexact(value)


def _alike(left, right) -> bool:
  if isinstance(left, float) or isinstance(right, float):
    return left == right
  return expression.same(left, right)


def _merged(intervals: list) -> tuple:
  """Disjoint intervals in order."""
  merged: list = []
  for low, low_in, high, high_in in sorted(intervals, key=lambda each: (_place(each[0]), not each[1])):
    if merged:
      before = merged[-1]
      touches = _alike(before[2], low) and (before[3] or low_in)
      if _below(low, before[2]) or touches:
        if _below(before[2], high):
          merged[-1] = (*before[:2], high, high_in)
        elif _alike(before[2], high):
          merged[-1] = (*before[:3], before[3] or high_in)
        if _alike(before[0], low) and low_in and not merged[-1][1]:
          merged[-1] = (merged[-1][0], True, *merged[-1][2:])
        continue
    merged.append((low, low_in, high, high_in))
  return tuple(merged)


def _intersection(lefts, rights) -> list:
  found = []
  for a in lefts:
    for b in rights:
      low, low_in = max((a[:2], b[:2]), key=lambda end: (_place(end[0]), not end[1]))
      high, high_in = min((a[2:], b[2:]), key=lambda end: (_place(end[0]), end[1]))
      if _below(low, high) or (_alike(low, high) and low_in and high_in):
        found.append((low, low_in, high, high_in))
  return found


def _complement(points: list) -> Region:
  ends = [-_INFINITY, *sorted(points, key=_place), _INFINITY]
  return Region(tuple((low, False, high, False) for low, high in pairwise(ends)))


# ---- equality


def equal(answer: object, gold: object, answer_text: str = "", gold_text: str = "") -> bool:
  """Whether an answer's form is equal to the gold one's. The texts are for words, where one side may be letters."""
  if isinstance(gold, Words) or isinstance(answer, Words):
    return _equal_words(answer, gold, answer_text, gold_text)
  if isinstance(gold, Named) or isinstance(answer, Named):
    return _equal_named(answer, gold)
  if isinstance(gold, Relation) or isinstance(answer, Relation):
    return isinstance(gold, Relation) and isinstance(answer, Relation) and _proportional(answer, gold)
  if isinstance(gold, Region) or isinstance(answer, Region):
    return _equal_regions(_as_region(answer), _as_region(gold))
  if isinstance(gold, Matrix) or isinstance(answer, Matrix):
    return _equal_matrices(answer, gold)
  if isinstance(gold, Group) or isinstance(answer, Group):
    return _equal_groups(answer, gold)
  if isinstance(gold, Based) or isinstance(answer, Based):
    return answer == gold
  return _equal_scalars(answer, gold)


def _equal_words(answer: object, gold: object, answer_text: str, gold_text: str) -> bool:
  if answer == gold:
    return True
  if isinstance(gold, Words) and isinstance(answer, Words):
    return False
  for words, other in ((gold, answer), (answer, gold)):
    if isinstance(words, Words) and words.text == "empty" and isinstance(other, Region):
      return not other.intervals
  return _without_article(plain_words(answer_text)) == _without_article(plain_words(gold_text)) != ""


def _equal_named(answer: object, gold: object) -> bool:
  if isinstance(answer, Named) and isinstance(gold, Named):
    same_name = answer.name == gold.name or "(" in answer.name + gold.name
    if same_name and equal(answer.form, gold.form):
      return True
    if isinstance(answer.form, Scalar) and isinstance(gold.form, Scalar):
      both = expression.symbols(answer.form.node) and expression.symbols(gold.form.node)
      return bool(both) and _proportional(_as_relation(answer), _as_relation(gold))
    return False
  named, other = (gold, answer) if isinstance(gold, Named) else (answer, gold)
  if isinstance(other, Relation):
    relation = _as_relation(named)
    return relation is not None and _proportional(*((other, relation) if named is gold else (relation, other)))
  if isinstance(other, Region) and other.name is not None:
    return False
  return equal(answer.form if isinstance(answer, Named) else answer, gold.form if isinstance(gold, Named) else gold)


def _as_relation(named: Named) -> Relation | None:
  try:
    return Relation("=", parse(named.name), named.form.node) if isinstance(named.form, Scalar) else None
  except Unreadable:
    return None


def _equal_regions(answer: Region | None, gold: Region | None) -> bool:
  if answer is None or gold is None or len(answer.intervals) != len(gold.intervals):
    return False
  if answer.name is not None and gold.name is not None and answer.name != gold.name:
    return False
  return all(
    a[1] == g[1] and a[3] == g[3] and _alike(a[0], g[0]) and _alike(a[2], g[2])
    for a, g in zip(answer.intervals, gold.intervals, strict=True)
  )


def _equal_matrices(answer: object, gold: object) -> bool:
  """Entry by entry; a column may be written as a tuple."""
  forms = []
  for form in (answer, gold):
    if isinstance(form, Group) and form.kind == "()":
      form = Matrix(tuple((item,) for item in form.items))
    if not isinstance(form, Matrix):
      return False
    forms.append(form)
  entries, golds = (tuple(cell for row in form.rows for cell in row) for form in forms)
  return len(forms[0].rows) == len(forms[1].rows) and _same_tuple(entries, golds)


def _equal_groups(answer: object, gold: object) -> bool:
  if not (isinstance(answer, Group) and isinstance(gold, Group)):
    group, other = (answer, gold) if isinstance(answer, Group) else (gold, answer)
    if group.kind == "ratio" and len(group.items) == 2 and isinstance(other, Scalar):
      return _equal_ratios(group.items, (other, Scalar(parse("1"))))
    if group.kind != "set" or len(group.items) != 1:
      return False
    return equal(group.items[0], gold) if group is answer else equal(answer, group.items[0])
  kinds = {answer.kind, gold.kind}
  if kinds == {"ratio"}:
    return len(answer.items) == len(gold.items) and _equal_ratios(answer.items, gold.items)
  if "ratio" in kinds:
    return False
  items, golds = answer.items, gold.items
  if kinds <= {"list", "set"}:
    if "set" in kinds and len(kinds) == 1:
      return _covers(items, golds) and _covers(golds, items)
    return _same_items(items, golds)
  if kinds == {"()", "list"}:
    return _same_tuple(_in_order_of_names(items), _in_order_of_names(golds))
  if kinds in ({"][", "()"}, {"]["}):
    return _same_tuple(items, golds)
  return len(kinds) == 1 and _same_tuple(items, golds)


def _same_tuple(items: tuple, golds: tuple) -> bool:
  return len(items) == len(golds) and all(equal(a, g) for a, g in zip(items, golds, strict=True))


def _covers(items: tuple, golds: tuple) -> bool:
  return all(any(equal(a, g) for a in items) for g in golds)


def _same_items(items: tuple, golds: tuple) -> bool:
  """The same items in any order, each as often."""
  left = list(items)
  for gold in golds:
    for place, item in enumerate(left):
      if equal(item, gold):
        del left[place]
        break
    else:
      return False
  return not left


def _in_order_of_names(items: tuple) -> tuple:
  """y = 2, x = 1 as 1, 2, where every item has a name of its own; otherwise as they are."""
  names = [item.name for item in items if isinstance(item, Named)]
  if len(set(names)) != len(items):
    return items
  return tuple(item.form for item in sorted(items, key=lambda item: item.name))


def _equal_ratios(items: tuple, golds: tuple) -> bool:
  """Proportional and none 0; two numbers that could be a time of day have to be the same."""
  try:
    values = [[evaluate(_plain_scalar(item), {}) for item in each] for each in (items, golds)]
  except (Undefined, Unreadable):
    return False
  if any(expression.is_zero(value) for each in values for value in each):
    return False
  if len(items) == 2 and all(len(item.node.text) == 2 for item in (items[1], golds[1])):
    return values[0] == values[1]
  return all(expression.same(values[0][0] * b, values[1][0] * a) for a, b in zip(*values, strict=True))


def _plain_scalar(form: object) -> Node:
  if not isinstance(form, Scalar) or expression.symbols(form.node):
    raise Unreadable("no number")
  return form.node


def _marked(scalar: Scalar) -> Node:
  return Node(scalar.mark, (scalar.node,)) if scalar.mark else scalar.node


def _equal_scalars(answer: Scalar, gold: Scalar) -> bool:
  if not same_units(answer.unit, gold.unit):
    return False
  if is_literal(gold.node) and not is_settled(answer.node):
    # Of degrees the radians are another value, \pi/4 for 45 degrees, and no work left undone.
    return gold.mark == "degrees" and not answer.mark and same_expression(answer.node, _marked(gold))
  if answer.mark == gold.mark or not (answer.mark or gold.mark):
    return same_expression(answer.node, gold.node)
  if same_expression(_marked(answer), _marked(gold)):  # 45 degrees and pi/4, 50% and 1/2
    return True
  if {answer.mark, gold.mark} == {"degrees", "percent"} or not same_expression(answer.node, gold.node):
    return False
  # The sign left out: as a unit may be, but 0.5% is not 0.5.
  return "degrees" in (answer.mark, gold.mark) or not _at_most_one(gold.node)


def _at_most_one(node: Node) -> bool:
  try:
    return bool(expression.symbols(node)) or not abs(evaluate(node, {})) > 1
  except Undefined:
    return True


def is_literal(node: Node) -> bool:
  """Whether it is a plain number, a fraction of whole numbers or a mixed number, with or without a sign."""
  if node.kind == "neg":
    node = node.args[0]
  if node.kind == "div":
    return all(_is_whole(part) for part in node.args)
  return node.kind in ("number", "mixed")


def is_settled(node: Node) -> bool:
  """Whether it is a number and not work left to be done: a literal, no fraction that is whole (10/2), or a number in
  scientific notation."""
  inner = node.args[0] if node.kind == "neg" else node
  if inner.kind == "mul":
    number, power = inner.args
    power_of_ten = power.kind == "pow" and power.args[0].value == 10 and _is_whole(power.args[1])
    return number.kind == "number" and power_of_ten
  if inner.kind == "div" and is_literal(node):
    top, bottom = (part.args[0].value if part.kind == "neg" else part.value for part in inner.args)
    return bottom != 0 and (top / bottom).denominator != 1
  return is_literal(node)


def _is_whole(node: Node) -> bool:
  node = node.args[0] if node.kind == "neg" else node
  return node.kind == "number" and node.value.denominator == 1


# Where the letters are put when two expressions are compared: nothing special may happen there, and letters may be
# negative, so that \sqrt{x^2} is not x. Ours.
_POINTS = tuple(
  tuple(Fraction(*pair) for pair in row)
  for row in (
    ((1237, 911), (1559, 1021), (797, 1033), (2203, 1481), (1871, 1753), (1049, 677)),
    ((977, 1319), (2011, 1279), (1663, 1151), (751, 1361), (2311, 1907), (1187, 1949)),
    ((-1409, 1063), (-1093, 1487), (-2131, 1753), (-881, 1217), (-1583, 947), (-1697, 1429)),
    ((-1201, 1669), (1759, 1301), (-1361, 971), (1931, 1447), (-727, 1153), (1427, 1109)),
  )
)


def _points(nodes: list[Node]) -> list[dict[str, Fraction]]:
  letters = sorted(frozenset().union(*(expression.symbols(node) for node in nodes)))
  if not letters:
    return [{}]
  return [
    {letter: row[i % len(row)] + 3 * (i // len(row)) for i, letter in enumerate(letters)} for row in _POINTS
  ]


def same_expression(answer: Node, gold: Node) -> bool:
  """Whether two expressions have the same value wherever they were tried, or are the same as written."""
  if answer == gold:
    return True
  if answer.kind == "number" and gold.kind == "number":
    return answer.value == gold.value
  points = _points([answer, gold])
  compared = 0
  for point in points:
    try:
      values = evaluate(answer, point), evaluate(gold, point)
    except Undefined:
      continue
    if len(points) > 1 and expression.is_real(values[0]) != expression.is_real(values[1]):
      if expression.has_constant(answer, "i") or expression.has_constant(gold, "i"):
        return False
      continue  # outside the domain of one of them
    if not expression.same(*values):
      return len(points) == 1 and _is_rounded(answer, gold, *values)
    compared += 1
  return compared >= min(2, len(points))


def _is_rounded(answer: Node, gold: Node, value, gold_value) -> bool:
  """Whether one is a long decimal and the other, no decimal, rounds to it."""
  for node, exact in ((answer, gold_value), (gold, value)):
    inner = node.args[0] if node.kind == "neg" else node
    if inner.kind != "number" or "." not in inner.text:
      continue
    whole, decimals = inner.text.split(".")
    if len((whole + decimals).lstrip("0")) < ROUNDED_DIGITS or not expression.is_real(exact):
      continue
    exact = expression.real(exact)
    if isinstance(exact, Fraction) and _terminates(exact.denominator):
      continue
    written = inner.value if node is inner else -inner.value
    return bool(expression.inexact(abs(expression.difference(exact, written)) * 2 * 10 ** len(decimals)) <= 1)
  return False


def _terminates(denominator: int) -> bool:
  for prime in (2, 5):
    while denominator % prime == 0:
      denominator //= prime
  return denominator == 1


def _proportional(answer: Relation, gold: Relation) -> bool:
  """Whether the two sides' differences are the same up to a factor: any for equations, positive for inequalities."""
  if answer is None or gold is None or answer.sign != gold.sign:
    return False
  sides = [answer.left, answer.right, gold.left, gold.right]
  if expression.symbols(answer.left) | expression.symbols(answer.right) != (
    expression.symbols(gold.left) | expression.symbols(gold.right)
  ):
    return False
  factors = []
  for point in _points(sides):
    try:
      values = [evaluate(side, point) for side in sides]
      differences = expression.difference(*values[:2]), expression.difference(*values[2:])
      if any(expression.is_zero(each) for each in differences):
        return False
      factors.append(expression.quotient(*differences))
    except Undefined:
      continue
  if len(factors) < 2 or not all(expression.same(factor, factors[0]) for factor in factors[1:]):
    return False
  return answer.sign == "=" or (expression.is_real(factors[0]) and expression.real(factors[0]) > 0)
