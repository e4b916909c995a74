import jax
import numpy as np
import pytest

from r1jax.errors import InputError
from r1jax.losses.reductions import Reduction, token_weights
from r1jax.losses.sft import sft_loss

MASK = np.array([[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
LOGPROBS = np.random.default_rng(0).uniform(-4, -0.01, MASK.shape).astype(np.float32)


@pytest.mark.parametrize("reduction", Reduction)
@pytest.mark.parametrize("garbage", [0.0, np.nan, -np.inf, np.inf])
@pytest.mark.parametrize("jit", [False, True])
def test_loss_and_gradient(reduction, garbage, jit):
  weights = token_weights(MASK, reduction, 8)
  function = jax.value_and_grad(sft_loss, has_aux=True)
  logprobs = np.where(MASK, LOGPROBS, np.float32(garbage))
  (loss, metrics), gradient = (jax.jit(function) if jit else function)(logprobs, weights)
  rows = {Reduction.PER_RESPONSE: [1 / 6, 1 / 12, 0], Reduction.TOKEN_MEAN: [1 / 6] * 3,
          Reduction.CONSTANT: [1 / 24] * 3}[reduction]
  expected = MASK * np.array(rows)[:, None]
  assert loss.dtype == np.float32
  np.testing.assert_allclose(loss, -(expected * LOGPROBS.astype(np.float64)).sum(), atol=1e-6)
  np.testing.assert_allclose(gradient, -expected, atol=1e-6)
  np.testing.assert_allclose(metrics["nll"], loss, atol=0)
  np.testing.assert_allclose(metrics["weight"], expected.sum(), atol=1e-6)


def test_nothing_to_imitate_is_zero():
  loss, metrics = sft_loss(np.full((2, 3), -np.inf), token_weights(np.zeros((2, 3)), Reduction.TOKEN_MEAN))
  assert (loss, metrics["weight"]) == (0, 0)


def test_bad_input():
  with pytest.raises(InputError, match=r"weights: shape \[3, 3\].*\[3, 4\]"):
    sft_loss(LOGPROBS, np.zeros((3, 3)))
