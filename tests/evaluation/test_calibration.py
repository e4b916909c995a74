"""Ranking and calibration against brute force, values by hand, and errors."""

import numpy as np
import pytest

from r1jax.errors import InputError
from r1jax.evaluation.accuracy import wilson
from r1jax.evaluation.calibration import auc, expected_calibration_error, label_metrics, pair_metrics


def brute_auc(scores, labels):
  pairs = [(a > b) + 0.5 * (a == b) for a, p in zip(scores, labels, strict=True) if p
           for b, n in zip(scores, labels, strict=True) if not n]
  return sum(pairs) / len(pairs)


def brute_ece(probabilities, labels, bins):
  total = 0.0
  for b in range(bins):
    inside = [i for i, p in enumerate(probabilities) if b / bins <= p < (b + 1) / bins or (p == 1 and b == bins - 1)]
    if inside:
      total += abs(sum(probabilities[i] - labels[i] for i in inside) / len(inside)) * len(inside) / len(probabilities)
  return total


@pytest.mark.parametrize("seed", range(5))
def test_auc_is_the_share_of_ordered_pairs(seed):
  rng = np.random.default_rng(seed)
  scores, labels = rng.integers(0, 6, 40) / 4, rng.integers(0, 2, 40)  # many ties
  assert auc(scores, labels) == pytest.approx(brute_auc(scores, labels))
  order = rng.permutation(40)
  assert auc(scores[order], labels[order]) == auc(scores, labels)
  assert auc(np.exp(scores), labels) == auc(scores, labels)  # ranks alone count
  assert auc(-scores, labels) == pytest.approx(1 - auc(scores, labels))


def test_auc_by_hand():
  assert auc([1, 2, 3, 4], [0, 0, 1, 1]) == 1
  assert auc([1, 2, 3, 4], [False, True, False, True]) == 0.75
  assert auc(np.zeros(7), [0, 1, 1, 0, 0, 1, 0]) == 0.5


@pytest.mark.parametrize("bins", [1, 7, 10])
def test_ece_is_the_mean_gap_of_the_bins(bins):
  rng = np.random.default_rng(bins)
  probabilities, labels = rng.random(60), rng.integers(0, 2, 60)
  assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(brute_ece(probabilities, labels, bins))


def test_ece_by_hand():
  assert expected_calibration_error([0.25] * 4, [1, 0, 0, 0]) == 0
  assert expected_calibration_error([0.9, 0.9, 0.1, 0.1], [1, 0, 1, 0]) == pytest.approx(0.4)
  assert expected_calibration_error([0.0, 1.0], [0, 1]) == 0
  assert expected_calibration_error([0.0, 1.0], [1, 0]) == 1


def test_pairs_by_hand():
  chosen, rejected = np.array([1.0, 2, 0, 5]), np.array([0.0, 3, 0, 1])
  found = pair_metrics(chosen, rejected, [0.5, -0.5, None, 0.0])
  assert (found["eval/pairs"], found["eval/pair_accuracy"], found["eval/margin"]) == (4, 0.625, 1.0)
  assert (found["eval/pair_accuracy_low"], found["eval/pair_accuracy_high"]) == wilson(0.625, 4)
  # The first pair agrees with the truth, and so does the second, whose label the truth contradicts.
  assert (found["eval/preference_pairs"], found["eval/preference_agreement"], found["eval/preference_labels"]) == (2, 1, 0.5)


def test_pairs_without_a_known_preference_say_nothing_of_it():
  scores = np.array([1.0, 2.0]), np.array([0.0, 3.0])
  assert pair_metrics(*scores) == pair_metrics(*scores, [None, 0.0])
  assert not [name for name in pair_metrics(*scores) if "preference" in name]


def test_pairs_that_win_as_often_as_their_margin_says_are_calibrated():
  # sigmoid(log 3) = 0.75: of four such pairs three are won.
  margin = np.log(3.0) * np.array([1, 1, 1, -1])
  assert pair_metrics(margin, np.zeros(4))["eval/ece"] == pytest.approx(0)
  assert pair_metrics(np.abs(margin), np.zeros(4))["eval/ece"] == pytest.approx(0.25)
  assert pair_metrics(-np.abs(margin), np.zeros(4))["eval/ece"] == pytest.approx(0.75)
  assert pair_metrics(np.zeros(4), np.zeros(4))["eval/ece"] == 0


def test_equal_scores_are_worth_a_coin():
  found = pair_metrics(np.zeros(9), np.zeros(9))
  assert found["eval/pair_accuracy"] == 0.5 and found["eval/margin"] == 0
  found = label_metrics(np.zeros(9), np.arange(9) < 3)
  assert (found["eval/auc"], found["eval/accuracy"]) == (0.5, 0.5)


def test_labels_by_hand():
  found = label_metrics(np.array([2.0, -1, 3, -4]), np.array([True, True, False, False]))
  assert (found["eval/responses"], found["eval/auc"], found["eval/accuracy"]) == (4, 0.5, 0.5)
  assert found["eval/margin"] == (2 - 1 - 3 + 4) / 4
  p = 1 / (1 + np.exp(-np.array([2.0, -1, 3, -4])))
  assert found["eval/ece"] == pytest.approx(brute_ece(p, [1, 1, 0, 0], 10))


def test_scores_of_any_size_do_not_overflow():
  with np.errstate(all="raise", under="ignore"):
    assert pair_metrics(np.array([1e4, -1e4]), np.zeros(2))["eval/ece"] == pytest.approx(0.5)


@pytest.mark.parametrize(("scores", "labels", "message"), [
  ([1.0, 2], [1, 1], "auc: labels: 2 positive and 0 negative"),
  ([1.0, np.nan], [1, 0], "1 of 2 are not finite"),
  ([1.0, 2], [1, 2], r"values \[1, 2\]"),
  ([1.0, 2], [1], r"shape \[2\] and labels of \[1\]"),
  ([], [], r"shape \[0\]"),
])
def test_bad_scores_and_labels(scores, labels, message):
  with pytest.raises(InputError, match=message):
    auc(scores, labels)


def test_bad_probabilities_and_bins():
  with pytest.raises(InputError, match="from 0.5 to 1.5"):
    expected_calibration_error([0.5, 1.5], [0, 1])
  with pytest.raises(InputError, match="bins: 0"):
    expected_calibration_error([0.5], [1], 0)
