"""Names in Python text, read and never run: which block of a response is the program, and what tests need of it."""

import ast
import builtins
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from r1jax.errors import InputError

NOT_PYTHON = (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError)  # what ast.parse raises for a text
MAX_BLOCKS = 16  # the last ones of a response are read; ours
_BUILTINS = frozenset(vars(builtins)) | {"__file__", "__name__"}


@dataclass(frozen=True)
class _Names:
  """Names of a text. defined: bound in it, at any depth. made: functions and classes among these. unknown: used, and neither
  defined nor Python's. called: by their name. first: called leftmost in asserts, builtin or not. idle: it only states
  constants."""

  defined: frozenset[str]
  made: frozenset[str]
  unknown: frozenset[str]
  called: frozenset[str]
  first: frozenset[str]
  idle: bool


def _names(text: str) -> _Names:
  """Raises one of NOT_PYTHON."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # `is` with a literal and the like
    tree = ast.parse(text)
  used, defined, made, called, first = set(), set(), set(), set(), set()
  for node in ast.walk(tree):
    match node:
      case ast.Name(ctx=ast.Load()):
        used.add(node.id)
      case ast.Name():
        defined.add(node.id)
      case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
        made.add(node.name)
      case ast.arg():
        defined.add(node.arg)
      case ast.alias():
        defined.add(node.asname or node.name.partition(".")[0])
      case ast.ExceptHandler(name=str()) | ast.MatchAs(name=str()) | ast.MatchStar(name=str()):
        defined.add(node.name)
      case ast.Call(func=ast.Name()):
        called.add(node.func.id)
      case ast.Assert():
        test = node.test
        while isinstance(test, ast.Compare | ast.UnaryOp):
          test = test.left if isinstance(test, ast.Compare) else test.operand
        if isinstance(test, ast.Call) and isinstance(test.func, ast.Name):
          first.add(test.func.id)
  idle = all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant | ast.UnaryOp | ast.Tuple | ast.List)
             for node in tree.body)
  defined |= made
  return _Names(*map(frozenset, (defined, made, used - defined - _BUILTINS, called, first)), idle)


def program_of(blocks: Sequence[str], names: Sequence[str]) -> str:
  """The last of the blocks of a response, if it is a program and no example of how another one is used.

  names: what the tests call. Where blocks define all of them, it is the last of these. Otherwise blocks are passed over from
  the end that are no Python, that only state constants, or that make no function or class and use one of an earlier block.
  """
  blocks = blocks[-MAX_BLOCKS:]
  read: list[_Names | None] = []
  for block in blocks if len(blocks) > 1 else ():
    try:
      read.append(_names(block))
    except NOT_PYTHON:
      read.append(None)
  defining = [place for place, found in enumerate(read) if names and found and set(names) <= found.defined]
  if defining:
    return blocks[defining[-1]]
  for place in range(len(blocks) - 1, 0, -1):
    found, earlier = read[place], [each for each in read[:place] if each and not each.idle]
    made = frozenset().union(*(each.made for each in earlier))
    if not earlier or (found and not found.idle and (found.made or not found.unknown & made)):
      return blocks[place]
  return blocks[0]


def names_under_test(setup: str, test: str, entry_point: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """(names that tests take from the program, names that they use and neither they, nor Python, nor the program may define:
  modules, and helpers that the question has to have).

  Without an entry point the function under test is the one that asserts call and nothing defines. Classes may be the
  program's too, since all that tests can do with their objects is to build them and to pass them back. Raises InputError for
  what is no Python, or where it is unclear which function is tested.
  """
  try:
    for part in (setup, test):
      compile(part, "<tests>", "exec", dont_inherit=True)  # a return outside of a function parses
    found = _names(f"{setup}\n{test}")
  except NOT_PYTHON as error:
    raise InputError("tests", f"no Python: {error}", "Mend them, or remove the row.") from None
  modules = {name for name in found.unknown if name in sys.stdlib_module_names and name not in found.called}
  if entry_point:
    return (entry_point,), tuple(sorted(found.unknown - {entry_point}))
  classes = {name for name in found.unknown if name.lstrip("_")[:1].isupper() and name in found.called}
  functions = found.unknown - classes - modules or found.first - found.defined or classes
  if len(functions) != 1:
    what = f"they call {', '.join(sorted(functions))}" if functions else "they call no function of the program"
    raise InputError("tests", what, "Define helpers in test_setup_code, so that one function is under test.")
  return tuple(sorted(functions | classes)), tuple(sorted(modules))
