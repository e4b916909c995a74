"""Where each field of an experiment comes from: the comments beside it, in the experiment's file or in the class.

A number of a paper carries its source in a comment, a number of ours says so, and says why where there is a reason to give
(CONTRIBUTING.md). This module finds the place that sets a field and reads the comment there; it makes none up.
"""
import ast
import dataclasses
import enum
import inspect
import io
import os
import re
import sys
import textwrap
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from r1jax.config import Schedule

PACKAGE = Path(__file__).resolve().parents[1]
PAPER, MODEL, OURS, GIVEN = "paper", "model", "ours", "command line"
LEGEND = "[N] is R1 in Nature 645, 633-638 (2025), Methods; [V1] and [V2] are the versions of arXiv 2501.12948."
_CITES = re.compile(r"\[(?:N|V1|V2)\]|\bR1\b|\bV[12]\b|\bV3, section|Nature|arXiv|DeepSeekMath|[Aa]ppendix|the paper states")
_OURS = re.compile(r"\bours\b")
# "the paper's 32, halved for two cores" tells what the paper has, and that here it is something else.
_INSTEAD = re.compile(r"^the paper'?s? ", re.IGNORECASE)


@dataclass(frozen=True)
class Field:
  """A field with its value. source: PAPER, MODEL (the published config of the weights), OURS, or GIVEN by --set. why: the
  comment that says so, "" where there is none. where: the file and line that set it, or the class whose default it is."""

  path: str
  value: Any
  source: str
  why: str
  where: str


@dataclass(frozen=True)
class _Scope:
  """An experiment file as it was read: what its names are assigned, and the comment of each line."""

  name: str  # of the file, in r1jax/ its path
  assigned: dict[str, tuple[tuple[int, ast.expr], ...]]  # name -> (last line of the statement, value), in their order
  imported: dict[str, tuple[str, str]]  # name -> (module, name there)
  functions: dict[str, ast.FunctionDef]
  comments: "_Comments"


@dataclass(frozen=True)
class _Place:
  """A node, the file that it is in, and the comment on what it is part of."""

  node: ast.expr
  scope: _Scope
  group: str = ""


class _Comments:
  """The comments of a source text. "the same" is what the comment before it says."""

  def __init__(self, source: str):
    self.trailing, self.alone, last = {}, {}, ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
      if token.type == tokenize.COMMENT:
        text = token.string.lstrip("# ").strip()
        text = re.sub(r"^the same\b", lambda _, last=last: last, text)
        (self.alone if token.line.lstrip().startswith("#") else self.trailing)[token.start[0]] = text
        last = text

  def at(self, first: int, last: int) -> str:
    """The comment on what stands in lines first to last: after the first or the last of them, or right above."""
    for line in (first, last):
      if line in self.trailing:
        return self.trailing[line]
    return self.above(first)

  def above(self, line: int) -> str:
    """The block of comment lines right above a line."""
    block = []
    while (line := line - 1) in self.alone:
      block.insert(0, self.alone[line])
    return " ".join(block)


def fields_of(experiment, file: Path, name: str, settings: Sequence[str] = ()) -> Iterator[Field]:
  """Every field of an experiment, nested ones by their dotted path, as --set takes it.

  file: that defines it, under `name` ("experiment" or "smoke"). settings: fields that --set has changed.
  """
  scope = _scope(file)
  place = _Place(scope.assigned[name][-1][1], scope) if name in scope.assigned else None
  yield from _fields(experiment, place, "", set(settings))


def _fields(value: Any, place: _Place | None, path: str, settings: set[str]) -> Iterator[Field]:
  for field in dataclasses.fields(value):
    inner, here = getattr(value, field.name), f"{path}{field.name}"
    site = place and _find(place, field.name)
    if here in settings:
      yield Field(here, _shown(inner), GIVEN, "", "--set")
    elif dataclasses.is_dataclass(inner) and not isinstance(inner, Schedule):
      yield from _fields(inner, site and site[0], f"{here}.", settings)
    elif isinstance(inner, tuple) and inner and all(map(dataclasses.is_dataclass, inner)):
      yield from _elements(inner, site and site[0], here, settings)
    else:
      yield _leaf(here, field.name, inner, site, type(value), place)


def _elements(values: tuple, place: _Place | None, path: str, settings: set[str]) -> Iterator[Field]:
  places = _items(place) if place else None
  if places is None or len(places) != len(values):
    places = [place] * len(values)
  for number, (value, one) in enumerate(zip(values, places, strict=True)):
    yield from _fields(value, one, f"{path}.{getattr(value, 'name', None) or number}.", settings)


def _items(place: _Place) -> list[_Place] | None:
  """The elements of a tuple, those of starred ones among them; None for what is none."""
  found = _resolved(place)
  if isinstance(found.node, ast.Subscript) and isinstance(found.node.slice, ast.Slice):
    bounds = [part and _constant(part) for part in (found.node.slice.lower, found.node.slice.upper)]
    items = _items(_Place(found.node.value, found.scope))
    return items and items[slice(*bounds)]
  if not isinstance(found.node, ast.Tuple | ast.List):
    return None
  items = []
  for node in found.node.elts:
    one = _Place(node.value if isinstance(node, ast.Starred) else node, found.scope, found.group)
    more = _items(one) if isinstance(node, ast.Starred) else [one]
    if more is None:
      return None
    items += more
  return items


def _leaf(path: str, name: str, value: Any, site: tuple[_Place, int, int] | None, kind: type, whole: _Place | None) -> Field:
  """whole: the expression that makes what the field is of."""
  made = whole and _resolved(whole)
  if site is None and made and not isinstance(made.node, ast.Call):  # made in a way that is not read here
    why, where = made.group, f"{made.scope.name}:{made.node.lineno}"
  elif site is None:
    group = _group(made) if made else ""
    why = group if "config.json" in group else _default_comment(kind, name)  # a config.json's defaults are its own
    where = f"default of {kind.__name__}"
  else:
    place, first, last = site
    why, where = place.scope.comments.at(first, last) or place.group, f"{place.scope.name}:{first}"
  return Field(path, _shown(value), classify(name, why), why, where)


def classify(name: str, why: str) -> str:
  """PAPER, MODEL or OURS, by the comment on a field. Of a comment that has both, "warm-up: ours" is about the field it
  names."""
  if re.search(r"config\.json", why):
    return MODEL
  if not _CITES.search(why) or _INSTEAD.search(why):
    return OURS
  ours = [clause for clause in why.split(";") if _OURS.search(clause)]
  letters = re.sub(r"[^a-z]", "", name)
  named = any(re.sub(r"[^a-z]", "", word) in letters for clause in ours for word in re.findall(r"[a-z-]{4,}", clause.lower())
              if word != "ours")
  alone = ours and not _CITES.search(" ".join(clause for clause in why.split(";") if clause not in ours))
  return OURS if named or alone else PAPER


def _find(place: _Place, field: str) -> tuple[_Place, int, int] | None:
  """Where a call that makes a dataclass sets a field: (the value's place, its first and last line); None where the class's
  default stands."""
  found = _resolved(place)
  if not isinstance(found.node, ast.Call):
    return None
  call, scope, group = found.node, found.scope, _group(found)
  for keyword in call.keywords:
    if keyword.arg == field:
      return _Place(keyword.value, scope, group), keyword.lineno, keyword.end_lineno
    entry = _entry(_resolved(_Place(keyword.value, scope)), field) if keyword.arg is None else None
    if entry:
      return entry
  function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
  names = _field_names(function)
  if field in names[:len(call.args)]:
    node = call.args[names.index(field)]
    return _Place(node, scope, group), node.lineno, node.end_lineno
  if names or not call.args:
    return None
  # dataclasses.replace, or a function of the file that passes its argument on with some fields changed
  changed = _changed(scope.functions[function], call, scope, field) if function in scope.functions else None
  return changed or _find(_Place(call.args[0], scope), field)


def _entry(place: _Place, field: str) -> tuple[_Place, int, int] | None:
  """An entry of a dict that is given as **keywords."""
  if isinstance(place.node, ast.Dict):
    for key, node in zip(place.node.keys, place.node.values, strict=True):
      if isinstance(key, ast.Constant) and key.value == field:
        return _Place(node, place.scope, _group(place)), node.lineno, node.end_lineno
  return None


def _changed(function: ast.FunctionDef, call: ast.Call, scope: _Scope, field: str) -> tuple[_Place, int, int] | None:
  """Where a function sets a field of what it returns: the first call in it that does."""
  given = {a.arg: ((0, node),) for a, node in zip(function.args.args, call.args, strict=False)}
  inside = dataclasses.replace(scope, assigned=scope.assigned | given)
  for node in ast.walk(function):
    for keyword in node.keywords if isinstance(node, ast.Call) else ():
      if keyword.arg == field:
        return _Place(keyword.value, inside), keyword.lineno, keyword.end_lineno
  return None


def _group(place: _Place) -> str:
  """The comment on a whole call or dict: above it, after its first or last line if none of its parts stands there, or that
  on what it is part of. What says that a model is a config.json's may stand after its last part."""
  node, comments = place.node, place.scope.comments
  parts = [*getattr(node, "args", ()), *getattr(node, "keywords", ()), *getattr(node, "values", ())]
  first = comments.trailing.get(node.lineno, "") if all(part.lineno > node.lineno for part in parts) else ""
  last = comments.trailing.get(node.end_lineno, "")
  if any(part.end_lineno == node.end_lineno for part in parts) and "config.json" not in last:
    last = ""
  return first or last or comments.above(node.lineno) or place.group


def _resolved(place: _Place) -> _Place:
  """The expression that a name, or a field of what a name stands for, was assigned."""
  node, scope = place.node, place.scope
  if isinstance(node, ast.Name):
    before = [value for line, value in scope.assigned.get(node.id, ()) if line < node.lineno]  # x = replace(x, ...)
    if before:
      return _resolved(_Place(before[-1], scope))
    if node.id in scope.imported:
      module, name = scope.imported[node.id]
      file = getattr(sys.modules.get(module), "__file__", None)
      other = _scope(Path(file)) if file else None
      if other and name in other.assigned:
        return _resolved(_Place(other.assigned[name][-1][1], other))
  if isinstance(node, ast.Attribute):
    found = _find(_Place(node.value, scope), node.attr)
    return _resolved(found[0]) if found else place
  if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice):
    items, index = _items(_Place(node.value, scope)), _constant(node.slice)
    return _resolved(items[index]) if items and isinstance(index, int) and -len(items) <= index < len(items) else place
  return place


def _constant(node: ast.expr) -> Any:
  """The value of a number such as -1; None where it is no constant."""
  try:
    return ast.literal_eval(node)
  except ValueError:
    return None


@cache
def _scope(file: Path) -> _Scope:
  text = file.read_text(encoding="utf-8")
  assigned, imported, functions = {}, {}, {}
  for statement in ast.parse(text).body:
    if isinstance(statement, ast.Assign):
      for target in statement.targets:
        if isinstance(target, ast.Name):
          assigned[target.id] = (*assigned.get(target.id, ()), (statement.end_lineno, statement.value))
    elif isinstance(statement, ast.FunctionDef):
      functions[statement.name] = statement
    elif isinstance(statement, ast.ImportFrom) and statement.level == 0:
      imported |= {alias.asname or alias.name: (statement.module, alias.name) for alias in statement.names}
  inside = file.resolve().relative_to(PACKAGE.parent).as_posix() if PACKAGE in file.resolve().parents else file.name
  return _Scope(inside, assigned, imported, functions, _Comments(text))


@cache
def _classes() -> dict[str, type]:
  """The dataclasses of r1jax that have been imported, by name."""
  found = {}
  for name, module in list(sys.modules.items()):
    if name.startswith("r1jax."):
      found |= {key: value for key, value in vars(module).items()
                if isinstance(value, type) and dataclasses.is_dataclass(value)}
  return found


def _field_names(function: str) -> list[str]:
  """The fields of a dataclass in the order of its arguments; [] where the function is none."""
  kind = _classes().get(function)
  return [f.name for f in dataclasses.fields(kind) if f.init] if kind else []


@cache
def _default_comment(kind: type, field: str) -> str:
  """The comment on a field in the class that declares it; or what its docstring says of all of its numbers."""
  try:
    source = textwrap.dedent(inspect.getsource(kind))
  except (OSError, TypeError):
    return ""
  comments = _Comments(source)
  for statement in ast.parse(source).body[0].body:
    if isinstance(statement, ast.AnnAssign) and statement.target.id == field:
      found = comments.at(statement.lineno, statement.end_lineno)
      if found:
        return found
  whole = re.search(r"[^.]*\ball numbers are ours[^.]*\.", " ".join((kind.__doc__ or "").split()), re.IGNORECASE)
  return whole[0].strip() if whole else ""


def _shown(value: Any) -> Any:
  """A value as JSON can hold it; a schedule as step -> value."""
  if isinstance(value, Schedule):
    return dict(value.points)
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    return {f.name: _shown(getattr(value, f.name)) for f in dataclasses.fields(value)}
  if isinstance(value, tuple | list):
    return [_shown(v) for v in value]
  if isinstance(value, dict):
    return {str(k): _shown(v) for k, v in value.items()}
  if isinstance(value, enum.Enum):
    return value.value
  return os.fspath(value) if isinstance(value, os.PathLike) else value
