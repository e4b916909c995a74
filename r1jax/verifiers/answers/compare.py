r"""Equality of expressions and relations: exact where it can be, else by their values at many points."""

from fractions import Fraction

from r1jax.verifiers.answers.expression import Node, has_constant, symbols
from r1jax.verifiers.answers.points import ENOUGH, points, rounds
from r1jax.verifiers.answers.records import Relation
from r1jax.verifiers.answers.values import Undefined, difference, evaluate, inexact, is_real, is_zero, quotient, real, same

ROUNDED_DIGITS = 8  # what a pocket calculator shows, and more than people round to; ours


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
    return number.kind == "number" and _is_power_of_ten(power)
  if _is_power_of_ten(inner):
    return True
  if inner.kind == "div" and is_literal(node):
    top, bottom = (part.args[0].value if part.kind == "neg" else part.value for part in inner.args)
    return bottom != 0 and (top / bottom).denominator != 1
  return is_literal(node)


def _is_power_of_ten(node: Node) -> bool:
  return node.kind == "pow" and node.args[0].value == 10 and _is_whole(node.args[1])


def _is_whole(node: Node) -> bool:
  node = node.args[0] if node.kind == "neg" else node
  return node.kind == "number" and node.value.denominator == 1


def same_expression(answer: Node, gold: Node) -> bool:
  """Whether two expressions have the same value wherever they were tried, or are the same as written."""
  if answer == gold:
    return True
  if answer.kind == "number" and gold.kind == "number":
    return answer.value == gold.value
  compared, letters, all_of_them = 0, bool(symbols(answer) or symbols(gold)), rounds(answer) or rounds(gold)
  for point in points([answer, gold]):
    try:
      values = evaluate(answer, point), evaluate(gold, point)
    except Undefined:
      continue
    if letters and is_real(values[0]) != is_real(values[1]):
      if has_constant(answer, "i") or has_constant(gold, "i"):
        return False
      continue  # outside the domain of one of them
    if not same(*values):
      return not letters and _is_rounded(answer, gold, *values)
    compared += 1
    if compared == ENOUGH and not all_of_them:
      break
  return compared >= (2 if letters else 1)


def _is_rounded(answer: Node, gold: Node, value, gold_value) -> bool:
  """Whether one is a long decimal and the other, no decimal, rounds to it."""
  for node, exact in ((answer, gold_value), (gold, value)):
    inner = node.args[0] if node.kind == "neg" else node
    if inner.kind != "number" or "." not in inner.text:
      continue
    whole, decimals = inner.text.split(".")
    if len((whole + decimals).lstrip("0")) < ROUNDED_DIGITS or not is_real(exact):
      continue
    exact = real(exact)
    if isinstance(exact, Fraction) and _terminates(exact.denominator):
      continue
    written = inner.value if node is inner else -inner.value
    return bool(inexact(abs(difference(exact, written)) * 2 * 10 ** len(decimals)) <= 1)
  return False


def _terminates(denominator: int) -> bool:
  for prime in (2, 5):
    while denominator % prime == 0:
      denominator //= prime
  return denominator == 1


def proportional(answer: Relation, gold: Relation) -> bool:
  """Whether the two sides' differences are the same up to a factor: any for equations, positive for inequalities."""
  if answer is None or gold is None or answer.sign != gold.sign:
    return False
  sides = [answer.left, answer.right, gold.left, gold.right]
  if symbols(answer.left) | symbols(answer.right) != (
    symbols(gold.left) | symbols(gold.right)
  ):
    return False
  factors = []
  for point in points(sides):
    try:
      values = [evaluate(side, point) for side in sides]
      differences = difference(*values[:2]), difference(*values[2:])
      if any(is_zero(each) for each in differences):
        return False
      factors.append(quotient(*differences))
    except Undefined:
      continue
    if len(factors) == ENOUGH:
      break
  if len(factors) < 2 or not all(same(factor, factors[0]) for factor in factors[1:]):
    return False
  return answer.sign == "=" or (is_real(factors[0]) and real(factors[0]) > 0)
