"""What an answer may be: the records that `forms` reads and `equality` compares. Regions are in `regions`."""

from dataclasses import dataclass, field

from r1jax.verifiers.answers.expression import Node


@dataclass(frozen=True)
class Scalar:
  """A number or expression. mark: "", "degrees" or "percent". unit: a name or None."""

  node: Node
  mark: str = ""
  unit: str | None = None


@dataclass(frozen=True)
class Group:
  """Several forms. kind: "list", "set", "ratio", "cases", or the two brackets of a tuple or interval, "()" to "]["."""

  kind: str
  items: tuple


@dataclass(frozen=True)
class Named:
  """An assignment, `name = form`. label: the name is no letter or function but a text, \\angle ABC or "the area"."""

  name: str
  form: object
  label: bool = False


@dataclass(frozen=True)
class Relation:
  """left stands in this relation to right: one of = < <= (others are turned round). value: the right side as an answer."""

  sign: str
  left: Node
  right: Node
  value: object = field(default=None, compare=False)


@dataclass(frozen=True)
class Matrix:
  rows: tuple


@dataclass(frozen=True)
class Based:
  digits: str
  base: int


@dataclass(frozen=True)
class Family:
  """Expressions for every whole number `letter`: k pi, k in Z."""

  items: tuple
  letter: str


@dataclass(frozen=True)
class Congruence:
  residue: int
  modulus: int
  name: str | None


@dataclass(frozen=True)
class Clock:
  """A time of day. half: "a", "p" or ""."""

  hour: int
  minute: int
  half: str


@dataclass(frozen=True)
class Words:
  """Words, in the normal form of plain_words, or the canonical one of several ways to say the same."""

  text: str
