"""The choice of a token against distributions worked out by sorting in NumPy."""

from functools import partial

import jax
import numpy as np
import pytest

from r1jax.errors import InputError
from r1jax.sampling.choice import Sampling, choose, nucleus, sampled_distribution


def numpy_distribution(logits, temperature, top_p=1.0, top_k=None):
  """Probabilities [V] in float64: softmax, the k likeliest, then the likeliest that reach top_p; ties are kept."""
  scaled = np.asarray(logits, np.float64) / temperature
  probs = np.exp(scaled - scaled.max())
  probs /= probs.sum()
  if top_k is not None and top_k < len(probs):
    probs = np.where(probs >= np.sort(probs)[-top_k], probs, 0)
    probs /= probs.sum()
  if top_p < 1:
    ordered = np.sort(probs)[::-1]
    last = ordered[np.searchsorted(np.cumsum(ordered), top_p)]
    probs = np.where(probs >= last, probs, 0)
    probs /= probs.sum()
  return probs


def random_logits(rows=64, vocab=50, scale=2.0, seed=0):
  return np.random.default_rng(seed).standard_normal((rows, vocab)).astype(np.float32) * np.float32(scale)


distribution = jax.jit(sampled_distribution, static_argnums=1)
choice = jax.jit(choose, static_argnums=2)


@pytest.mark.parametrize("scale", [0.01, 2.0, 20.0], ids=["flat", "random", "peaked"])
@pytest.mark.parametrize("sampling", [Sampling(0.7), Sampling(0.7, top_p=0.9), Sampling(1.0, top_k=5),
                                      Sampling(1.3, top_p=0.5, top_k=10), Sampling(1.0, top_p=1e-6),
                                      Sampling(1.0, top_k=50)], ids=str)
def test_the_distribution_is_that_of_sorting(sampling, scale):
  logits = random_logits(scale=scale)
  found = np.exp(np.asarray(distribution(logits, sampling), np.float64))
  expected = np.stack([numpy_distribution(row, sampling.temperature, sampling.top_p, sampling.top_k) for row in logits])
  np.testing.assert_array_equal(found > 1e-30, expected > 1e-30)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
  np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("probs, top_p, kept", [
  ([0.5, 0.3, 0.1, 0.1], 0.75, [1, 1, 0, 0]),
  ([0.25, 0.25, 0.25, 0.25], 0.3, [1, 1, 1, 1]),  # as likely as the last one kept
  ([0.1, 0.4, 0.4, 0.1], 0.5, [0, 1, 1, 0]),
  ([1.0, 0.0, 0.0, 0.0], 0.999, [1, 0, 0, 0]),
  ([0.5, 0.25, 0.25, 0.0], 0.5, [1, 0, 0, 0]),  # exactly reached
  ([0.0, 0.0, 1e-30, 1.0], 1e-9, [0, 0, 0, 1]),
])
def test_the_nucleus_and_its_ties(probs, top_p, kept):
  found = jax.jit(partial(nucleus, top_p=top_p))(np.array([probs], np.float32))
  np.testing.assert_array_equal(found[0], np.array(kept, bool))


@pytest.mark.parametrize("sampling", [Sampling(0.8), Sampling(1.0, top_p=0.8), Sampling(1.0, top_k=4)], ids=str)
def test_frequencies_are_the_probabilities(sampling):
  """Chi-square of 40,000 draws; its upper 1e-6 point for 11 degrees of freedom is 49."""
  draws = 40_000
  logits = random_logits(1, 12, 1.5, seed=0)
  uniform = np.random.default_rng(4).random(draws, np.float32)
  tokens, _ = choice(np.repeat(logits, draws, axis=0), uniform, sampling)
  counts = np.bincount(tokens, minlength=12)
  probs = numpy_distribution(logits[0], sampling.temperature, sampling.top_p, sampling.top_k)
  assert np.all(counts[probs == 0] == 0)
  kept = probs > 0
  assert kept.sum() == {(1.0, None): 12, (0.8, None): 6, (1.0, 4): 4}[sampling.top_p, sampling.top_k]
  expected = draws * probs[kept]
  assert np.sum((counts[kept] - expected) ** 2 / expected) < 49


@pytest.mark.parametrize("uniform", [0.0, 0.5, float(np.nextafter(np.float32(1), np.float32(0)))])
@pytest.mark.parametrize("kept", [[0, 1], [10, 11], [0, 11], [5]])
def test_the_ends_of_the_unit_interval_fall_on_tokens_that_can_be_drawn(kept, uniform):
  logits = np.full((1, 12), -5.0, np.float32)
  logits[0, kept] = 5.0
  tokens, logprobs = choice(logits, np.array([uniform], np.float32), Sampling(1.0, top_k=len(kept)))
  assert int(tokens[0]) in kept
  if uniform != 0.5:
    assert int(tokens[0]) == kept[0 if uniform == 0 else -1]
  np.testing.assert_allclose(logprobs[0], -np.log(len(kept)), atol=1e-6)


def test_the_logprob_is_that_of_the_distribution_drawn_from():
  logits, sampling = random_logits(), Sampling(0.6, top_p=0.95)
  tokens, logprobs = choice(logits, np.random.default_rng(5).random(64, np.float32), sampling)
  expected = [np.log(numpy_distribution(row, 0.6, 0.95)[token]) for row, token in zip(logits, tokens, strict=True)]
  np.testing.assert_allclose(logprobs, expected, atol=1e-5)
  assert len(set(np.asarray(tokens).tolist())) > 10


def test_greedy_takes_the_likeliest_and_reports_temperature_one():
  logits = random_logits()
  tokens, logprobs = choice(logits, np.zeros(64, np.float32), Sampling(0.0, top_p=0.5))
  np.testing.assert_array_equal(tokens, logits.argmax(axis=1))
  expected = [np.log(numpy_distribution(row, 1.0).max()) for row in logits]
  np.testing.assert_allclose(logprobs, expected, atol=1e-5)


@pytest.mark.parametrize("values, message", [
  ({"temperature": -0.1}, r"sampling\.temperature: -0\.1\. It must be 0 \(greedy\) or positive"),
  ({"temperature": float("nan")}, r"sampling\.temperature: nan"),
  ({"top_p": 0.0}, r"sampling\.top_p: 0\.0\. It must be in \(0, 1\]"),
  ({"top_p": 1.01}, r"sampling\.top_p: 1\.01"),
  ({"top_k": 0}, r"sampling\.top_k: 0\. It must be at least 1"),
])
def test_wrong_settings_are_refused(values, message):
  with pytest.raises(InputError, match=message):
    Sampling(**values)
