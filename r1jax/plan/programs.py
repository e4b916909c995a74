"""The programs of stages, lowered from shapes alone: no arrays, no files."""
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.models.cache import DenseCache, empty_layers
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.decode import rollout_weights
from r1jax.models.params import abstract_params, decoded
from r1jax.records import PackedRows, TrainState
from r1jax.sampling import generate
from r1jax.sampling.choice import Sampling
from r1jax.sampling.sampler import Decoding
from r1jax.sharding import BATCH, DATA, batch_parts, batch_sharding
from r1jax.training.logprobs import logprobs
from r1jax.training.optimizer import AdamW
from r1jax.training.pack import rows_for
from r1jax.training.step import Step


def array(mesh, shape: tuple[int, ...], dtype, over: tuple[str, ...] = BATCH) -> jax.ShapeDtypeStruct:
  """Its leading axis split over the mesh axes `over`."""
  return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh, len(shape), over=over))


def packed_rows(mesh, rows: int, length: int, **others) -> PackedRows:
  """Rows of every token field, and of `others`: name -> (dtype, trailing shape)."""
  wide = partial(array, mesh, (rows, length))
  return PackedRows(tokens=wide(jnp.int32), positions=wide(jnp.int32), segment_ids=wide(jnp.int32), mask=wide(jnp.bool_),
                    weights=wide(jnp.float32),
                    **{name: array(mesh, (rows, length, *more), dtype) for name, (dtype, more) in others.items()})


def abstract_state(params, optimizer: AdamW) -> TrainState:
  """A TrainState of these parameters' shapes."""
  return TrainState(step=jax.ShapeDtypeStruct((), jnp.int32), params=params,
                    opt_state=jax.eval_shape(optimizer.build().init, params))


def update_programs(step: Step, state: TrainState, rows: PackedRows, mesh) -> dict[str, Any]:
  """accumulate and apply."""
  with jax.set_mesh(mesh):
    sums = jax.eval_shape(step.zeros, state.params, rows)
    return {"accumulate": step.accumulate.lower(state.params, sums, rows), "apply": step.apply.lower(state, sums)}


def sampler_programs(model: ModelConfig, compute: Compute, mesh, sampling: Sampling, decoding: Decoding,
                     max_prompt_length: int, max_length: int) -> dict[str, Any]:
  """prefill, and decoding over a dense cache at its longest."""
  dtype, B = jnp.dtype(compute.dtype), decoding.slots
  repeated = decoded(model, mesh.shape["tensor"])
  with jax.set_mesh(mesh):
    weights = jax.eval_shape(partial(rollout_weights, config=model, dtype=dtype, tensor=mesh.shape["tensor"],
                                     int8=decoding.int8_weights),
                             abstract_params(model, mesh))

    def layers(rows, slots):
      return jax.eval_shape(partial(empty_layers, repeated, rows, slots, dtype, decoding.int8_cache))

    column = partial(array, mesh, (B,), over=DATA)
    slots = generate.Slots(token=column(jnp.int32), length=column(jnp.int32), sampled=column(jnp.int32),
                           limit=column(jnp.int32), question=column(jnp.uint32), sample=column(jnp.uint32),
                           live=column(jnp.bool_))
    parts, chunk = batch_parts(mesh, DATA), min(decoding.prefill_chunk, max_prompt_length)
    Q = -(-decoding.prefill_rows // parts) * parts
    return {
      "prefill": generate.prefill.lower(weights, layers(Q, max_prompt_length), array(mesh, (Q, chunk), jnp.int32, DATA),
                                        np.int32(0), config=repeated),
      "decode": generate.decode_segment.lower(
        weights, DenseCache(layers(B, max_length + decoding.segment)), slots, jax.eval_shape(lambda: jax.random.key(0)),
        np.int32(1), config=repeated, sampling=sampling, steps=decoding.segment, stop_ids=(0,)),
    }


def rl_programs(stage, model: ModelConfig, compute: Compute, mesh) -> dict[str, Any]:
  """Those of a GRPO stage, at its longest maximum length."""
  length = int(max(stage.max_length.values()))
  f32 = (jnp.float32, ())
  fields = {"advantages": f32, "sampler_logprobs": f32}
  if stage.minibatches > 1:
    fields["old_logprobs"] = f32
  if stage.kl_coef:
    fields["ref_logprobs"] = f32
  rows = packed_rows(mesh, rows_for(stage.microbatch_tokens, length, batch_parts(mesh)), length, **fields)
  with jax.set_mesh(mesh):
    params = abstract_params(model, mesh)
    return {
      **update_programs(stage.step(model, compute), abstract_state(params, stage.optimizer), rows, mesh),
      "logprobs": logprobs.lower(params, rows.tokens, rows.positions, rows.segment_ids, config=model, compute=compute,
                                 temperature=stage.sampling.temperature),
      **sampler_programs(model, compute, mesh, stage.sampling, stage.decoding, stage.max_prompt_length, length),
    }
