r"""Reading an answer's form: numbers, expressions, equations, lists, sets, tuples, matrices, numerals of a base, words."""

import re

from r1jax.verifiers.answers.chinese import chinese_number, scaled
from r1jax.verifiers.answers.expression import MAX_WORD, Node, Unreadable, parse, symbols
from r1jax.verifiers.answers.labels import chain, is_name, rounds_to
from r1jax.verifiers.answers.parts import COLON, COMMAS, enclosed, joint, split
from r1jax.verifiers.answers.records import Based, Clock, Congruence, Family, Group, Matrix, Named, Relation, Scalar, Words
from r1jax.verifiers.answers.regions import INFINITY, OPPOSITE, Region
from r1jax.verifiers.answers.sets import MAX_ITEMS, SIGN, SIGNS, as_region, region
from r1jax.verifiers.answers.text import plain_words, without_repetition, without_thousands
from r1jax.verifiers.answers.units import split_unit
from r1jax.verifiers.answers.values import product

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
_CAPITALS = re.compile(r"[A-Z]{2,4}")
_LETTERS = re.compile(r"[A-Za-z][A-Za-z' -]*")
_BASED = re.compile(
  r"\(?([0-9A-Za-z]{1,64})\)?(?:_(?:\{(?:\\text\{)?\s*(\d{1,2})\s*\}?\}|(\d))| (?:in )?base[- ](\d{1,2}))", re.ASCII
)
_SEPARATOR = joint("and|or", "", r"[,;和与]|或者?|以及|\\\\")
_NUMBER = r"-?\d+(?:\.\d+)?"
_CONCLUDED = re.compile(r"(?:so|thus|hence|therefore|then)\b(?!\s*=)", re.IGNORECASE)
_TO = re.compile(rf"({_NUMBER}) ?(?:to|\\text\{{ ?to ?\}}) ?({_NUMBER})", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2})(?::(\d\d))? ?(?:\\(?:text|unit)\{)? ?([ap])\.? ?m\.?\}?", re.IGNORECASE | re.ASCII)
_MEMBER = re.compile(r"(\\?[A-Za-z]+)\s*\\in(?![A-Za-z])\s*")
_MATRIX = re.compile(
  r"(?P<factor>[^&]*?)[(\[]?\s*\\begin\{(?P<kind>(?:small|[pbB])?matrix|array)\}(?:\s*\{[lcr|"
  r"]*\})?(?P<body>.*)\\end\{(?P=kind)\}"
  r"\s*[)\]]?(?P<power>.*)"
)
_ROWS = re.compile(r"(?:\\\{)?\s*\\begin\{(cases|aligned|align\*?|gathered|array|split)\}(?:\s*\{[lcr|"
  r"]*\})?(.*)\\end\{\1\}\.?")
_PERCENT_WORD = re.compile(r"\s*(?:percent|per cent|pct\.?)$|\s*\\text\{\s*(?:percent|per cent|%|\\%)\s*\}$", re.IGNORECASE)
_WHOLE_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_INTEGERS = r"(?:\\mathbb\s*\{?Z\}?|\\Z(?![A-Za-z])|Z(?![A-Za-z]))"
_FAMILY = re.compile(
  rf"(?P<form>.*?)\s*[,;(]?\s*(?:\\text\{{)?\s*[,(]?\s*(?:(?:where|for|with)\s+)?(?:(?:any|all|every|some|"
  rf"an)\s+)?(?:integers?\s+)?\}}?\s*"
  rf"(?P<letter>[a-zA-Z])\s*(?:\\in\s*{_INTEGERS}|(?:\\text\{{)?\s*(?:is\s+)?(?:(?:an?|any)\s+)?integers?\.?\s*\}}?"
  r"|(?:\\text\{)?\s*(?:为|是)(?:任意)?整数\s*\}?)\s*\)?"
)
_ANY_INTEGER = re.compile(
  r"(?P<form>.*?)\s*[,;(]?\s*(?:\\text\{)?\s*[,(]?\s*(?:(?:where|for|with)\s+)?(?:any|all|every|some|"
  r"an)\s+integers?\s*\}?\s*"
  r"(?P<letter>[a-zA-Z])\s*\)?"
)
_FOR_ALL = re.compile(r"\s*,?\s*(?:\\text\{\s*)?for (?:all|every|any)(?: real)?(?: numbers?)?\s*\}?\s*\$?([a-z])\$?"
                      r"(?:\s*\\in\s*\\mathbb\s*\{?R\}?)?$")  # fmt: skip
_CONGRUENT = re.compile(r"(?:([A-Za-z])\s*\\equiv\s*)?(-?\d{1,18})\s*\(?\\?p?mod\s*\{?\s*(\d{1,18})\s*\}?\)?", re.ASCII)
_INTRODUCED = re.compile(r"\\text\{[^{}=]{1,60}:\s*\}|\\text\{\s*(?:the |at )?(?:points?|values?|vectors?|coordinates?|"
  r"line|plane)(?: are| is)?:?\s*\}\s*(?=[(\\])")
_APPROXIMATED = re.compile(
  r"(.+?)\s*(?:(?:(?<=\s)\(|\(\s*(?:\\approx|=|or))\s*(?:\\approx|=|or)?\s*([\d.,/]+)\s*(?:\\unit\{[^{}]*\})?\)"
  r"|\\approx\s*(.+))",
  re.ASCII,
)


def read(text: str) -> object:
  """The form that a tidy text says, its units marked. Raises Unreadable."""
  if not text:
    raise Unreadable("nothing")
  return _words(text) or _read_together(text)


def _words(text: str) -> Words | Region | None:
  """Words, where the text is words and no mathematics."""
  words = plain_words(text)
  if words in _CANONICAL or text in _CANONICAL:
    return Words(_CANONICAL.get(words) or _CANONICAL[text])
  if words in _ALL_REALS or text in _ALL_REALS:
    return Region(((-INFINITY, False, INFINITY, False),))
  if text in ("\\ldots", "...", "\\cdots", "\\vdots"):
    return Words("...")
  if _WHOLE_TEXT.fullmatch(text) and not any(c.isdigit() for c in words):
    return Words(without_article(words))
  if _CAPITALS.fullmatch(text) or (_LETTERS.fullmatch(text) and _long_word(text)):
    return Words(without_article(words))
  if text and all("\u4e00" <= c <= "\u9fff" for c in text) and chinese_number(text) == text:
    return Words(words)
  return None


def without_article(words: str) -> str:
  return words if len(words) == 1 else re.sub(r"^(?:the|an|a) (?=..)", "", words)


def _long_word(text: str) -> bool:
  words = re.findall("[A-Za-z]+", text)
  return any(len(word) > MAX_WORD and word != "sqrt" for word in words)


def _read_together(text: str) -> object:
  """What may consist of several parts: regions, lists, matrices, tuples, sets; otherwise a relation or a scalar."""
  text = _INTRODUCED.sub("", _FOR_ALL.sub("", text))
  special = _matrix(text) or _rows(text) or _family(text) or _congruence(text) or _clock(text)
  if special is not None:
    return special
  member = _MEMBER.match(text)
  if member:
    form = as_region(read(text[member.end() :]))
    if form is None:
      raise Unreadable("membership of what is no set of numbers")
    return Region(form.intervals, member[1])
  found = region(text)
  if found is not None:
    return found
  if "(" not in text and "[" not in text and "\\{" not in text:
    text = without_thousands(text)
  parts = split(text, _SEPARATOR)
  if len(parts) > 1:
    parts = [part for part in parts if part]
    if any(map(_CONCLUDED.match, parts[1:])):
      raise Unreadable("a sentence")
    return Group("list", _items(parts)) if len(parts) > 1 else read(parts[0] if parts else "")
  return _bracketed(text) or _relation_or_scalar(text)


def _items(parts: list[str]) -> tuple:
  r"""The forms of the parts; one with \pm is two."""
  found = []
  for part in parts:
    for signed in _both_signs(part.strip()):
      found.append(read(signed))
    if len(found) > MAX_ITEMS:
      raise Unreadable("too many items")
  words = [form for form in found if isinstance(form, Words) and form.text != "..."]
  if words and len(words) < len(found):
    raise Unreadable("words among formulas")
  return tuple(found)


def _both_signs(text: str) -> list[str]:
  if "\\pm" not in text and "\\mp" not in text:
    return [text]
  plus = text.replace("\\pm", "+").replace("\\mp", "-")
  minus = text.replace("\\pm", "-").replace("\\mp", "+")
  return [plus, minus]


def _bracketed(text: str) -> Group | None:
  for begin, end, kind in (
    ("\\{", "\\}", "set"), ("(", ")", "()"), ("[", "]", "[]"), ("(", "]", "(]"), ("[", ")", "[)"), ("]", "[", "]["),
    ("{", "}", "set"),
  ):  # fmt: skip
    inside = enclosed(text, begin, end)
    if inside is None:
      continue
    parts = split(inside, COMMAS)
    if kind == "set" and (begin == "\\{" or len(parts) > 1):
      return Group("set", _items(parts))
    if len(parts) > 1:
      return Group(kind, tuple(read(part) for part in parts[: MAX_ITEMS + 1]))
    if kind == "()" and not inside.isascii():
      return None
  text = _TO.sub(r"\1:\2", text) if _TO.fullmatch(text) else text
  ratio = split(text, COLON)
  if len(ratio) > 1 and all(ratio):
    return Group("ratio", tuple(_relation_or_scalar(part) for part in ratio[:MAX_ITEMS]))
  return None


# ---- what is written in a way of its own


def _matrix(text: str) -> Matrix | None:
  match = _MATRIX.fullmatch(text) if "\\begin" in text else None
  if match is None:
    return None
  if match["kind"] == "array" and match["factor"].endswith("\\{"):
    return None  # equations
  if match["power"].strip():
    raise Unreadable("a matrix with something after it")
  rows = [row for row in (part.strip() for part in match["body"].replace("\\hline", "").split("\\\\")) if row]
  cells = tuple(tuple(_relation_or_scalar(cell.strip()) for cell in row.split("&")) for row in rows)
  if not cells or len({len(row) for row in cells}) != 1 or len(cells) * len(cells[0]) > MAX_ITEMS:
    raise Unreadable("a matrix")
  factor = match["factor"].strip().removesuffix("\\cdot").removesuffix("\\times").strip()
  if not factor:
    return Matrix(cells)
  if factor.endswith("="):
    return Named(factor[:-1].strip(), Matrix(cells), label=True)
  scale = parse("-1" if factor == "-" else factor)
  if not all(isinstance(cell, Scalar) for row in cells for cell in row):
    raise Unreadable("a factor of a matrix of relations")
  return Matrix(tuple(tuple(Scalar(product(scale, cell.node), cell.mark) for cell in row) for row in cells))


def _rows(text: str) -> object | None:
  """The equations of \\begin{cases} and its like as a list; cases with conditions as pairs, in any order."""
  match = _ROWS.fullmatch(text) if "\\begin" in text else None
  if match is None:
    return None
  rows = [row.strip(" ,;") for row in match[2].split("\\\\")]
  rows = [row for row in rows if row]
  if match[1] == "cases" and any("&" in row for row in rows):
    cells = [[re.sub(r"\\text\{\s*(?:if|for|when)?\s*\}", "", cell).strip(" ,;") for cell in row.split("&")] for row in rows]
    return Group("cases", tuple(Group("[]", _items([cell for cell in row if cell])) for row in cells))
  rows = [row.replace("&", "") for row in rows]
  return Group("list", _items(rows)) if len(rows) > 1 else read(rows[0] if rows else "")


def _family(text: str) -> Family | None:
  if "nteger" not in text and "Z" not in text and "整数" not in text:
    return None
  match = _ANY_INTEGER.fullmatch(text) or _FAMILY.fullmatch(text)
  if match is None or not match["form"].strip():
    return None
  form = read(match["form"].strip(" ,;"))
  items = [item.form if isinstance(item, Named) else item for item in (form.items if isinstance(form, Group) else (form,))]
  if not all(isinstance(item, Scalar) for item in items) or len(items) > 8:
    raise Unreadable("a family of what is no expression")
  return Family(tuple(item.node for item in items), match["letter"])


def _congruence(text: str) -> Congruence | None:
  match = _CONGRUENT.fullmatch(text) if "mod" in text else None
  return Congruence(int(match[2]), int(match[3]), match[1]) if match and int(match[3]) else None


def _clock(text: str) -> Clock | None:
  match = _CLOCK.fullmatch(text)
  return Clock(int(match[1]), int(match[2] or 0), match[3].lower()) if match else None


# ---- relations and scalars


def _relation_or_scalar(text: str) -> object:
  signs = [SIGNS[match[0]] for match in SIGN.finditer(text)]
  if not signs:
    if "\\pm" in text or "\\mp" in text:
      return Group("list", _items([text]))
    return _scalar(text)
  parts = [part.strip() for part in SIGN.split(text)]
  if len(signs) > 20 or not all(parts[1:]) or any(sign != "=" for sign in signs) and len(signs) > 1:
    raise Unreadable("a chain of relations")
  if signs[0] == "!=":
    raise Unreadable("an inequation that is no region")
  if signs[0] == "=":
    return chain(parts, read)
  left, right = (parse(without_thousands(part)) for part in parts)
  return Relation(signs[0], left, right) if signs[0] in ("<", "<=") else Relation(OPPOSITE[signs[0]], right, left)


def _scalar(text: str) -> object:
  based = _BASED.fullmatch(text)
  if based:
    base = int(based[2] or based[3] or based[4])
    digits = based[1].upper().lstrip("0") or "0"
    if 2 <= base <= 36 and all(int(c, 36) < base for c in digits) and (digits[0].isdigit() or base > 10):
      return Based(digits, base) if base != 10 else Scalar(parse(digits))
  approximated = _APPROXIMATED.fullmatch(text)
  if approximated:
    form = _approximated(approximated)
    if form is not None:
      return form
  text = chinese_number(scaled(text))
  text = _PERCENT_WORD.sub(r"\\%", text)
  rest, unit = split_unit(text)
  rest = without_repetition(chinese_number(scaled(rest)))
  if unit == "degree":
    rest, unit = rest + "^\\circ", None
  node, mark = parse(without_thousands(rest)), ""
  negative = node.kind == "neg"
  inner = node.args[0] if negative else node
  if inner.kind in ("degrees", "percent"):
    mark, node = inner.kind, (Node("neg", inner.args) if negative else inner.args[0])
  return Scalar(node, mark, unit)


def _approximated(match: re.Match) -> Scalar | Named | None:
  r"""An exact value with its decimal behind it, \frac{3}{2} (1.5) or \pi \approx 3.14: None where they contradict."""
  if _APPROXIMATED.fullmatch(match[1]):
    return None
  if match[3] and is_name(match[1]):
    return Named(match[1], _scalar(match[3]))  # x \approx 3.14
  try:
    form, decimal = _scalar(match[1]), _scalar(match[2] or match[3])
  except Unreadable:
    return None
  if not (isinstance(form, Scalar) and isinstance(decimal, Scalar)) or symbols(form.node) or symbols(decimal.node):
    return None
  if not match[3] and form.node.kind == "number" and "." not in form.node.text:
    return None  # 2 (2)
  if not rounds_to(form.node, decimal.node):
    if match[3]:
      raise Unreadable("an approximation of another number")
    return None
  return form
