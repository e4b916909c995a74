"""What fields of configs may hold, declared where the fields are, and the one walker that checks them.

    steps: Count                       # a whole number of at least 1
    moments: Literal["float32", "bfloat16"]

pydantic checks one value against one annotation (strictly: no text for a number, no list for a tuple, no True for 1); the
records themselves stay plain frozen dataclasses, which pydantic's own would not be (they convert what they are given).
"""
import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict, PydanticUserError, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import core_schema

from r1jax.errors import InputError

LARGEST = 2**31 - 1  # positions, tokens and steps are counted in int32 on the devices
Count = Annotated[int, Ge(1), Le(LARGEST)]
Natural = Annotated[int, Ge(0), Le(LARGEST)]
Seed = Annotated[int, Ge(0), Le(2**63 - 1)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
PartialShare = Annotated[float, Ge(0), Lt(1)]  # where the rest is drawn from
Workers = Annotated[int, Ge(1), Le(1_024)]  # processes
OpenShare = Annotated[float, Gt(0), Lt(1)]
Seconds = Annotated[float, Gt(0), Le(3_600)]
# It becomes a folder's name, a metric's and a part of --set: no separators, no spaces, no leading dot or dash.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", max_length=100)]

_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
_WORDS = {  # pydantic's name of an error -> what the user is told
  "greater_than_equal": "It must be at least {ge:g}", "greater_than": "It must be more than {gt:g}",
  "less_than_equal": "It must be at most {le:,.10g}", "less_than": "It must be less than {lt:g}",
  "literal_error": "Use {expected}", "finite_number": "It must be a finite number",
  "string_pattern_mismatch": "Use letters, digits, _ and - only", "string_too_long": "Use at most {max_length} characters",
  "too_short": "Give at least {min_length}",
}
_PLAIN = (int, float, str, bool, bytes, type(None), Any, tuple, Mapping, dict)


def check_fields(config: Any, where: str = "") -> None:
  """InputError for the first field, at any depth of dataclasses, tuples and mappings, that its declaration does not allow.

  where: what stands in front of the names of the fields, such as "stages.grpo". Elements of a tuple go by their `name`, or
  by their number.
  """
  for path, annotation, value in _fields(config, where):
    validated(annotation, value, path)


def _fields(config: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
  """(dotted name, annotation, value) of all fields, those of the outer dataclasses first."""
  if dataclasses.is_dataclass(config):
    hints = _hints(type(config))
    named = [(f"{where}.{f.name}".lstrip("."), getattr(config, f.name), hints.get(f.name, Any))
             for f in dataclasses.fields(config)]
    yield from ((path, annotation, value) for path, value, annotation in named)
    for path, value, _ in named:
      yield from _fields(value, path)
  elif isinstance(config, tuple | list):
    for number, item in enumerate(config):
      name = getattr(item, "name", number)
      yield from _fields(item, f"{where}.{name if isinstance(name, str) else number}")
  elif isinstance(config, Mapping):
    for key, item in config.items():
      yield from _fields(item, f"{where}.{key}")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
  return typing.get_type_hints(kind, include_extras=True)


def validated(annotation: Any, value: Any, where: str) -> Any:
  """The value, if a field with this annotation may hold it; a whole number becomes a float where a float is declared.

  Raises:
    InputError: naming `where`, the value, and what is wanted.
  """
  adapter = _adapter(annotation)
  if adapter is None:
    return value
  try:
    found = adapter.validate_python((value,))[0]
  except ValidationError as error:
    raise InputError(where, f"{value!r:.200}", _remedy(annotation, error)) from None
  if isinstance(found, float) and isinstance(value, int) and abs(value) > LARGEST:  # jax would take it for an int32
    raise InputError(where, f"{value!r:.200}", f"Write it as a number with a decimal point: {found!r}.")
  return found


@functools.cache
def _adapter(annotation: Any) -> TypeAdapter | None:
  """What checks an annotation; None for one that nothing can be checked against."""
  try:
    return TypeAdapter(tuple[_by_instance(annotation)], config=_STRICT)  # a class by itself could not take _STRICT
  except PydanticUserError:
    return None


@dataclasses.dataclass(frozen=True)
class _Instance:
  """Tells pydantic to look at the class alone; its own InstanceOf looks at the fields too, and at theirs."""

  kind: type

  def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
    return core_schema.is_instance_schema(self.kind)


def _by_instance(annotation: Any) -> Any:
  """The annotation with "an instance of" in place of each class that is not plain, so that pydantic looks no further."""
  origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
  if origin is Annotated:
    return Annotated[(_by_instance(inner[0]), *inner[1:])]
  if origin in (typing.Union, types.UnionType):
    return typing.Union[tuple(map(_by_instance, inner))]  # noqa: UP007 - of as many as there are
  if origin is tuple:
    return tuple[tuple(i if i is ... else _by_instance(i) for i in inner)]
  if isinstance(annotation, type) and origin is None and annotation not in _PLAIN:
    unknown = getattr(annotation, "_is_protocol", False) and not getattr(annotation, "_is_runtime_protocol", False)
    return Any if unknown else Annotated[Any, _Instance(annotation)]
  return annotation


def plain_kind(annotation: Any) -> Any:
  """The class of an annotation: int of Annotated[int, Ge(1)], tuple of tuple[str, ...], str of Literal["a", "b"]."""
  if typing.get_origin(annotation) is Annotated:
    return plain_kind(typing.get_args(annotation)[0])
  if typing.get_origin(annotation) is Literal:
    return type(typing.get_args(annotation)[0])
  return typing.get_origin(annotation) or annotation


def _remedy(annotation: Any, error: ValidationError) -> str:
  """What would be right: the first constraint that failed of a kind that fitted, or all kinds that are allowed."""
  inside = [(e["loc"][-1], e["ctx"]["class"]) for e in error.errors() if e["type"] == "is_instance_of" and len(e["loc"]) > 1]
  for entry, kind in inside:
    if isinstance(entry, int):  # not the name of an alternative
      return f"Entry {entry} must be {kind}."
  wrong_kind = ("is_instance_of", "none_required")
  failed = [e for e in error.errors() if not e["type"].endswith("_type") and e["type"] not in wrong_kind]
  if failed:
    place = "".join(f", entry {part}" for part in failed[0]["loc"][1:] if isinstance(part, int))
    words = _WORDS.get(failed[0]["type"], failed[0]["msg"].replace("{", "{{").replace("}", "}}"))
    return f"{words.format(**failed[0].get('ctx', {}))}{place}."
  return f"It must be {' or '.join(_described(annotation))}."


def _described(annotation: Any) -> list[str]:
  """The kinds of values that an annotation allows, in words."""
  origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
  if origin is Annotated:
    return _described(inner[0])
  if origin in (typing.Union, types.UnionType):
    return [word for part in inner for word in _described(part)]
  if origin is Literal:
    return [repr(value) for value in inner]
  if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
    return [f"a {annotation.__name__} ({', '.join(map(str, annotation.__members__))})"]
  names = {int: "a whole number", float: "a number", str: "text", bool: "True or False", type(None): "None",
           tuple: "a tuple, written with a comma: (a, )"}
  described = getattr(annotation, "DESCRIBED", getattr(annotation, "__name__", str(annotation)))
  return [names.get(origin or annotation, described)]
