"""Programs with a fault each, and sound ones, through the compiler: prints name -> what is read of them.

A process of its own, for libtpu is loaded here."""
import dataclasses
import json
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, reshard
from jax.sharding import PartitionSpec as P
from tiny import FAMILIES

from r1jax.plan.record import CACHE, PARAMETERS, ROLLOUT_WEIGHTS, ROWS, Call, Program
from r1jax.plan.shapes import array, token_columns
from r1jax.plan.topology import devices_of, slice_of
from r1jax.plan.worker import compiled
from r1jax.sharding import BATCH, MeshShape, make_mesh

TOPOLOGY, STEPS, T = "v5e:2x2", 16, 1024
MODEL = dataclasses.replace(FAMILIES["llama"], vocab_size=2_048, d_model=128, num_heads=4, head_dim=64, max_position=T)


def shape(mesh, size, dtype, *spec):
  return jax.ShapeDtypeStruct(size, dtype, sharding=NamedSharding(mesh, P(*spec)))


def decode(weights, x, *, gathers: bool):
  """A loop that ends by its data, over two matrices that are used one after another."""
  def step(carry):
    i, x = carry
    for w in weights:
      if gathers:  # after what the step has made so far, or the compiler may gather once, ahead of the loop
        w = reshard(jax.lax.optimization_barrier((w, x))[0], P(None, None))
      x = jnp.tanh(jnp.einsum("bd,df->bf", x, w, out_sharding=P(BATCH, None)))
    return i + 1, x
  return jax.lax.while_loop(lambda c: (c[0] < STEPS) & jnp.any(c[1] < 2), step, (jnp.int32(0), x))


def loop(mesh, gathers: bool) -> Call:
  size, split = (2_048, 2_048), ("fsdp", None) if gathers else (None, None)
  weights = tuple(shape(mesh, size, jnp.bfloat16, *split) for _ in range(8))  # 64 MiB: too large to be kept at hand
  x = array(mesh, (16, 2_048), jnp.bfloat16)
  return Call(jax.jit(partial(decode, gathers=gathers)), (weights, x), (ROLLOUT_WEIGHTS, ROWS), ROWS, steps=STEPS)


def written(mesh, donated: bool) -> Call:
  """A token written into a cache of 64 MiB a device."""
  def write(cache, new, at):
    return jax.lax.dynamic_update_slice(cache, new, (jnp.int32(0), at, jnp.int32(0)))
  cache = shape(mesh, (64, 4_096, 512), jnp.bfloat16, BATCH, None, None)
  new = shape(mesh, (64, 1, 512), jnp.bfloat16, BATCH, None, None)
  function = jax.jit(write, donate_argnums=(0,) if donated else ())
  return Call(function, (cache, new, jax.ShapeDtypeStruct((), jnp.int32)), (CACHE, ROWS, ROWS), CACHE)


def logits(mesh, whole: bool) -> Call:
  """Log-sum-exp over the vocabulary, of all positions at once or in chunks."""
  def norms(head, tokens, positions, segments):
    hidden = jnp.sin(tokens.astype(jnp.float32))[:, :, None] * jnp.ones((1, 1, MODEL.d_model), jnp.float32)

    def one(hidden):
      found = jnp.einsum("btd,dv->btv", hidden, head, out_sharding=P(BATCH, None, None))
      found = jax.lax.optimization_barrier(found)
      return jax.nn.logsumexp(found, axis=-1)
    if whole:
      return one(hidden)
    return jax.lax.map(one, jnp.stack(jnp.split(hidden, 8, axis=1)))
  head = shape(mesh, (MODEL.d_model, MODEL.vocab_size), jnp.float32, None, None)
  return Call(jax.jit(norms), (head, *token_columns(mesh, 8, T)), (PARAMETERS, ROWS, ROWS, ROWS), ROWS, model=MODEL, rows=8)


def attention(mesh) -> Call:
  """softmax(q k^T) v with all scores in memory."""
  def plain(x, tokens, positions, segments):
    q = jnp.sin(tokens.astype(jnp.float32))[:, :, None, None] * x
    scores = jax.lax.optimization_barrier(jnp.einsum("bthd,bshd->bhts", q, q))
    return jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores, axis=-1), q)
  x = shape(mesh, (1, 1, MODEL.num_heads, MODEL.head_dim), jnp.float32, None, None, None, None)
  return Call(jax.jit(plain), (x, *token_columns(mesh, 4, T)), (PARAMETERS, ROWS, ROWS, ROWS), ROWS, model=MODEL, rows=4)


def too_large(mesh) -> Call:
  x = shape(mesh, (4, 65_536, 32_768), jnp.float32, BATCH, None, None)
  return Call(jax.jit(lambda x: (jnp.sin(x), jnp.cos(x))), (x,), (CACHE,), CACHE)


PLANTED = {
  "gathers weights": partial(loop, gathers=True), "gathers none": partial(loop, gathers=False),
  "copies the cache": partial(written, donated=False), "copies none": partial(written, donated=True),
  "full logits": partial(logits, whole=True), "chunked logits": partial(logits, whole=False),
  "all scores": attention, "too large": too_large}


def main(folder: str) -> None:
  found = slice_of(TOPOLOGY)
  mesh = make_mesh(MeshShape(), devices_of(found))
  print(json.dumps({name: compiled(Program("planted", name, T, mesh, partial(make, mesh)), found, Path(folder))
                    for name, make in PLANTED.items()}))


if __name__ == "__main__":
  main(sys.argv[1])
