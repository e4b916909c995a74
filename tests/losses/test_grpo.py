"""grpo_loss behind token_weights and group_advantages: against numpy_reference, and by its properties."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from r1jax.errors import InputError
from r1jax.losses.advantages import AdvantageKind, group_advantages
from r1jax.losses.grpo import KLEstimator, grpo_loss
from r1jax.losses.reductions import Reduction, token_weights

from . import numpy_reference

QUESTIONS, GROUP, TOKENS = 2, 4, 10
ROWS = QUESTIONS * GROUP
CONSTANT = 12
CLIPS = [(0.2, 0.2), (0.2, 0.28), (0.0, 0.5), (10.0, 10.0)]  # the last: R1 (Nature), training details
KL = [(0.0, KLEstimator.K3), (0.04, KLEstimator.K1), (0.04, KLEstimator.K2), (0.04, KLEstimator.K3)]
# Far enough from every bound of CLIPS that float32 and float64 agree on the side; both sides of each.
RATIOS = np.array([0.05, 0.5, 0.75, 0.9, 0.999, 1.001, 1.1, 1.24, 1.4, 2.0, 9.0, 13.0])
REWARDS = {
  "mixed": [[0, 1, 2, 1], [0.1, 0.1, 0.1, 1.9]],
  "equal": [[0.1] * 4, [2.0] * 4],
  "one group equal": [[1.1] * 4, [0, 0, 2, 1]],
}
BATCHES = ["full rows", "mixed", "equal", "one group equal", "empty rows", "all empty"]


def batch(name, seed=0):
  """Arrays [ROWS, TOKENS] float32, mask, rewards [QUESTIONS, GROUP]; NaN and infinities outside the mask."""
  rng = np.random.default_rng(seed)
  lengths = rng.integers(1, TOKENS, ROWS)
  if name == "full rows":
    lengths[:] = TOKENS
  if name == "empty rows":
    lengths[[0, 3, 5]] = 0
  if name == "all empty":
    lengths[:] = 0
  mask = np.arange(TOKENS) < lengths[:, None]
  mask = mask[:, ::-1] if name == "mixed" else mask  # where in the row the tokens are does not matter
  logprobs = rng.uniform(-2, -0.05, (ROWS, TOKENS))
  old = logprobs - np.log(rng.permutation(np.resize(RATIOS, ROWS * TOKENS))).reshape(ROWS, TOKENS)
  ref = logprobs + rng.normal(0, 0.7, (ROWS, TOKENS))
  garbage = np.resize([np.nan, -np.inf, np.inf, 1e30], (ROWS, TOKENS))
  arrays = [np.where(mask, x, np.roll(garbage, shift)).astype(np.float32)
            for shift, x in enumerate((logprobs, old, ref))]
  return *arrays, mask, np.array(REWARDS.get(name, REWARDS["mixed"]), np.float32)


@functools.cache
def loss_and_gradient(clip, kl, jit=True):
  """Jitted for the sake of the clock: the grid below asks for each of these 54 times."""
  function = jax.value_and_grad(functools.partial(
    grpo_loss, clip_low=clip[0], clip_high=clip[1], kl_coef=kl[0], kl_estimator=kl[1]), has_aux=True)
  return jax.jit(function) if jit else function


def run(logprobs, old, ref, mask, rewards, *, reduction, kind, clip, kl, jit=True):
  """(loss, gradient, metrics) by r1jax, rewards to loss."""
  weights = token_weights(mask, reduction, CONSTANT)
  advantages = group_advantages(rewards, kind).reshape(-1)
  (loss, metrics), gradient = loss_and_gradient(clip, kl, jit)(logprobs, old, ref, advantages, mask, weights)
  return loss, gradient, metrics


def derive(logprobs, old, ref, mask, rewards, *, reduction, kind, clip, kl):
  """The same by numpy_reference."""
  advantages = numpy_reference.advantages(rewards, kind.value).reshape(-1)
  return numpy_reference.grpo(
    logprobs, old, ref, advantages, mask, reduction=reduction.value, constant=CONSTANT, clip_low=clip[0],
    clip_high=clip[1], kl_coef=kl[0], estimator=kl[1].value)


def assert_agree(actual, expected):
  loss, gradient, metrics = actual
  assert loss.dtype == np.float32
  assert gradient.dtype == np.float32
  np.testing.assert_allclose(loss, expected[0], rtol=0, atol=1e-6)
  np.testing.assert_allclose(gradient, expected[1], rtol=0, atol=1e-6)
  assert metrics.keys() == expected[2].keys()
  for name, value in expected[2].items():
    np.testing.assert_allclose(metrics[name], value, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("reduction", Reduction)
@pytest.mark.parametrize("kind", AdvantageKind)
@pytest.mark.parametrize("kl", KL, ids=lambda kl: f"{kl[0]}{kl[1].value}")
@pytest.mark.parametrize("clip", CLIPS, ids=str)
@pytest.mark.parametrize("name", BATCHES)
def test_agrees_with_numpy(name, clip, kl, kind, reduction):
  inputs = batch(name)
  choice = {"reduction": reduction, "kind": kind, "clip": clip, "kl": kl}
  assert_agree(run(*inputs, **choice), derive(*inputs, **choice))


@pytest.mark.parametrize(("reduction", "kind"), list(zip(Reduction, AdvantageKind, strict=True)))
def test_agrees_with_numpy_not_jitted_and_jitted_as_one(reduction, kind):
  inputs = batch("empty rows", seed=1)
  choice = {"reduction": reduction, "kind": kind, "clip": (0.2, 0.28), "kl": KL[-1]}
  expected = derive(*inputs, **choice)
  assert_agree(run(*inputs, **choice, jit=False), expected)
  assert_agree(jax.jit(functools.partial(run, **choice, jit=False))(*inputs), expected)


@pytest.mark.parametrize("clip", CLIPS, ids=str)
def test_the_batches_reach_what_they_claim(clip):
  # Every sign of advantage meets ratios beyond both bounds (but for the paper's, whose lower bound is -9).
  logprobs, old, _, mask, rewards = batch("full rows")
  advantage = np.repeat(numpy_reference.advantages(rewards, "standardized").reshape(-1), TOKENS)
  ratio = np.exp(logprobs.astype(np.float64) - old)[mask]
  for bound in (1 - clip[0], 1 + clip[1]):
    assert np.abs(ratio - bound).min() > 5e-4
  for sign in (-1, 1):
    assert (ratio[advantage * sign > 0] > 1 + clip[1]).any()
    assert (ratio[advantage * sign > 0] < 1 - clip[0]).any() == (clip[0] < 1)


@pytest.mark.parametrize("reduction", Reduction)
@pytest.mark.parametrize("kl", KL[1:], ids=lambda kl: kl[1].value)
@pytest.mark.parametrize("clip", CLIPS, ids=str)
def test_the_derivation_agrees_with_finite_differences(clip, kl, reduction):
  inputs = [x.astype(np.float64) for x in batch("empty rows")]
  derived = functools.partial(derive, reduction=reduction, kind=AdvantageKind.STANDARDIZED, clip=clip, kl=kl)
  _, gradient, _ = derived(*inputs)
  differences, step = np.zeros_like(gradient), 1e-5
  for index in np.argwhere(inputs[3]):
    bump = np.zeros_like(gradient)
    bump[tuple(index)] = step
    ahead, behind = (derived(inputs[0] + b, *inputs[1:])[0] for b in (bump, -bump))
    differences[tuple(index)] = (ahead - behind) / (2 * step)
  assert np.abs(gradient).max() > 1e-3
  np.testing.assert_allclose(gradient, differences, rtol=0, atol=1e-8)


@pytest.mark.parametrize("reduction", Reduction)
def test_same_policies_give_the_policy_gradient(reduction):
  logprobs, _, _, mask, rewards = batch("mixed")
  choice = {"reduction": reduction, "kind": AdvantageKind.STANDARDIZED}
  for clip in (*CLIPS, (0.0, 0.0)):  # at clip 0 every ratio is on the bound, where the clip does not act yet
    loss, gradient, metrics = run(logprobs, logprobs, logprobs, mask, rewards, clip=clip, kl=KL[-1], **choice)
    weights = np.asarray(token_weights(mask, reduction, CONSTANT))
    advantages = numpy_reference.advantages(rewards, "standardized").reshape(-1, 1)
    np.testing.assert_allclose(gradient, -weights * advantages, rtol=0, atol=1e-6)
    np.testing.assert_allclose(loss, -(weights * advantages).sum(), rtol=0, atol=1e-6)
    assert metrics["kl"] == 0
    assert metrics["ratio"] == metrics["weight"]
    assert metrics["clip_fraction_low"] == metrics["clip_fraction_high"] == metrics["clamped_fraction"] == 0


@pytest.mark.parametrize("reduction", Reduction)
@pytest.mark.parametrize("rows", [1, 4])
def test_microbatches_add_up(rows, reduction):
  logprobs, old, ref, mask, rewards = batch("empty rows")
  choice = {"clip": (0.2, 0.28), "kl": KL[-1]}
  whole = run(logprobs, old, ref, mask, rewards, reduction=reduction, kind=AdvantageKind.CENTERED, **choice)
  everything = (logprobs, old, ref, np.asarray(group_advantages(rewards, AdvantageKind.CENTERED)).reshape(-1),
                mask, np.asarray(token_weights(mask, reduction, CONSTANT)))
  function = loss_and_gradient(**choice)
  parts = [function(*(x[i:i + rows] for x in everything)) for i in range(0, ROWS, rows)]
  np.testing.assert_allclose(sum(loss for (loss, _), _ in parts), whole[0], rtol=0, atol=1e-6)
  np.testing.assert_array_equal(np.concatenate([gradient for _, gradient in parts]), whole[1])
  for name, value in whole[2].items():
    np.testing.assert_allclose(sum(m[name] for (_, m), _ in parts), value, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("reduction", Reduction)
def test_packed_is_unpacked(reduction):
  logprobs, old, ref, mask, rewards = batch("empty rows")
  advantages = np.asarray(group_advantages(rewards)).reshape(-1)
  function = loss_and_gradient((0.2, 0.28), KL[-1])
  (loss, metrics), gradient = function(logprobs, old, ref, advantages, mask,
                                       token_weights(mask, reduction, CONSTANT))

  # All trained tokens, response after response, in rows of 8 with padding at the end.
  response, token = np.nonzero(mask)
  width = 8
  height = -(-len(response) // width)
  assert height > 1

  def packed(values, fill):
    padding = np.full(height * width - len(values), fill, values.dtype)
    return np.concatenate([values, padding]).reshape(height, width)

  ids = packed(response, -1)
  packed_mask = ids >= 0
  weights = token_weights(packed_mask, reduction, CONSTANT, response_ids=ids, num_responses=ROWS)
  per_token = packed(advantages[response], np.nan)
  (packed_loss, packed_metrics), packed_gradient = function(
    *(packed(x[mask], np.nan) for x in (logprobs, old, ref)), per_token, packed_mask, weights)
  np.testing.assert_array_equal(np.asarray(packed_gradient)[packed_mask], np.asarray(gradient)[mask])
  np.testing.assert_array_equal(np.asarray(packed_gradient)[~packed_mask], 0)
  np.testing.assert_allclose(packed_loss, loss, rtol=0, atol=1e-6)
  for name, value in metrics.items():
    np.testing.assert_allclose(packed_metrics[name], value, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("jit", [False, True])  # XLA turns a product with a mask into a select, eager not
@pytest.mark.parametrize("estimator", KLEstimator)
def test_outside_the_mask_nothing_counts(garbage, estimator, jit):
  logprobs, old, ref, mask, rewards = batch("empty rows")
  advantages = np.asarray(group_advantages(rewards)).reshape(-1)
  weights = np.asarray(token_weights(mask, Reduction.PER_RESPONSE))
  function = loss_and_gradient((0.2, 0.2), (0.04, estimator), jit)

  def with_outside(value):
    floats = (np.where(mask, x, np.float32(value)) for x in (logprobs, old, ref))
    empty = ~mask.any(axis=1)
    return function(*floats, np.where(empty, np.float32(value), advantages), mask,
                    np.where(mask, weights, np.float32(value)))

  (loss, metrics), gradient = with_outside(garbage)
  (clean_loss, clean_metrics), clean_gradient = with_outside(0)
  assert np.isfinite(loss)
  assert loss == clean_loss
  np.testing.assert_array_equal(gradient, clean_gradient)
  assert (np.asarray(gradient)[~mask] == 0).all()
  assert metrics == clean_metrics


def one_token(logprob, old=-1.0, ref=-1.0, advantage=1.0, clip=(0.2, 0.2), kl_coef=0.0, jit=True):
  """(loss, gradient, metrics) of a single token of weight 1."""
  array = functools.partial(np.full, (1, 1), dtype=np.float32)
  (loss, metrics), gradient = loss_and_gradient(clip, (kl_coef, KLEstimator.K3), jit)(
    array(logprob), array(old), array(ref), np.full(1, advantage, np.float32), array(1), array(1))
  return float(loss), float(gradient[0, 0]), metrics


@pytest.mark.parametrize(("ratio", "advantage", "loss", "slope", "which"), [
  (1.5, 2.0, -2.4, 0.0, "high"),  # already likelier and good: no further push
  (1.5, -2.0, 3.0, 3.0, None),  # likelier and bad: full push back
  (0.5, 2.0, -1.0, -1.0, None),  # less likely and good: full pull
  (0.5, -2.0, 1.6, 0.0, "low"),  # already less likely and bad: no further push
])
def test_the_four_corners_of_the_clip(ratio, advantage, loss, slope, which):
  actual, gradient, metrics = one_token(-1 + np.log(ratio), advantage=advantage)
  np.testing.assert_allclose([actual, gradient], [loss, slope], atol=1e-6)
  assert metrics["clip_fraction_low"] == float(which == "low")
  assert metrics["clip_fraction_high"] == float(which == "high")


def test_clip_of_ten_caps_at_eleven_and_never_acts_below():
  paper = {"clip": (10.0, 10.0)}
  assert one_token(-1 + np.log(50), **paper)[:2] == (-11.0, 0.0)
  loss, gradient, metrics = one_token(-1 + np.log(50), advantage=-1.0, **paper)
  np.testing.assert_allclose([loss, gradient], [50, 50], rtol=1e-6)
  assert metrics["clip_fraction_high"] == 0
  assert one_token(-1 + np.log(0.01), advantage=-1.0, **paper)[2]["clip_fraction_low"] == 0


@pytest.mark.parametrize(("gap", "slope"), [(19.0, np.exp(19)), (21.0, 0.0), (90.0, 0.0), (np.inf, 0.0)])
def test_the_log_ratio_is_clamped(gap, slope):
  loss, gradient, metrics = one_token(-1.0, old=-1 - gap, advantage=-1.0)
  np.testing.assert_allclose(loss, np.exp(min(gap, 20)), rtol=1e-5)
  np.testing.assert_allclose(gradient, slope, rtol=1e-5)
  assert metrics["clamped_fraction"] == float(gap > 20)
  # On the other side the ratio is nothing, and so is the pull.
  loss, gradient, metrics = one_token(-1 - gap, old=-1.0, advantage=1.0)
  assert 0 <= -loss < 1e-8
  assert 0 <= -gradient < 1e-8
  assert metrics["clamped_fraction"] == float(gap > 20)


def test_k3_at_the_clamp():
  options = {"advantage": 0.0, "kl_coef": 1.0, "old": -30.0}
  # The reference 25 nats above the policy: a finite value, no gradient.
  loss, gradient, _ = one_token(-30.0, ref=-5.0, **options)
  np.testing.assert_allclose(loss, np.exp(20) - 21, rtol=1e-6)
  assert gradient == 0
  # The policy 25 nats above the reference: exact, and it still pulls back.
  loss, gradient, _ = one_token(-30.0, ref=-55.0, **options)
  np.testing.assert_allclose([loss, gradient], [24, 1], rtol=1e-6)


def test_small_k3_keeps_its_digits():
  # d is exact in float32 and its KL is 0.8 of the spacing of floats below 1: exp(-d) - 1 + d would be off by
  # 28%. Not jitted: XLA would make an expm1 of it by itself.
  d = 1.25 * 2.0**-12
  loss, gradient, _ = one_token(-1 + d, advantage=0.0, kl_coef=1.0, jit=False)
  np.testing.assert_allclose(loss, np.expm1(-d) + d, rtol=1e-3)
  np.testing.assert_allclose(gradient, -np.expm1(-d), rtol=0, atol=2.0**-24)  # 1 - exp(-d): one rounding


def test_the_gradient_flows_through_logprobs_only():
  logprobs, old, ref, mask, rewards = batch("mixed")
  advantages = group_advantages(rewards).reshape(-1)
  weights = token_weights(mask, Reduction.PER_RESPONSE)

  def loss(old, ref, advantages, weights):
    return grpo_loss(logprobs, old, ref, advantages, mask, weights, clip_low=0.2, clip_high=0.2,
                     kl_coef=0.04)[0]

  for gradient in jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(old, ref, advantages, weights):
    np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


def test_metrics_carry_no_gradient():
  logprobs, old, ref, mask, rewards = batch("mixed")

  def total(logprobs):
    metrics = grpo_loss(logprobs, old, ref, group_advantages(rewards).reshape(-1), mask,
                        token_weights(mask, Reduction.PER_RESPONSE), clip_low=0.2, clip_high=0.2,
                        kl_coef=0.04)[1]
    return sum(metrics.values())

  np.testing.assert_array_equal(jax.jit(jax.grad(total))(logprobs), np.zeros_like(logprobs))


def test_without_a_reference():
  logprobs, old, ref, mask, rewards = batch("mixed")
  choice = {"reduction": Reduction.PER_RESPONSE, "kind": AdvantageKind.STANDARDIZED, "clip": (0.2, 0.2),
            "kl": (0.0, KLEstimator.K3)}
  without = run(logprobs, old, None, mask, rewards, **choice)
  assert_agree(without, derive(logprobs, old, None, mask, rewards, **choice))
  # A reference that is only measured does not touch the loss, whatever it holds.
  broken = run(logprobs, old, np.full_like(ref, np.nan), mask, rewards, **choice)
  assert broken[0] == without[0]
  np.testing.assert_array_equal(broken[1], without[1])


def test_a_correction_weighs_the_policy_term_alone():
  logprobs, old, ref, mask, rewards = batch("mixed")
  c = np.random.default_rng(3).uniform(0, 2, mask.shape)
  advantages, weights = group_advantages(rewards).reshape(-1), token_weights(mask, Reduction.PER_RESPONSE)

  def objective(logprobs, correction):
    return grpo_loss(logprobs, old, ref, advantages, mask, weights, clip_low=0.2, clip_high=0.28, kl_coef=0.04,
                     correction=correction)
  correction = np.where(mask, c, np.nan).astype(np.float32)
  (loss, metrics), (gradient, none) = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)(logprobs, correction)
  expected = numpy_reference.grpo(logprobs, old, ref, numpy_reference.advantages(rewards, "standardized").reshape(-1), mask,
                                  reduction="per_response", constant=None, clip_low=0.2, clip_high=0.28, kl_coef=0.04,
                                  estimator="k3", correction=c)
  assert_agree((loss, gradient, metrics), expected)
  assert not np.any(none), "it has no gradient"


def test_bfloat16_logprobs_are_computed_in_float32():
  logprobs, old, ref, mask, rewards = batch("mixed")
  choice = {"reduction": Reduction.PER_RESPONSE, "kind": AdvantageKind.STANDARDIZED, "clip": (0.2, 0.28),
            "kl": (0.04, KLEstimator.K3)}
  coarse = [x.astype(jnp.bfloat16) for x in (logprobs, old, ref)]
  loss, _, _ = run(*coarse, mask, rewards, **choice)
  expected = run(*(x.astype(np.float32) for x in coarse), mask, rewards, **choice)
  assert loss == expected[0]


@pytest.mark.parametrize("reduction", Reduction)
def test_sharded_is_unsharded(reduction):
  inputs = batch("empty rows")
  choice = {"reduction": reduction, "clip": (0.2, 0.28), "kl": (0.04, KLEstimator.K3)}
  advantages = group_advantages(inputs[4]).reshape(-1)

  def objective(logprobs, old, ref, mask, advantages):
    return grpo_loss(logprobs, old, ref, advantages, mask, token_weights(mask, reduction, CONSTANT),
                     clip_low=0.2, clip_high=0.28, kl_coef=0.04)

  mesh = jax.make_mesh((4, 2), ("fsdp", "sequence"), axis_types=(AxisType.Explicit,) * 2)
  with jax.set_mesh(mesh):
    arrays = [jax.device_put(x, NamedSharding(mesh, PartitionSpec("fsdp", "sequence"))) for x in inputs[:4]]
    arrays.append(jax.device_put(advantages, NamedSharding(mesh, PartitionSpec("fsdp"))))
    (loss, metrics), gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))(*arrays)
    assert gradient.sharding.spec == PartitionSpec("fsdp", "sequence")
  assert_agree((loss, gradient, metrics), derive(*inputs, kind=AdvantageKind.STANDARDIZED, **choice))


@pytest.mark.parametrize(("change", "message"), [
  ({"logprobs": np.zeros(4)}, r"logprobs: shape \[4\]"),
  ({"old_logprobs": np.zeros((2, 4))}, r"old_logprobs: shape \[2, 4\].*\[2, 3\]"),
  ({"ref_logprobs": np.zeros((1, 3))}, r"ref_logprobs: shape \[1, 3\].*\[2, 3\]"),
  ({"advantages": np.zeros(3)}, r"advantages: shape \[3\].*\[2\] or \[2, 3\]"),
  ({"advantages": np.zeros((2, 1))}, r"advantages: shape \[2, 1\].*\[2\] or \[2, 3\]"),
  ({"mask": np.zeros(2)}, r"mask: shape \[2\].*\[2, 3\]"),
  ({"weights": np.zeros((2, 1))}, r"weights: shape \[2, 1\].*\[2, 3\]"),
  ({"correction": np.zeros(2)}, r"correction: shape \[2\].*\[2, 3\]"),
  ({"ref_logprobs": None}, r"ref_logprobs: None with kl_coef 0\.1"),
  ({"clip_low": -0.1}, r"clip_low: -0\.1"),
  ({"clip_high": -0.1}, r"clip_high: -0\.1"),
  ({"clip_high": float("nan")}, "clip_high: nan"),
  ({"kl_coef": -1.0}, r"kl_coef: -1\.0"),
  ({"kl_estimator": "k3"}, "member of KLEstimator"),
])
@pytest.mark.parametrize("jit", [False, True])
def test_bad_input(change, message, jit):
  arrays = dict.fromkeys(("logprobs", "old_logprobs", "ref_logprobs", "mask", "weights"), np.zeros((2, 3)))
  options = {"clip_low": 0.2, "clip_high": 0.2, "kl_coef": 0.1, "kl_estimator": KLEstimator.K3}
  arguments = {**arrays, "advantages": np.zeros(2), **options} | change
  static = ["clip_low", "clip_high", "kl_coef", "kl_estimator"]
  function = jax.jit(grpo_loss, static_argnames=static) if jit else grpo_loss
  with pytest.raises(InputError, match=message):
    function(**arguments)
