"""KL to the teacher's likeliest tokens: against the KL over the whole vocabulary and over lumped events, by NumPy."""

import jax
import numpy as np
import pytest

from r1jax.errors import InputError
from r1jax.losses.distill import distill_loss

RNG = np.random.default_rng(0)
N, T, V = 3, 4, 9
WEIGHTS = np.where(RNG.random((N, T)) < 0.7, RNG.uniform(0.1, 1, (N, T)), 0).astype(np.float32)


def log_softmax(x):
  return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


P, Q = (log_softmax(RNG.normal(0, 2, (N, T, V))) for _ in range(2))  # teacher, student, float64


def likeliest(k, teacher=P, student=Q):
  """(teacher's log-probs of its k likeliest, student's of the same, log of the student's rest), float32."""
  ids = np.argsort(-teacher, axis=-1)[:, :, :k]
  p, q = (np.take_along_axis(x, ids, axis=-1) for x in (teacher, student))
  others = np.exp(student).copy()
  np.put_along_axis(others, ids, 0, axis=-1)
  with np.errstate(divide="ignore"):
    rest = np.log(others.sum(axis=-1))
  return p.astype(np.float32), q.astype(np.float32), rest.astype(np.float32)


def lumped_kl(k, teacher=P, student=Q):
  """[N, T] by loops: the k events and the rest as one."""
  result = np.zeros((N, T))
  for n, t in np.ndindex(N, T):
    p, q = np.exp(teacher[n, t]), np.exp(student[n, t])
    best = sorted(range(V), key=lambda v: -p[v])[:k]
    events = [(p[v], q[v]) for v in best]
    if k < V:
      events.append((sum(p[v] for v in range(V) if v not in best), sum(q[v] for v in range(V) if v not in best)))
    result[n, t] = sum(a * np.log(a / b) for a, b in events)
  return result


@pytest.mark.parametrize("k", [1, 3, 8, 9])
def test_the_loss_is_numpys(k):
  loss, metrics = distill_loss(*likeliest(k), WEIGHTS)
  np.testing.assert_allclose(loss, np.sum(WEIGHTS * lumped_kl(k)), rtol=1e-6, atol=1e-6)
  assert metrics["kl"] == loss
  np.testing.assert_allclose(metrics["weight"], WEIGHTS.sum(), rtol=1e-6)
  rest = 1 - np.sort(np.exp(P), axis=-1)[:, :, ::-1][:, :, :k].sum(axis=-1)
  np.testing.assert_allclose(metrics["teacher_rest"], np.sum(WEIGHTS * rest), atol=1e-6)


def test_the_whole_vocabulary_gives_the_full_kl():
  loss, _ = distill_loss(*likeliest(V), WEIGHTS)
  np.testing.assert_allclose(loss, np.sum(WEIGHTS * np.sum(np.exp(P) * (P - Q), axis=-1)), rtol=1e-6, atol=1e-6)


def test_more_tokens_never_lower_the_kl():
  losses = [float(distill_loss(*likeliest(k), WEIGHTS)[0]) for k in range(1, V + 1)]
  assert all(a <= b + 1e-6 for a, b in zip(losses, losses[1:], strict=False)) and losses[0] < losses[-1]


@pytest.mark.parametrize("k", [1, 4, V])
def test_a_student_like_the_teacher_has_no_loss_and_no_gradient(k):
  arrays = likeliest(k, P, P)
  (loss, _), gradients = jax.value_and_grad(
    lambda q, rest: distill_loss(arrays[0], q, rest, WEIGHTS), argnums=(0, 1), has_aux=True)(*arrays[1:])
  assert abs(loss) < 1e-6
  # By log-probs the gradient is -p; that is none only along changes that keep the probabilities' sum at 1.
  np.testing.assert_allclose(gradients[0], -WEIGHTS[:, :, None] * np.exp(arrays[0]), atol=1e-6)


def test_the_gradient_by_logits_is_numpys():
  k, scores = 3, Q.astype(np.float32)
  ids = np.argsort(-P, axis=-1)[:, :, :k]
  covered = np.zeros(P.shape, bool)
  np.put_along_axis(covered, ids, True, axis=-1)

  def loss(scores):
    logprobs = jax.nn.log_softmax(scores, axis=-1)
    rest = jax.nn.logsumexp(jax.numpy.where(covered, -1e30, logprobs), axis=-1)
    return distill_loss(likeliest(k)[0], jax.numpy.take_along_axis(logprobs, ids, axis=-1), rest, WEIGHTS)[0]

  # d/dz_v of sum_e p_e (log p_e - log q_e): q_v - p_v for a token of its own, q_v (1 - p_rest / q_rest) within the rest.
  p, q = np.exp(P), np.exp(Q)
  ratio = np.where(covered, 0, p).sum(-1) / np.where(covered, 0, q).sum(-1)
  expected = WEIGHTS[:, :, None] * np.where(covered, q - p, q * (1 - ratio[:, :, None]))
  np.testing.assert_allclose(jax.grad(loss)(scores), expected, atol=1e-6)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
def test_what_has_no_weight_may_be_anything(garbage):
  def run(p, q, rest):
    return jax.value_and_grad(distill_loss, argnums=(1, 2), has_aux=True)(p, q, rest, WEIGHTS)
  clean = likeliest(3)
  dirty = [np.where((WEIGHTS > 0).reshape(N, T, *[1] * (x.ndim - 2)), x, np.float32(garbage)) for x in clean]
  jax.tree.map(np.testing.assert_array_equal, run(*dirty)[0], run(*clean)[0])
  assert all(np.isfinite(g).all() for g in run(*dirty)[1])


@pytest.mark.parametrize("nothing", [-np.inf, -1e30])
def test_a_token_that_the_teacher_rules_out_and_a_rest_that_is_none_add_nothing(nothing):
  p = np.log(np.float32([[[0.75, 0.25, 1e-45]]]))
  p[..., 2] = -np.inf
  q = np.log(np.float32([[[0.5, 0.25, 0.25]]]))
  (loss, _), gradients = jax.value_and_grad(distill_loss, argnums=(1, 2), has_aux=True)(
    p, q, np.float32([[nothing]]), np.ones((1, 1), np.float32))
  np.testing.assert_allclose(loss, 0.75 * np.log(1.5), atol=1e-6)
  np.testing.assert_allclose(gradients[0], [[[-0.75, -0.25, 0]]], atol=1e-6)
  assert np.all(gradients[1] == 0)


def test_bad_input():
  p, q, rest = likeliest(3)
  for arrays, message in [
    ((p, q[:, :, :2], rest, WEIGHTS), r"student_logprobs: shape \[3, 4, 2\].*\[3, 4, 3\]"),
    ((p, q, rest[:2], WEIGHTS), r"student_rest: shape \[2, 4\]"),
    ((p[0], q[0], rest, WEIGHTS), r"teacher_logprobs: shape \[4, 3\].*three axes"),
    ((p, q, rest, WEIGHTS[0]), r"weights: shape \[4\]"),
  ]:
    with pytest.raises(InputError, match=message):
      distill_loss(*arrays)
