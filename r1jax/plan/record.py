"""A program of a stage: a jitted function, its arguments as shapes, and what each of them is."""
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
from jax.sharding import Mesh

from r1jax.models.config import ModelConfig

# Causes: what memory on a device is for.
PARAMETERS, OPTIMIZER, REFERENCE, GRADIENTS = "parameters", "optimizer", "reference", "gradients"
ROLLOUT_WEIGHTS, CACHE, REWARD_MODELS, TEACHER, ROWS = "rollout weights", "cache", "reward models", "teacher", "rows"
CAUSES = (PARAMETERS, OPTIMIZER, REFERENCE, GRADIENTS, ROLLOUT_WEIGHTS, CACHE, REWARD_MODELS, TEACHER, ROWS)

Held = tuple[tuple[str, Any], ...]  # (cause, arrays as shapes)


@dataclass(frozen=True)
class Call:
  """A jitted function with its arguments, as shapes with shardings.

  causes: of each argument, or for parts of it, as a prefix of its tree. makes: cause of what it returns beside arguments
  whose place it takes. static: the arguments that are compiled in. beside: what the stage holds meanwhile. ideal: FLOPs that
  the work takes, of all devices together; 0 where it is no matrix product. steps: iterations of a loop whose end the data
  decide. model, rows: of a program that reads whole rows, its architecture and how many rows it is given.
  """

  function: Any
  args: tuple
  causes: tuple
  makes: str
  static: dict[str, Any] = field(default_factory=dict)
  beside: Held = ()
  ideal: float = 0.0
  steps: int = 1
  model: ModelConfig | None = None
  rows: int = 0


@dataclass(frozen=True)
class Program:
  """One program of a stage at one length, whose shapes are built when they are asked for. length: slots of a row, or tokens
  of a sequence."""

  stage: str
  name: str
  length: int
  mesh: Mesh
  make: Callable[[], Call] = field(repr=False)

  @cached_property
  def call(self) -> Call:
    """What is called, with which shapes."""
    with jax.set_mesh(self.mesh):
      return self.make()

  def trace(self):
    """As jax.jit's trace: of shapes alone."""
    # optax takes powers of floats by an integer count.
    with jax.set_mesh(self.mesh), jax.numpy_dtype_promotion("standard"):
      return self.call.function.trace(*self.call.args, **self.call.static)

  def lower(self):
    """As jax.jit's lower."""
    with jax.set_mesh(self.mesh):
      return self.trace().lower()

  def argument_bytes(self) -> dict[str, int]:
    """Bytes of the arguments on one device, by cause."""
    found: dict[str, int] = {}
    for cause, argument in zip(self.call.causes, self.call.args, strict=True):
      causes = jax.tree.broadcast(cause, argument, is_leaf=lambda x: isinstance(x, str))
      for one, x in zip(jax.tree.leaves(causes), jax.tree.leaves(argument), strict=True):
        found[one] = found.get(one, 0) + bytes_of(x)
    return found

  def resident_bytes(self) -> dict[str, int]:
    """Bytes on one device of what the stage holds beside the program, by cause."""
    found: dict[str, int] = {}
    for cause, tree in self.call.beside:
      found[cause] = found.get(cause, 0) + bytes_of(tree)
    return found


def bytes_of(tree: Any) -> int:
  """Bytes of arrays on one device, by their shapes and shardings; of those in the device's memory."""
  total = 0
  for x in jax.tree.leaves(tree):
    sharding = getattr(x, "sharding", None)
    if getattr(sharding, "memory_kind", None) in (None, "device"):
      shape = x.shape if sharding is None else sharding.shard_shape(x.shape)
      size = 1
      for side in shape:
        size *= side
      total += size * x.dtype.itemsize
  return total
