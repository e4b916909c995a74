"""Arguments of programs as shapes with shardings: no arrays, no files. Call under `jax.set_mesh(mesh)`."""
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from r1jax.models.params import abstract_params
from r1jax.records import PackedRows, TrainState
from r1jax.sharding import BATCH, batch_sharding
from r1jax.training.optimizer import AdamW
from r1jax.training.reward_model import abstract_reward_params


def array(mesh, shape: tuple[int, ...], dtype, over: tuple[str, ...] = BATCH) -> jax.ShapeDtypeStruct:
  """Its leading axis split over the mesh axes `over`."""
  return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh, len(shape), over=over))


def packed_rows(mesh, rows: int, length: int, **others) -> PackedRows:
  """Rows of every token field, and of `others`: name -> (dtype, trailing shape)."""
  wide = partial(array, mesh, (rows, length))
  return PackedRows(tokens=wide(jnp.int32), positions=wide(jnp.int32), segment_ids=wide(jnp.int32), mask=wide(jnp.bool_),
                    weights=wide(jnp.float32),
                    **{name: array(mesh, (rows, length, *more), dtype) for name, (dtype, more) in others.items()})


def token_columns(mesh, rows: int, length: int) -> tuple:
  """tokens, positions and segment_ids of packed rows."""
  return tuple(array(mesh, (rows, length), jnp.int32) for _ in range(3))


def abstract_state(params, optimizer: AdamW) -> TrainState:
  """A TrainState of these parameters' shapes."""
  return TrainState(step=jax.ShapeDtypeStruct((), jnp.int32), params=params,
                    opt_state=jax.eval_shape(optimizer.build().init, params))


def in_use(model, compute, mesh) -> dict[str, Any]:
  """A reward model's parameters as general questions are scored with: the decoder in the compute dtype."""
  params = abstract_reward_params(model, mesh)
  return {**params, "decoder": abstract_params(model, mesh, dtype=jnp.dtype(compute.dtype))}
