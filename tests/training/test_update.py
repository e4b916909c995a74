"""One GRPO update: the same on other meshes and in microbatches, in place, compiled once, and its numbers."""

import jax
import numpy as np
import pytest
from losses import numpy_reference
from tiny import EVERYTHING, eight_devices, one_device, random_params, random_tokens

from r1jax.losses.grpo import KLEstimator
from r1jax.losses.reductions import Reduction, token_weights
from r1jax.models.config import Compute
from r1jax.models.params import shardings
from r1jax.records import GRPOBatch
from r1jax.sharding import put_batch
from r1jax.training.grpo import grpo_update
from r1jax.training.optimizer import AdamW
from r1jax.training.score import score
from r1jax.training.step import init_state, microbatched

N, PROMPT, T = 16, 5, 14
# A large eps keeps the update in proportion to the gradient: at the usual one Adam's first step is the gradient's
# sign, and turns rounding around 0 into whole steps.
OPTIMIZER = AdamW(lr=0.1, eps=1e-2, weight_decay=0.1)


def host_batch(reduction=Reduction.PER_RESPONSE) -> GRPOBatch:
  """Ragged responses, one of them empty, half a nat off the policy and off the reference."""
  rng = np.random.default_rng(7)
  tokens, positions = random_tokens(N, T, rng.integers(T - 4, T + 1, N), seed=8)
  lengths = np.array([9, 1, 0, 5, 9, 2, 7, 3, 9, 9, 4, 6, 8, 1, 2, 9])
  mask = (np.arange(T) >= PROMPT) & (np.arange(T) < PROMPT + lengths[:, None])
  old = np.where(mask, rng.normal(-4.2, 0.5, (N, T)), 0).astype(np.float32)
  return GRPOBatch(
    tokens=tokens, positions=np.where(mask | (np.arange(T) < PROMPT), positions, -1), mask=mask,
    weights=np.asarray(token_weights(mask, reduction, 9.0)), advantages=rng.standard_normal(N).astype(np.float32),
    sampler_logprobs=old, old_logprobs=old + np.float32(0.1),
    ref_logprobs=np.where(mask, rng.normal(-4.2, 0.5, (N, T)), 0).astype(np.float32))


def the_update(optimizer=OPTIMIZER):
  return grpo_update(EVERYTHING, Compute(remat="full", attention_chunk=6, logprob_chunk=4), optimizer, 0.7, PROMPT,
                     0.2, 0.3, 0.04, KLEstimator.K3)


def run(mesh, reduction=Reduction.PER_RESPONSE, microbatches=1):
  """(state after one update, metrics, state before, its parameters on the host)."""
  with jax.set_mesh(mesh):
    before = init_state(random_params(EVERYTHING, mesh), OPTIMIZER.build())
    start = jax.tree.map(np.array, before.params)
    batch = put_batch(mesh, microbatched(host_batch(reduction), microbatches), axis=1)
    state, metrics = the_update()(before, batch)
  return state, jax.device_get(metrics), before, start


@pytest.fixture(scope="module")
def plain():
  return {reduction: run(one_device(), reduction) for reduction in Reduction}


def assert_same_update(found, expected):
  for name in expected[1]:
    np.testing.assert_allclose(found[1][name], expected[1][name], rtol=1e-5, atol=1e-5, err_msg=name)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found[0].params, expected[0].params)
  moved = jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), expected[0].params, expected[3]))
  assert min(moved) > 1e-3, "every weight must have moved by much more than the tolerance"


@pytest.mark.parametrize("reduction", Reduction)
def test_four_microbatches_give_what_one_gives(plain, reduction):
  assert_same_update(run(one_device(), reduction, microbatches=4), plain[reduction])


@pytest.mark.parametrize("reduction", Reduction)
def test_eight_devices_give_what_one_gives(plain, reduction):
  mesh = eight_devices()
  found = run(mesh, reduction)
  assert_same_update(found, plain[reduction])
  for array, sharding in zip(jax.tree.leaves(found[0].params), jax.tree.leaves(shardings(EVERYTHING, mesh)), strict=True):
    assert array.sharding.is_equivalent_to(sharding, array.ndim)


@pytest.mark.parametrize("reduction", Reduction)
def test_loss_and_metrics_are_numpys_from_the_scorers_logprobs(plain, reduction):
  mesh, batch, found = one_device(), host_batch(reduction), plain[reduction][1]
  with jax.set_mesh(mesh):
    logprobs = np.asarray(score(
      random_params(EVERYTHING, mesh), *put_batch(mesh, (batch.tokens, batch.positions)), config=EVERYTHING,
      compute=Compute(), temperature=0.7, first=PROMPT))
  loss, _, metrics = numpy_reference.grpo(
    logprobs, batch.old_logprobs, batch.ref_logprobs, batch.advantages, batch.mask, reduction=reduction.value,
    constant=9.0, clip_low=0.2, clip_high=0.3, kl_coef=0.04, estimator="k3")
  gap = np.abs(logprobs - batch.sampler_logprobs)
  expected = {"loss": loss, **metrics, "sampler_gap": np.sum(batch.weights * gap), "sampler_gap_max": gap[batch.mask].max()}
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
  assert found.keys() - expected.keys() == {"entropy", "grad_norm"}


def test_the_reductions_differ(plain):
  losses = [float(result[1]["loss"]) for result in plain.values()]
  assert min(abs(a - b) for i, a in enumerate(losses) for b in losses[:i]) > 1e-3


def test_the_old_state_is_donated(plain):
  _, _, before, _ = plain[Reduction.PER_RESPONSE]
  kept = [x for x in jax.tree.leaves((before.params, before.opt_state)) if not x.is_deleted()]
  assert not kept, f"{len(kept)} arrays of the old state are still alive"


def test_a_second_update_compiles_nothing(plain):
  mesh = one_device()
  update, state = the_update(), plain[Reduction.TOKEN_MEAN][0]
  before = update._cache_size()
  with jax.set_mesh(mesh):
    for _ in range(2):
      state, _ = update(state, put_batch(mesh, microbatched(host_batch(), 1), axis=1))
  assert update._cache_size() == before
  assert int(state.step) == 3


def test_the_same_settings_share_one_program():
  assert the_update() is the_update(AdamW(lr=0.1, eps=1e-2, weight_decay=0.1))
  assert the_update() is not the_update(AdamW(lr=0.2))
