"""Truncated importance weights: what they are by hand, and that they make the sampler's draws stand for the trainer's."""
from itertools import product

import numpy as np
import pytest

from r1jax.losses.correction import SamplerCorrection, sampler_correction

PER_TOKEN, PER_SEQUENCE = SamplerCorrection.PER_TOKEN, SamplerCorrection.PER_SEQUENCE


def distribution(rng, size=4):
  p = rng.dirichlet(np.ones(size))
  return p / p.sum()


def test_by_hand():
  trainer = [np.log([0.5, 0.2]).astype(np.float32), np.log([0.9]).astype(np.float32)]
  sampler = [np.log([0.25, 0.4]).astype(np.float32), np.log([0.3]).astype(np.float32)]
  each = sampler_correction(trainer, sampler, PER_TOKEN, limit=2.5)
  np.testing.assert_allclose(np.concatenate(each), [2, 0.5, 2.5], rtol=1e-6)
  whole = sampler_correction(trainer, sampler, PER_SEQUENCE, limit=2.5)
  np.testing.assert_allclose(np.concatenate(whole), [1, 1, 2.5], rtol=1e-6)
  for factors in (*each, *whole):
    assert factors.dtype == np.float32
  assert sampler_correction(trainer, sampler, SamplerCorrection.NONE, limit=2.5) is None


@pytest.mark.parametrize("limit", [np.inf, 1.3])
def test_the_mean_over_the_samplers_tokens_is_that_over_the_trainers(limit):
  """sum_x q(x) min(p(x) / q(x), limit) f(x) = sum_x min(p(x), limit q(x)) f(x), over every token that can be drawn."""
  rng = np.random.default_rng(0)
  p, q, f = distribution(rng), distribution(rng), rng.standard_normal(4)
  (factors,) = sampler_correction([np.log(p)], [np.log(q)], PER_TOKEN, limit)
  np.testing.assert_allclose(np.sum(q * factors * f), np.sum(np.minimum(p, limit * q) * f), rtol=1e-6)


@pytest.mark.parametrize("limit", [np.inf, 1.3])
def test_the_mean_over_the_samplers_sequences_is_that_over_the_trainers(limit):
  """The same over all responses of three tokens, whose probabilities are products; f depends on the whole response."""
  rng = np.random.default_rng(1)
  p, q = ([distribution(rng) for _ in range(3)] for _ in range(2))
  responses = list(product(range(4), repeat=3))
  f = rng.standard_normal(len(responses))
  of = [np.array([[d[t] for d, t in zip(ds, r, strict=True)] for r in responses]) for ds in (p, q)]
  factors = np.stack(sampler_correction(*map(np.log, of), PER_SEQUENCE, limit))
  assert (factors == factors[:, :1]).all(), "one factor a response"
  by_trainer, by_sampler = (each.prod(axis=1) for each in of)
  np.testing.assert_allclose(np.sum(by_sampler * factors[:, 0] * f), np.sum(np.minimum(by_trainer, limit * by_sampler) * f),
                             rtol=1e-6)


@pytest.mark.parametrize("kind", [PER_TOKEN, PER_SEQUENCE])
def test_factors_are_finite_and_no_larger_than_the_limit_however_far_apart_the_two_are(kind):
  found = sampler_correction([np.float32([0, -200, -3])] * 2, [np.float32([-200, 0, -3]), np.float32([-200] * 3)], kind, 2.0)
  assert all(np.isfinite(f).all() and (f >= 0).all() and (f <= 2).all() for f in found)
  agreed = sampler_correction([np.float32([-1, -2])], [np.float32([-1, -2])], kind, 2.0)
  np.testing.assert_array_equal(agreed[0], np.float32([1, 1]))
