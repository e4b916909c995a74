"""Matrix products of training, with backward passes of their own.

Weights come as they are stored (float32, split over fsdp) and are cast and gathered where they are used; their gradients
are float32 from the product on and go back to the stored layout in one step. B rows, T positions, D in, F out.
"""
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import reshard

from r1jax.sharding import BATCH, DATA


def used(w: jax.Array, dtype) -> jax.Array:
  """A stored weight as a product takes it: in the compute dtype, whole over fsdp, still split over tensor."""
  return reshard(w.astype(dtype), jax.P(*(None if axis == "fsdp" else axis for axis in jax.typeof(w).sharding.spec)))


def _spec(x) -> tuple:
  return tuple(jax.typeof(x).sharding.spec)


def _without_tensor(axes):
  """Mesh axes of positions that are not split over tensor any more."""
  return "sequence" if isinstance(axes, tuple) else axes


def _gathered(x):
  """x [B, T, D] with positions whole over tensor, as a product with a weight that is split over tensor takes it."""
  rows, positions, features = _spec(x)
  return x if positions == _without_tensor(positions) else reshard(x, jax.P(rows, _without_tensor(positions), features))


def _product(x, w):
  """[B, T, D] x [D, F] -> [B, T, F] of whole D."""
  return jnp.einsum("btd,df->btf", x, w, out_sharding=jax.P(*_spec(x)[:2], _spec(w)[1]))


def _sum_of_products(equation: str, pairs, spec):
  """Sum of products of x [B, T, F] and w [D, F] ("btf,df->btd") or [F, D], whose F may be split over tensor: -> [B, T, D],
  split as `spec`. What devices have to add up for positions that are split over tensor is scattered at once."""
  rows, positions, _ = spec
  tensor = jax.typeof(pairs[0][0]).sharding.mesh.shape["tensor"]
  split = tensor > 1 and isinstance(positions, tuple) and all(_spec(x)[2] == "tensor" for x, _ in pairs)

  def local(*pairs):
    return scattered(sum(jnp.einsum(equation, x, w) for x, w in pairs))

  if split:
    specs = tuple((jax.P(*_spec(x)), jax.P(*_spec(w))) for x, w in pairs)
    return jax.shard_map(local, in_specs=specs, out_specs=jax.P(*spec), check_vma=False)(*pairs)
  return sum(jnp.einsum(equation, x, w, out_sharding=jax.P(*spec)) for x, w in pairs)


def scattered(x: jax.Array) -> jax.Array:
  """In a shard_map: x [B, T, D] summed over tensor, positions split over it: [B, T / tensor, D].

  As a matrix with positions first: of other shapes the TPU compiler makes an all-reduce, with as many times the bytes as
  there are devices.
  """
  B, T, D = x.shape
  x = jax.lax.psum_scatter(jnp.swapaxes(x, 0, 1).reshape(T, B * D), "tensor", tiled=True)
  return jnp.swapaxes(x.reshape(-1, B, D), 0, 1)


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
  """The gradient of stored w [D, F] of a product x [B, T, D] -> gradient [B, T, F]: summed over rows and positions in
  float32, split as w."""
  if jax.typeof(x).sharding.mesh.shape["sequence"] == 1:  # tokens laid end to end: CPUs sum over one axis alone
    out = transposed_product(_flat(x), _flat(gradient), jax.P(*_spec(w)))
  else:
    out = jnp.einsum("pdf->df", transposed_product(by_device(x), by_device(gradient)), out_sharding=jax.P(*_spec(w)))
  return out.astype(w.dtype)


def _flat(x):
  """[B, T, D] -> [B T, D]."""
  rows, _, features = _spec(x)
  x = reshard(x, jax.P(rows, None, features))
  return x.reshape(-1, x.shape[2], out_sharding=jax.P(rows, features))


@jax.custom_vjp
def spread(x: jax.Array, weights: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
  """x [B, T, D] times each stored weight [D, F], F split over tensor -> [B, T, F] each, in the dtype of x.

  Positions of x that are split over tensor are gathered, once for all.
  """
  return _spread_products(x, weights)


def _spread_products(x, weights):
  whole = _gathered(x)
  return tuple(_product(whole, used(w, x.dtype)) for w in weights)


# Not `spread` itself, here and in `joined`: a policy of jax.checkpoint sees products, but does not look into a custom_vjp.
def _spread_forward(x, weights):
  return _spread_products(x, weights), (x, weights)


def _spread_backward(kept, gradients):
  x, weights = kept
  gradients = jax.lax.optimization_barrier(gradients)  # made once, for both products
  to_x = _sum_of_products("btf,df->btd", [(g, used(w, x.dtype)) for g, w in zip(gradients, weights, strict=True)], _spec(x))
  whole = _gathered(x)
  return to_x, tuple(_to_weight(whole, g, w) for g, w in zip(gradients, weights, strict=True))


spread.defvjp(_spread_forward, _spread_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def joined(x: jax.Array, w: jax.Array, positions) -> jax.Array:
  """x [B, T, F] times stored w [F, D], F split over tensor in both -> the sum [B, T, D], in the dtype of x. positions: the
  mesh axes that the sum's T is split over."""
  return _joined_product(x, w, positions)


def _joined_product(x, w, positions):
  return _sum_of_products("btf,fd->btd", [(x, used(w, x.dtype))], (_spec(x)[0], positions, None))


def _joined_forward(x, w, positions):
  return _joined_product(x, w, positions), (x, w)


def _joined_backward(positions, kept, gradient):
  x, w = kept
  gradient = _gathered(jax.lax.optimization_barrier(gradient))
  to_x = jnp.einsum("btd,fd->btf", gradient, used(w, x.dtype), out_sharding=jax.P(*_spec(x)))
  return to_x, _to_weight(x, gradient, w)


joined.defvjp(_joined_forward, _joined_backward)


@jax.custom_vjp
def swiglu(y: jax.Array, gate: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
  """(silu(y gate) * (y up)) down: y [B, T, D], stored gate and up [D, F], down [F, D] -> [B, T, D], split as y.

  Kept for the backward pass: y and the two products; the rest is made again from them.
  """
  return _swiglu_forward(y, gate, up, down)[0]


def _swiglu_forward(y, gate, up, down):
  whole = _gathered(y)
  g, u = (_product(whole, used(w, y.dtype)) for w in (gate, up))
  out = _sum_of_products("btf,fd->btd", [(jax.nn.silu(g) * u, used(down, y.dtype))], _spec(y))
  return out, (y, g, u, gate, up, down)


def _swiglu_backward(kept, gradient):
  y, g, u, gate, up, down = kept
  gradient = _gathered(jax.lax.optimization_barrier(gradient))
  to_hidden = jnp.einsum("btd,fd->btf", gradient, used(down, y.dtype), out_sharding=jax.P(*_spec(g))).astype(jnp.float32)
  g32, u32 = g.astype(jnp.float32), u.astype(jnp.float32)
  s = jax.nn.sigmoid(g32)
  silu = g32 * s
  # Without the barrier each product below would compute its operand again.
  to_g, to_u, hidden = jax.lax.optimization_barrier(tuple(x.astype(y.dtype) for x in (
    to_hidden * u32 * (s + silu * (1 - s)), to_hidden * silu, silu * u32)))
  to_y = _sum_of_products("btf,df->btd", [(to_g, used(gate, y.dtype)), (to_u, used(up, y.dtype))], _spec(y))
  whole = _gathered(y)
  return to_y, _to_weight(whole, to_g, gate), _to_weight(whole, to_u, up), _to_weight(hidden, gradient, down)


swiglu.defvjp(_swiglu_forward, _swiglu_backward)


def by_device(x: jax.Array) -> jax.Array:
  """[B, T, ...] -> [P, B T / P, ...]: the tokens of each of the P devices of rows and positions laid end to end."""
  rest = _spec(x)[2:]
  x = reshard(x, jax.P(BATCH, "sequence", *rest))
  return jax.shard_map(lambda x: x.reshape(1, -1, *x.shape[2:]), in_specs=jax.P(BATCH, "sequence", *rest),
                       out_specs=jax.P(DATA, None, *rest))(x)


def by_row(x: jax.Array, length: int) -> jax.Array:
  """by_device backwards, for rows of `length` positions, which come out whole: [P, B T / P, ...] -> [B, T, ...]."""
  rest = _spec(x)[2:]
  local = length // jax.typeof(x).sharding.mesh.shape["sequence"]
  x = jax.shard_map(lambda x: x.reshape(-1, local, *x.shape[2:]), in_specs=jax.P(DATA, None, *rest),
                    out_specs=jax.P(BATCH, "sequence", *rest))(x)
  return reshard(x, jax.P(BATCH, None, *rest))


def over_chunks(f, carry, chunk: int, *arrays):
  """scan of f(carry, chunked) -> (carry, out) over axis 1 of arrays [P, N, ...], `chunk` at a time.

  N is padded with zeros to a multiple of chunk; the padding is dropped from what comes out, a tree of [P, N, ...].
  """
  P, N = arrays[0].shape[:2]
  if chunk >= N:
    return f(carry, arrays)
  n = -(-N // chunk)
  chunk = min(chunk, -(-N // n // 8) * 8)  # chunks alike, so that little of the last one is padding

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
