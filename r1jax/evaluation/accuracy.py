"""Accuracy over several samples a question: pass@1, pass@k, cons@k (R1, arXiv V2, appendix D.1), with
intervals.

The paper gives no intervals; these are ours. The samples of one question are not independent of each other,
so the question is the unit: a question more narrows the interval, a sample more of the same question
narrows it only as far as the answers to it vary.

The interval is a Bayesian bootstrap over questions (Rubin 1981): each draw weighs the questions afresh, by
exponential random numbers, and with them two made-up questions, one right and one wrong, by half as much, so
that it keeps a width where all answers are right. For one sample a question that is Jeffreys' interval of a
share. It was chosen by measurement: of 1,000 simulated evaluations, in twelve settings of 30 to 500 questions,
1 to 64 samples and accuracies of 0.05 to 0.9, it held the truth in 93.7 to 96.5%. Wilson's interval with the
number of samples that the spread between questions is worth did so in 92.6 to 97.9%, the percentile bootstrap in
91.5 to 96.8%. tests/evaluation/test_accuracy.py repeats some of it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from r1jax.errors import InputError

_Z = 1.959963984540054  # the 97.5% point of the standard normal: a two-sided 95% interval
DRAWS = 2_000  # of the bootstrap: its ends then vary by some 2% of its width. Ours.
_BLOCK = 100


@dataclass(frozen=True)
class Accuracy:
  """An estimated share in [0, 1] with its 95% interval.

  questions, samples: how many questions it is over, and how many samples of them in all.
  """

  mean: float
  low: float
  high: float
  questions: int
  samples: int


def pass_at_1(correct: np.ndarray) -> Accuracy:
  """pass@1 = (1/k) sum_i p_i, the mean over the k samples of a question, averaged over questions (appendix
  D.1).

  correct: [questions, k], each 0 or 1. Raises InputError for another shape or other values.
  """
  correct = _checked(correct)
  return _estimate(correct.mean(axis=1), samples=correct.size)


def mean_share(shares: np.ndarray) -> Accuracy:
  """The mean of values in [0, 1], [questions, k], such as shares of words or degrees of preference; the interval is that of
  `pass_at_1`."""
  shares = np.asarray(shares, dtype=float)
  if shares.ndim != 2 or shares.size == 0:
    raise InputError("shares", f"array of shape {shares.shape}", "Give [questions, k], neither of them 0.")
  if not (shares.min() >= 0 and shares.max() <= 1):
    raise InputError("shares", f"values from {shares.min()} to {shares.max()}", "Give values from 0 to 1.")
  return _estimate(shares.mean(axis=1), samples=shares.size)


def mean_score(scores: np.ndarray) -> tuple[float, float, float]:
  """(mean, low, high) of values on any scale, [questions, k]: mean -+ 1.96 standard errors between questions.

  Raises InputError for another shape, or fewer than two questions, which have no spread.
  """
  scores = np.asarray(scores, dtype=float)
  if scores.ndim != 2 or scores.shape[0] < 2 or scores.shape[1] == 0:
    raise InputError("scores", f"array of shape {scores.shape}", "Give [questions, k], of at least two questions.")
  of_questions = scores.mean(axis=1)
  mean, error = float(of_questions.mean()), float(of_questions.std(ddof=1)) / math.sqrt(len(of_questions))
  return mean, mean - _Z * error, mean + _Z * error


def pass_at_k(correct: np.ndarray, k: int) -> Accuracy:
  """Share of questions with a right answer among k samples, unbiased from n >= k samples of each.

  Per question 1 - C(n - c, k) / C(n, k), c of its n samples being right (Chen et al. 2021, equation 1).
  correct: [questions, n], each 0 or 1. Raises InputError when k is not in 1..n.
  """
  correct = _checked(correct)
  n = correct.shape[1]
  if not 1 <= k <= n:
    raise InputError("pass_at_k", f"k = {k} with {n} samples a question", f"Give a k from 1 to {n}.")
  wrong = n - correct.sum(axis=1).astype(int)
  shares = np.array([1.0 - math.comb(w, k) / math.comb(n, k) for w in wrong.tolist()])
  return _estimate(shares, samples=correct.size)


def ratio(counted: Sequence[float], total: Sequence[float]) -> Accuracy:
  """sum(counted) / sum(total) over questions that count differently, such as instructions of a prompt or games of a pair.

  counted, total: one of each a question, 0 <= counted <= total, total > 0. Where all totals are the same it is `pass_at_1`.
  samples: the sum of total. Raises InputError for other values.
  """
  counted, total = np.asarray(counted, float), np.asarray(total, float)
  if counted.ndim != 1 or counted.shape != total.shape or not counted.size:
    raise InputError("ratio", f"{counted.shape} counted of {total.shape}", "Give one of each for every question.")
  if not ((counted >= 0) & (counted <= total) & (total > 0)).all():
    raise InputError("ratio", "counts outside of 0 to their total, or a total of 0", "Give 0 <= counted <= total.")
  return _ratio(counted, total, samples=int(total.sum()))


def by_level(levels: Sequence[str], correct: np.ndarray) -> dict[str, Accuracy]:
  """pass@1 of the questions of each level, in the order of the levels; questions without one ("") are left out.

  levels: one a question. correct: [questions, k], each 0 or 1.
  """
  correct = _checked(correct)
  return {level: pass_at_1(correct[[found == level for found in levels]]) for level in sorted(set(levels) - {""})}


def majority_answer(answers: Sequence[str | None], equal: Callable[[str, str], bool]) -> str | None:
  """The most frequent answer, counting equal ones together; of a tie, the one seen first. None does not vote.

  An answer joins the first group whose first member it equals. None when nobody votes.
  """
  groups: dict[str, int] = {}
  joined: dict[str, str] = {}  # each distinct text is compared once
  for answer in answers:
    if answer is None:
      continue
    if answer not in joined:
      joined[answer] = next((first for first in groups if equal(answer, first)), answer)
    groups[joined[answer]] = groups.get(joined[answer], 0) + 1
  return max(groups, key=groups.__getitem__, default=None)


def _checked(correct: np.ndarray) -> np.ndarray:
  correct = np.asarray(correct, dtype=float)
  if correct.ndim != 2 or correct.size == 0:
    raise InputError("correct", f"array of shape {correct.shape}", "Give [questions, k], neither of them 0.")
  if not np.isin(correct, (0.0, 1.0)).all():
    raise InputError("correct", "values other than 0 and 1", "Give one boolean a sample.")
  return correct


def _estimate(shares: np.ndarray, samples: int) -> Accuracy:
  """Accuracy from one share in [0, 1] for each question, [questions]."""
  return _ratio(shares, np.ones_like(shares), samples)


def _ratio(counted: np.ndarray, total: np.ndarray, samples: int) -> Accuracy:
  """Accuracy of sum(counted) / sum(total), each [questions], with the interval that the head of this file describes.

  Its random numbers are always the same: an estimate depends on what is estimated alone.
  """
  rng, drawn = np.random.default_rng(0), []
  for _ in range(DRAWS // _BLOCK):  # in blocks, for memory
    weights = rng.standard_exponential((_BLOCK, len(total)))
    right, wrong = total.mean() * rng.standard_gamma(0.5, (2, _BLOCK))
    drawn.append((weights @ counted + right) / (weights @ total + right + wrong))
  mean = float(counted.sum() / total.sum())
  low, high = np.quantile(np.concatenate(drawn), (0.025, 0.975)).tolist()
  # At 0 and 1 the made-up questions pull all draws to one side of what was measured.
  return Accuracy(mean, min(low, mean), max(high, mean), questions=len(total), samples=samples)


def wilson(p: float, n: float) -> tuple[float, float]:
  """Wilson's 95% interval of a share p observed on n independent samples.

  (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), with z = 1.96.
  """
  centre = p + _Z**2 / (2 * n)
  half = _Z * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n * n))
  scale = 1 + _Z**2 / n
  # p lies within, though rounding may leave it outside at 0 and 1.
  return max(0.0, min(p, (centre - half) / scale)), min(1.0, max(p, (centre + half) / scale))
