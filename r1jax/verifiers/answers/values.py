"""Values of expressions at a point. Total: no number grows beyond MAX_BITS, 2^{100000000} and 9^{9^9} included.

Rational arithmetic is exact. Where roots, pi or functions come in, values have DIGITS decimal digits, and two are the
same when they agree to SAME_RELATIVE or SAME_ABSOLUTE: far beyond coincidence, far above rounding.
"""

import math
from collections.abc import Mapping
from fractions import Fraction

import mpmath

from r1jax.verifiers.answers.expression import Node, has_constant

# All of these are ours.
MAX_BITS = 1 << 16  # of an exact number: about 20,000 digits
MAX_WORK = 1 << 22  # bits of all the exact numbers on the way to one value
MAX_FACTORIAL = 2000
DIGITS = 250
LARGEST = 10**60  # inexact values beyond this, or below its inverse, are not compared: their last digits would not be
SAME_RELATIVE, SAME_ABSOLUTE = "1e-80", "1e-120"

_mp = mpmath.mp.clone()
_mp.dps = DIGITS
_SAME_RELATIVE, _SAME_ABSOLUTE = _mp.mpf(SAME_RELATIVE), _mp.mpf(SAME_ABSOLUTE)
_SMALLEST = _mp.mpf(1) / LARGEST

Value = object  # Fraction | mpf | mpc


class Undefined(ValueError):
  """The expression has no value there: a division by 0, a number too large to be worth it."""


def evaluate(node: Node, point: Mapping[str, Fraction]) -> Value:
  r"""Its value where the letters have the values of `point`: a Fraction where it is rational by rational steps,
  otherwise an mpf or mpc. An expression with letters and without i stands for real numbers, so that a root of a
  negative number has no value: \\sqrt{a/b} is \\sqrt{a}/\\sqrt{b}. Raises Undefined."""
  try:
    return _Evaluation(point, bool(point) and not has_constant(node, "i")).value(node)
  except (ZeroDivisionError, OverflowError, ValueError) as error:
    raise Undefined(str(error)) from None


def product(left: Node, right: Node) -> Node:
  """left times right, worked out where both are rational numbers."""
  node = Node("mul", (left, right))
  try:
    value = evaluate(node, {})
  except (Undefined, KeyError):
    return node
  if not isinstance(value, Fraction):
    return node
  top, bottom = (Node("number", value=Fraction(part), text=str(part)) for part in (value.numerator, value.denominator))
  return top if value.denominator == 1 else Node("div", (top, bottom))


def same(left: Value, right: Value) -> bool:
  """Whether two values are the same number; see the module."""
  if isinstance(left, Fraction) and isinstance(right, Fraction):
    return left == right
  left, right = inexact(left), inexact(right)
  difference = abs(left - right)
  return difference <= _SAME_ABSOLUTE or difference <= _SAME_RELATIVE * max(abs(left), abs(right))


def is_real(value: Value) -> bool:
  return not isinstance(value, _mp.mpc) or abs(value.imag) <= _SAME_ABSOLUTE


def real(value: Value) -> Value:
  """The real part of a value that is_real."""
  return value.real if isinstance(value, _mp.mpc) else value


def difference(left: Value, right: Value) -> Value:
  if isinstance(left, Fraction) and isinstance(right, Fraction):
    return left - right
  return inexact(left) - inexact(right)


def quotient(left: Value, right: Value) -> Value:
  if isinstance(left, Fraction) and isinstance(right, Fraction):
    return left / right
  return inexact(left) / inexact(right)


def is_zero(value: Value) -> bool:
  return value == 0 if isinstance(value, Fraction) else abs(value) <= _SAME_ABSOLUTE


def inexact(value: Value):
  """The value as an mpf or mpc."""
  return _mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def _bounded(value: Value) -> Value:
  if isinstance(value, Fraction):
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
      raise Undefined("a number too long")
    return value
  size = abs(value)
  if not size <= LARGEST or (size > _SAME_ABSOLUTE and size * LARGEST < 1):
    raise Undefined("a number too large or too small")
  return value


class _Evaluation:
  """One value, within MAX_WORK."""

  def __init__(self, point: Mapping[str, Fraction], is_real: bool):
    self.point, self.is_real, self.work = point, is_real, 0

  def value(self, node: Node) -> Value:
    value = self.combined(node)
    if isinstance(value, Fraction):
      self.work += value.numerator.bit_length() + value.denominator.bit_length()
      if self.work > MAX_WORK:
        raise Undefined("too much work")
    elif self.is_real and not is_real(value):
      raise Undefined("outside the domain")
    return value

  def combined(self, node: Node) -> Value:
    kind = node.kind
    if kind == "number":
      return _bounded(node.value)
    if kind == "symbol":
      return self.point[node.name]
    if kind == "constant":
      return _constant(node.name)
    values = [self.value(part) for part in node.args]
    if kind == "call":
      return _bounded(_call(node.name, values))
    if kind == "pow":
      return _bounded(_power(*values))
    if kind == "root":
      return _bounded(_root(*values))
    if kind == "degrees":
      return inexact(values[0]) * _mp.pi / 180
    if kind == "percent":
      return values[0] / 100
    if not all(isinstance(value, Fraction) for value in values):
      values = [_bounded(inexact(value)) for value in values]
      if any(0 < abs(value) < _SMALLEST for value in values):
        raise Undefined("a number too small")  # beside others it would not be seen
    return _arithmetic(kind, values)


def _arithmetic(kind: str, values: list[Value]) -> Value:
  if kind == "neg":
    return -values[0]
  if kind in ("add", "mixed"):
    total = values[0]
    for value in values[1:]:
      total = _bounded(total + value)
    return total
  if kind == "mul":
    return _bounded(values[0] * values[1])
  if is_zero(values[1]):
    raise Undefined("a division by 0")
  return _bounded(values[0] / values[1])


def _constant(name: str) -> Value:
  if name == "oo":
    raise Undefined("infinity")
  return {"pi": +_mp.pi, "e": +_mp.e, "i": _mp.mpc(0, 1)}[name]


def _power(base: Value, exponent: Value) -> Value:
  if isinstance(exponent, Fraction) and exponent.denominator == 1:
    if isinstance(base, Fraction):
      bits = max(base.numerator.bit_length(), base.denominator.bit_length())
      if base not in (0, 1, -1) and abs(exponent) * bits > 2 * MAX_BITS:
        raise Undefined("a number too long")
      if base == 0 and exponent <= 0:
        raise Undefined("0 to a power that is not positive")
      return base ** (int(exponent) if base not in (1, -1) else int(exponent) % 2)
  elif isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 2 and base >= 0:
    return _power(_root(base, Fraction(2)), Fraction(exponent.numerator))
  base, exponent = inexact(base), inexact(exponent)
  if is_zero(base):
    if is_real(exponent) and real(exponent) > 0:
      return Fraction(0)
    raise Undefined("0 to a power that is not positive")
  if not abs(exponent * _mp.log(base)) < 1000:  # e^1000 is beyond LARGEST, e^-1000 below SMALLEST
    raise Undefined("a number too large or too small")
  return _mp.power(base, exponent)


def _root(value: Value, index: Value) -> Value:
  """The real root where there is one (of -8, index 3: -2), else the principal one."""
  if not isinstance(index, Fraction) or index.denominator != 1 or not 2 <= index <= 100:
    return _power(value, quotient(Fraction(1), index)) if not is_zero(index) else _constant("oo")
  n = int(index)
  if isinstance(value, Fraction):
    if value >= 0:
      top, bottom = _whole_root(value.numerator, n), _whole_root(value.denominator, n)
      if top is not None and bottom is not None:
        return Fraction(top, bottom)
    elif n % 2:
      return -_root(-value, index)
  value = inexact(value)
  if n % 2 and is_real(value) and real(value) < 0:
    return -_mp.root(-real(value), n)
  return _mp.root(value, n) if not is_zero(value) else Fraction(0)


def _whole_root(number: int, n: int) -> int | None:
  if n == 2:
    found = math.isqrt(number)
  elif number.bit_length() <= 400:
    found = int(_mp.nint(_mp.root(number, n)))
  else:
    return None
  return found if found**n == number else None


def _call(name: str, values: list[Value]) -> Value:
  value = values[0]
  if name in ("factorial", "binom"):
    if not all(isinstance(v, Fraction) and v.denominator == 1 and 0 <= v <= MAX_FACTORIAL for v in values):
      raise Undefined("a factorial or binomial of no small whole number")
    return Fraction(math.factorial(int(value)) if name == "factorial" else math.comb(*map(int, values)))
  if name == "abs":
    return abs(value)
  if name in ("floor", "ceil"):
    return _rounded(name, value)
  if name == "log" and len(values) == 2:
    return quotient(_logarithm(value), _logarithm(values[1]))
  if name in ("log", "lg"):  # without a base: to base 10, as in the answers of competitions
    return _logarithm(value) / _logarithm(Fraction(10))
  if name == "ln":
    return _logarithm(value)
  if name == "exp":
    return _power(+_mp.e, value)
  value = inexact(value)
  if name.startswith("opaque "):  # a fixed function that no identity holds for
    return _mp.cos(value * ord(name[-1]) + _mp.sqrt(ord(name[-1])))
  if name in ("cot", "sec", "csc", "tan"):
    top, bottom = {"tan": ("sin", "cos"), "cot": ("cos", "sin"), "sec": (None, "cos"), "csc": (None, "sin")}[name]
    under = getattr(_mp, bottom)(value)
    if is_zero(under):
      raise Undefined("a pole")
    return (getattr(_mp, top)(value) if top else 1) / under
  # Of large complex arguments these grow exponentially.
  if name in ("sinh", "cosh", "tanh") and not abs(value) < 1000 or not abs(_mp.im(value)) < 1000:
    raise Undefined("a number too large")
  return getattr(_mp, {"arcsin": "asin", "arccos": "acos", "arctan": "atan"}.get(name, name))(value)


def _logarithm(value: Value):
  if is_zero(value):
    raise Undefined("the logarithm of 0")
  return _mp.log(inexact(value))


def _rounded(name: str, value: Value) -> Fraction:
  if not is_real(value):
    raise Undefined("the floor of a complex number")
  value = real(value)
  if not isinstance(value, Fraction):
    nearest = _mp.nint(value)
    if same(value, nearest):
      return Fraction(int(nearest))
    return Fraction(int(_mp.floor(value) if name == "floor" else _mp.ceil(value)))
  return Fraction(math.floor(value) if name == "floor" else math.ceil(value))
