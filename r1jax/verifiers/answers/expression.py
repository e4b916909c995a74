r"""Closed forms: reading LaTeX or plain text as one expression. Total: bounded in time for every input.

Written for answers to school and competition questions: numbers, letters, + - * / ^, fractions, mixed numbers,
roots, factorials, binomials, absolute values, floors, the elementary functions, \pi, e, i, degrees and percent
signs. Everything else is `Unreadable`; no text is evaluated, and nothing is guessed.
"""

import re
from dataclasses import dataclass, field
from fractions import Fraction

# All of these are ours.
MAX_TOKENS = 1000
MAX_DEPTH = 60  # of brackets, powers and fractions within each other
MAX_FACTORS = 100  # of one product, and half as many powers and marks after one factor
MAX_WORD = 3  # more letters in a row are a word, not a product


class Unreadable(ValueError):
  """The text is not one of the expressions of this module."""


@dataclass(frozen=True, slots=True)
class Node:
  """An expression. kind: number, symbol, constant, neg, add, mul, div, pow, root, call, mixed, degrees, percent.

  args: the parts. name: of a symbol, constant or function. value, text: of a number, exactly and as written.
  """

  kind: str
  args: tuple["Node", ...] = ()
  name: str = ""
  value: Fraction = Fraction(0)
  text: str = field(default="", compare=False)


_FUNCTIONS = {
  "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "ln", "log",
  "lg", "exp", "sqrt",
}  # fmt: skip
_CONSTANTS = {"\\pi": "pi", "pi": "pi", "Pi": "pi", "e": "e", "i": "i", "\\infty": "oo", "oo": "oo", "infinity": "oo"}
_LETTERS = (
  "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau phi "
  "varphi chi psi omega hbar Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell"
)
_GREEK = frozenset(_LETTERS.split())
_SHORT_WORDS = frozenset("so is we of the and are not for was has get per odd yes all any".split())  # no products of letters  # noqa: SIM905
_OPAQUE = {"f", "g"}  # letters that are functions where a bracket follows: f(2x) is not 2f(x)
KNOWN_COMMANDS = (
  _GREEK | _FUNCTIONS | {"pi", "infty", "cdot", "times", "ast", "div", "frac", "binom", "circ", "degree"}
  | {"lvert", "rvert", "lfloor", "rfloor", "lceil", "rceil"}
)  # fmt: skip
_TOKEN = re.compile(
  r"\s+|(?P<number>(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{1,3}(?![\w.]))?)|(?P<command>\\[A-Za-z]+|\\.)|(?P<letters>[A-Za-z]+)|(?P<other>.)",
  re.ASCII | re.DOTALL,
)
_ENDS = {")": "(", "]": "[", "}": "{"}
_TIMES = {"*", "\\cdot", "\\times", "\\ast"}
_OVER = {"/", "\\div"}


def parse(text: str) -> Node:
  """The expression that is written in the text, all of it. Raises Unreadable."""
  parser = _Parser(_tokens(text))
  node = parser.sum()
  if parser.peek():
    raise Unreadable(text)
  return node


def symbols(node: Node) -> frozenset[str]:
  """Names of the letters that stand for numbers in it."""
  if node.kind == "symbol":
    return frozenset({node.name})
  return frozenset().union(*(symbols(part) for part in node.args))


def has_constant(node: Node, name: str) -> bool:
  return (node.kind == "constant" and node.name == name) or any(has_constant(part, name) for part in node.args)


def _tokens(text: str) -> list[str]:
  found = []
  for match in _TOKEN.finditer(text):
    kind, token = match.lastgroup, match[0]
    if kind is None:
      continue
    if kind == "letters":
      if token in _FUNCTIONS or token in _CONSTANTS:
        found.append(token)
      elif len(token) > MAX_WORD or token.casefold() in _SHORT_WORDS:
        raise Unreadable(text)
      else:
        found.extend(token)
    else:
      found.append(token)
    if len(found) > MAX_TOKENS:
      raise Unreadable("too long")
  return found


def _is_number(token: str) -> bool:
  return token[:1].isdecimal() or (token[:1] == "." and len(token) > 1)


def _number(token: str) -> Node:
  value = int(token) if token.isdecimal() else token if token[0] != "." else "0" + token
  return Node("number", value=Fraction(value), text=token)


class _Parser:
  """Recursive descent over the tokens. `bars`: how many |..| are open, in which | ends instead of beginning."""

  def __init__(self, tokens: list[str]):
    self.tokens, self.place, self.depth, self.bars = tokens, 0, 0, 0

  def peek(self, ahead: int = 0) -> str:
    place = self.place + ahead
    return self.tokens[place] if place < len(self.tokens) else ""

  def next(self) -> str:
    token = self.peek()
    self.place += 1
    return token

  def expect(self, token: str) -> None:
    if self.next() != token:
      raise Unreadable(f"expected {token}")

  def deeper(self) -> None:
    self.depth += 1
    if self.depth > MAX_DEPTH:
      raise Unreadable("too deep")

  def sum(self) -> Node:
    self.deeper()
    terms = [self.term()]
    while self.peek() in ("+", "-"):
      terms.append(self.term() if self.next() == "+" else Node("neg", (self.term(),)))
    self.depth -= 1
    return terms[0] if len(terms) == 1 else Node("add", tuple(terms))

  def term(self) -> Node:
    """Signs, then factors with or without a sign of multiplication, from left to right."""
    negative = False
    while self.peek() in ("+", "-"):
      negative ^= self.next() == "-"
    node = self.factor()
    for _ in range(MAX_FACTORS):
      token = self.peek()
      if token in _TIMES:
        self.place += 1
        node = Node("mul", (node, self.signed()))
      elif token in _OVER:
        self.place += 1
        node = Node("div", (node, self.signed()))
      elif self.starts_factor():
        # Nobody multiplies by a number that follows without a sign: "12 7", "3 .5", "x2", "\\sqrt{2}1".
        if _is_number(token):
          raise Unreadable("a number after a factor")
        node = Node("mul", (node, self.factor()))
      else:
        return Node("neg", (node,)) if negative else node
    raise Unreadable("too many factors")

  def signed(self) -> Node:
    negative = False
    while self.peek() in ("+", "-"):
      negative ^= self.next() == "-"
    node = self.factor()
    return Node("neg", (node,)) if negative else node

  def starts_factor(self) -> bool:
    token = self.peek()
    if token == "|":
      return self.bars == 0
    return (
      _is_number(token)
      or (token.isalpha() and token.isascii())
      or token in ("(", "[", "{", "\\{", "\\frac", "\\sqrt", "\\binom", "\\lvert", "\\lfloor", "\\lceil")
      or token in _CONSTANTS
      or token[1:] in _GREEK
      or token[1:] in _FUNCTIONS
    )

  def factor(self) -> Node:
    """An atom with what follows it: powers, factorials, degrees, percent signs."""
    self.deeper()
    node = self.atom()
    for _ in range(MAX_FACTORS // 2):
      token = self.peek()
      if token == "^" and self.degree_mark():
        node = Node("degrees", (node,))
      elif token == "^":
        self.place += 1
        node = Node("pow", (node, self.argument()))
        if self.peek() == "_" and node.args[0].kind == "symbol":  # v^2_0 is v_0^2
          node = Node("pow", (self.symbol(node.args[0].name), node.args[1]))
      elif token == "!":
        self.place += 1
        node = Node("call", (node,), "factorial")
      elif token in ("%", "\\%"):
        self.place += 1
        node = Node("percent", (node,))
      elif token in ("\\degree", "\\circ"):
        self.place += 1
        node = Node("degrees", (node,))
      else:
        self.depth -= 1
        return node
    raise Unreadable("too many powers")

  def degree_mark(self) -> bool:
    for mark in (["^", "\\circ"], ["^", "{", "\\circ", "}"]):
      if self.tokens[self.place : self.place + len(mark)] == mark:
        self.place += len(mark)
        return True
    return False

  def atom(self) -> Node:
    token = self.next()
    if _is_number(token):
      return self.number(token)
    if token in ("(", "[", "{"):
      return self.until({"(": ")", "[": "]", "{": "}"}[token])
    if token in ("|", "\\lvert"):
      self.bars += token == "|"
      node = self.until("|" if token == "|" else "\\rvert", opened_by_bar=token == "|")
      return Node("call", (node,), "abs")
    if token in ("\\lfloor", "\\lceil"):
      return Node("call", (self.until("\\r" + token[2:]),), token[2:])
    if token == "\\frac":
      return Node("div", (self.argument(), self.argument()))
    if token == "\\binom":
      return Node("call", (self.argument(), self.argument()), "binom")
    name = token.removeprefix("\\")
    if name == "sqrt":
      return self.root()
    if name in _FUNCTIONS:
      return self.function(name)
    if token in _CONSTANTS:
      return Node("constant", name=_CONSTANTS[token])
    if (len(token) == 1 and token.isascii() and token.isalpha()) or (token[:1] == "\\" and name in _GREEK):
      return self.symbol(name)
    raise Unreadable(token or "the end")

  def number(self, token: str) -> Node:
    r"""A number, or the mixed number that begins with it: 1\frac{4}{5}, 1 4/5."""
    if "." not in token:
      if self.peek() == "\\frac":
        before = self.place
        self.place += 1
        try:
          top, bottom = self.argument(), self.argument()
        except Unreadable:
          top = bottom = None
        if top is not None and top.kind == bottom.kind == "number" and _is_proper(top, bottom):
          return Node("mixed", (_number(token), Node("div", (top, bottom))))
        self.place = before
      elif self.peek().isdigit() and self.peek(1) == "/" and self.peek(2).isdigit():
        top, bottom = _number(self.peek()), _number(self.peek(2))
        if _is_proper(top, bottom):
          self.place += 3
          return Node("mixed", (_number(token), Node("div", (top, bottom))))
    return _number(token)

  def until(self, end: str, opened_by_bar: bool = False) -> Node:
    bars, self.bars = self.bars, (1 if opened_by_bar else 0)
    node = self.sum()
    self.expect(end)
    self.bars = bars - 1 if opened_by_bar else bars
    return node

  def argument(self) -> Node:
    """What a command or ^ takes: a group in braces, one digit or one atom; a number after ^ counts whole."""
    self.deeper()
    token = self.peek()
    if token == "{":
      self.place += 1
      node = self.until("}")
    elif token == "-" and self.tokens[self.place - 1] == "^":
      self.place += 1
      node = Node("neg", (self.argument(),))
    elif token.isdigit() and len(token) > 1 and self.tokens[self.place - 1] != "^":
      # \frac12 and \sqrt2: one digit each, and the rest is a token of its own.
      self.tokens[self.place : self.place + 1] = [token[0], token[1:]]
      node = _number(self.next())
    elif token in ("(", "[", "|", "!") and self.tokens[self.place - 1] != "^":
      raise Unreadable("an argument in other brackets")
    else:
      node = self.atom()
    self.depth -= 1
    return node

  def root(self) -> Node:
    index = None
    if self.peek() == "[":
      self.place += 1
      index = self.until("]")
    if self.peek() == "(":
      self.place += 1
      node = self.until(")")
    else:
      node = self.argument()
    return Node("root", (node, index or Node("number", value=Fraction(2), text="2")))

  def function(self, name: str) -> Node:
    r"""\sin x, \sin^2 x, \sin(2x), \log_2 8; without brackets the argument is the product that follows."""
    base = power = None
    if self.peek() == "_":
      if name != "log":
        raise Unreadable("a subscript")
      self.place += 1
      base = self.argument()
    if self.peek() == "^" and self.tokens[self.place : self.place + 2] != ["^", "\\circ"]:
      self.place += 1
      power = self.argument()
      if power.kind == "neg":  # \sin^{-1} is arcsin; other negative powers are read both ways
        if power.args[0].value != 1 or "arc" + name not in _FUNCTIONS:
          raise Unreadable("a negative power of a function")
        name, power = "arc" + name, None
    if self.peek() in ("(", "{"):
      # The factorial or power that follows belongs to the whole: \sin(x)^2 is left to (\sin x)^2.
      node = self.until({"(": ")", "{": "}"}[self.next()])
    else:
      node = self.factor()
      for _ in range(MAX_FACTORS):
        if not self.starts_factor() or self.peek().removeprefix("\\") in _FUNCTIONS or self.peek() == "(":
          break
        if _is_number(self.peek()):
          raise Unreadable("a number after a factor")
        node = Node("mul", (node, self.factor()))
    node = Node("call", (node,) if base is None else (node, base), name)
    return node if power is None else Node("pow", (node, power))

  def symbol(self, name: str) -> Node:
    if self.peek() == "_":
      self.place += 1
      if self.peek() == "{":
        end = self.tokens.index("}", self.place) if "}" in self.tokens[self.place :] else len(self.tokens)
        inside = self.tokens[self.place + 1 : end]
        if not inside or not all(token.lstrip("\\").isalnum() and token.isascii() or token == "," for token in inside):
          raise Unreadable("a subscript")
        self.place = end + 1
        name += "_" + "".join(inside)
      elif self.peek().isalnum() and self.peek().isascii():
        name += "_" + self.next()
      else:
        raise Unreadable("a subscript")
    name += self.primes()
    if name in _OPAQUE and self.peek() == "(":
      self.place += 1
      return Node("call", (self.until(")"),), "opaque " + name)
    return Node("symbol", name=name)

  def primes(self) -> str:
    found = ""
    for mark in (["'"], ["^", "\\prime"], ["^", "{", "\\prime", "}"]):
      while self.tokens[self.place : self.place + len(mark)] == mark:
        self.place += len(mark)
        found += "'"
    return found


def _is_proper(top: Node, bottom: Node) -> bool:
  whole = top.value.denominator == bottom.value.denominator == 1
  return whole and 0 < top.value < bottom.value
