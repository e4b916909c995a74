"""Decoding over pages by the kernel for TPUs, against the dense cache: interpreted, and on several devices."""
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas.ops.tpu import ragged_paged_attention as kernel_package
from jax.experimental.pallas.ops.tpu.ragged_paged_attention.kernel import (
  MultiPageAsyncCopyDescriptor,
  ref_ragged_paged_attention,
)
from test_sampler import SMALL, WIDE, assert_same, requests, sample
from tiny import EVERYTHING, eight_devices

CONFIG = replace(EVERYTHING, head_dim=128)


def read_densely(q, pages, lengths, table, _starts, _num, *, sm_scale, **_sizes):
  """What the kernel computes, where every sequence has one query."""
  B, H, h = q.shape
  k, v = jnp.moveaxis(pages[table].reshape(B, -1, pages.shape[2] // 2, 2, h), 3, 0)
  scores = jnp.einsum("bkgh,bskh->bkgs", q.reshape(B, k.shape[2], -1, h), k) * sm_scale
  seen = jnp.arange(k.shape[1], dtype=jnp.int32)[None] < lengths[:, None]
  weights = jax.nn.softmax(jnp.where(seen[:, None, None], scores, -jnp.inf), axis=-1)
  return jnp.einsum("bkgs,bskh->bkgh", weights, v).reshape(B, H, h)


@pytest.mark.slow
def test_the_kernel_draws_what_a_dense_cache_draws(monkeypatch):
  """Three samples of two prompts on two slots: pages that samples share, slots that are filled again and end up empty.

  The interpreter cannot reshape a buffer, so the blocks that the kernel waits for are loaded before they are reshaped.
  """
  asked = [r for r in requests(2, 2, longest=6, max_new=4) if len(r.prompt) > 1 or r.sample == 0]
  expected = sample(asked, config=CONFIG, stops=())[0]
  wait = MultiPageAsyncCopyDescriptor.wait
  monkeypatch.setattr(MultiPageAsyncCopyDescriptor, "wait", lambda self: wait(self)[...])
  with pltpu.force_tpu_interpret_mode():
    decoding = replace(SMALL, slots=2, segment=3, cache_tokens=40, paged_attention="kernel")
    assert_same(sample(asked, config=CONFIG, stops=(), decoding=decoding)[0], expected)


@pytest.mark.parametrize(("shape", "decoding"), [
  (None, replace(SMALL, slots=16, cache_tokens=160)),
  pytest.param(WIDE, replace(SMALL, slots=4, cache_tokens=96), marks=pytest.mark.slow)], ids=["few pages", "repeated heads"])
def test_pages_of_several_devices_draw_what_a_dense_cache_draws(monkeypatch, shape, decoding):
  """The interpreter stands still where devices share two cores, so a plain function takes the kernel's place."""
  monkeypatch.setattr(kernel_package, "ragged_paged_attention", read_densely)
  expected = sample(requests(), config=CONFIG)[0]
  decoding = replace(decoding, paged_attention="kernel")
  found, sampler = sample(requests(), eight_devices(shape), config=CONFIG, decoding=decoding)
  assert_same(found, expected)
  assert (sampler.stats["preempted"] > 0) == (shape is None)


def test_the_function_in_the_kernels_place_is_its_reference():
  rng = np.random.default_rng(0)
  q, pages = (rng.standard_normal(shape, np.float32) for shape in ((2, 4, 128), (8, 4, 4, 128)))
  table, lengths = rng.permutation(8).reshape(2, 4).astype(np.int32), np.array([7, 16], np.int32)
  args = tuple(map(jnp.asarray, (q, pages, lengths, table, np.arange(3, dtype=np.int32), np.array([2], np.int32))))
  with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
    expected = ref_ragged_paged_attention(*args, sm_scale=0.1)
  np.testing.assert_allclose(read_densely(*args, sm_scale=0.1), expected, atol=1e-5)
