"""Rotary embedding against formulas written out pair by pair."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import EVERYTHING

from r1jax.models.config import RopeScaling
from r1jax.models.rope import inverse_frequencies, rope_tables, rotate

CONFIG = replace(EVERYTHING, head_dim=64, rope_theta=10_000.0, rope_scaling=None)


def rotated(config, x, positions):
  return np.asarray(jax.jit(lambda x, p: rotate(x, *rope_tables(config, p)))(x, positions))


def test_pairs_turn_by_position_times_frequency():
  rng = np.random.default_rng(0)
  x = rng.standard_normal((2, 3, 2, 64), np.float32)
  positions = np.array([[0, 1, 300], [5, 257, 4095]], np.int32)
  frequencies = np.array([10_000.0 ** (-2 * i / 64) for i in range(32)])
  # Pair i is the complex number x_i + j x_(i + 32).
  turned = (x[..., :32] + 1j * x[..., 32:]) * np.exp(1j * positions[:, :, None, None] * frequencies)
  expected = np.concatenate([turned.real, turned.imag], axis=-1)
  # float32 angles: at position 4095 an angle is known to 4095 * 2^-24 radians.
  np.testing.assert_allclose(rotated(CONFIG, x, positions), expected, atol=2e-3)
  np.testing.assert_allclose(rotated(CONFIG, x, positions)[0, :2], expected[0, :2], atol=1e-6)


def test_bfloat16_positions_are_not_rounded():
  x = jnp.ones((1, 2, 1, 64), jnp.bfloat16)
  one, other = rotated(CONFIG, x, np.array([[256, 257]], np.int32))[0, :, 0]
  assert abs(float(one[0]) - float(other[0])) > 0.1


@pytest.mark.parametrize("scaling", [None, RopeScaling("llama3", 8.0, 64), RopeScaling("yarn", 4.0, 64)],
                         ids=["plain", "llama3", "yarn"])
def test_a_product_depends_on_the_distance_alone(scaling):
  config = replace(CONFIG, rope_scaling=scaling)
  rng = np.random.default_rng(1)
  q, k = (np.broadcast_to(rng.standard_normal((1, 1, 1, 64), np.float32), (1, 6, 1, 64)) for _ in range(2))
  starts = np.array([[0, 1, 10, 50, 100, 200]], np.int32)
  near = np.sum(rotated(config, q, starts + 7) * rotated(config, k, starts), axis=-1).ravel()
  far = np.sum(rotated(config, q, starts + 8) * rotated(config, k, starts), axis=-1).ravel()
  np.testing.assert_allclose(near, near[0], rtol=1e-4)
  assert abs(far[0] - near[0]) > 1e-2


def test_llama3_keeps_short_wavelengths_and_stretches_long_ones():
  scaling = RopeScaling("llama3", 8.0, 1024, low_freq_factor=1.0, high_freq_factor=4.0)
  expected = []
  for i in range(32):
    frequency = 10_000.0 ** (-2 * i / 64)
    wavelength = 2 * math.pi / frequency
    if wavelength < 1024 / 4.0:
      expected.append(frequency)
    elif wavelength > 1024 / 1.0:
      expected.append(frequency / 8.0)
    else:
      smooth = (1024 / wavelength - 1.0) / (4.0 - 1.0)
      expected.append((1 - smooth) * frequency / 8.0 + smooth * frequency)
  found, factor = inverse_frequencies(replace(CONFIG, rope_scaling=scaling))
  np.testing.assert_allclose(found, expected, rtol=1e-12)
  assert factor == 1.0 and len({round(e / 10_000.0 ** (-2 * i / 64), 6) for i, e in enumerate(expected)}) > 3


@pytest.mark.parametrize("factor, attention_factor, expected_factor",
                         [(4.0, None, 0.1 * math.log(4.0) + 1), (4.0, 1.5, 1.5), (1.0, None, 1.0)])
def test_yarn_ramps_between_two_pairs(factor, attention_factor, expected_factor):
  scaling = RopeScaling("yarn", factor, 2048, beta_fast=32.0, beta_slow=1.0, attention_factor=attention_factor)
  # The pair that turns n times over the window: 2048 theta^(-2 i / 64) / 2 pi = n.
  pairs = [64 / 2 * math.log(2048 / (2 * math.pi * n), 10_000.0) for n in (32.0, 1.0)]
  low, high = math.floor(pairs[0]), math.ceil(pairs[1])
  assert 0 < low < high < 31
  expected = []
  for i in range(32):
    frequency = 10_000.0 ** (-2 * i / 64)
    interpolated = 0.0 if i <= low else 1.0 if i >= high else (i - low) / (high - low)
    expected.append(frequency / factor * interpolated + frequency * (1 - interpolated))
  config = replace(CONFIG, rope_scaling=scaling)
  found, found_factor = inverse_frequencies(config)
  np.testing.assert_allclose(found, expected, rtol=1e-12)
  assert found_factor == pytest.approx(expected_factor)
  cos, _ = jax.jit(lambda p: rope_tables(config, p))(np.zeros((1, 1), np.int32))
  np.testing.assert_allclose(cos, expected_factor, rtol=1e-6)
