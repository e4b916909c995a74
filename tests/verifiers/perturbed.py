"""Wrong answers made out of right ones, mechanically, each by one change that a model's mistake could be."""

import random
import re

_DIGIT = re.compile(r"\d", re.ASCII)
_OTHER_WORDS = ("north", "odd", "Alice", "hyperbola", "(F)", "no solution", "0", "undefined")
_SWAPS = (
  ("+", "-"), ("-", "+"), ("\\sqrt", ""), ("\\pi", ""), ("\\pi", "\\pi^2"), ("^", ""), ("\\cup", "\\cap"), ("x", "z"),
  ("(", "["), (")", "]"), ("[", "("), ("]", ")"), ("\\infty", "0"), ("\\in", "\\notin"), ("i", ""), ("=", "<"), ("^2", "^3"),
  ("\\cot", "\\tan"), ("_", "^"), (" ", "9"), ("%", ""),
)  # fmt: skip


def perturbed(gold: str, count: int, seed: int = 0) -> list[str]:
  """`count` different texts, none of them `gold`; what changes is named beside each rule in `_changes`.

  Some changes can give an equal answer again (a sum whose terms are exchanged); whoever uses these says which.
  """
  rng = random.Random(f"{seed} {gold}")
  found: dict[str, None] = {}
  for change in _changes(gold, rng):
    if change != gold:
      found[change] = None
    if len(found) == count:
      return list(found)


def _changes(gold: str, rng: random.Random):
  digits = list(_DIGIT.finditer(gold))
  if not digits:
    yield from (word for word in _OTHER_WORDS if word.casefold() not in gold.casefold())
  yield _flip(gold)  # the sign
  for match in rng.sample(digits, min(6, len(digits))):  # one digit is another one
    for step in rng.sample(range(1, 10), 2):
      yield gold[: match.start()] + str((int(match[0]) + step) % 10) + gold[match.end() :]
  if digits:
    last = digits[-1]
    yield gold[: last.end()] + str(rng.randint(1, 9)) + gold[last.end() :]  # a digit too many
    if len(digits) > 1:
      yield gold[: last.start()] + gold[last.end() :]  # a digit too few
  for old, new in _SWAPS:
    if old in gold and "\\left" not in gold:
      yield gold.replace(old, new, 1)
  for old, new in (("pi", "pi/2"), ("a", "b"), ("p", "q"), ("r", "s"), ("k", "m")):  # another letter
    if re.search(rf"(?<![A-Za-z]){old}(?![A-Za-z])", gold):
      yield re.sub(rf"(?<![A-Za-z]){old}(?![A-Za-z])", new, gold, count=1)
  fraction = re.search(r"\\d?frac\{([^{}]*)\}\{([^{}]*)\}", gold)
  if fraction:
    yield gold.replace(fraction[0], rf"\frac{{{fraction[2]}}}{{{fraction[1]}}}", 1)  # upside down
    yield gold.replace(fraction[0], fraction[1], 1)  # the denominator forgotten
    yield gold.replace(fraction[0], rf"{fraction[1]} \cdot {fraction[2]}", 1)
  items = re.split(r", ?|\\\\ ?", gold)
  if len(items) > 1 and digits:
    yield ", ".join(items[:-1]) + gold[-1:] if gold[-1] in ")]}" else ", ".join(items[:-1])  # an item is missing
    yield gold[:-1] + ", 77" + gold[-1] if gold[-1] in ")]" else gold + ", 77"  # an item too many
  yield f"{gold} + 1"
  yield f"{gold} or 0.123"
  yield f"{gold}, {gold}1"
  yield f"({gold})/7"
  yield f"\\sqrt{{{gold}}} + 3"
  yield f"{gold} \\cdot 10^{{3}}"
  yield f"{gold}.5"
  yield f"12.5 - {gold}"
  yield f"between 0 and {gold}"
  yield f"not {gold}"
  yield "\\emptyset"
  yield "(0.5, 0.25)"
  while True:  # something else altogether
    yield str(rng.randint(-10_000, 1_000_000)) + rng.choice(["", "", ".25", "/13", "\\pi", "x"])


def _flip(gold: str) -> str:
  return gold[1:].strip() if gold.startswith("-") else "-" + gold
