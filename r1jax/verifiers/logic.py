r"""Logic and puzzles whose answers a rule can check: countdown, sudoku, knights and knaves, zebra, code output.

Every verifier is our own and total: no text is evaluated, every number is bounded, and right is right, with no part
marks. reasoning-gym, whose puzzles these are, is not a dependency: its countdown and 24 evaluate the model's text with
sympy's parse_expr (which is `eval`, and hangs on 9**9**9), its 24 does not check which numbers were used, its sudoku,
knights-and-knaves and code-output verifiers give part marks for wrong answers, and it brings eleven packages along.

A reference is JSON text with "puzzle" and that puzzle's fields; `countdown`, `sudoku`, `knights_and_knaves`, `zebra` and
`code_output` write it:

* countdown (24 is one): numbers, target, use ("all" or "some"). The answer is arithmetic with + - * / and brackets, in
  plain text or LaTeX, with or without "= target" and steps between; every number stands in it at most as often as it is
  given, and with "all" exactly as often. So the target alone is an answer only where it is one of the numbers.
* sudoku: grid (rows of digits, 0 where it is empty), box ([rows, columns] of a box). Any completed grid that keeps to
  the rules and the given digits is right; spaces, commas, bars and brackets between digits do not matter.
* knights_and_knaves: roles, name -> role; terms, all words for a role. The answer gives every person one role: "Alice is
  a knight, Bob and Carol are knaves", "Knights: Alice" or JSON. Between names and roles stand only words of a closed list,
  for any other may turn the meaning round: "never a knight", "a non-knight", "pretends to be a knight" are unparsable.
* zebra: answer, a name or a word; or solution, place -> {property: value}, to be given as JSON.
* code_output: answer, any JSON value. The answer is JSON or a Python literal; for text also the text as it is printed.
  It may be introduced: "The output is 5".

Predicting an input for a given output can only be judged by running the program: that is r1jax.verifiers.code's.
"""

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

from r1jax.errors import InputError
from r1jax.verifiers.answers.text import plain_words, tidy
from r1jax.verifiers.maths import boxes
from r1jax.verifiers.roles import Unreadable, judge_roles
from r1jax.verifiers.verdict import SCORED, UNPARSABLE, Verdict

# All of these are ours.
MAX_LENGTH = 20_000  # characters of an answer that is read
MAX_TOKENS = 200  # of arithmetic
MAX_NESTING = 20  # of arithmetic and of values
MAX_DIGITS = 12  # of a number in arithmetic
MAX_GRID = 25  # rows of a sudoku
RELATIVE_TOLERANCE = 1e-9  # of floating-point numbers in the output of a program

_BOX = re.compile(r"\\boxed\s*\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}")
_TURNED_ROUND = re.compile(
  r"(?:[-+*/^]|\\(?:cdot|times|div|sqrt\{|[dt]?frac\{))\s*\$?\\boxed|\\boxed\$?\s*[-+*/^]|\b(?:not|never|neither|nor|or|except|opposite|isn't|wrong)\b[^.\n]*\\boxed",
  re.IGNORECASE)

_DIGITS = {0xFF10 + i: 0x30 + i for i in range(10)}  # of full width


# ---- references


def countdown(numbers: Sequence[int], target: int | str, use: str = "all") -> str:
  """The reference of a countdown or 24 puzzle. target: a whole number or a fraction as text, "7/2"."""
  return _reference("countdown", numbers=list(numbers), target=target, use=use)


def sudoku(grid: Sequence[Sequence[int] | str], box: Sequence[int] | None = None) -> str:
  """The reference of a sudoku. grid: rows of numbers or digits; 0, "." and "_" are empty. box: (rows, columns) of a
  box; by default its side is the root of the grid's."""
  rows = [[0 if cell in (".", "_", "0") else int(cell) for cell in row] for row in grid]
  side = math.isqrt(len(rows))
  return _reference("sudoku", grid=rows, box=list(box or (side, side)))


def knights_and_knaves(roles: Mapping[str, str], terms: Sequence[str] = ("knight", "knave")) -> str:
  """The reference of who is what: name -> role, a role being one of the terms."""
  return _reference("knights_and_knaves", roles=dict(roles), terms=list(terms))


def zebra(answer: str | None = None, solution: Mapping | None = None) -> str:
  """The reference of a zebra puzzle: the one name that was asked for, or the whole solution."""
  return _reference("zebra", answer=answer) if answer is not None else _reference("zebra", solution=dict(solution or {}))


def code_output(value: object) -> str:
  """The reference of what a program returns or prints, a value that JSON can write."""
  return _reference("code_output", answer=value)


def of_reasoning_gym(entry: Mapping) -> str:
  """The reference of a puzzle that reasoning-gym generated: its question, answer and metadata.

  Raises InputError for a data set that has no verifier here, and for code whose input is to be predicted.
  """
  answer, metadata = entry["answer"], entry["metadata"]
  name = metadata["source_dataset"]
  if name in ("countdown", "puzzle24"):
    return countdown([int(number) for number in metadata["numbers"]], metadata.get("target", 24))
  if name in ("sudoku", "mini_sudoku"):
    return sudoku(metadata["puzzle"])
  if name == "knights_knaves":
    knight, knave = (str(metadata["knight_knave_terms"][term]) for term in ("knight", "knave"))
    people = zip(map(str, metadata["names"]), metadata["solution"], strict=True)
    return knights_and_knaves({person: knight if honest else knave for person, honest in people}, (knight, knave))
  if name == "zebra_puzzles":
    return zebra(answer)
  if name == "codeio" and "predict the output" in entry["question"]:
    return code_output(json.loads(answer))
  found = "input to be predicted: the program would have to be run" if name == "codeio" else "no verifier for it"
  raise InputError(f"reasoning-gym data set {name!r}", found, f"Give one of: {', '.join(_OF_REASONING_GYM)}.")


_OF_REASONING_GYM = (
  "countdown", "puzzle24", "sudoku", "mini_sudoku", "knights_knaves", "zebra_puzzles", "codeio (outputs)",
)  # fmt: skip


def numbers_in(question: str) -> list[int]:
  """The whole numbers of the first list in square brackets of a question, "[3, 5, 7]"; [] without one."""
  match = re.search(r"\[\s*(\d{1,12}(?:\s*,\s*\d{1,12})*)\s*\]", question)
  return [int(number) for number in match[1].split(",")] if match else []


def check_reference(text: str) -> None:
  """Raises InputError for a reference that `judge` cannot use. For data loading."""
  try:
    _read_reference(text)
  except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
    remedy = f"Write it with one of r1jax.verifiers.logic's functions: {', '.join(_VERIFIERS)}."
    raise InputError("reference of a puzzle", f"{text!r:.200}: {error}", remedy) from None


def judge(answer: str, reference: str) -> Verdict:
  """(right, "scored" or "unparsable") of one answer. Bounded in time. A malformed reference raises whatever it raises;
  `check_reference` finds it beforehand."""
  puzzle = _read_reference(reference)
  if len(answer) > MAX_LENGTH:
    return False, UNPARSABLE
  found = boxes(answer)
  if len(found) > 1:
    return False, SCORED  # two different answers
  if found and _TURNED_ROUND.search(_BOX.sub("\\\\boxed", answer)):
    return False, UNPARSABLE  # -\boxed{26}, not \boxed{Arnold}
  try:
    return _VERIFIERS[puzzle["puzzle"]](_unfenced(found[0] if found else answer), puzzle), SCORED
  except Unreadable:
    return False, UNPARSABLE


class _RepeatedKey(Unreadable):
  """A mapping gives one key two values."""


def _reference(puzzle: str, **fields) -> str:
  text = json.dumps({"puzzle": puzzle, **fields}, ensure_ascii=False)
  check_reference(text)
  return text


@lru_cache(maxsize=256)
def _read_reference(text: str) -> dict:
  puzzle = json.loads(text)
  _CHECKS[puzzle["puzzle"]](puzzle)
  return puzzle


def _require(holds: bool, what: str) -> None:
  if not holds:
    raise ValueError(what)


def _unfenced(text: str) -> str:
  """Without a Markdown fence around it."""
  match = re.fullmatch(r"\s*```[a-z]*\s*?\n(.*?)\n?\s*```\s*", text, re.DOTALL) or re.fullmatch(r"\s*`([^`]*)`\s*", text)
  return match[1] if match else text.strip()


# ---- countdown


_TOKEN = re.compile(r"\s*(?:(\d+)|([-+*/()]))", re.ASCII)
_ARITHMETIC = (
  ("\\times", "*"), ("\\cdot", "*"), ("\\div", "/"), ("\\left", ""), ("\\right", ""), ("\\,", ""), ("×", "*"),
  ("·", "*"), ("⋅", "*"), ("÷", "/"), ("−", "-"), ("–", "-"), ("[", "("), ("]", ")"), ("\\{", "("), ("\\}", ")"),
  ("（", "("), ("）", ")"), ("＋", "+"), ("＊", "*"), ("／", "/"), ("＝", "="), ("$", ""), ("`", ""), ("\\(", ""),
  ("\\)", ""),
)  # fmt: skip
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")


def _check_countdown(puzzle: dict) -> None:
  numbers = puzzle["numbers"]
  _require(isinstance(numbers, list) and 0 < len(numbers) <= 20, "numbers: a list of 1 to 20 numbers")
  _require(all(type(n) is int and 0 <= n < 10**MAX_DIGITS for n in numbers), "numbers: whole numbers that are not negative")
  target = str(puzzle["target"]) if type(puzzle["target"]) in (int, str) else ""
  readable = re.fullmatch(r"-?[0-9]{1,12}(/[1-9][0-9]{0,11})?", target)
  _require(bool(readable), "target: a whole number or a fraction as text")
  _require(puzzle.get("use", "all") in ("all", "some"), 'use: "all" or "some"')


def _judge_countdown(answer: str, puzzle: dict) -> bool:
  target, given = Fraction(puzzle["target"]), Counter(puzzle["numbers"])
  text = " ".join(answer.translate(_DIGITS).split()).rstrip(" .。")
  for old, new in _ARITHMETIC:
    text = text.replace(old, new)
  for _ in range(MAX_NESTING):
    text, replaced = _LATEX_FRACTION.subn(r"((\1)/(\2))", text)
    if not replaced:
      break
  sides = [_arithmetic(side) for side in text.split("=")]
  if any(value != target for value, _ in sides):
    return False
  # One side is the calculation; the others are the target or steps on the way to it.
  every = puzzle.get("use", "all") == "all"
  return any(Counter(used) == given if every else Counter(used) <= given for _, used in sides)


def _arithmetic(text: str) -> tuple[Fraction | None, list[int]]:
  """(its value, None where a division by 0 leaves none; the numbers in it). Raises Unreadable."""
  tokens: list[str] = []
  place = 0
  while place < len(text):
    match = _TOKEN.match(text, place)
    if match is None or len(tokens) >= MAX_TOKENS or len(match[1] or "") > MAX_DIGITS:
      if not text[place:].strip():
        break
      raise Unreadable("no arithmetic")
    tokens.append(match[1] or match[2])
    place = match.end()
  value, place = _sum(tokens, 0, 0)
  if place != len(tokens):
    raise Unreadable("no arithmetic")
  return value, [int(token) for token in tokens if token.isdigit()]


def _sum(tokens: list[str], place: int, depth: int) -> tuple[Fraction | None, int]:
  total, place = _product(tokens, place, depth)
  while place < len(tokens) and tokens[place] in "+-":
    value, after = _product(tokens, place + 1, depth)
    sign = 1 if tokens[place] == "+" else -1
    total, place = (None if total is None or value is None else total + sign * value), after
  return total, place


def _product(tokens: list[str], place: int, depth: int) -> tuple[Fraction | None, int]:
  product, place = _atom(tokens, place, depth)
  while place < len(tokens) and tokens[place] in "*/":
    divide = tokens[place] == "/"
    value, place = _atom(tokens, place + 1, depth)
    if product is None or value is None or (divide and value == 0):
      product = None
    else:
      product = product / value if divide else product * value
  return product, place


def _atom(tokens: list[str], place: int, depth: int) -> tuple[Fraction | None, int]:
  token = tokens[place] if place < len(tokens) else ""
  if token.isdigit():
    return Fraction(int(token)), place + 1
  if depth >= MAX_NESTING or token not in ("(", "-") or not token:
    raise Unreadable("no arithmetic")
  if token == "-":
    value, place = _atom(tokens, place + 1, depth + 1)
    return (None if value is None else -value), place
  value, place = _sum(tokens, place + 1, depth + 1)
  if place >= len(tokens) or tokens[place] != ")":
    raise Unreadable("a bracket is not closed")
  return value, place + 1


# ---- sudoku


def _check_sudoku(puzzle: dict) -> None:
  grid, (rows, columns) = puzzle["grid"], puzzle["box"]
  size = len(grid)
  _require(1 < size <= MAX_GRID and all(len(row) == size for row in grid), "grid: as many columns as rows")
  _require(all(type(cell) is int and 0 <= cell <= size for row in grid for cell in row), "grid: numbers up to its size")
  _require(type(rows) is type(columns) is int and rows * columns == size, "box: its area is the grid's side")


def _judge_sudoku(answer: str, puzzle: dict) -> bool:
  given, (box_rows, box_columns) = puzzle["grid"], puzzle["box"]
  size = len(given)
  text = answer.translate(_DIGITS)
  if re.search(r"[^\d\s|+\-,;:.()\[\]'\"]", text) or not text.isascii():
    raise Unreadable("more than digits")
  # Up to 9 a digit is a cell, with or without something between; beyond 9 numbers are separated.
  cells = [int(cell) for cell in (re.findall(r"\d", text) if size <= 9 else re.findall(r"\d{1,9}", text))]
  if len(cells) != size * size:
    raise Unreadable("not one number for each cell")
  grid = [cells[row * size : (row + 1) * size] for row in range(size)]
  boxes_of_cells = [
    [grid[row + i][column + j] for i in range(box_rows) for j in range(box_columns)]
    for row in range(0, size, box_rows)
    for column in range(0, size, box_columns)
  ]
  wanted = set(range(1, size + 1))
  rows = zip(grid, given, strict=True)
  kept = all(g in (0, cell) for row, given_row in rows for cell, g in zip(row, given_row, strict=True))
  return kept and all(set(unit) == wanted for unit in (*grid, *zip(*grid, strict=True), *boxes_of_cells))


# ---- knights and knaves, zebra, code output


def _check_knights_and_knaves(puzzle: dict) -> None:
  roles, terms = puzzle["roles"], puzzle["terms"]
  _require(bool(roles) and len(terms) > 1, "roles: at least one person, terms: at least two")
  _require(all(type(name) is str and name and role in terms for name, role in roles.items()), "roles: each one of the terms")
  folded = [each.casefold() for each in (*roles, *terms)]
  _require(len(set(folded)) == len(folded), "names and terms: all different")


def _check_zebra(puzzle: dict) -> None:
  if "answer" in puzzle:
    _require(type(puzzle["answer"]) is str and bool(plain_words(puzzle["answer"])), "answer: a name")
  else:
    solution = puzzle["solution"]
    _require(bool(solution) and all(isinstance(each, dict) for each in solution.values()), "solution: place -> properties")


def _judge_zebra(answer: str, puzzle: dict) -> bool:
  if "answer" in puzzle:
    words = plain_words(tidy(answer))
    if not words:
      raise Unreadable("nothing")
    return words.removeprefix("the ") == plain_words(puzzle["answer"]).removeprefix("the ")
  return _folded(_json(answer)) == _folded(puzzle["solution"])


def _folded(value: object) -> object:
  """With keys and texts in lower case and numbers as text, so that 1 is "1"."""
  if isinstance(value, dict):
    return {plain_words(str(key)): _folded(each) for key, each in value.items()}
  if isinstance(value, list):
    return [_folded(each) for each in value]
  return plain_words(str(value))


_INTRODUCED = re.compile(
  r"\s*(?:(?:so|thus|therefore|hence),?\s+)?(?:the\s+|its?\s+)?(?:(?:final|expected|predicted|printed|returned)\s+)?(?:(?:answer"
  r"|output|result|value|code|program|function)\s*)?(?:(?:is|will be|would be|prints|outputs|returns)\b)?\s*:?\s+",
  re.IGNORECASE)


def _check_code_output(puzzle: dict) -> None:
  _require(_depth(puzzle["answer"]) <= MAX_NESTING, f"answer: nested at most {MAX_NESTING} deep")


def _judge_code_output(answer: str, puzzle: dict) -> bool:
  gold, introduced = puzzle["answer"], _INTRODUCED.match(answer)
  if introduced and not (isinstance(gold, str) and _lines(answer) == _lines(gold)):
    answer = answer[introduced.end() :].removesuffix(".")
  return _is_output(answer, gold)


def _is_output(answer: str, gold: object) -> bool:
  if isinstance(gold, str) and _lines(answer) == _lines(gold):
    return True
  try:
    value = _json(answer)
  except _RepeatedKey:
    raise
  except Unreadable:
    try:
      value = _python_literal(answer)
    except Unreadable:
      if isinstance(gold, str):
        return False  # any text is a prediction of text
      raise
  return _same_value(value, gold)


def _lines(text: str) -> list[str]:
  return [line.rstrip() for line in text.strip("\r\n").split("\n")]


def _json(text: str) -> object:
  """The value of JSON text without repeated keys. Raises Unreadable."""

  def unique(pairs: list) -> dict:
    if len(dict(pairs)) != len(pairs):
      raise _RepeatedKey("a key occurs twice")
    return dict(pairs)

  try:
    value = json.loads(text, object_pairs_hook=unique)
  except (ValueError, RecursionError):
    raise Unreadable("no JSON") from None
  if _depth(value) > MAX_NESTING:
    raise Unreadable("nested too deeply")
  return value


def _python_literal(text: str) -> object:
  """The value of a Python literal: parsed, not evaluated, and only where its nesting is harmless to the parser."""
  if len(text) > MAX_LENGTH or sum(map(text.count, "([{")) > 2000 or re.search(r"[-+~]{9}", text):
    raise Unreadable("nested too deeply")
  try:
    tree = ast.parse(text.strip(), mode="eval")
    value = ast.literal_eval(tree)
    mappings = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
  except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
    raise Unreadable("no value") from None
  if any(len(set(map(ast.dump, mapping.keys))) != len(mapping.keys) for mapping in mappings):
    raise _RepeatedKey("a key occurs twice")
  if _depth(value) > MAX_NESTING:
    raise Unreadable("nested too deeply")
  return value


def _depth(value: object, at: int = 0) -> int:
  if at > MAX_NESTING or not isinstance(value, dict | list | tuple | set):
    return at
  parts = value.values() if isinstance(value, dict) else value
  return max((_depth(part, at + 1) for part in parts), default=at + 1)


def _same_value(value: object, gold: object) -> bool:
  """Equal with their types: True is not 1; 1 is 1.0; a tuple is a list; keys are texts."""
  if isinstance(value, tuple):
    value = list(value)
  if isinstance(gold, dict) and isinstance(value, dict):
    value = {key if isinstance(key, str) else json.dumps(key, default=str): each for key, each in value.items()}
    return value.keys() == gold.keys() and all(_same_value(value[key], gold[key]) for key in gold)
  if isinstance(gold, list) and isinstance(value, list):
    return len(value) == len(gold) and all(map(_same_value, value, gold))
  if isinstance(gold, bool) or isinstance(value, bool) or gold is None or value is None:
    return value is gold
  if isinstance(gold, int | float) and isinstance(value, int | float):
    return _same_number(value, gold)
  return type(value) is type(gold) and value == gold


def _same_number(value: int | float, gold: int | float) -> bool:
  if isinstance(value, int) and isinstance(gold, int):
    return value == gold
  try:
    value, gold = float(value), float(gold)
  except OverflowError:
    return False
  return math.isclose(value, gold, rel_tol=RELATIVE_TOLERANCE) or (math.isnan(value) and math.isnan(gold))


_VERIFIERS = {
  "countdown": _judge_countdown,
  "sudoku": _judge_sudoku,
  "knights_and_knaves": judge_roles,
  "zebra": _judge_zebra,
  "code_output": _judge_code_output,
}
_CHECKS = {
  "countdown": _check_countdown,
  "sudoku": _check_sudoku,
  "knights_and_knaves": _check_knights_and_knaves,
  "zebra": _check_zebra,
  "code_output": _check_code_output,
}
