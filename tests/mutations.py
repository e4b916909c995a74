"""Experiments of which one field, at any depth, holds something else: another type, sign or enum, nothing, too much."""
import dataclasses
import math
import random

from r1jax.config import Schedule

STRANGE = ("12", "", "\x00", -1, 0, 1, 2**70, -(2**70), 1.5, math.nan, math.inf, -math.inf, True, None, (), ("x",), [], {},
           b"x", object(), Schedule({0: -5}), "../../evil", 1e-300)


def mutated(config, seed: int):
  """Of the fields but `claims`. InputError where the config's own class refuses it."""
  rng = random.Random(seed)
  path, old = rng.choice([p for p in _paths(config) if p[0][0] != "claims"])
  number = isinstance(old, int | float) and not isinstance(old, bool)
  value = rng.choice([*STRANGE, *((-old, old * 10**9, old + 0.5) if number else ())])
  return _replaced(config, path, value)


def _paths(config, path=()):
  """(names and numbers down to a field, the field's value) of every field, at any depth."""
  if dataclasses.is_dataclass(config):
    for f in dataclasses.fields(config):
      yield (*path, f.name), getattr(config, f.name)
      yield from _paths(getattr(config, f.name), (*path, f.name))
  elif isinstance(config, tuple):
    for i, item in enumerate(config):
      yield from _paths(item, (*path, i))


def _replaced(config, path, value):
  head, *rest = path
  if isinstance(head, int):
    return (*config[:head], _replaced(config[head], rest, value) if rest else value, *config[head + 1:])
  return dataclasses.replace(config, **{head: _replaced(getattr(config, head), rest, value) if rest else value})
