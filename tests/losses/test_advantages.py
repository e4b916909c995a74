import jax
import numpy as np
import pytest

from r1jax.errors import InputError
from r1jax.losses.advantages import AdvantageKind, group_advantages

from . import numpy_reference


@pytest.mark.parametrize("kind", AdvantageKind)
@pytest.mark.parametrize("jit", [False, True])
def test_agrees_with_numpy(kind, jit):
  rng = np.random.default_rng(0)
  rewards = np.concatenate([
    rng.integers(0, 2, (5, 16)) + rng.integers(0, 2, (5, 16)),  # accuracy + format
    rng.normal(0, 2, (5, 16)),
    np.eye(16)[:1],  # one right answer of sixteen
    1 - np.eye(16)[:1],
    np.full((1, 16), 0.1),
  ]).astype(np.float32)
  function = jax.jit(group_advantages, static_argnames="kind") if jit else group_advantages
  actual = function(rewards, kind=kind)
  assert actual.dtype == np.float32
  np.testing.assert_allclose(actual, numpy_reference.advantages(rewards, kind.value), rtol=0, atol=1e-6)


def test_by_hand():
  rewards = np.array([[0.0, 0, 0, 2]])
  root3 = np.sqrt(3)
  for kind, expected in [
    (AdvantageKind.STANDARDIZED, [-1 / root3, -1 / root3, -1 / root3, root3]),
    (AdvantageKind.CENTERED, [-0.5, -0.5, -0.5, 1.5]),
    (AdvantageKind.LEAVE_ONE_OUT, [-2 / 3, -2 / 3, -2 / 3, 2]),
  ]:
    np.testing.assert_allclose(group_advantages(rewards, kind), [expected], atol=1e-6)


@pytest.mark.parametrize("kind", AdvantageKind)
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -0.7, 1e-30, 12345.678])
@pytest.mark.parametrize("group_size", [3, 16])
def test_equal_rewards_give_exact_zeros(kind, value, group_size):
  actual = group_advantages(np.full((2, group_size), value, np.float32), kind)
  np.testing.assert_array_equal(actual, np.zeros((2, group_size)))


@pytest.mark.parametrize("kind", AdvantageKind)
def test_rounding_noise_between_rewards_is_no_signal(kind):
  parts = np.array([0.1, 0.2, 0.3, 0.7], np.float32)
  one, other = parts[0] + parts[1] + parts[2] + parts[3], parts[3] + parts[2] + parts[1] + parts[0]
  assert one != other
  np.testing.assert_array_equal(group_advantages(np.array([[one, other, one, one]]), kind), np.zeros((1, 4)))


@pytest.mark.parametrize(("scale", "offset"), [(1e-30, 0.0), (1e-6, 0.0), (1e4, 0.0), (2.0**-10, 8.0)])
def test_standardized_does_not_feel_scale_or_offset(scale, offset):
  # No epsilon in the denominator: with the usual 1e-6 the first two would be off by a factor.
  rewards = np.array([[0, 1, 1, 3, 2, 0, 0, 0]], np.float32)
  moved = (rewards * np.float32(scale) + np.float32(offset)).astype(np.float32)
  expected = numpy_reference.advantages(rewards, "standardized")
  np.testing.assert_allclose(group_advantages(moved, AdvantageKind.STANDARDIZED), expected, atol=1e-6)


def test_questions_do_not_mix_and_nan_stays_in_its_group():
  rewards = np.array([[0, 1, 2], [np.nan, 1, 0], [5, 5, 5]], np.float32)
  actual = np.asarray(group_advantages(rewards, AdvantageKind.STANDARDIZED))
  np.testing.assert_allclose(actual[0], numpy_reference.advantages(rewards[:1], "standardized")[0], atol=1e-6)
  assert np.isnan(actual[1]).all()
  np.testing.assert_array_equal(actual[2], 0)


def test_a_group_of_one():
  for kind in (AdvantageKind.STANDARDIZED, AdvantageKind.CENTERED):
    np.testing.assert_array_equal(group_advantages(np.array([[0.3], [2.0]]), kind), np.zeros((2, 1)))
  with pytest.raises(InputError, match="group size of 1"):
    group_advantages(np.array([[0.3]]), AdvantageKind.LEAVE_ONE_OUT)


@pytest.mark.parametrize(("rewards", "kind", "message"), [
  (np.zeros(4), AdvantageKind.CENTERED, r"rewards: shape \[4\]"),
  (np.zeros((4, 0)), AdvantageKind.CENTERED, "group size of 0"),
  (np.zeros((4, 2)), "centered", "member of AdvantageKind"),
])
def test_bad_input(rewards, kind, message):
  with pytest.raises(InputError, match=message):
    group_advantages(rewards, kind)
