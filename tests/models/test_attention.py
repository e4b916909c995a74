"""Attention of whole rows against a softmax over all keys, at lengths of one span and of several."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import eight_devices, one_device

from r1jax.errors import InputError
from r1jax.models import splash
from r1jax.models.attention import attend_causally, visible
from r1jax.models.config import Compute
from r1jax.sharding import MeshShape, activation, put_batch


def plain(q, k, v, positions, segments):
  """[B, T, H, u], with one score for every pair of slots; float32 throughout."""
  k, v = (jnp.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
  mask = visible(positions, positions, segments, segments)[:, None]
  scores = jnp.where(mask, jnp.einsum("bthd,bshd->bhts", q, k) * q.shape[3]**-0.5, -jnp.inf)
  weights = jnp.where(mask, jax.nn.softmax(jnp.where(mask.any(-1, keepdims=True), scores, 0.0), axis=-1), 0.0)
  return jnp.einsum("bhts,bshu->bthu", weights, v)


@pytest.mark.parametrize(("length", "chunk"), [
  (40, 48), (160, 48), (250, 64), (600, 48), pytest.param(300, 48, marks=pytest.mark.slow),
  pytest.param(1_100, 256, marks=pytest.mark.slow)])
def test_values_and_gradients_are_those_of_a_softmax_over_all_keys(length, chunk):
  rng, mesh = np.random.default_rng(length), one_device()
  shape = (2, length, 4, 8)
  q, out_gradient = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
  k, v = (rng.standard_normal((2, length, 2, 8)).astype(np.float32) for _ in range(2))
  # Three sequences in the first row, one in the second, padding behind both.
  segments = np.zeros((2, length), np.int32)
  positions = np.full((2, length), -1, np.int32)
  for row, ends in enumerate(([0, length // 5, length // 2, length - 7], [0, length - 3])):
    for number, (start, end) in enumerate(zip(ends, ends[1:], strict=False)):
      segments[row, start:end], positions[row, start:end] = number, np.arange(end - start)

  def found(attend):
    out, back = jax.vjp(attend, q, k, v)
    return [out, *back(out_gradient)]

  expected = found(lambda q, k, v: plain(q, k, v, positions, segments))
  with jax.set_mesh(mesh):
    q, k, v, out_gradient, positions, segments = put_batch(mesh, (q, k, v, out_gradient, positions, segments))
    actual = found(lambda q, k, v: attend_causally(q, k, v, positions, segments, Compute(attention_chunk=chunk)))
  for a, b in zip(actual, expected, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", [None, MeshShape(fsdp=2, sequence=2, tensor=2)], ids=["one device", "eight devices"])
def test_the_kernel_for_tpus_gives_what_chunks_give(shape):
  """Interpreted here: values and gradients of a packed row with padding, key/value heads shared by two queries' heads."""
  mesh = one_device() if shape is None else eight_devices(shape)
  rng, T = np.random.default_rng(0), 384  # three blocks of 128
  q, out_gradient = (rng.standard_normal((2, T, 8, 16)).astype(np.float32) for _ in range(2))
  k, v = (rng.standard_normal((2, T, 4, 16)).astype(np.float32) for _ in range(2))
  segments, positions = np.zeros((2, T), np.int32), np.full((2, T), -1, np.int32)
  for row, ends in enumerate(([0, 100, 290, 370], [0, 256, 384])):
    for number, (start, end) in enumerate(zip(ends, ends[1:], strict=False)):
      segments[row, start:end], positions[row, start:end] = number, np.arange(end - start)

  def found(how):
    compute = Compute(attention=how)
    with jax.set_mesh(mesh):
      heads = activation("rows", None, "heads_of_rows", None)
      arrays = [jax.device_put(x, jax.NamedSharding(mesh, heads)) for x in (q, k, v, out_gradient)]
      known = put_batch(mesh, (positions, segments))
      out, back = jax.vjp(lambda q, k, v: attend_causally(q, k, v, *known, compute), *arrays[:3])
      return [np.asarray(x) for x in (out, *back(arrays[3]))]

  for name, a, b in zip(("values", "to q", "to k", "to v"), found("splash"), found("chunks"), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4, err_msg=name)


def test_rows_that_no_block_divides_are_refused():
  with jax.set_mesh(one_device()), pytest.raises(InputError, match=r"splash on rows of 200 slots.*multiple of 128"):
    splash.block(200)
