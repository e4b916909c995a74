"""AdamW: its schedules, one update against NumPy, and its errors."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import eight_devices, one_device

from r1jax.errors import InputError
from r1jax.training.optimizer import AdamW
from r1jax.training.step import init_state, make_step


def rates(optimizer, steps):
  schedule = optimizer.schedule()
  with jax.numpy_dtype_promotion("standard"):  # as make_step runs it
    return [float(schedule(np.int32(s))) for s in steps]


def test_constant_rate():
  assert rates(AdamW(lr=3e-6), [0, 1, 10_000]) == pytest.approx([3e-6] * 3)


def test_warm_up_starts_above_zero_and_then_holds():
  assert rates(AdamW(lr=1e-3, warmup_steps=4), [0, 1, 2, 3, 4, 100]) == pytest.approx(
    [0.25e-3, 0.4375e-3, 0.625e-3, 0.8125e-3, 1e-3, 1e-3])


def test_cosine_decay_counts_the_warm_up():
  optimizer = AdamW(lr=1e-3, warmup_steps=10, decay_steps=110, final_lr=1e-4)
  expected = [1e-4, 1e-3, 1e-4 + 0.9e-3 * (1 + math.cos(math.pi / 4)) / 2, 0.55e-3, 1e-4, 1e-4]
  assert rates(optimizer, [0, 10, 35, 60, 110, 500]) == pytest.approx(expected)


def test_decay_without_warm_up():
  assert rates(AdamW(lr=1e-3, decay_steps=100), [0, 50, 100]) == pytest.approx(
    [1e-3, 0.5e-3, 0.0], rel=1e-6, abs=1e-12)  # float32 has 7 digits


def numpy_adamw(w, gradients, lr, b1, b2, eps, decay, max_norm):
  """Loshchilov & Hutter's AdamW, algorithm 2, with the gradient clipped to max_norm first."""
  m, v = np.zeros_like(w), np.zeros_like(w)
  for t, g in enumerate(gradients, start=1):
    g = g * min(1.0, max_norm / np.linalg.norm(g))
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    w = w - lr * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + decay * w)
  return w


def test_updates_are_those_of_numpy():
  """The loss is sum(w x): its gradient is x, or the sum of the microbatches' x."""
  optimizer = AdamW(lr=0.1, b1=0.8, b2=0.9, eps=1e-3, weight_decay=0.2, max_grad_norm=2.0)
  rng = np.random.default_rng(0)
  start = rng.standard_normal(5)
  batches = [rng.standard_normal((6, 5)) * scale for scale in (0.1, 4.0, 1.0)]  # the second is clipped
  step = make_step(lambda w, x: ((w[None] * x).sum(), {"n_max": x.max(), "n": x.sum()}), optimizer.build())
  state = init_state(jnp.asarray(start, np.float32), optimizer.build())
  for batch in batches:
    state, metrics = step.update(state, jnp.split(jnp.asarray(batch, np.float32), 3))
    total = batch.sum(axis=0)
    np.testing.assert_allclose(metrics["grad_norm"], np.linalg.norm(total), rtol=1e-5)
    np.testing.assert_allclose(metrics["n_max"], batch.max(), rtol=1e-6)
    np.testing.assert_allclose(metrics["n"], batch.sum(), rtol=1e-4)
  expected = numpy_adamw(start, [b.sum(axis=0) for b in batches], 0.1, 0.8, 0.9, 1e-3, 0.2, 2.0)
  np.testing.assert_allclose(state.params, expected, atol=1e-5)
  assert int(state.step) == 3


def after_three_updates(mesh, **options):
  """The state of small sharded weights; gradients are the weights times the batch."""
  optimizer = AdamW(lr=0.01, weight_decay=0.1, **options).build()
  with jax.set_mesh(mesh):
    sharding = jax.NamedSharding(mesh, jax.P("fsdp", "tensor"))
    w = {"w": jax.device_put(np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32), sharding)}
    step = make_step(lambda w, x: ((jnp.square(w["w"])[None] * x).sum(), {}), optimizer)
    state = init_state(w, optimizer)
    for scale in (1.0, 0.5, 2.0):
      state, _ = step.update(state, [jnp.full((1, 8, 4), scale, out_sharding=jax.P(None, "fsdp", "tensor"))])
  return state


def moments(state):
  return [x for x in jax.tree.leaves(state.opt_state) if x.ndim]


def test_moments_in_bfloat16_take_half_the_memory_and_move_nearly_alike():
  full, half = (after_three_updates(one_device(), moments=dtype) for dtype in ("float32", "bfloat16"))
  assert {str(x.dtype) for x in moments(full)} == {"float32"} and {str(x.dtype) for x in moments(half)} == {"bfloat16"}
  assert len(moments(half)) == 2
  moved = np.abs(np.asarray(full.params["w"]) - np.asarray(half.params["w"])).max()
  assert 0 < moved < 0.02 * 0.03, "three updates of 0.01 each, to two digits"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_offloaded_moments_are_on_the_host_and_change_nothing(dtype):
  mesh = eight_devices()
  here, there = (after_three_updates(mesh, moments=dtype, offload=offload) for offload in (False, True))
  np.testing.assert_array_equal(here.params["w"], there.params["w"])
  assert {x.sharding.memory_kind for x in moments(here)} == {"device"}
  assert {x.sharding.memory_kind for x in moments(there)} == {"pinned_host"}
  assert {x.sharding.memory_kind for x in jax.tree.leaves(there.params)} == {"device"}
  for a, b in zip(moments(here), moments(there), strict=True):
    assert a.sharding.spec == b.sharding.spec
    np.testing.assert_array_equal(a, b)


def test_offloading_is_refused_where_the_host_cannot_be_reached(monkeypatch):
  class Lonely:
    platform = "abacus"

    def addressable_memories(self):
      return []
  monkeypatch.setattr(jax, "devices", lambda: [Lonely()])
  with pytest.raises(InputError, match="offload: True on abacus"):
    AdamW(lr=1.0, offload=True).build()


@pytest.mark.parametrize("values, message", [
  ({"lr": 0.0}, r"optimizer\.lr: 0\.0\. It must be more than 0"),
  ({"lr": float("nan")}, r"optimizer\.lr: nan"),
  ({"lr": 1.0, "eps": 0.0}, r"optimizer\.eps: 0\.0"),
  ({"lr": 1.0, "max_grad_norm": -1.0}, r"optimizer\.max_grad_norm: -1\.0"),
  ({"lr": 1.0, "warmup_steps": -1}, r"optimizer\.warmup_steps: -1\. It must be at least 0"),
  ({"lr": 1.0, "weight_decay": -0.1}, r"optimizer\.weight_decay: -0\.1"),
  ({"lr": 1.0, "final_lr": -0.1}, r"optimizer\.final_lr: -0\.1"),
  ({"lr": 1.0, "moments": "int8"}, r"optimizer\.moments: 'int8'\. Use 'float32' or 'bfloat16'"),
  ({"lr": 1.0, "warmup_steps": 5, "decay_steps": 5}, r"optimizer\.decay_steps: 5\. .*more than warmup_steps \(5\)"),
])
def test_wrong_settings_are_refused(values, message):
  with pytest.raises(InputError, match=message):
    AdamW(**values)
