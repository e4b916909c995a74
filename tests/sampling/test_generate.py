"""The sampler against the scorer and against itself in other batches and on other meshes."""

from functools import partial

import jax
import numpy as np
import pytest
from tiny import EVERYTHING, eight_devices, one_device, random_params, random_tokens

from r1jax.models.config import Compute
from r1jax.models.transformer import forward, head_weight, logits
from r1jax.sampling.choice import Sampling
from r1jax.sampling.generate import generate
from r1jax.sharding import ROLLOUT_RULES, put_batch
from r1jax.training.score import score

PROMPT, NEW, QUESTIONS, GROUP = 6, 10, 8, 2
STOPS = (3, 17, 42, 60, 61)
PAD = 0
IDS = np.array([5, 0, 900, 2**31 + 7, 17, 3, 8, 1], np.uint32)
LENGTHS = np.array([6, 1, 4, 6, 2, 5, 3, 6], np.int32)
WARM = Sampling(temperature=0.7)


def sample(mesh, sampling=WARM, order=None, group_size=GROUP, more_padding=0, ids=IDS, key=0):
  """Rollouts on the host; order: the questions asked, and in which order."""
  order = np.arange(QUESTIONS) if order is None else np.asarray(order)
  tokens, _ = random_tokens(QUESTIONS, PROMPT, LENGTHS, seed=1)
  tokens = np.pad(tokens, ((0, 0), (more_padding, 0)), constant_values=PAD)
  with jax.set_mesh(mesh):
    params = random_params(EVERYTHING, mesh, ROLLOUT_RULES)
    return jax.device_get(generate(
      params, jax.random.key(key), *put_batch(mesh, (ids[order], tokens[order], LENGTHS[order])), config=EVERYTHING,
      compute=Compute(), sampling=sampling, group_size=group_size, max_new=NEW, stop_ids=STOPS, pad_id=PAD))


@pytest.fixture(scope="module")
def warm():
  return sample(one_device())


@partial(jax.jit, static_argnums=0)
def all_logits(config, params, tokens, positions):
  return logits(forward(params, config, Compute(), tokens, positions), head_weight(params, config, Compute()))


def logits_before(rollouts):
  """[N, NEW, V]: what each response token was chosen from, by one pass over the finished sequences."""
  mesh = one_device()
  with jax.set_mesh(mesh):
    params = random_params(EVERYTHING, mesh)
    found = all_logits(EVERYTHING, params, *put_batch(mesh, (rollouts.tokens, rollouts.positions)))
  return np.asarray(found, np.float64)[:, PROMPT - 1:-1]


def test_logprobs_are_the_scorers_at_the_same_temperature(warm):
  mesh = one_device()
  with jax.set_mesh(mesh):
    found = np.asarray(score(
      random_params(EVERYTHING, mesh), *put_batch(mesh, (warm.tokens, warm.positions)), config=EVERYTHING,
      compute=Compute(logprob_chunk=4), temperature=0.7, first=PROMPT))
  assert warm.mask.sum() > 50
  np.testing.assert_allclose(warm.logprobs[warm.mask], found[warm.mask], atol=1e-5)
  assert np.all(found[:, :PROMPT] == 0)


def test_logprobs_after_filters_are_renormalised():
  rollouts = sample(one_device(), Sampling(0.9, top_p=0.9, top_k=20))
  scores = logits_before(rollouts) / 0.9
  probs = np.exp(scores - scores.max(axis=-1, keepdims=True))
  probs /= probs.sum(axis=-1, keepdims=True)
  ordered = -np.sort(-probs, axis=-1)
  probs = np.where(probs >= ordered[..., 19:20], probs, 0)
  probs /= probs.sum(axis=-1, keepdims=True)
  ordered = -np.sort(-probs, axis=-1)
  enough = np.argmax(np.cumsum(ordered, axis=-1) >= 0.9, axis=-1)[..., None]
  probs = np.where(probs >= np.take_along_axis(ordered, enough, axis=-1), probs, 0)
  probs /= probs.sum(axis=-1, keepdims=True)
  mask, tokens = rollouts.mask[:, PROMPT:], rollouts.tokens[:, PROMPT:]
  chosen = np.take_along_axis(probs, tokens[..., None], axis=-1)[..., 0]
  assert np.all(chosen[mask] > 0)
  np.testing.assert_allclose(rollouts.logprobs[:, PROMPT:][mask], np.log(chosen[mask]), atol=1e-5)


def test_greedy_follows_the_likeliest_token():
  rollouts = sample(one_device(), Sampling(temperature=0.0))
  mask, scores = rollouts.mask[:, PROMPT:], logits_before(rollouts)
  np.testing.assert_array_equal(rollouts.tokens[:, PROMPT:][mask], scores.argmax(axis=-1)[mask])
  expected = scores.max(axis=-1) - np.log(np.sum(np.exp(scores), axis=-1))
  np.testing.assert_allclose(rollouts.logprobs[:, PROMPT:][mask], expected[mask], atol=1e-5)


def test_a_response_ends_with_its_stop_token_and_padding_follows(warm):
  tokens, mask = warm.tokens[:, PROMPT:], warm.mask[:, PROMPT:]
  ends = set()
  for row in range(QUESTIONS * GROUP):
    stops = np.flatnonzero(np.isin(tokens[row], STOPS))
    length = stops[0] + 1 if len(stops) else NEW
    assert warm.stopped[row] == bool(len(stops))
    np.testing.assert_array_equal(mask[row], np.arange(NEW) < length)
    assert np.all(tokens[row, length:] == PAD) and np.all(warm.logprobs[row, PROMPT + length:] == 0)
    prompt = LENGTHS[row // GROUP]
    expected = np.arange(PROMPT + NEW) - (PROMPT - prompt)
    expected[(expected < 0) | (np.arange(PROMPT + NEW) >= PROMPT + length)] = -1
    np.testing.assert_array_equal(warm.positions[row], expected)
    ends.add(int(tokens[row, length - 1]) if len(stops) else None)
  assert len(ends) >= 3, "several stop tokens must have been met"
  assert None in ends and not warm.mask[:, :PROMPT].any() and not warm.logprobs[:, :PROMPT].any()
  np.testing.assert_array_equal(warm.tokens[::GROUP, :PROMPT], random_tokens(QUESTIONS, PROMPT, LENGTHS, seed=1)[0])


def responses(rollouts, group_size=GROUP):
  """[questions, group_size, NEW] tokens and log-probs."""
  return (rollouts.tokens[:, -NEW:].reshape(-1, group_size, NEW),
          rollouts.logprobs[:, -NEW:].reshape(-1, group_size, NEW))


def assert_same_responses(found, expected):
  np.testing.assert_array_equal(found[0], expected[0])
  np.testing.assert_allclose(found[1], expected[1], atol=1e-5)


def test_a_response_does_not_depend_on_its_place_in_the_batch(warm):
  order = np.array([6, 2, 7, 0, 5, 3, 1, 4])
  moved = responses(sample(one_device(), order=order))
  assert_same_responses(moved, [x[order] for x in responses(warm)])


def test_a_response_does_not_depend_on_its_companions(warm):
  order = np.array([4, 4, 4, 1, 1, 1, 1, 1])
  assert_same_responses(responses(sample(one_device(), order=order)), [x[order] for x in responses(warm)])


def test_a_response_does_not_depend_on_group_size_or_padding(warm):
  wider = responses(sample(one_device(), order=[2, 0, 5], group_size=3, more_padding=3), 3)
  assert_same_responses([x[:, :GROUP] for x in wider], [x[[2, 0, 5]] for x in responses(warm)])


def test_key_question_and_sample_each_matter(warm):
  tokens, _ = responses(warm)
  other_key, _ = responses(sample(one_device(), key=1))
  other_ids, _ = responses(sample(one_device(), ids=IDS + np.uint32(1)))
  for name, other in (("key", other_key), ("question", other_ids), ("sample", tokens[:, ::-1])):
    assert np.any(tokens != other, axis=-1).all(), f"the same responses with another {name}"


def test_eight_devices_draw_what_one_draws(warm):
  assert_same_responses(responses(sample(eight_devices())), responses(warm))


def test_a_second_rollout_compiles_nothing(warm):
  before = generate._cache_size()
  sample(one_device(), order=[7, 6, 5, 4, 3, 2, 1, 0], key=9)
  assert generate._cache_size() == before
