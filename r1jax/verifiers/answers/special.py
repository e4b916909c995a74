r"""Equality of what is no number, list or set: families over the whole numbers, congruences, times of day, i, j and k."""

from dataclasses import replace
from fractions import Fraction

from r1jax.verifiers.answers.compare import same_expression
from r1jax.verifiers.answers.expression import Node, symbols
from r1jax.verifiers.answers.records import Clock, Congruence, Family, Group, Named, Scalar
from r1jax.verifiers.answers.values import Undefined, evaluate, same

_UNIT_VECTORS = ("i", "j", "k")


def renamed(node: Node, old: str, new: str) -> Node:
  if node.kind == "symbol":
    return Node("symbol", name=new) if node.name == old else node
  return replace(node, args=tuple(renamed(part, old, new) for part in node.args)) if node.args else node


def equal_families(answer: object, gold: object) -> bool:
  """Whether each of some members of one is a member of the other, and the other way round."""
  families = [_family_of(form) for form in (answer, gold)]
  letter = next(family.letter for family in families if isinstance(family, Family))
  families = [_family_of(form, letter) for form in (answer, gold)]
  if None in families:
    return False
  if any(symbols(item) - {family.letter} for family in families for item in family.items):
    answers, golds = ([renamed(item, family.letter, "n") for item in family.items] for family in families)
    return len(answers) == len(golds) and all(any(same_expression(a, g) for a in answers) for g in golds)
  few, many = ([_members(family, reach) for family in families] for reach in (3, 9))
  return all(any(same(value, each) for each in many[1 - side]) for side in (0, 1) for value in few[side])


def _family_of(form: object, letter: str = "") -> Family | None:
  """The form as a family; an expression or several in one letter are one when the other answer is."""
  if isinstance(form, Family):
    return form
  items = form.items if isinstance(form, Group) and form.kind in ("list", "set") else (form,)
  items = [item.form if isinstance(item, Named) else item for item in items]
  if not all(isinstance(item, Scalar) for item in items):
    return None
  letters = frozenset().union(*(symbols(item.node) for item in items))
  return Family(tuple(item.node for item in items), next(iter(letters))) if len(letters) == 1 else None


def _members(family: Family, reach: int) -> list:
  values = []
  for item in family.items:
    for number in range(-reach, reach + 1):
      try:
        values.append(evaluate(item, {family.letter: Fraction(number)}))
      except Undefined:
        continue
  return values


def equal_congruences(answer: object, gold: object) -> bool:
  if isinstance(answer, Congruence) and isinstance(gold, Congruence):
    names = answer.name == gold.name or None in (answer.name, gold.name)
    return names and answer.modulus == gold.modulus and (answer.residue - gold.residue) % gold.modulus == 0
  congruence, other = (answer, gold) if isinstance(answer, Congruence) else (gold, answer)
  return congruence is answer and isinstance(other, Scalar) and other.node.kind == "number" and \
    other.node.value == congruence.residue and not other.mark


def equal_times(answer: object, gold: object) -> bool:
  """Hours and minutes, and a.m. or p.m. where both say it."""
  times = []
  for form in (answer, gold):
    if isinstance(form, Group) and form.kind == "ratio" and len(form.items) == 2:
      numbers = [item.node.value if isinstance(item, Scalar) and item.node.kind == "number" else None for item in form.items]
      form = Clock(*numbers, "") if None not in numbers else None
    times.append(form)
  if not all(isinstance(each, Clock) for each in times):
    return False
  halves = {each.half for each in times} - {""}
  return (times[0].hour, times[0].minute) == (times[1].hour, times[1].minute) and len(halves) <= 1


def is_vector(form: object) -> bool:
  """Whether it is an expression in the unit vectors i, j and k."""
  return isinstance(form, Scalar) and "j" in symbols(form.node) and symbols(form.node) <= {"j", "k"}


def components(form: Scalar, count: int) -> list | None:
  """The components of i + 2j + 3k; None when it has others than `count`, or is not linear."""
  node = _without_i(form.node)
  names = _UNIT_VECTORS[:count]
  if not symbols(node) <= set(names):
    return None
  try:
    units = [evaluate(node, {name: Fraction(name == one) for name in names}) for one in names]
    origin, sum_of_all = (evaluate(node, {name: Fraction(value) for name in names}) for value in (0, 1))
    return units if same(origin, Fraction(0)) and same(sum_of_all, sum(units)) else None
  except Undefined:
    return None


def _without_i(node: Node) -> Node:
  """The letter i for the imaginary unit."""
  if node.kind == "constant" and node.name == "i":
    return Node("symbol", name="i")
  return replace(node, args=tuple(map(_without_i, node.args))) if node.args else node
