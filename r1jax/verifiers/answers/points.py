r"""Where the letters of two expressions are put when they are compared: nothing special may happen there."""

from collections.abc import Iterator
from fractions import Fraction

from r1jax.verifiers.answers.expression import Node, symbols

# All of these are ours. Letters may be negative, so that \sqrt{x^2} is not x.
_FRACTIONS = (
  ((1237, 911), (1559, 1021), (797, 1033), (2203, 1481), (1871, 1753), (1049, 677)),
  ((977, 1319), (2011, 1279), (1663, 1151), (751, 1361), (2311, 1907), (1187, 1949)),
  ((-1409, 1063), (-1093, 1487), (-2131, 1753), (-881, 1217), (-1583, 947), (-1697, 1429)),
  ((-1201, 1669), (1759, 1301), (-1361, 971), (1931, 1447), (-727, 1153), (1427, 1109)),
)
# Where most of these have no value: \sqrt{1-x^2} and \sqrt{x-5}, factorials, (-1)^n.
_FURTHER = (
  ((211, 1019), (307, 1223), (101, 997), (401, 1601), (173, 1291), (353, 1453)),
  ((7919, 997), (9973, 1009), (12343, 991), (8221, 1013), (11003, 983), (14407, 1019)),
  ((-197, 1103), (-311, 1301), (-89, 1009), (-409, 1499), (-151, 1201), (-347, 1399)),
  ((23003, 997), (13001, 1009), (7001, 991), (29009, 1013), (17011, 983), (31013, 1019)),
)
_WHOLE = (
  (2, 5, 9, 14, 11, 16), (3, 4, 8, 13, 7, 12), (9, 5, 2, 1, 3, 4), (11, 4, 3, 2, 6, 5), (1, 6, 7, 10, 15, 4),
  (5, 8, 12, 20, 9, 17), (8, 3, 1, 4, 2, 6), (4, 7, 11, 13, 10, 18), (7, 11, 13, 17, 19, 23), (6, 9, 10, 12, 14, 16),
  (10, 12, 17, 19, 23, 30), (13, 2, 5, 3, 7, 1),
)  # fmt: skip
_WHOLE_LETTERS = frozenset("ijklmn")  # by custom whole numbers, where an expression rounds
ENOUGH = 4  # points at which both had a value; where they round, all are tried, for such expressions agree by chance


def points(nodes: list[Node]) -> Iterator[dict[str, Fraction]]:
  """The points to be tried, the usual ones first."""
  letters = sorted(frozenset().union(*(symbols(node) for node in nodes)))
  if not letters:
    yield {}
    return
  whole_only = any(map(rounds, nodes)) and _WHOLE_LETTERS.issuperset(letters)
  # Several letters under roots are lengths and masses: \sqrt{ab}/b is \sqrt{a/b}.
  positive = len(letters) > 1 and any(map(_has_root, nodes))
  for row in _WHOLE if whole_only else (*_FRACTIONS, *_FURTHER, *_WHOLE):
    numbers = [Fraction(*each) if isinstance(each, tuple) else Fraction(each) for each in row]
    numbers = [abs(number) for number in numbers] if positive else numbers
    yield {letter: numbers[i % len(numbers)] + 3 * (i // len(numbers)) for i, letter in enumerate(letters)}


def rounds(node: Node) -> bool:
  return (node.kind == "call" and node.name in ("floor", "ceil")) or any(map(rounds, node.args))


def _has_root(node: Node) -> bool:
  return node.kind == "root" or any(map(_has_root, node.args))
