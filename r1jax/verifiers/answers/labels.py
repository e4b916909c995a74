r"""Chains of equations: what is named, what is worked out, and whether all sides agree."""

import re
from collections.abc import Callable

from r1jax.verifiers.answers.expression import Node, Unreadable, parse, symbols
from r1jax.verifiers.answers.parts import COMMA, enclosed, split
from r1jax.verifiers.answers.records import Group, Named, Relation
from r1jax.verifiers.answers.text import without_thousands
from r1jax.verifiers.answers.units import split_unit
from r1jax.verifiers.answers.values import Undefined, evaluate, inexact, is_real, real, same

_NAME = re.compile(r"(?:\\?[A-Za-z]+(?:_(?:\{[A-Za-z0-9]+\}|[A-Za-z0-9]))?)'{0,3}(?:\s*\(\s*[A-Za-z]\s*\))?")
_FUNCTION = re.compile(r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc|ln|log|lg|exp|sqrt)(?![A-Za-z])")
_CALL = re.compile(r"(?:[A-Z][A-Za-z]{0,3}|[fghF])'{0,3}(?:\^\{-1\})?\s*\([^()=]*\)")  # P(A), C(8,2), f(3)
_DERIVATIVE = re.compile(r"\\frac\s*\{\s*d(?:\^\{?\d\}?)?\s*[A-Za-z]?\s*\}\s*\{\s*d\s*[a-z](?:\^\{?\d\}?)?\s*\}"
                         r"|d[a-z]\s*/\s*d[a-z]")  # fmt: skip
_SEGMENT = re.compile(r"m?\s*\|?\s*[A-Z]{2,4}\s*\|?")  # BF, ABC
_SEGMENTS = re.compile(r"(?=.*[A-Z]{2})(?:\\(?:frac|cdot|times)|[A-Z]{2,3}|[{}+\-/*^2 ])+")  # NO/BO, AB + CD
_GEOMETRIC = re.compile(r"\\(?:angle|overline|triangle|vec|hat|bar|overrightarrow|widehat|underline|mathcal|lim|sum|"
  r"int|prod|max|min)"
                        r"(?![A-Za-z])")  # fmt: skip
_NEGATED = re.compile(r"\b(?:[Nn]ot|[Nn]o|[Nn]ever|isn't|wrong|incorrect|[Nn]either|nor|or)\b|\\n(?:e|eq|ot)\b|[不非没无]")
_COMMAND = re.compile(r"\\(?:text|mathrm)\{[^{}]*\}|\\[A-Za-z]+|[A-Z]{2,}")
_LABEL_WORDS = re.compile(r"\\text\{[^{}]*\}|[A-Za-z][A-Za-z ']{2,80}|[\u4e00-\u9fff]{1,40}")


def chain(sides: list[str], read: Callable[[str], object]) -> object:
  """The form of sides joined by equals signs; the last one counts, and none may contradict it. Raises Unreadable."""
  if not sides[0]:
    return read("=".join(sides[1:]))
  if len(sides) == 2:
    for name, other in (sides, sides[::-1]):
      if is_name(name):
        return Named("".join(name.split()).replace("{", "").replace("}", ""), read(other))
  first = split(sides[0], COMMA)
  if enclosed(sides[0], "(", ")") is not None and len(split(enclosed(sides[0], "(", ")"), COMMA)) > 1:
    return _coordinates(split(enclosed(sides[0], "(", ")"), COMMA), read("=".join(sides[1:])))
  if len(first) > 1:
    raise Unreadable("a list of which one is an equation")
  nodes = [_parsed(side) for side in sides]
  if nodes[0] is not None and nodes[0].kind == "symbol":  # I_{\max}
    _check(nodes[1:])
    return Named(nodes[0].name, read(sides[-1]))
  label = is_name(sides[0]) or _is_label(sides[0], nodes[0])
  _check(nodes[1:] if label else nodes)
  if label:
    return Named(" ".join(sides[0].split()), read(sides[-1]), label=not is_name(sides[0]))
  if nodes[0] is None:
    raise Unreadable("a side that is no expression")
  if not symbols(nodes[0]):
    if nodes[-1] is not None and symbols(nodes[-1]):
      return Relation("=", nodes[0], nodes[-1])
    return read(sides[-1])  # 12+7 = 19: the last side is the answer
  if nodes[-1] is None:
    raise Unreadable("a side that is no expression")
  if len(sides) > 2 and not symbols(nodes[-1]):
    return Named(" ".join(sides[0].split()), read(sides[-1]), label=True)  # 6x+5 = 18+5 = 23
  return Relation("=", nodes[0], nodes[-1], None if symbols(nodes[-1]) else read(sides[-1]))


def is_name(text: str) -> bool:
  """Whether it is a letter, with or without a subscript or the letter that it is a function of."""
  if not _NAME.fullmatch(text) or text in ("\\pi", "e", "i") or _FUNCTION.match(text):
    return False
  return text.startswith("\\") or len(re.sub(r"_.*|\W.*", "", text)) == 1


def says_more(form: object) -> bool:
  """Whether an equation's left side is words, "minimum at x = 2": then more than the value is said."""
  return isinstance(form, Named) and form.label and re.search(r"[A-Za-z]{3}", _COMMAND.sub("", form.name)) is not None


def without_words(form: Named) -> object:
  """What an answer names: x in "Thus x = 5", nothing in "the area = 5"."""
  name = form.name.split()[-1]
  return Named(name, form.form) if is_name(name) else form.form


def rounds_to(exact: Node, decimal: Node) -> bool:
  """Whether a number is another one, or a decimal that it rounds to, up, down or to the nearest; not without a value."""
  try:
    value, written = evaluate(exact, {}), evaluate(decimal, {})
  except Undefined:
    return False
  if same(value, written):
    return True
  inner = decimal.args[0] if decimal.kind in ("neg", "percent") else decimal
  if inner.kind != "number" or "." not in inner.text or not (is_real(value) and is_real(written)):
    return False
  place = len(inner.text.partition(".")[2]) + (2 if decimal.kind == "percent" else 0)
  return bool(abs(inexact(real(value)) - inexact(real(written))) * 10**place < 1)


def _is_label(text: str, node: Node | None) -> bool:
  """Whether the left side only says what the right side is the value of."""
  if _NEGATED.search(text):
    return False
  if _CALL.fullmatch(text) or _DERIVATIVE.fullmatch(text) or _SEGMENT.fullmatch(text) or _SEGMENTS.fullmatch(text):
    return True
  return node is None and bool(_GEOMETRIC.search(text) or _LABEL_WORDS.fullmatch(text) or _labelled_letter(text))


def _labelled_letter(text: str) -> bool:
  return re.fullmatch(r"\\?[A-Za-z]+(?:_\{.*\}|')?(?:\s*\(.*\))?", text) is not None and not _FUNCTION.match(text)


def _coordinates(names: list[str], form: object) -> object:
  """(x, y) = (1, 2) as x = 1, y = 2; of several such pairs the names are left out."""
  if isinstance(form, Group) and form.kind == "()" and len(form.items) == len(names) and all(map(is_name, names)):
    return Group("list", tuple(Named(name, item) for name, item in zip(names, form.items, strict=True)))
  return form


def _parsed(side: str) -> Node | None:
  try:
    return parse(without_thousands(split_unit(side)[0]))
  except Unreadable:
    return None


def _check(nodes: list[Node | None]) -> None:
  """Raises Unreadable when two neighbours, both without letters, have different values.

  12+7 = 19+9 = 28 is how pupils write: a side may begin with the value before it. A decimal may be rounded.
  """
  for before, after in zip(nodes, nodes[1:], strict=False):
    if before is None or after is None or symbols(before) or symbols(after):
      continue
    begun = after.args[0] if after.kind in ("add", "mul", "div") else after
    if not any(rounds_to(before, each) or rounds_to(each, before) for each in (after, begun, _unmarked(after))):
      raise Unreadable("sides that are not equal")


def _unmarked(node: Node) -> Node:
  return node.args[0] if node.kind in ("percent", "degrees") else node
