"""Sets of real numbers: unions of intervals with ends that are numbers or infinities."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from r1jax.verifiers.answers.expression import Node, symbols
from r1jax.verifiers.answers.values import difference, evaluate, inexact, is_real, is_zero, quotient, real, same

INFINITY = float("inf")
OPPOSITE = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}  # of a relation read from the right


@dataclass(frozen=True)
class Region:
  """Real numbers: disjoint intervals (low, low is in it, high, high is in it), in order. name: of the variable."""

  intervals: tuple
  name: str | None = None


def below(left, right) -> bool:
  return place(left) < place(right) and not alike(left, right)


def place(value):
  """A key for the order of real numbers of all kinds."""
  return value if isinstance(value, float) else inexact(value)


def alike(left, right) -> bool:
  if isinstance(left, float) or isinstance(right, float):
    return left == right
  return same(left, right)


def merged(intervals: list) -> tuple:
  """The union of intervals as disjoint ones in order."""
  found: list = []
  for low, low_in, high, high_in in sorted(intervals, key=lambda each: (place(each[0]), not each[1])):
    if found:
      before = found[-1]
      touches = alike(before[2], low) and (before[3] or low_in)
      if below(low, before[2]) or touches:
        if below(before[2], high):
          found[-1] = (*before[:2], high, high_in)
        elif alike(before[2], high):
          found[-1] = (*before[:3], before[3] or high_in)
        if alike(before[0], low) and low_in and not found[-1][1]:
          found[-1] = (found[-1][0], True, *found[-1][2:])
        continue
    found.append((low, low_in, high, high_in))
  return tuple(found)


def intersection(lefts: list, rights: list) -> list:
  found = []
  for a in lefts:
    for b in rights:
      low, low_in = max((a[:2], b[:2]), key=lambda end: (place(end[0]), not end[1]))
      high, high_in = min((a[2:], b[2:]), key=lambda end: (place(end[0]), end[1]))
      if below(low, high) or (alike(low, high) and low_in and high_in):
        found.append((low, low_in, high, high_in))
  return found


def complement(points: list) -> Region:
  ends = [-INFINITY, *sorted(points, key=place), INFINITY]
  return Region(tuple((low, False, high, False) for low, high in pairwise(ends)))


def half_line(left, sign: str, right, letter: str) -> list | None:
  """The numbers for which left `sign` right, where their difference is linear in the letter; otherwise None."""
  for one, other, way in ((left, right, sign), (right, left, OPPOSITE[sign])):
    if isinstance(other, float) and isinstance(one, Node):  # x < \infty
      return [(-INFINITY, False, INFINITY, False)] if (other > 0) == (way[0] == "<") else None
  if any(isinstance(side, Node) and not _is_sum(side) for side in (left, right)):
    return None  # |x| is linear too, where one looks on one side of 0 only
  at = [difference(*(evaluate(side, {letter: Fraction(x)}) for side in (left, right))) for x in range(4)]
  if not all(is_real(value) for value in at):
    return None
  at = [real(value) for value in at]
  slope = difference(at[1], at[0])
  if is_zero(slope) or any(not same(difference(b, a), slope) for a, b in pairwise(at[1:])):
    return None
  root = -quotient(at[0], slope)
  if sign == "!=":
    return [(-INFINITY, False, root, False), (root, False, INFINITY, False)]
  if sign == "=":
    return [(root, True, root, True)]
  closed = len(sign) == 2
  to_the_left = (sign[0] == "<") == (slope > 0)
  return [(-INFINITY, False, root, closed)] if to_the_left else [(root, closed, INFINITY, False)]


def _is_sum(node: Node) -> bool:
  """Whether its letters are only added and multiplied."""
  if not symbols(node):
    return True
  if node.kind == "div" and symbols(node.args[1]):
    return False
  return node.kind in ("symbol", "neg", "add", "mul", "div") and all(map(_is_sum, node.args))
