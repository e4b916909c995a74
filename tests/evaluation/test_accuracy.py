"""Estimates and intervals against hand values, counting by hand, and simulated coverage."""

import itertools

import numpy as np
import pytest
from scipy import stats

from r1jax.errors import InputError
from r1jax.evaluation.accuracy import (
  by_level,
  majority_answer,
  mean_score,
  pass_at_1,
  pass_at_k,
  ratio,
  wilson,
)


def test_wilson_by_hand():
  # z^2 = 3.841459, n = 10, p = 0.7: (0.7 + 0.192073 -+ 1.959964 sqrt(0.021 + 0.009604)) / 1.384146
  assert wilson(0.7, 10) == pytest.approx((0.396778, 0.892209), abs=2e-6)
  assert wilson(0.0, 20) == pytest.approx((0.0, 3.841459 / 23.841459), abs=1e-6)
  assert wilson(1.0, 20) == pytest.approx((20 / 23.841459, 1.0), abs=1e-6)


def jeffreys(right, questions):
  return stats.beta.ppf((0.025, 0.975), right + 0.5, questions - right + 0.5)


@pytest.mark.parametrize(("right", "questions"), [(7, 10), (1, 30), (250, 500)])
def test_one_sample_a_question_is_jeffreys_interval(right, questions):
  result = pass_at_1(np.arange(questions).reshape(-1, 1) < right)
  assert (result.mean, result.questions, result.samples) == (right / questions, questions, questions)
  low, high = jeffreys(right, questions)
  assert (result.low, result.high) == pytest.approx((low, high), abs=0.04 * (high - low))


def test_repeating_a_sample_does_not_narrow_the_interval():
  once = pass_at_1(np.array([[1]] * 7 + [[0]] * 3))
  copied = pass_at_1(np.array([[1] * 64] * 7 + [[0] * 64] * 3))
  assert copied.samples == 640
  assert (copied.mean, copied.low, copied.high) == (once.mean, once.low, once.high)


def test_clustered_interval_against_numpy():
  rng = np.random.default_rng(0)
  correct = rng.random((400, 8)) < rng.beta(1.0, 1.0, size=(400, 1))
  shares = correct.mean(axis=1)
  error = np.std(shares, ddof=1) / np.sqrt(400)
  result = pass_at_1(correct)
  assert result.mean == pytest.approx(shares.mean())
  low, high = shares.mean() - 1.96 * error, shares.mean() + 1.96 * error
  assert (result.low, result.high) == pytest.approx((low, high), abs=error / 8)


def test_more_samples_narrow_the_interval_as_far_as_answers_vary():
  rng = np.random.default_rng(0)
  widths = {k: (lambda a: a.high - a.low)(pass_at_1(rng.random((100, k)) < 0.5)) for k in (1, 4, 64)}
  assert widths[4] == pytest.approx(widths[1] / 2, rel=0.2) and widths[64] < widths[1] / 4


def test_the_same_answers_have_the_same_interval():
  correct = np.random.default_rng(0).integers(0, 2, (30, 4))
  assert pass_at_1(correct) == pass_at_1(correct)


def test_extremes_keep_a_width():
  for value in (0, 1):
    result = pass_at_1(np.full((30, 16), value))
    low, high = jeffreys(30 * value, 30)
    assert result.mean == value and result.high - result.low == pytest.approx(min(high, 1 - low), abs=0.01)


@pytest.mark.parametrize(("questions", "k", "a", "b"), [
  (30, 16, 1.0, 3.0), (60, 1, 4.0, 1.0),
  *(pytest.param(*case, marks=pytest.mark.slow) for case in ((30, 64, 2.0, 0.5), (50, 4, 1.0, 19.0), (198, 8, 1.0, 1.0)))])
def test_intervals_hold_the_truth_in_93_to_97_of_100_evaluations(questions, k, a, b):
  """The truth is the mean of the population that questions are drawn from, whose difficulties are Beta(a, b)."""
  rng = np.random.default_rng(1)
  found = [pass_at_1(rng.random((questions, k)) < rng.beta(a, b, (questions, 1))) for _ in range(1000)]
  assert 930 <= sum(each.low <= a / (a + b) <= each.high for each in found) <= 970


def test_pass_at_k_against_enumeration():
  correct = np.array([[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 0]])
  for k in range(1, 6):
    expected = np.mean([[max(pick) for pick in itertools.combinations(row, k)] for row in correct.tolist()])
    assert pass_at_k(correct, k).mean == pytest.approx(expected)
  assert pass_at_k(correct, 1).mean == pytest.approx(pass_at_1(correct).mean)
  assert pass_at_k(correct, 5).samples == 15
  for k in (0, 6):
    with pytest.raises(InputError, match="pass_at_k"):
      pass_at_k(correct, k)


def same_number(a, b):
  return float(a) == float(b)


@pytest.mark.parametrize(
  "answers, expected",
  [
    (["1", "2", "2"], "2"),
    (["1", "2.0", "2", "1", "2.00"], "2.0"),
    (["3", "1", "1", "3"], "3"),
    ([None, None, None, "4"], "4"),
    ([None, None], None),
    ([], None),
  ],
)
def test_majority_answer(answers, expected):
  assert majority_answer(answers, same_number) == expected


@pytest.mark.parametrize(
  "correct", [np.zeros((0, 4)), np.zeros((4, 0)), np.zeros(4), np.full((2, 2), 0.5), np.full((2, 2), np.nan)]
)
def test_bad_arrays(correct):
  with pytest.raises(InputError, match="correct"):
    pass_at_1(correct)


@pytest.mark.parametrize("questions", [64, 100, 256, 511, 512, 1000])
def test_the_interval_holds_the_share_at_both_ends(questions):
  for right in (0.0, 1.0):
    found = pass_at_1(np.full((questions, 1), right))
    assert found.low <= found.mean <= found.high


def test_a_mean_score_by_hand():
  # Questions of means 1, 3 and 5: standard deviation 2, standard error 2 / sqrt(3).
  mean, low, high = mean_score(np.array([[0.0, 2.0], [3.0, 3.0], [4.0, 6.0]]))
  assert mean == 3.0
  assert (low, high) == (pytest.approx(3 - 1.959964 * 2 / 3**0.5), pytest.approx(3 + 1.959964 * 2 / 3**0.5))
  for shape in ((1, 4), (3, 0), (3,)):
    with pytest.raises(InputError, match="at least two questions"):
      mean_score(np.zeros(shape))


def numpy_pass_at_k(correct, k):
  """1 - C(n - c, k) / C(n, k) as the product over i of 1 - k / i, i from n - c + 1 to n (Chen et al. 2021, figure 3)."""
  n = correct.shape[1]
  return np.mean([1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)) if n - c >= k else 1.0 for c in correct.sum(axis=1)])


def test_pass_at_k_against_a_product_in_numpy():
  correct = np.random.default_rng(0).random((50, 64)) < np.random.default_rng(1).random((50, 1))
  for k in (1, 2, 7, 32, 64):
    assert pass_at_k(correct, k).mean == pytest.approx(numpy_pass_at_k(correct, k), abs=1e-12)


def test_a_ratio_of_equal_totals_is_a_share_and_of_others_its_own():
  equal, shares = ratio([1, 0, 2], [2, 2, 2]), pass_at_1(np.array([[1, 0], [0, 0], [1, 1]]))
  assert (equal.mean, equal.low, equal.high) == pytest.approx((shares.mean, shares.low, shares.high))
  rng = np.random.default_rng(0)
  total = rng.integers(1, 5, 400)
  counted = rng.binomial(total, 0.7)
  found = ratio(counted, total)
  error = np.std(counted - found.mean * total, ddof=1) / total.mean() / 20  # to first order (Cochran 1977, section 6.3)
  assert found.mean == counted.sum() / total.sum() and (found.questions, found.samples) == (400, total.sum())
  assert (found.low, found.high) == pytest.approx((found.mean - 1.96 * error, found.mean + 1.96 * error), abs=error / 8)
  for counted, total in (([1], [0]), ([3], [2]), ([-1], [2]), ([1, 1], [2]), ([], [])):
    with pytest.raises(InputError, match="ratio"):
      ratio(counted, total)


def test_accuracy_of_each_level_is_that_of_its_questions():
  correct = np.array([[1, 1], [0, 0], [1, 0], [0, 1]])
  found = by_level(["2", "1", "2", ""], correct)
  assert {level: (of.mean, of.questions) for level, of in found.items()} == {"1": (0.0, 1), "2": (0.75, 2)}
  assert by_level(["", ""], correct[:2]) == {}
