"""Estimates and intervals against hand values, counting by hand, and simulated coverage."""

import itertools

import numpy as np
import pytest

from r1jax.errors import InputError
from r1jax.evaluation.accuracy import by_level, cons_at_k, majority_answer, mean_score, pass_at_1, pass_at_k, wilson


def test_wilson_by_hand():
  # z^2 = 3.841459, n = 10, p = 0.7: (0.7 + 0.192073 -+ 1.959964 sqrt(0.021 + 0.009604)) / 1.384146
  assert wilson(0.7, 10) == pytest.approx((0.396778, 0.892209), abs=2e-6)
  assert wilson(0.0, 20) == pytest.approx((0.0, 3.841459 / 23.841459), abs=1e-6)
  assert wilson(1.0, 20) == pytest.approx((20 / 23.841459, 1.0), abs=1e-6)


def test_one_sample_a_question_is_plain_wilson():
  result = pass_at_1(np.array([[1]] * 7 + [[0]] * 3))
  assert (result.mean, result.questions, result.samples) == (0.7, 10, 10)
  assert (result.low, result.high) == pytest.approx(wilson(0.7, 10))


def test_repeating_a_sample_does_not_narrow_the_interval():
  once = pass_at_1(np.array([[1]] * 7 + [[0]] * 3))
  copied = pass_at_1(np.array([[1] * 64] * 7 + [[0] * 64] * 3))
  assert copied.samples == 640
  assert (copied.mean, copied.low, copied.high) == (once.mean, once.low, once.high)


def test_clustered_interval_against_numpy():
  rng = np.random.default_rng(0)
  correct = rng.random((40, 8)) < rng.beta(1.0, 1.0, size=(40, 1))
  shares = correct.mean(axis=1)
  p, error = shares.mean(), np.std(shares, ddof=1) / np.sqrt(40)
  n = p * (1 - p) / error**2
  assert 40 < n < 320  # neither bound is at work
  result = pass_at_1(correct)
  assert result.mean == pytest.approx(p)
  assert (result.low, result.high) == pytest.approx(wilson(p, n))
  assert result.high - result.low == pytest.approx(2 * 1.96 * error, rel=0.05)


def test_equal_questions_use_every_sample():
  correct = np.tile([1, 0, 0, 1], (25, 1))
  result = pass_at_1(correct)
  assert result.mean == 0.5
  # No spread between questions at all: nothing to estimate from, so the number of questions.
  assert (result.low, result.high) == pytest.approx(wilson(0.5, 25))
  correct[0, 0] = 0
  result = pass_at_1(correct)
  assert (result.low, result.high) == pytest.approx(wilson(0.49, 100))


def test_extremes_keep_a_width():
  for value in (0, 1):
    result = pass_at_1(np.full((30, 16), value))
    assert result.mean == value and result.high - result.low > 0.1


@pytest.mark.parametrize("k", [1, 4, 16])
def test_coverage_over_questions(k):
  """The interval holds the true mean of the population of questions in about 95 of 100 experiments."""
  rng = np.random.default_rng(k)
  held = 0
  for _ in range(1000):
    difficulty = rng.beta(0.5, 0.5, size=(50, 1))  # mean 0.5, most questions nearly always right or wrong
    result = pass_at_1(rng.random((50, k)) < difficulty)
    held += result.low <= 0.5 <= result.high
  assert 925 <= held <= 980


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


def test_cons_at_k():
  answers = [["1", "2", "2.0"], ["3", "3", "1"], [None, None, None], ["5", "4", None]]
  result = cons_at_k(answers, ["2", "1", "7", "5"], same_number)
  assert (result.mean, result.questions, result.samples) == (0.5, 4, 12)
  assert (result.low, result.high) == pytest.approx(wilson(0.5, 4))
  with pytest.raises(InputError, match="4 questions with 1 gold"):
    cons_at_k(answers, ["2"], same_number)


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


def test_accuracy_of_each_level_is_that_of_its_questions():
  correct = np.array([[1, 1], [0, 0], [1, 0], [0, 1]])
  found = by_level(["2", "1", "2", ""], correct)
  assert {level: (of.mean, of.questions) for level, of in found.items()} == {"1": (0.0, 1), "2": (0.75, 2)}
  assert by_level(["", ""], correct[:2]) == {}
