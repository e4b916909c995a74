"""One GRPO update on packed rows: the same packed or not, in any split, on other meshes; its numbers; no new programs."""

import jax
import numpy as np
import pytest
from losses import numpy_reference
from tiny import EVERYTHING, eight_devices, one_device, random_params

from r1jax.errors import InputError
from r1jax.losses.grpo import KLEstimator
from r1jax.losses.reductions import Reduction
from r1jax.models.config import Compute
from r1jax.models.params import shardings
from r1jax.sharding import MeshShape, put_batch
from r1jax.training.grpo import grpo_step
from r1jax.training.logprobs import logprobs
from r1jax.training.optimizer import AdamW
from r1jax.training.pack import TokenSequence, pack
from r1jax.training.step import init_state

N, T = 24, 16
# A large eps keeps the update in proportion to the gradient: at the usual one Adam's first step is the gradient's
# sign, and turns rounding around 0 into whole steps.
OPTIMIZER = AdamW(lr=0.1, eps=1e-2, weight_decay=0.1)
COMPUTE = Compute(remat="nothing", attention_chunk=9, logprob_chunk=40)


def episodes():
  """Sequences of up to T tokens, one without a response, one left out of the loss."""
  rng = np.random.default_rng(7)
  made = []
  for i in range(N):
    prompt, response = rng.integers(1, 6), 0 if i == 3 else rng.integers(1, 11)
    made.append(TokenSequence(rng.integers(1, 64, prompt + response), prompt, trained=i != 5))
  return made


def minibatch(reduction=Reduction.PER_RESPONSE, rows=8, order=None, alone=False):
  """(Packed, its microbatches) of the same episodes and numbers, packed or a row each."""
  rng = np.random.default_rng(8)
  sequences, numbers = episodes(), []
  for s in sequences:
    old, ref = rng.normal(-4.2, 0.5, (2, len(s.tokens) - s.context)).astype(np.float32)
    numbers.append((old, ref, rng.uniform(0, 1, len(old)), np.float32(rng.standard_normal())))
  order = range(N) if order is None else order
  packed = pack([sequences[i] for i in order], T, rows, 0)
  if alone:  # a microbatch a sequence: pack leaves the rest of its rows empty
    packed = pack([sequences[i] for i in order], max(len(s.tokens) for s in sequences), N, 0)
  old, ref, correction, advantages = (packed.spread([numbers[i][k] for i in order]) for k in range(4))
  return packed, packed.replace(
    weights=packed.weights(reduction, 9.0), advantages=advantages, sampler_logprobs=old, ref_logprobs=ref,
    old_logprobs=[x + np.float32(0.1) for x in old], correction=correction)


def the_step(optimizer=OPTIMIZER):
  return grpo_step(EVERYTHING, COMPUTE, optimizer, 0.7, 0.2, 0.3, 0.04, KLEstimator.K3)


def run(mesh, microbatches):
  """(state after one update, metrics, state before, its parameters on the host)."""
  with jax.set_mesh(mesh):
    before = init_state(random_params(EVERYTHING, mesh), OPTIMIZER.build())
    start = jax.tree.map(np.array, before.params)
    state, metrics = the_step().update(before, microbatches)
  return state, jax.device_get(metrics), before, start


@pytest.fixture(scope="module")
def plain():
  return {reduction: run(one_device(), minibatch(reduction)[1]) for reduction in Reduction}


def assert_same_update(found, expected):
  for name in expected[1]:
    np.testing.assert_allclose(found[1][name], expected[1][name], rtol=1e-5, atol=1e-5, err_msg=name)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found[0].params, expected[0].params)
  moved = jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), expected[0].params, expected[3]))
  assert min(moved) > 1e-3, "every weight must have moved by much more than the tolerance"


@pytest.mark.parametrize("reduction", Reduction)
def test_any_split_into_microbatches_gives_what_one_gives(plain, reduction):
  packed, _ = minibatch(reduction, rows=24)
  assert len(packed.microbatches) == 1 and len(minibatch(reduction)[0].microbatches) == 3
  order = np.random.default_rng(1).permutation(N)
  assert_same_update(run(one_device(), minibatch(reduction, rows=2, order=order)[1]), plain[reduction])


def test_sequences_in_rows_of_their_own_give_what_packed_ones_give(plain):
  packed, microbatches = minibatch(alone=True)
  # One sequence a row, by emptying all other slots of copies of the rows.
  single = []
  for place in packed.places:
    rows = jax.tree.map(np.copy, microbatches[place.microbatch])
    other = np.ones(rows.tokens.shape, bool)
    other[place.row, place.start:place.start + place.length] = False
    single.append(rows.replace(
      tokens=np.where(other, 0, rows.tokens), positions=np.where(other, -1, rows.positions), mask=rows.mask & ~other,
      weights=np.where(other, 0, rows.weights).astype(np.float32)))
  assert_same_update(run(one_device(), single), plain[Reduction.PER_RESPONSE])


@pytest.mark.parametrize("shape", [MeshShape(replica=2, tensor=2), MeshShape(fsdp=2, sequence=2, tensor=2)],
                         ids=["batch and heads", "long"])
def test_eight_devices_give_what_one_gives(plain, shape):
  mesh = eight_devices(shape)
  found = run(mesh, minibatch()[1])
  assert_same_update(found, plain[Reduction.PER_RESPONSE])
  for array, sharding in zip(jax.tree.leaves(found[0].params), jax.tree.leaves(shardings(EVERYTHING, mesh)), strict=True):
    assert array.sharding.is_equivalent_to(sharding, array.ndim)


@pytest.mark.parametrize("reduction", Reduction)
def test_loss_and_metrics_are_numpys_from_the_scorers_logprobs(plain, reduction):
  (packed, microbatches), found = minibatch(reduction), plain[reduction][1]
  mesh = one_device()
  with jax.set_mesh(mesh):
    params = random_params(EVERYTHING, mesh)
    scored = [logprobs(params, *put_batch(mesh, (m.tokens, m.positions, m.segment_ids)), config=EVERYTHING,
                       compute=COMPUTE, temperature=0.7) for m in microbatches]
  by_name = {name: packed.gather([getattr(m, name) for m in microbatches]) for name in (
    "old_logprobs", "ref_logprobs", "sampler_logprobs", "correction", "advantages", "mask", "weights")}

  def rows(values):
    return np.array([np.pad(np.asarray(v, np.float64), (0, T - len(v))) for v in values])
  arrays = {name: rows(values) for name, values in by_name.items()}
  found_logprobs = rows(packed.gather(scored))
  loss, _, metrics = numpy_reference.grpo(
    found_logprobs, arrays["old_logprobs"], arrays["ref_logprobs"], arrays["advantages"].max(axis=1) +
    arrays["advantages"].min(axis=1), arrays["mask"], reduction=reduction.value, constant=9.0, clip_low=0.2, clip_high=0.3,
    kl_coef=0.04, estimator="k3", correction=arrays["correction"])
  gap = np.abs(found_logprobs - arrays["sampler_logprobs"])
  expected = {"loss": loss, **metrics, "sampler_gap": np.sum(arrays["weights"] * gap),
              "sampler_gap_max": gap[arrays["mask"] > 0].max(),
              "sampler_gap_above": np.sum(arrays["weights"] * (gap > np.log(2)))}
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
  assert found.keys() - expected.keys() == {"entropy", "grad_norm"}
  assert 0 < found["sampler_gap_above"] < found["weight"]


def test_the_reductions_differ(plain):
  losses = [float(result[1]["loss"]) for result in plain.values()]
  assert min(abs(a - b) for i, a in enumerate(losses) for b in losses[:i]) > 1e-3


def test_the_old_state_is_donated(plain):
  _, _, before, _ = plain[Reduction.PER_RESPONSE]
  kept = [x for x in jax.tree.leaves((before.params, before.opt_state)) if not x.is_deleted()]
  assert not kept, f"{len(kept)} arrays of the old state are still alive"


def test_more_or_fewer_microbatches_compile_nothing(plain):
  step, state = the_step(), plain[Reduction.TOKEN_MEAN][0]
  microbatches = minibatch()[1]

  def compiled():
    return [f._cache_size() for f in (step.zeros, step.accumulate, step.apply)]
  before = compiled()
  with jax.set_mesh(one_device()):
    for count in (1, 3, 2):
      state, _ = step.update(state, microbatches[:count])
  assert compiled() == before
  assert int(state.step) == 4


def test_sums_are_donated():
  mesh = one_device()
  with jax.set_mesh(mesh):
    params = random_params(EVERYTHING, mesh)
    microbatch = put_batch(mesh, minibatch()[1][0])
    sums = the_step().zeros(params, microbatch)
    the_step().accumulate(params, sums, microbatch)
  assert all(x.is_deleted() for x in jax.tree.leaves(sums["grads"]))


def test_no_microbatch_is_refused(plain):
  with pytest.raises(InputError, match="microbatches: none"):
    the_step().update(plain[Reduction.CONSTANT][0], iter(()))


def test_the_same_settings_share_one_step():
  assert the_step() is the_step(AdamW(lr=0.1, eps=1e-2, weight_decay=0.1))
  assert the_step() is not the_step(AdamW(lr=0.2))
