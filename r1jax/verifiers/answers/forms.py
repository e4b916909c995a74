r"""Forms of mathematical answers: numbers, expressions, equations, lists, sets, tuples, intervals and their unions,
inequalities, matrices, numerals of a base, words.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

from r1jax.verifiers.answers.expression import KNOWN_COMMANDS, MAX_WORD, Node, Unreadable, parse, symbols
from r1jax.verifiers.answers.regions import (
  INFINITY,
  OPPOSITE,
  Region,
  below,
  complement,
  half_line,
  intersection,
  merged,
)
from r1jax.verifiers.answers.text import (
  chinese_number,
  plain_words,
  scaled,
  split_unit,
  without_repetition,
  without_thousands,
)
from r1jax.verifiers.answers.values import Undefined, evaluate, is_real, real

MAX_ITEMS = 64  # of a list, set or matrix; ours


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
  """left stands in this relation to right: one of = < <= (others are turned round)."""

  sign: str
  left: Node
  right: Node


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


_SEPARATOR = _joint("and|or", "", "[,;和与]|或者?|以及")
_OR = _joint("or", "cup|lor|vee", "(?<![A-Za-z])U(?![A-Za-z])|或者?")
_AND = _joint("and", "land|wedge", "且")
_SIGNS = {
  "=": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "!=": "!=", "\\le": "<=", "\\leq": "<=", "\\leqslant": "<=",
  "\\ge": ">=", "\\geq": ">=", "\\geqslant": ">=", "\\lt": "<", "\\gt": ">", "\\ne": "!=", "\\neq": "!=",
}  # fmt: skip
_SIGN = re.compile(r"<=|>=|!=|\\(?:leqslant|geqslant|leq|geq|neq|le|ge|lt|gt|ne)(?![A-Za-z])|[<>=]")
_NAME = re.compile(r"(?:\\?[A-Za-z]+(?:_(?:\{[A-Za-z0-9]+\}|[A-Za-z0-9]))?)(?:\s*\(\s*[A-Za-z]\s*\)|')?")
_MEMBER = re.compile(r"(\\?[A-Za-z]+)\s*\\in(?![A-Za-z])\s*")
_BUILDER = re.compile(r"\\\{\s*([A-Za-z])\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\||:|\\mid|\\vert)\s*(.*)\\\}")
_MATRIX = re.compile(
  r"[(\[]?\s*\\begin\{(?P<kind>[pbB]?matrix|array)\}(?:\s*\{[lcr|]*\})?(?P<body>.*)\\end\{(?P=kind)\}\s*[)\]]?"
)
_OWN_COMMANDS = (
  "text mbox mathrm textbf textrm textit operatorname mathbf mathbb cup lor vee land wedge pm mp in mid vert setminus "
  "backslash le leq leqslant ge geq geqslant lt gt ne neq emptyset varnothing langle rangle begin end R"
)
_COMMANDS = KNOWN_COMMANDS | set(_OWN_COMMANDS.split())
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
    return Region(((-INFINITY, False, INFINITY, False),))
  if _WHOLE_TEXT.fullmatch(text) and not any(c.isdigit() for c in words):
    return Words(without_article(words))
  if re.fullmatch(r"[A-Z]{2,4}", text) or (_LETTERS.fullmatch(text) and _long_word(text)):
    return Words(without_article(words))
  if text and all("\u4e00" <= c <= "\u9fff" for c in text) and chinese_number(text) == text:
    return Words(words)
  return None


def without_article(words: str) -> str:
  return words if len(words) == 1 else re.sub(r"^(?:the|an|a) (?=..)", "", words)


def _long_word(text: str) -> bool:
  return any(len(word) > MAX_WORD and word not in ("sqrt",) for word in re.findall("[A-Za-z]+", text))


def _read_together(text: str) -> object:
  """What may consist of several parts: regions, lists, matrices, tuples, sets; otherwise a relation or a scalar."""
  matrix = _MATRIX.fullmatch(text)
  if matrix:
    return _matrix(matrix["body"])
  member = _MEMBER.match(text)
  if member:
    form = as_region(read(text[member.end() :]))
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
    if not any(symbols(node) for node in nodes):
      return read(parts[-1])  # 12+7 = 19: the last side is the answer
    if len(signs) > 1:
      raise Unreadable("a chain of equations")
    return Relation("=", nodes[0], parse(parts[1]))
  left, right = parse(parts[0]), parse(parts[1])
  return Relation(signs[0], left, right) if signs[0] in ("<", "<=") else Relation(OPPOSITE[signs[0]], right, left)


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
    return complement([_end(item) for item in points.items]) if points else None
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
  return Region(merged(found), names.pop() if names else None)


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
      all_found = intervals if all_found is None else intersection(all_found, intervals)
    return (all_found, names.pop()) if len(names) == 1 else (None, None)
  if _SIGN.search(text):
    return _inequalities(text)
  try:
    group = _bracketed(text)
    region = as_region(group) if group is not None else None
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
      return (complement(points).intervals, nodes[0].name) if nodes[0].kind == "symbol" else (None, None)
    ends = [_infinite(side) or parse(_without_unit(side)) for side in sides]
    letters = frozenset().union(*(symbols(end) for end in ends if isinstance(end, Node)))
    if len(letters) != 1:
      return None, None
    (letter,) = letters
    found = [(-INFINITY, False, INFINITY, False)]
    for (left, right), sign in zip(pairwise(ends), signs, strict=True):
      one = half_line(left, sign, right, letter)
      if one is None:
        return None, None
      found = intersection(found, one)
    return found, letter
  except (Unreadable, Undefined):
    return None, None


def _without_unit(text: str) -> str:
  return without_thousands(split_unit(text)[0])


def _infinite(text: str) -> float | None:
  text = text.replace(" ", "")
  if text in ("\\infty", "+\\infty", "oo", "infinity"):
    return INFINITY
  return -INFINITY if text in ("-\\infty", "-oo", "-infinity") else None


def as_region(form: object) -> Region | None:
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
      return Region(merged([(point, True, point, True) for point in points])) if INFINITY not in map(abs, points) else None
    if form.kind in ("list", "ratio") or len(form.items) != 2:
      return None
    low, high = (_end(item) for item in form.items)
    low_in, high_in = form.kind[0] == "[", form.kind[1] == "]"
    if not below(low, high) or (low_in and abs(low) == INFINITY) or (high_in and abs(high) == INFINITY):
      return None  # no interval of real numbers holds an infinity
    return Region(((low, low_in, high, high_in),))
  except (Unreadable, Undefined):
    return None


def _end(form: object):
  """The real number that an end of an interval is, or an infinity. Raises Unreadable, Undefined."""
  if not isinstance(form, Scalar) or form.mark == "percent" or symbols(form.node):
    raise Unreadable("an end that is no number")
  node = form.node
  if node.kind == "constant" and node.name == "oo":
    return INFINITY
  if node.kind == "neg" and node.args[0].kind == "constant" and node.args[0].name == "oo":
    return -INFINITY
  value = evaluate(marked(form), {})
  if not is_real(value):
    raise Unreadable("an end that is not real")
  return real(value)


def marked(scalar: Scalar) -> Node:
  return Node(scalar.mark, (scalar.node,)) if scalar.mark else scalar.node
