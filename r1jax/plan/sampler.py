"""The programs of the sampler: weights for the rollout, prefill, admission, decoding, and a cache that grows or shrinks."""
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.models import paged
from r1jax.models.cache import DenseCache, PagedCache
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.decode import rollout_weights
from r1jax.models.params import abstract_params, decoded
from r1jax.plan.flops import ideal_decode, ideal_prefill
from r1jax.plan.record import CACHE, PARAMETERS, ROLLOUT_WEIGHTS, ROWS, Call, Held, Program
from r1jax.plan.shapes import array
from r1jax.sampling import generate
from r1jax.sampling.choice import Sampling
from r1jax.sampling.sampler import Decoding
from r1jax.sampling.slots import bucket, row_length
from r1jax.sharding import DATA, batch_parts

STATIC = ("config", "dtype", "tensor", "int8")
LAID_OUT = jax.jit(rollout_weights, static_argnames=STATIC)


@dataclass(frozen=True)
class Sampled:
  """A policy as it is sampled. requests: responses that are asked for together; length: tokens of the longest, with its
  prompt. others: what the stage holds meanwhile, beside the policy's parameters."""

  stage: str
  model: ModelConfig
  compute: Compute
  mesh: Any
  sampling: Sampling
  decoding: Decoding
  max_prompt_length: int
  length: int
  requests: int
  others: Held

  @property
  def beside(self) -> Held:
    """What the stage holds while it samples."""
    return ((PARAMETERS, abstract_params(self.model, self.mesh)), *self.others)

  @property
  def decoded(self) -> ModelConfig:
    """The architecture as it decodes, with key/value heads repeated where the mesh asks for it."""
    return decoded(self.model, self.mesh.shape["tensor"])

  @property
  def slots(self) -> int:
    """Sequences decoded together: fewer than declared where fewer are asked for, as Sampler.session has it."""
    rows, devices = self.decoding.slots, batch_parts(self.mesh, DATA)
    while rows % (2 * devices) == 0 and rows // 2 >= self.requests:
      rows //= 2
    return rows

  @property
  def prefill_rows(self) -> int:
    """Prompts prefilled together."""
    parts = batch_parts(self.mesh, DATA)
    return -(-self.decoding.prefill_rows // parts) * parts

  def prefill_shape(self, longest: int) -> tuple[int, int]:
    """(tokens of a chunk, slots of the store) for prompts of up to `longest` tokens."""
    chunk = min(self.decoding.prefill_chunk, bucket(longest, 32))
    width = -(-longest // chunk) * chunk
    return chunk, -(-bucket(width, 32) // self.decoding.page) * self.decoding.page

  def cache_lengths(self) -> list[int]:
    """Slots of a sequence's row, from the first to the longest, as DenseSlots lets it grow."""
    most, sizes = self.length + self.decoding.segment, [0]
    with jax.set_mesh(self.mesh):
      while sizes[-1] < max(most, self.prefill_shape(self.max_prompt_length)[1]):
        sizes.append(row_length(sizes[-1] + 1, most))
    return sizes[1:]

  def layers(self, rows: int, slots: int, kernel: bool = False) -> tuple:
    """The layers of a cache. kernel: pages as models/paged.py has them."""
    return _layers(self.decoded, self.mesh, rows, slots, self.compute.dtype, self.decoding.int8_cache, kernel)

  def weights(self) -> dict:
    """The policy as it decodes."""
    return _weights(self.model, self.mesh, self.compute.dtype, self.decoding.int8_weights)

  def cache(self) -> DenseCache | PagedCache:
    """The whole cache at the longest."""
    decoding, parts = self.decoding, batch_parts(self.mesh, DATA)
    if decoding.cache_tokens is None:
      return DenseCache(self.layers(self.slots, self.cache_lengths()[-1]))
    pages = decoding.cache_tokens // decoding.page // parts * parts
    most = bucket(-(-(self.length + decoding.segment) // decoding.page), 2)
    with jax.set_mesh(self.mesh):
      kernel = paged.chosen(self.decoded, decoding.int8_cache, decoding.paged_attention)
    return PagedCache(self.layers(pages, decoding.page, kernel), array(self.mesh, (self.slots, most), jnp.int32, DATA))

  def store(self) -> tuple:
    """Prompts with their keys and values."""
    return self.layers(self.prefill_rows, self.prefill_shape(self.max_prompt_length)[1])


@cache
def _layers(config, mesh, rows, slots, dtype, int8, kernel) -> tuple:
  with jax.set_mesh(mesh):
    return generate.empty_cache.eval_shape(config=config, slots=(rows, slots), dtype=dtype, int8=int8, kernel=kernel)


@cache
def _weights(model, mesh, dtype, int8) -> dict:
  laid_out = partial(rollout_weights, config=model, dtype=jnp.dtype(dtype), tensor=mesh.shape["tensor"], int8=int8)
  with jax.set_mesh(mesh):
    return jax.eval_shape(laid_out, abstract_params(model, mesh))


def sampler_programs(of: Sampled) -> Iterator[Program]:
  """Every program that a rollout runs, at its longest."""
  program = partial(Program, of.stage, mesh=of.mesh)
  yield program("rollout_weights", of.length, make=partial(_laid_out, of))
  yield program("prefill", of.max_prompt_length, make=partial(_prefill, of))
  yield program("admit", of.length, make=partial(_admit, of))
  yield program("decode", of.length, make=partial(_decode, of))
  sizes = of.cache_lengths()
  if of.decoding.cache_tokens is None and len(sizes) > 1:
    yield program("lengthen_layer", of.length, make=partial(_lengthen, of, sizes[-2], sizes[-1]))
  if of.decoding.cache_tokens is None and of.slots % (2 * batch_parts(of.mesh, DATA)) == 0:
    yield program("halve_layer", of.length, make=partial(_halve, of))


def decode_program(of: Sampled, name: str) -> Program:
  """Decoding alone: another sampling, or another number of requests, of a policy that is sampled anyway."""
  return Program(of.stage, name, of.length, of.mesh, partial(_decode, of))


def _laid_out(of: Sampled) -> Call:
  static = {"config": of.model, "dtype": jnp.dtype(of.compute.dtype), "tensor": of.mesh.shape["tensor"],
            "int8": of.decoding.int8_weights}
  return Call(LAID_OUT, (abstract_params(of.model, of.mesh),), (PARAMETERS,), ROLLOUT_WEIGHTS, static, of.others)


def _prefill(of: Sampled) -> Call:
  """The last chunk of the longest prompts, while the slots are full."""
  Q, (chunk, slots) = of.prefill_rows, of.prefill_shape(of.max_prompt_length)
  args = (of.weights(), of.store(), array(of.mesh, (Q, chunk), jnp.int32, DATA), np.int32(0))
  return Call(generate.prefill, args, (ROLLOUT_WEIGHTS, CACHE, ROWS, ROWS), CACHE, {"config": of.decoded},
              (*of.beside, (CACHE, of.cache())), ideal_prefill(of.model, Q, chunk, slots))


def _admit(of: Sampled) -> Call:
  beside = (*of.beside, (ROLLOUT_WEIGHTS, of.weights()))
  found = of.cache()
  if isinstance(found, DenseCache):
    args = (found.layers, of.store(), array(of.mesh, (of.slots,), jnp.int32, DATA))
    return Call(generate.admit_rows, args, (CACHE, CACHE, ROWS), CACHE, {"config": of.decoded}, beside)
  # As many pages at once as the slots of a device can begin with.
  parts = batch_parts(of.mesh, DATA)
  pages = bucket(of.slots // parts * -(-of.max_prompt_length // of.decoding.page), 8) * parts
  args = (found.layers, of.store(), *(array(of.mesh, (pages,), jnp.int32, DATA) for _ in range(3)))
  return Call(generate.admit_pages, args, (CACHE, CACHE, ROWS, ROWS, ROWS), CACHE, {"config": of.decoded}, beside)


def _decode(of: Sampled) -> Call:
  """A segment at the longest."""
  column, steps = partial(array, of.mesh, (of.slots,), over=DATA), of.decoding.segment
  slots = generate.Slots(token=column(jnp.int32), length=column(jnp.int32), sampled=column(jnp.int32),
                         limit=column(jnp.int32), question=column(jnp.uint32), sample=column(jnp.uint32),
                         live=column(jnp.bool_))
  args = (of.weights(), of.cache(), slots, jax.eval_shape(lambda: jax.random.key(0)), np.int32(1))
  static = {"config": of.decoded, "sampling": of.sampling, "steps": steps, "stop_ids": (0,)}
  return Call(generate.decode_segment, args, (ROLLOUT_WEIGHTS, CACHE, ROWS, ROWS, ROWS), ROWS, static,
              (*of.beside, (CACHE, of.store())), steps * ideal_decode(of.model, of.slots, of.length), steps)


def _lengthen(of: Sampled, before: int, after: int) -> Call:
  """The last layer, the last time that the rows of the cache grow: the others have grown already."""
  others = of.layers(of.slots, after)[1:]
  beside = (*of.beside, (ROLLOUT_WEIGHTS, of.weights()), (CACHE, of.store()), (CACHE, others))
  return Call(generate.lengthen, (of.layers(of.slots, before)[:1],), (CACHE,), CACHE, {"slots": after}, beside)


def _halve(of: Sampled) -> Call:
  """The first layer that goes on with half the slots: the others are whole."""
  first, *others = of.layers(of.slots, of.cache_lengths()[-1])
  beside = (*of.beside, (ROLLOUT_WEIGHTS, of.weights()), (CACHE, others))
  args = ((first,), array(of.mesh, (of.slots // 2,), jnp.int32, DATA))
  return Call(generate.take_rows, args, (CACHE, ROWS), CACHE, {"config": of.decoded}, beside)
