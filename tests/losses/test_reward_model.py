"""The losses of reward models against NumPy, what must not change them, and their errors."""

import jax
import numpy as np
import pytest

from r1jax.errors import InputError
from r1jax.losses.reward_model import pairwise_loss, pointwise_loss

RNG = np.random.default_rng(0)
N = 12
CHOSEN, REJECTED = (RNG.normal(0, 2, N).astype(np.float32) for _ in range(2))
CHOSEN[3] = REJECTED[3]  # a tie
SAFE = RNG.integers(0, 2, N)
WEIGHTS = RNG.uniform(0.1, 1, N).astype(np.float32)


def sigmoid(x):
  return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def with_gradient(loss, first, second, weights=None):
  (value, metrics), gradients = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(first, second, weights)
  return value, metrics, gradients


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_pairwise_loss_gradient_and_metrics_are_numpys(weights):
  loss, metrics, (up, down) = with_gradient(pairwise_loss, CHOSEN, REJECTED, weights)
  w = np.full(N, 1 / N) if weights is None else weights.astype(np.float64)
  margin = CHOSEN.astype(np.float64) - REJECTED
  np.testing.assert_allclose(loss, -np.sum(w * np.log(sigmoid(margin))), atol=1e-6)
  np.testing.assert_allclose(up, -w * (1 - sigmoid(margin)), atol=1e-6)
  np.testing.assert_allclose(down, w * (1 - sigmoid(margin)), atol=1e-6)
  right = np.where(margin == 0, 0.5, margin > 0)
  for name, value in {"accuracy": w @ right, "margin": w @ margin, "weight": w.sum()}.items():
    np.testing.assert_allclose(metrics[name], value, atol=2e-6, err_msg=name)
  assert loss.dtype == np.float32


@pytest.mark.parametrize("labels", [SAFE, SAFE.astype(bool), SAFE.astype(np.float32)])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_pointwise_loss_gradient_and_metrics_are_numpys(labels, weights):
  function = jax.value_and_grad(pointwise_loss, has_aux=True)
  (loss, metrics), gradient = function(CHOSEN, labels, weights)
  w = np.full(N, 1 / N) if weights is None else weights.astype(np.float64)
  p = sigmoid(CHOSEN)
  np.testing.assert_allclose(loss, -np.sum(w * (SAFE * np.log(p) + (1 - SAFE) * np.log(1 - p))), atol=1e-6)
  np.testing.assert_allclose(gradient, w * (p - SAFE), atol=1e-6)
  np.testing.assert_allclose(metrics["accuracy"], w @ ((p > 0.5) == SAFE), atol=1e-6)
  np.testing.assert_allclose(metrics["margin"], w @ np.where(SAFE, CHOSEN, -CHOSEN), atol=2e-6)


def test_by_hand():
  loss, metrics = pairwise_loss(np.float32([1, 0]), np.float32([0, 0]))
  np.testing.assert_allclose(loss, (np.log1p(np.exp(-1)) + np.log(2)) / 2, atol=1e-6)
  assert (metrics["accuracy"], metrics["margin"], metrics["weight"]) == (0.75, 0.5, 1)
  loss, metrics = pointwise_loss(np.float32([0, 0]), np.array([True, False]))
  np.testing.assert_allclose(loss, np.log(2), atol=1e-6)
  assert metrics["accuracy"] == 0.5


def test_only_the_difference_of_a_pair_counts():
  shifted = pairwise_loss(CHOSEN + np.float32(8), REJECTED + np.float32(8))
  np.testing.assert_allclose(shifted[0], pairwise_loss(CHOSEN, REJECTED)[0], atol=1e-6)


def test_swapped_pairs_swap_the_likelihood_and_nothing_else():
  (one, there), (other, back) = pairwise_loss(CHOSEN, REJECTED), pairwise_loss(REJECTED, CHOSEN)
  margin = CHOSEN.astype(np.float64) - REJECTED
  # log sigmoid(d) - log sigmoid(-d) = d
  np.testing.assert_allclose(other - one, margin.mean(), atol=1e-6)
  np.testing.assert_allclose(back["margin"], -there["margin"], atol=1e-6)
  np.testing.assert_allclose(back["accuracy"], 1 - there["accuracy"], atol=1e-6)


def test_relabelled_and_negated_scores_are_the_same():
  (one, there), (other, back) = pointwise_loss(CHOSEN, SAFE), pointwise_loss(-CHOSEN, 1 - SAFE)
  np.testing.assert_allclose(other, one, atol=1e-6)
  assert there["accuracy"] == back["accuracy"] and there["margin"] == back["margin"]


def test_order_does_not_matter_and_slices_add_up():
  order = RNG.permutation(N)
  whole = pairwise_loss(CHOSEN, REJECTED, WEIGHTS)
  moved = pairwise_loss(CHOSEN[order], REJECTED[order], WEIGHTS[order])
  parts = [pairwise_loss(CHOSEN[s], REJECTED[s], WEIGHTS[s]) for s in (slice(0, 5), slice(5, N))]
  summed = jax.tree.map(lambda a, b: a + b, *parts)
  for found in (moved, summed):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), found, whole)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("loss", [pairwise_loss, pointwise_loss])
def test_what_has_no_weight_may_be_anything(loss, garbage):
  second = REJECTED if loss is pairwise_loss else SAFE.astype(np.float32)
  weights = np.where(np.arange(N) < 4, WEIGHTS, np.float32(0))
  clean = with_gradient(loss, CHOSEN, second, weights)
  dirty = with_gradient(loss, np.where(weights > 0, CHOSEN, np.float32(garbage)),
                        np.where(weights > 0, second, np.float32(garbage)), weights)
  jax.tree.map(np.testing.assert_array_equal, dirty, clean)


def test_huge_margins_have_finite_losses_and_gradients():
  scores = np.float32([1e4, -1e4])
  loss, _, (up, _) = with_gradient(pairwise_loss, scores, np.zeros(2, np.float32))
  np.testing.assert_allclose(loss, 5e3, rtol=1e-6)
  np.testing.assert_allclose(up, [0, -0.5], atol=1e-6)


@pytest.mark.parametrize(("loss", "arrays", "message"), [
  (pairwise_loss, (CHOSEN, REJECTED[1:]), r"pairwise_loss: rejected: shape \[11\].*\[12\]"),
  (pairwise_loss, (CHOSEN, REJECTED, WEIGHTS[1:]), r"weights: shape \[11\]"),
  (pairwise_loss, (CHOSEN[:0], REJECTED[:0]), r"scores: shape \[0\]"),
  (pointwise_loss, (CHOSEN[None], SAFE[None]), r"pointwise_loss: scores: shape \[1, 12\]"),
  (pointwise_loss, (CHOSEN, SAFE[1:]), r"pointwise_loss: safe: shape \[11\]"),
])
def test_bad_input(loss, arrays, message):
  with pytest.raises(InputError, match=message):
    loss(*arrays)
