"""Token-level distillation: the teacher's likeliest tokens, the student's log-probs of them, and the update."""

from dataclasses import replace
from functools import cache, partial

import jax
import numpy as np
import pytest
from test_logprobs import CONFIG, FULL, largest_of
from tiny import EVERYTHING, eight_devices, one_device, random_params, random_tokens

from r1jax.errors import InputError
from r1jax.models.config import Compute
from r1jax.models.transformer import forward, head_weight, logits
from r1jax.records import PackedRows
from r1jax.sharding import put_batch
from r1jax.training.distill import distill_step, logprobs_at, topk_logprobs
from r1jax.training.optimizer import AdamW
from r1jax.training.step import init_state

N, T, K, V = 8, 10, 5, EVERYTHING.vocab_size
COMPUTE = Compute(remat="nothing", logprob_chunk=15)
OPTIMIZER = AdamW(lr=0.1, eps=1e-2, weight_decay=0.1)  # eps: as in test_update.py
TEACHER, STUDENT = 3, 0  # seeds


def packed_rows() -> PackedRows:
  """Two sequences a row; the first token of each and the padding have no weight."""
  tokens, _ = random_tokens(N, T)
  places = np.broadcast_to(np.arange(T, dtype=np.int32), (N, T))
  positions = np.where(places < 4, places, np.where(places < 9, places - 4, -1)).astype(np.int32)
  segments = (places >= 4).astype(np.int32) + (places >= 9)
  weights = np.random.default_rng(1).uniform(0.5, 1.5, (N, T)) / (N * T) * (positions > 0)
  return PackedRows(tokens=tokens, positions=positions, segment_ids=segments.astype(np.int32), mask=weights > 0,
                    weights=weights.astype(np.float32))


ROWS = packed_rows()


def top(k, mesh=None, seed=TEACHER):
  mesh = mesh or one_device()
  with jax.set_mesh(mesh):
    return jax.device_get(topk_logprobs(random_params(EVERYTHING, mesh, seed=seed), EVERYTHING, COMPUTE, *put_batch(
      mesh, (ROWS.tokens, ROWS.positions, ROWS.segment_ids)), k))


@pytest.fixture(scope="module")
def logprobs():
  """By seed: [N, T, V] float64, [:, t] about slot t; slot 0 is nothing."""
  @jax.jit
  def compute(params, tokens, positions, segments):
    return logits(forward(params, EVERYTHING, Compute(), tokens, positions, segments),
                  head_weight(params, EVERYTHING, Compute()))
  found, mesh = {}, one_device()
  with jax.set_mesh(mesh):
    for seed in (TEACHER, STUDENT):
      scores = np.asarray(compute(random_params(EVERYTHING, mesh, seed=seed), *put_batch(
        mesh, (ROWS.tokens, ROWS.positions, ROWS.segment_ids))), np.float64)
      found[seed] = np.roll(scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True)), 1, axis=1)
  return found


def test_the_teachers_likeliest_tokens_are_those_of_its_logits(logprobs):
  ids, found = top(K)
  real = ROWS.weights > 0
  expected = -np.sort(-logprobs[TEACHER], axis=-1)[:, :, :K]
  np.testing.assert_allclose(found[real], expected[real], atol=1e-5)
  np.testing.assert_allclose(np.take_along_axis(logprobs[TEACHER], ids, axis=-1)[real], expected[real], atol=1e-5)
  assert ids.dtype == np.int32 and np.all(ids[:, 0] == 0) and np.all(found[:, 0] == 0)


def test_the_students_logprobs_at_the_ids_and_of_the_rest_are_those_of_its_logits(logprobs):
  ids, _ = top(K)
  mesh = one_device()
  with jax.set_mesh(mesh):
    target, at_ids, rest = jax.device_get(jax.jit(partial(logprobs_at, config=EVERYTHING, compute=COMPUTE))(
      random_params(EVERYTHING, mesh), tokens=put_batch(mesh, ROWS.tokens), positions=put_batch(mesh, ROWS.positions),
      segment_ids=put_batch(mesh, ROWS.segment_ids), ids=put_batch(mesh, ids)))
  real, student = ROWS.weights > 0, logprobs[STUDENT]
  np.testing.assert_allclose(target[real], np.take_along_axis(student, ROWS.tokens[:, :, None], -1)[..., 0][real], atol=1e-5)
  np.testing.assert_allclose(at_ids[real], np.take_along_axis(student, ids, axis=-1)[real], atol=1e-5)
  others = np.exp(student)
  np.put_along_axis(others, ids, 0, axis=-1)
  np.testing.assert_allclose(rest[real], np.log(others.sum(axis=-1))[real], atol=1e-5)


@cache
def run(mesh, k=K, weight=0.6, microbatches=1, seed=STUDENT):
  """(state after one update, metrics)."""
  ids, found = top(k)
  with jax.set_mesh(mesh):
    state = init_state(random_params(EVERYTHING, mesh, seed=seed), OPTIMIZER.build())
    rows, size = ROWS.replace(teacher_ids=ids, teacher_logprobs=found), N // microbatches
    parts = [jax.tree.map(lambda x: x[i:i + size], rows) for i in range(0, N, size)]  # noqa: B023 (called at once)
    state, metrics = distill_step(EVERYTHING, COMPUTE, OPTIMIZER, weight).update(state, parts)
  return state, jax.device_get(metrics)


@pytest.fixture(scope="module")
def plain():
  return run(one_device())


def assert_same_update(found, expected):
  for name in expected[1]:
    np.testing.assert_allclose(found[1][name], expected[1][name], rtol=1e-5, atol=1e-5, err_msg=name)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found[0].params, expected[0].params)


def test_four_microbatches_give_what_one_gives(plain):
  assert_same_update(run(one_device(), microbatches=4), plain)


def test_eight_devices_give_what_one_gives(plain):
  mesh = eight_devices()
  assert_same_update(run(mesh), plain)
  for alone, together in zip(top(K), top(K, mesh), strict=True):
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_loss_mixes_samples_and_teacher(plain, logprobs):
  _, metrics = plain
  nll = -np.sum(ROWS.weights * np.take_along_axis(logprobs[STUDENT], ROWS.tokens[:, :, None], -1)[..., 0])
  np.testing.assert_allclose(metrics["nll"], nll, rtol=1e-5)
  np.testing.assert_allclose(metrics["loss"], 0.4 * nll + 0.6 * metrics["kl"], rtol=1e-5)
  assert metrics["kl"] > 0.01 and 0 < metrics["teacher_rest"] < metrics["weight"]


def test_the_whole_vocabulary_gives_the_full_kl(logprobs):
  _, metrics = run(one_device(), k=V, weight=1.0)
  p, q = logprobs[TEACHER], logprobs[STUDENT]
  np.testing.assert_allclose(metrics["kl"], np.sum(ROWS.weights * np.sum(np.exp(p) * (p - q), axis=-1)), rtol=1e-5)
  assert metrics["teacher_rest"] == 0 and np.isfinite(metrics["grad_norm"])


@pytest.mark.parametrize("k", [K, V])
def test_a_student_like_the_teacher_has_nothing_to_learn(plain, k):
  _, metrics = run(one_device(), k=k, weight=1.0, seed=TEACHER)
  assert abs(metrics["kl"]) < 1e-6
  assert metrics["grad_norm"] < 1e-5 * plain[1]["grad_norm"]


def test_neither_teacher_nor_student_holds_all_logits():
  def teacher(chunk):
    return largest_of(lambda params, tokens, positions: topk_logprobs(
      params, CONFIG, Compute(logprob_chunk=chunk), tokens, positions, None, 2))

  def student(chunk):
    def loss(params, tokens, positions):
      ids = jax.numpy.stack([tokens] * 8, axis=-1)  # with the masks of all eight, a chunk would be too large too
      return sum(x.mean() for x in logprobs_at(params, CONFIG, Compute(logprob_chunk=chunk), tokens, positions, None, ids))
    return largest_of(jax.grad(loss))

  for run_in_chunks in (teacher, student):
    assert run_in_chunks(16) < FULL / 2
    assert run_in_chunks(128) >= FULL, "the walk must see the logits that a chunk of all positions makes"


def test_ids_without_a_token_are_never_the_teachers_and_take_nothing_from_the_rest():
  config, mesh = replace(EVERYTHING, num_tokens=40), one_device()
  with jax.set_mesh(mesh):
    rows = put_batch(mesh, ROWS)
    params = random_params(config, mesh)
    ids, found = topk_logprobs(params, config, COMPUTE, rows.tokens, rows.positions, rows.segment_ids, 40)
    _, at_ids, rest = jax.jit(partial(logprobs_at, config=config, compute=COMPUTE))(
      params, tokens=rows.tokens, positions=rows.positions, segment_ids=rows.segment_ids, ids=ids)
  real = ROWS.weights > 0
  assert np.asarray(ids)[real].max() == 39
  np.testing.assert_allclose(np.exp(found).sum(axis=-1)[real], 1, atol=1e-5)
  np.testing.assert_allclose(np.asarray(at_ids)[real], np.asarray(found)[real], atol=1e-5)
  assert np.all(np.exp(rest)[real] == 0)
  with pytest.raises(InputError, match="k: 41.*vocabulary, 40"):
    topk_logprobs(params, config, COMPUTE, rows.tokens, rows.positions, rows.segment_ids, 41)


def test_bad_input():
  with pytest.raises(InputError, match="k: 65.*vocabulary, 64"):
    top(65)
  with pytest.raises(InputError, match="weight: 1.5"):
    distill_step(EVERYTHING, COMPUTE, OPTIMIZER, 1.5)


def test_the_same_settings_share_one_step():
  assert distill_step(EVERYTHING, COMPUTE, OPTIMIZER, 0.5) is distill_step(EVERYTHING, COMPUTE, OPTIMIZER, 0.5)
