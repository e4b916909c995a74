"""What every config shares: Schedule, dotted overrides, JSON, hash. Configs themselves are frozen dataclasses."""
import ast
import dataclasses
import enum
import hashlib
import json
import os
import types
import typing
from collections.abc import Mapping
from typing import Any

from r1jax.errors import InputError
from r1jax.fields import plain_kind, validated


@dataclasses.dataclass(frozen=True, init=False)
class Schedule:
  """A value that changes at given steps: Schedule({0: 32_768, 8_200: 65_536}).

  A change takes effect at the first rollout that starts at or after its step.
  """

  points: tuple[tuple[int, float], ...]
  DESCRIBED: typing.ClassVar[str] = "a schedule such as {0: 1024, 500: 2048}"

  def __init__(self, points: Mapping[int, float]):
    if not isinstance(points, Mapping):
      raise InputError("Schedule", repr(points), "Give the value at each step that changes it: Schedule({0: 1024}).")
    whole = all(type(step) is int and type(value) in (int, float) for step, value in points.items())
    if not whole or min(points, default=None) != 0:
      raise InputError("Schedule", f"{dict(points)}", "Give a number at step 0, and one at each step that changes it.")
    object.__setattr__(self, "points", tuple(sorted(points.items())))

  def at(self, step: int) -> float:
    """The value in force at `step`."""
    return [value for start, value in self.points if start <= step][-1]

  def values(self) -> tuple[float, ...]:
    """All values, in the order of their steps."""
    return tuple(value for _, value in self.points)


def integers_of(option: str, text: str) -> tuple[int, ...]:
  """The integers of "3-66" or "2,7,10-12", in order and each once; InputError, naming the option, for anything else."""
  found: list[int] = []
  for part in text.split(","):
    first, dash, last = part.strip().partition("-")
    if not (first.isdecimal() and (last.isdecimal() or not dash)) or int(last or first) < int(first):
      raise InputError(option, repr(text), "Write numbers and ranges of numbers, such as 3-66 or 2,7,10-12.")
    found += range(int(first), int(last or first) + 1)
  return tuple(dict.fromkeys(found))


def to_json(value: Any) -> Any:
  """A config as JSON values; a dataclass carries its class name under "type", an enum is its value."""
  if isinstance(value, Schedule):
    return {"type": "Schedule", "points": [list(p) for p in value.points]}
  if dataclasses.is_dataclass(value):
    fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return {"type": type(value).__name__, **fields}
  if isinstance(value, enum.Enum):
    return value.value
  if isinstance(value, Mapping):
    return {str(k): to_json(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [to_json(v) for v in value]
  if isinstance(value, os.PathLike):
    return os.fspath(value)
  return value


def from_json(kind: type, value: Any, where: str) -> Any:
  """The dataclass `kind` that to_json made `value` of; dataclasses among its fields too, Schedules apart.

  A field that `value` lacks takes its default. InputError, naming `where`, for a field that `kind` does not know or cannot
  do without: another version of r1jax wrote it.
  """
  remedy = "Another version of r1jax wrote this: read it with that version."
  if not isinstance(value, dict) or value.get("type") != kind.__name__:
    found = value.get("type") if isinstance(value, dict) else value
    raise InputError(where, f"{found!r} instead of {kind.__name__}", remedy)
  hints, fields = typing.get_type_hints(kind), {f.name: f for f in dataclasses.fields(kind)}
  needed = {name for name, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING}
  unknown, missing = sorted(value.keys() - fields.keys() - {"type"}), sorted(needed - value.keys())
  if unknown or missing:
    raise InputError(where, "; ".join(f"{what} {', '.join(names)}" for what, names in (
      ("unknown", unknown), ("missing", missing)) if names), remedy)
  given = {}
  for name, field in value.items():
    if isinstance(field, dict):
      inner = next((k for k in typing.get_args(hints[name]) or (hints[name],) if dataclasses.is_dataclass(k)), None)
      field = from_json(inner, field, f"{where}.{name}") if inner else field
    if name != "type":
      given[name] = tuple(field) if isinstance(field, list) else field
  return kind(**given)


def config_hash(config: Any) -> str:
  """The first 16 hex digits of SHA-256 over the config's JSON."""
  return hashlib.sha256(json.dumps(to_json(config), sort_keys=True).encode()).hexdigest()[:16]


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
  """The dotted fields in which two JSON configs differ, as "field: old -> new"."""
  if isinstance(old, dict) and isinstance(new, dict):
    missing = object()
    found = []
    for key in sorted(old.keys() | new.keys()):
      a, b = old.get(key, missing), new.get(key, missing)
      if a is missing or b is missing:
        found.append(f"{prefix}{key}: {'absent' if a is missing else a} -> {'absent' if b is missing else b}")
      else:
        found += differences(a, b, f"{prefix}{key}.")
    return found
  if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
    named = [(o.get("name", i) if isinstance(o, dict) else i) for i, o in enumerate(old)]
    return [d for name, o, n in zip(named, old, new, strict=True) for d in differences(o, n, f"{prefix}{name}.")]
  return [] if old == new else [f"{prefix.rstrip('.')}: {old} -> {new}"]


def override(config: Any, path: str, text: str) -> Any:
  """`config` with the field at a dotted path replaced: override(e, "stages.grpo.optimizer.lr", "1e-4").

  Elements of a tuple are addressed by their `name` field or their index.
  """
  return _replace(config, path.split("."), text, path)


def _replace(config, parts, text, path):
  head, rest = parts[0], parts[1:]
  if isinstance(config, tuple):
    names = [getattr(item, "name", str(i)) for i, item in enumerate(config)]
    if head not in names:
      raise InputError(f"--set {path}", f"no {head!r}", f"Known here: {', '.join(names)}.")
    i = names.index(head)
    if not rest and dataclasses.is_dataclass(config[i]):
      fields = ", ".join(f.name for f in dataclasses.fields(config[i]))
      raise InputError(f"--set {path}", repr(text), f"Set one of its fields: {fields}.")
    item = _replace(config[i], rest, text, path) if rest else _parse(text, config[i], Any, path)
    return (*config[:i], item, *config[i + 1:])
  if not dataclasses.is_dataclass(config):
    raise InputError(f"--set {path}", f"{head!r} is not reachable: {config!r} has no fields",
                     "Set the field above it as a whole.")
  names = [f.name for f in dataclasses.fields(config)]
  if head not in names:
    raise InputError(f"--set {path}", f"{type(config).__name__} has no field {head!r}", f"Known here: {', '.join(names)}.")
  old = getattr(config, head)
  annotation = typing.get_type_hints(type(config), include_extras=True).get(head, Any)
  new = _replace(old, rest, text, path) if rest else _parse(text, old, annotation, path)
  return dataclasses.replace(config, **{head: new})


def _parse(text: str, old: Any, annotation: Any, path: str) -> Any:
  """The value of `text` for a field that holds `old` and is declared as `annotation`."""
  union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
  kinds = [plain_kind(kind) for kind in (typing.get_args(annotation) if union else (annotation,))]
  for kind in kinds:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
      values = [m.value for m in kind]
      if text not in values:
        raise InputError(f"--set {path}", repr(text), f"Use one of {', '.join(map(str, values))}.")
      return kind(text)
  if kinds == [str] or (str in kinds and text != "None" and not isinstance(old, tuple)):
    return text
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError):
    value = {"true": True, "false": False}.get(text.lower(), text)
  if isinstance(value, dict) and Schedule in kinds:
    return Schedule(value)
  return validated(annotation, tuple(value) if isinstance(value, list) else value, f"--set {path}")
