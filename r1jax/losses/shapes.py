"""The one check that every loss makes before it computes: shapes, by argument name."""

import jax.numpy as jnp

from r1jax.errors import InputError


def require_shape(where: str, name: str, array, *allowed: tuple[int, ...]) -> None:
  """Raises InputError naming the argument, its shape and the allowed ones, unless it has one of them.

  Shapes are static, so under jit this happens while tracing: before anything compiles.
  """
  shape = jnp.shape(array)
  if shape not in allowed:
    expected = " or ".join(str(list(s)) for s in allowed)
    raise InputError(f"{where}: {name}", f"shape {list(shape)}", f"Give {name} the shape {expected}.")


def require_rank_2(where: str, name: str, array, axes: str) -> tuple[int, int]:
  """Shape of `array`, which must have two axes (`axes` names them for the message), or InputError."""
  shape = jnp.shape(array)
  if len(shape) != 2:
    raise InputError(f"{where}: {name}", f"shape {list(shape)}", f"Give {name} two axes, {axes}.")
  return shape
