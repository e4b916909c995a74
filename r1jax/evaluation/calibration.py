"""How well scores tell good from bad: ranking (AUC, pair accuracy) and calibration. For reward models.

Ties count half everywhere, so a model that gives every response the same score is worth a coin. The paper reports none of
these; they are ours.
"""

from collections.abc import Sequence

import numpy as np

from r1jax.errors import InputError
from r1jax.evaluation.accuracy import wilson


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
  """The probability that a random positive scores higher than a random negative, ties half: area under the ROC curve.

  scores: [N] finite; labels: [N] bool or 0/1. From ranks (Mann-Whitney), N log N. Raises InputError for other shapes or
  values, and when all labels are the same.
  """
  scores, labels = _checked("auc", scores, labels)
  positives = int(labels.sum())
  negatives = len(labels) - positives
  if not positives or not negatives:
    raise InputError("auc: labels", f"{positives} positive and {negatives} negative", "Give some of each.")
  _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
  ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[group]  # from 1; ties share the mean of their ranks
  return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
  """sum_b (n_b / N) |mean probability in bin b - share of positives in bin b| over bins of equal width (Naeini et al. 2015).

  probabilities: [N] in [0, 1]; labels: [N] bool or 0/1. A bin holds its lower bound, the last one 1.0 too. Raises
  InputError for other shapes or values, and for bins < 1.
  """
  probabilities, labels = _checked("expected_calibration_error", probabilities, labels)
  if probabilities.min() < 0 or probabilities.max() > 1:
    raise InputError("expected_calibration_error: probabilities",
                     f"from {probabilities.min()} to {probabilities.max()}", "Give numbers from 0 to 1.")
  if bins < 1:
    raise InputError("expected_calibration_error: bins", bins, "Give at least one bin.")
  index = np.minimum((probabilities * bins).astype(int), bins - 1)
  gaps = np.bincount(index, weights=probabilities - labels, minlength=bins)
  return float(np.abs(gaps).sum() / len(labels))


def pair_metrics(chosen: np.ndarray, rejected: np.ndarray, preference: Sequence[float | None] = ()) -> dict[str, float]:
  """`eval/...` metrics of scores of preference pairs, each [N].

  eval/pair_accuracy with Wilson's 95% interval (`_low`, `_high`; pairs taken as independent), eval/margin (the mean of
  chosen - rejected) and eval/ece. sigmoid(margin) is the probability that the chosen one is the better: for the ECE a pair
  is taken both ways round, since a probability of what is always so could not be calibrated.

  preference: the true preference for chosen over rejected, where a world knows it, None where not. Where it is not 0 for
  some pair there are eval/preference_agreement (with its interval): how often the sign of the margin is that of the
  truth; and eval/preference_labels: how often that of the labels is, which is what the model was given to learn from.
  """
  margin = np.asarray(chosen, np.float64) - np.asarray(rejected, np.float64)
  probability = _sigmoid(margin)
  ones = np.ones(len(margin))
  metrics = {
    "eval/pairs": len(margin), **_share("eval/pair_accuracy", margin), "eval/margin": float(margin.mean()),
    "eval/ece": expected_calibration_error(np.concatenate([probability, 1 - probability]),
                                           np.concatenate([ones, 1 - ones]))}
  known = np.array([i for i, value in enumerate(preference) if value], int)
  if len(known):
    truth = np.sign([preference[i] for i in known])
    metrics |= {"eval/preference_pairs": len(known), **_share("eval/preference_agreement", margin[known] * truth),
                "eval/preference_labels": float((truth > 0).mean())}
  return metrics


def label_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
  """`eval/...` metrics of logits [N] of labelled responses: auc, accuracy at probability 0.5 with Wilson's 95% interval,
  mean margin (the logit in the direction of its label) and ece. Raises InputError as `auc`."""
  scores, labels = _checked("label_metrics", scores, labels)
  margin = scores * (2 * labels - 1)
  return {"eval/responses": len(labels), "eval/auc": auc(scores, labels), **_share("eval/accuracy", margin),
          "eval/margin": float(margin.mean()), "eval/ece": expected_calibration_error(_sigmoid(scores), labels)}


def _share(name: str, margin: np.ndarray) -> dict[str, float]:
  """The share of positive margins, ties half, with its interval."""
  share = float(np.mean((margin > 0) + 0.5 * (margin == 0)))
  low, high = wilson(share, len(margin))
  return {name: share, f"{name}_low": low, f"{name}_high": high}


def _sigmoid(x: np.ndarray) -> np.ndarray:
  return np.exp(-np.logaddexp(0, -x))  # no overflow at either end


def _checked(where: str, scores, labels) -> tuple[np.ndarray, np.ndarray]:
  scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
  if scores.ndim != 1 or scores.shape != labels.shape or not len(scores):
    raise InputError(where, f"scores of shape {list(scores.shape)} and labels of {list(labels.shape)}",
                     "Give both one axis of the same length, at least 1.")
  if not np.isfinite(scores).all():
    raise InputError(f"{where}: scores", f"{int((~np.isfinite(scores)).sum())} of {len(scores)} are not finite",
                     "Give finite numbers.")
  if not np.isin(labels, (0, 1)).all():
    raise InputError(f"{where}: labels", f"values {sorted(set(labels.tolist()))[:5]}", "Give 0 and 1, or booleans.")
  return scores, labels.astype(bool)
