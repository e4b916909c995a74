"""Matrix products of training, with backward passes of their own.

Weights come as they are stored (float32, split over fsdp) and are cast and gathered where they are used; their gradients
are float32 from the product on and go back to the stored layout in one step. N tokens (rows laid end to end), D in, F out.
"""
import jax
import jax.numpy as jnp
from jax.sharding import reshard

from r1jax.sharding import BATCH


def used(w: jax.Array, dtype) -> jax.Array:
  """A stored weight as a product takes it: in the compute dtype, whole over fsdp, still split over tensor."""
  return reshard(w.astype(dtype), jax.P(*(None if axis == "fsdp" else axis for axis in jax.typeof(w).sharding.spec)))


def flat(x: jax.Array) -> jax.Array:
  """[B, T, ...] -> [B T, ...]."""
  batch, _, *rest = jax.typeof(x).sharding.spec
  return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:], out_sharding=jax.P(batch, *rest))


def _spec(x) -> tuple:
  return tuple(jax.typeof(x).sharding.spec)


def _product(x, w):
  """[N, D] x [D, F] -> [N, F], summed over devices where D is split."""
  return jnp.einsum("nd,df->nf", x, w, out_sharding=jax.P(_spec(x)[0], _spec(w)[1] if _spec(x)[1] is None else None))


def _back(gradient, w, like):
  """gradient [N, F] of a product with w [D, F] -> [N, D], split as `like`."""
  return jnp.einsum("nf,df->nd", gradient, w, out_sharding=jax.P(*_spec(like)))


def transposed_product(a: jax.Array, b: jax.Array, out_sharding=None) -> jax.Array:
  """a^T b in float32: [..., N, m], [..., N, n] -> [..., m, n]. The smaller one is transposed: on a CPU that is a copy."""
  if a.shape[-1] <= b.shape[-1]:
    return jnp.einsum("...nm,...nk->...mk", a, b, preferred_element_type=jnp.float32, out_sharding=out_sharding)
  if out_sharding is not None:
    *lead, m, k = out_sharding
    out_sharding = jax.P(*lead, k, m)
  return jnp.swapaxes(jnp.einsum("...nk,...nm->...km", b, a, preferred_element_type=jnp.float32, out_sharding=out_sharding),
                      -1, -2)


def _to_weight(x, gradient, w):
  """The gradient of stored w [D, F] of a product x [N, D] -> gradient [N, F]: summed over the batch, split as w."""
  return transposed_product(x, gradient, jax.P(*_spec(w))).astype(w.dtype)


@jax.custom_vjp
def linear(x: jax.Array, w: jax.Array) -> jax.Array:
  """x [N, D] times stored w [D, F], in the dtype of x. D may be split over tensor in both: then the result is summed."""
  return _product(x, used(w, x.dtype))


def _linear_forward(x, w):
  return linear(x, w), (x, w)


def _linear_backward(kept, gradient):
  x, w = kept
  gradient = jax.lax.optimization_barrier(gradient)  # made once, for both products
  return _back(gradient, used(w, x.dtype), x), _to_weight(x, gradient, w)


linear.defvjp(_linear_forward, _linear_backward)


@jax.custom_vjp
def swiglu(y: jax.Array, gate: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
  """(silu(y gate) * (y up)) down: y [N, D], stored gate and up [D, F], down [F, D] -> [N, D].

  Kept for the backward pass: y and the two products; the rest is made again from them.
  """
  return _swiglu_forward(y, gate, up, down)[0]


def _swiglu_forward(y, gate, up, down):
  g, u = _product(y, used(gate, y.dtype)), _product(y, used(up, y.dtype))
  return _product(jax.nn.silu(g) * u, used(down, y.dtype)), (y, g, u, gate, up, down)


def _swiglu_backward(kept, gradient):
  y, g, u, gate, up, down = kept
  gradient = jax.lax.optimization_barrier(gradient)
  to_hidden = _back(gradient, used(down, y.dtype), g).astype(jnp.float32)
  g32, u32 = g.astype(jnp.float32), u.astype(jnp.float32)
  s = jax.nn.sigmoid(g32)
  silu = g32 * s
  # Without the barrier each product below would compute its operand again.
  to_g, to_u, hidden = jax.lax.optimization_barrier(tuple(x.astype(y.dtype) for x in (
    to_hidden * u32 * (s + silu * (1 - s)), to_hidden * silu, silu * u32)))
  to_y = _back(to_g, used(gate, y.dtype), y) + _back(to_u, used(up, y.dtype), y)
  return to_y, _to_weight(y, to_g, gate), _to_weight(y, to_u, up), _to_weight(hidden, gradient, down)


swiglu.defvjp(_swiglu_forward, _swiglu_backward)


def by_device(x: jax.Array) -> jax.Array:
  """[B, T, ...] -> [P, B T / P, ...]: the tokens of each of the P data-parallel devices laid end to end."""
  batch, _, *rest = _spec(x)
  mesh = jax.typeof(x).sharding.mesh
  parts = 1
  for axis in BATCH:
    parts *= mesh.shape[axis]
  return x.reshape(parts, x.shape[0] // parts * x.shape[1], *x.shape[2:], out_sharding=jax.P(batch, None, *rest))


def over_chunks(f, carry, chunk: int, *arrays):
  """scan of f(carry, chunked) -> (carry, out) over axis 1 of arrays [P, N, ...], `chunk` at a time.

  N is padded with zeros to a multiple of chunk; the padding is dropped from what comes out, a tree of [P, N, ...].
  """
  P, N = arrays[0].shape[:2]
  if chunk >= N:
    return f(carry, arrays)
  n = -(-N // chunk)

  def split(x):  # [P, N, ...] -> [n, P, chunk, ...]
    x = jnp.pad(x, [(0, 0), (0, n * chunk - N)] + [(0, 0)] * (x.ndim - 2))
    first, _, *rest = _spec(x)
    x = x.reshape(P, n, chunk, *x.shape[2:], out_sharding=jax.P(first, None, None, *rest))
    return jnp.moveaxis(x, 1, 0)

  def join(x):  # [n, P, chunk, ...] -> [P, N, ...]
    _, first, _, *rest = _spec(x)
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(P, n * chunk, *x.shape[3:], out_sharding=jax.P(first, None, *rest))[:, :N]

  carry, out = jax.lax.scan(f, carry, tuple(split(x) for x in arrays))
  return carry, jax.tree.map(join, out)
