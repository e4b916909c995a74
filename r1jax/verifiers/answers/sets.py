r"""Reading sets of real numbers: unions of intervals, and inequalities that are solved for one letter."""

import re
from itertools import pairwise

from r1jax.verifiers.answers.expression import Node, Unreadable, parse, symbols
from r1jax.verifiers.answers.parts import COMMA, COMMAS, enclosed, joint, split
from r1jax.verifiers.answers.records import Group, Scalar, Words
from r1jax.verifiers.answers.regions import INFINITY, OPPOSITE, Region, below, complement, half_line, intersection, merged
from r1jax.verifiers.answers.text import without_thousands
from r1jax.verifiers.answers.units import split_unit
from r1jax.verifiers.answers.values import Undefined, evaluate, is_real, real

MAX_ITEMS = 64  # of a list, set or matrix; ours

SIGNS = {
  "=": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "!=": "!=", "\\le": "<=", "\\leq": "<=", "\\leqslant": "<=",
  "\\ge": ">=", "\\geq": ">=", "\\geqslant": ">=", "\\lt": "<", "\\gt": ">", "\\ne": "!=", "\\neq": "!=",
}  # fmt: skip
SIGN = re.compile(r"<=|>=|!=|\\(?:leqslant|geqslant|leq|geq|neq|le|ge|lt|gt|ne)(?![A-Za-z])|[<>=]")
_OR = joint("or", "cup|lor|vee", "(?<![A-Za-z])U(?![A-Za-z])|或者?")
_AND = joint("and", "land|wedge", "且")
_REALS = r"(?:\\mathbb\s*\{?R\}?|\(-\s*\\infty\s*,\s*\+?\\infty\s*\))"
_BUILDER = re.compile(rf"\\\{{\s*([A-Za-z])\s*(?:\\in\s*{_REALS}\s*)?(?:\||:|\\mid|\\vert)\s*(.*)\\\}}")
_ALL_BUT = re.compile(rf"{_REALS}\s*(?:\\setminus|\\backslash|-)\s*\\\{{(.*)\\\}}")
_INTERVALS = (("(", ")"), ("[", "]"), ("(", "]"), ("[", ")"), ("]", "["), ("]", "]"), ("[", "["))


def region(text: str) -> Region | None:
  """Unions of intervals, and inequalities in one letter; None when the text is neither."""
  builder = _BUILDER.fullmatch(text)
  if builder:
    found = region(builder[2].strip())
    return found and Region(found.intervals, None)
  without = _ALL_BUT.fullmatch(text)
  if without:
    return _within(lambda: complement([_number(part) for part in split(without[1], COMMAS)]))
  parts = split(text, _OR)
  bracketed = text[:1] == "]" or text[-1:] == "[" or ("\\infty" in text and text[:1] in "([")
  if len(parts) == 1 and not SIGN.search(text) and not bracketed:
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


def as_region(form: object) -> Region | None:
  """A pair in brackets as the interval, a finite set as its points; None for other forms."""
  if isinstance(form, Region):
    return form
  if isinstance(form, Words) and form.text == "empty":
    return Region(())
  if not isinstance(form, Group):
    return None
  if form.kind == "set":
    points = _within(lambda: [_end(item) for item in form.items])
    if points is None or any(abs(point) == INFINITY for point in points):
      return None
    return Region(merged([(point, True, point, True) for point in points]))
  if form.kind in ("list", "ratio", "cases") or len(form.items) != 2:
    return None
  return _within(lambda: _interval(form.kind, *(_end(item) for item in form.items)))


def _within(read):
  """What `read` returns, or None for what it cannot read."""
  try:
    return read()
  except (Unreadable, Undefined):
    return None


def _one_region(text: str) -> tuple[list | None, str | None]:
  """(intervals, letter) of an interval, a finite set, a chain of inequalities or several joined by "and"."""
  parts = split(text, _AND)
  if len(parts) > 1:
    all_found, names = None, set()
    for part in parts:
      intervals, name = _one_region(part)
      if intervals is None:
        return None, None
      names.add(name)
      all_found = intervals if all_found is None else intersection(all_found, intervals)
    return (all_found, names.pop()) if len(names) == 1 else (None, None)
  if SIGN.search(text):
    return _within(lambda: _inequalities(text)) or (None, None)
  found = _within(lambda: _bracketed(text))
  return (list(found.intervals) if found is not None else None), None


def _bracketed(text: str) -> Region | None:
  points = enclosed(text, "\\{", "\\}")
  if points is not None:
    return Region(merged([(end, True, end, True) for end in map(_number, split(points, COMMAS))]))
  for begin, end in _INTERVALS:
    inside = enclosed(text, begin, end)
    if inside is not None:
      ends = [_infinite(part) or _number(part) for part in split(inside, COMMAS)]
      return _interval(begin + end, *ends) if len(ends) == 2 else None
  return None


def _interval(kind: str, low, high) -> Region | None:
  low_in, high_in = kind[0] == "[", kind[1] == "]"
  if not below(low, high) or (low_in and abs(low) == INFINITY) or (high_in and abs(high) == INFINITY):
    return None  # no interval of real numbers holds an infinity
  return Region(((low, low_in, high, high_in),))


def _inequalities(text: str) -> tuple[list, str] | None:
  """Of a chain whose sides are numbers but for one bare letter, or its absolute value: 2x+1>7 is not solved."""
  signs = [SIGNS[match[0]] for match in SIGN.finditer(text)]
  sides = [part.strip() for part in SIGN.split(text)]
  if len(signs) > 4 or not all(sides) or all(sign == "=" for sign in signs):
    return None
  if signs == ["!="] and "," in sides[1]:  # x \ne 1, 2
    node = parse(sides[0])
    points = [_number(part) for part in split(sides[1], COMMA)]
    return (complement(points).intervals, node.name) if node.kind == "symbol" else None
  ends = [_infinite(side) or parse(without_thousands(split_unit(side)[0])) for side in sides]
  letters = frozenset().union(*(symbols(end) for end in ends if isinstance(end, Node)))
  if len(letters) != 1 or any(isinstance(end, Node) and symbols(end) and not _is_bare(end) for end in ends):
    return None
  (letter,) = letters
  found = [(-INFINITY, False, INFINITY, False)]
  for (left, right), sign in zip(pairwise(ends), signs, strict=True):
    one = _absolute(left, right, sign) or half_line(left, sign, right, letter)
    if one is None:
      return None
    found = intersection(found, one)
  return found, letter


def _is_bare(node: Node) -> bool:
  return node.kind == "symbol" or (node.kind == "call" and node.name == "abs" and node.args[0].kind == "symbol")


def _absolute(left, right, sign: str) -> list | None:
  """The intervals of |x| < 3 or |x| > 3."""
  for one, other, way in ((left, right, sign), (right, left, OPPOSITE[sign])):
    if isinstance(one, Node) and one.kind == "call" and isinstance(other, Node) and way[0] in "<>":
      bound = real(evaluate(other, {}))
      if not bound > 0:
        return None
      closed = len(way) == 2
      if way[0] == "<":
        return [(-bound, closed, bound, closed)]
      return [(-INFINITY, False, -bound, closed), (bound, closed, INFINITY, False)]
  return None


def _infinite(text: str) -> float | None:
  text = text.replace(" ", "")
  if text in ("\\infty", "+\\infty", "oo", "infinity"):
    return INFINITY
  return -INFINITY if text in ("-\\infty", "-oo", "-infinity") else None


def _number(text: str):
  """The real number that a text says. Raises Unreadable, Undefined."""
  return _end(Scalar(parse(without_thousands(text))))


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
