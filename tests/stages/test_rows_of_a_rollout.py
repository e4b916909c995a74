"""What is trained on is, token for token, what was sampled."""
import dataclasses
import importlib

import jax
import numpy as np
import pytest
from tiny import one_device, quick_compiles, random_params

from r1jax.config import Schedule
from r1jax.losses.correction import SamplerCorrection, sampler_correction
from r1jax.rewards.rules import RuleRewards
from r1jax.sampling.sampler import Decoding
from r1jax.stages.context import Context
from r1jax.stages.grpo import _Loop
from r1jax.stages.runner import experiment_tokenizer

compile_quickly = pytest.fixture(scope="module", autouse=True)(quick_compiles)

small = importlib.import_module("small_run")
STAGE = dataclasses.replace(small.rl, max_length=Schedule({0: 24}), mask_truncated=False,
                            decoding=Decoding(slots=9, segment=8), microbatch_tokens=72)


class Recorder:
  """An update that notes the rows it is given."""

  def __init__(self):
    self.minibatches = []

  def update(self, state, rows):
    self.minibatches.append(list(rows))
    return state, {}


@dataclasses.dataclass
class Sampled:
  loop: _Loop
  rollout: object
  minibatches: list
  params: dict

  def rows(self, **changes) -> list[list]:
    """The rows of each update, advantages being the number of the response."""
    stage, recorder = dataclasses.replace(STAGE, **changes), Recorder()
    loop = dataclasses.replace(self.loop, stage=stage, update=recorder)
    loop.train(None, self.minibatches, self.rollout, np.arange(32, dtype=np.float32), self.old(), None)
    return recorder.minibatches

  def old(self):
    """Log-probs near the sampler's, by gaps that tell the slots apart."""
    sampler = self.loop.spread(self.minibatches, [r.episode.logprobs for r in self.rollout.responses])
    return [[a + 0.3 * np.sin(np.arange(a.size, dtype=np.float32)).reshape(a.shape) for a in arrays] for arrays in sampler]


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
  """A rollout of two updates by a random policy, whose padding is a word that it says all the time."""
  tokenizer = experiment_tokenizer(small.experiment)
  tokenizer = dataclasses.replace(tokenizer, pad_id=tokenizer.encode("6")[0])
  mesh, experiment = one_device(), dataclasses.replace(small.experiment, stages=(STAGE,))
  params = random_params(experiment.model, mesh)
  context = Context(experiment=experiment, run_dir=tmp_path_factory.mktemp("run"), mesh=mesh, tokenizer=tokenizer,
                    model=experiment.model, params=params, key=jax.random.key(0))
  with jax.set_mesh(mesh), RuleRewards(dict(STAGE.rewards)) as rewards:
    loop = _Loop.prepare(STAGE, context)
    drawn = loop.draw(0, (0, 0))
    rollout = loop.rollout(params, rewards, drawn)
    rollout.scores()
    return Sampled(loop, rollout, loop.pack(drawn, rollout), params)


def by_response(minibatches) -> dict[int, tuple]:
  """Number of the response -> (minibatch, rows, row, its slots), read from the rows alone: of each segment, by what its
  masked slots have as advantage."""
  found = {}
  for number, microbatches in enumerate(minibatches):
    for rows in microbatches:
      for row in range(len(rows.tokens)):
        for segment in np.unique(rows.segment_ids[row][rows.positions[row] >= 0]):
          slots = np.flatnonzero((rows.segment_ids[row] == segment) & (rows.positions[row] >= 0))
          (response,) = np.unique(rows.advantages[row, slots][rows.mask[row, slots]])
          assert response not in found
          found[int(response)] = number, rows, row, slots
  return found


def test_masked_slots_hold_the_sampled_tokens_and_the_slots_before_them_the_prompt(sampled):
  episodes = [r.episode for r in sampled.rollout.responses]
  found = by_response(sampled.rows())
  assert sorted(found) == list(range(len(episodes))) and len(episodes) == 32
  for i, episode in enumerate(episodes):
    minibatch, rows, row, slots = found[i]
    assert minibatch == i // 16
    prompt = len(episode.request.prompt)
    np.testing.assert_array_equal(rows.tokens[row, slots], [*episode.request.prompt, *episode.tokens])
    np.testing.assert_array_equal(rows.mask[row, slots], np.arange(len(slots)) >= prompt)
    np.testing.assert_array_equal(rows.positions[row, slots], np.arange(len(slots)))
    np.testing.assert_array_equal(rows.sampler_logprobs[row, slots[prompt:]], episode.logprobs)
    assert (rows.weights[row, slots[prompt:]] > 0).all()
  masked = sum(int(rows.mask.sum()) for microbatches in sampled.rows() for rows in microbatches)
  assert masked == sum(len(e.tokens) for e in episodes)
  assert len(sampled.minibatches[0].microbatches) > 1, "several microbatches"


def test_what_fills_up_rows_may_be_said_in_a_response(sampled):
  pad, tokens = sampled.loop.policy.tokenizer.pad_id, [r.episode.tokens for r in sampled.rollout.responses]
  said = sum(int((t == pad).sum()) for t in tokens)
  assert said > 10 and any(t[-1] == pad for t in tokens), "within responses and at their ends"
  masked = sum(int((rows.tokens[rows.mask] == pad).sum()) for microbatches in sampled.rows() for rows in microbatches)
  assert masked == said


def test_episodes_end_where_they_were_stopped_or_cut(sampled):
  stops = set(sampled.loop.policy.stop_ids)
  for episode in (r.episode for r in sampled.rollout.responses):
    assert not stops & set(episode.tokens[:-1].tolist())
    assert episode.stopped == (episode.tokens[-1] in stops)
    assert episode.stopped or len(episode.tokens) == episode.request.max_new == 24 - len(episode.request.prompt)
  assert {r.episode.stopped for r in sampled.rollout.responses} == {True, False}


def test_the_trainer_finds_the_sampled_tokens_as_likely_as_the_sampler_did(sampled):
  """Of one device and float32: were a token, its place or its context another, its log-prob would be far off."""
  with jax.set_mesh(one_device()):
    trainer = sampled.loop.logprobs(sampled.params, sampled.minibatches)
  found = [v for packed, arrays in zip(sampled.minibatches, trainer, strict=True) for v in packed.gather(arrays)]
  for values, response in zip(found, sampled.rollout.responses, strict=True):
    np.testing.assert_allclose(values, response.episode.logprobs, atol=2e-5)


def test_truncated_responses_count_but_are_not_trained_on_where_they_are_masked_out(sampled):
  loop = dataclasses.replace(sampled.loop, stage=dataclasses.replace(STAGE, mask_truncated=True))
  episodes = [r.episode for r in sampled.rollout.responses]
  packed = loop.pack(loop.draw(0, (0, 0)), sampled.rollout)
  masked = sum(int(m.mask.sum()) for p in packed for m in p.microbatches)
  assert masked == sum(len(e.tokens) for e in episodes if e.stopped)


@pytest.mark.parametrize("kind", [SamplerCorrection.PER_TOKEN, SamplerCorrection.PER_SEQUENCE])
def test_the_factors_of_the_correction_are_in_the_slots_of_their_tokens(sampled, kind):
  rows = sampled.rows(correction=kind, correction_limit=1.5)
  found = by_response(rows)
  trainer = [v for packed, arrays in zip(sampled.minibatches, sampled.old(), strict=True) for v in packed.gather(arrays)]
  expected = sampler_correction(trainer, [r.episode.logprobs for r in sampled.rollout.responses], kind, 1.5)
  assert len({float(f) for factors in expected for f in factors}) > 20
  for i, factors in enumerate(expected):
    _, of, row, slots = found[i]
    np.testing.assert_array_equal(of.correction[row, slots[-len(factors):]], factors)
  assert all(of.correction is None for microbatches in sampled.rows() for of in microbatches)


def test_old_logprobs_are_the_trainers_and_the_samplers_where_the_rollout_is_stale(sampled):
  minibatches, rollout = sampled.minibatches, sampled.rollout
  own = dataclasses.replace(sampled.loop, stage=dataclasses.replace(STAGE, minibatches=1))
  assert own.old_logprobs(sampled.params, minibatches, rollout, False) is None
  stale = own.old_logprobs(sampled.params, minibatches, rollout, True)
  found = [v for packed, arrays in zip(minibatches, stale, strict=True) for v in packed.gather(arrays)]
  for values, response in zip(found, rollout.responses, strict=True):
    np.testing.assert_array_equal(values, response.episode.logprobs)
