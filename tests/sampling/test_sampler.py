"""The sampler against the scorer, and against itself with other slots, orders, caches and meshes."""

import re
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import EVERYTHING, FAMILIES, LONG, WIDE, eight_devices, one_device, random_params

from r1jax.errors import InputError
from r1jax.models import cache as kv
from r1jax.models.config import Compute
from r1jax.models.transformer import forward, head_weight, logits
from r1jax.records import Request
from r1jax.sampling import generate
from r1jax.sampling.choice import Sampling, draw, make_table
from r1jax.sampling.sampler import Decoding, Sampler
from r1jax.sharding import put_batch
from r1jax.training.logprobs import logprobs

STOPS = (3, 17, 42)
WARM = Sampling(temperature=0.7)
# An odd number of slots is never halved, and no sequence outgrows the smallest bucket: one decode program a test.
SMALL = Decoding(slots=5, segment=4, prefill_rows=4, prefill_chunk=8, page=4)


def requests(questions=8, samples=4, longest=12, max_new=16, seed=0):
  """`samples` of each question, prompts of 1 to `longest` tokens. Ids are spread over all of uint32."""
  rng = np.random.default_rng(seed)
  prompts = [tuple(rng.integers(1, 64, 1 + i * (longest - 1) // max(1, questions - 1)).tolist()) for i in range(questions)]
  ids = rng.integers(0, 2**32, questions, dtype=np.uint64).tolist()
  return [Request(ids[q], s, prompts[q], max_new) for q in range(questions) for s in range(samples)]


def sample(asked, mesh=None, config=EVERYTHING, decoding=SMALL, sampling=WARM, key=0, stops=STOPS):
  """({(question, sample): episode}, the sampler) ."""
  mesh = mesh or one_device()
  sampler = Sampler(config, Compute(), mesh, sampling, stops, decoding)
  with jax.set_mesh(mesh):
    weights = sampler.weights(random_params(config, mesh))
    episodes = [e for some in sampler.run(weights, jax.random.key(key), asked) for e in some]
  found = {(e.request.question_id, e.request.sample): e for e in episodes}
  assert len(found) == len(episodes) == len(asked)
  return found, sampler


@pytest.fixture(scope="module")
def warm():
  return sample(requests())[0]


def rows(episodes, length=40):
  """(tokens, positions, mask) [N, length] of prompts and responses."""
  shape = (-(-len(episodes) // 8) * 8, length)
  tokens, positions, mask = np.zeros(shape, np.int32), np.full(shape, -1, np.int32), np.zeros(shape, bool)
  for i, e in enumerate(episodes):
    ids = [*e.request.prompt, *e.tokens]
    tokens[i, :len(ids)], positions[i, :len(ids)] = ids, np.arange(len(ids))
    mask[i, len(e.request.prompt):len(ids)] = True
  return tokens, positions, mask


@partial(jax.jit, static_argnums=0)
def all_logits(config, params, tokens, positions):
  return logits(forward(params, config, Compute(), tokens, positions), head_weight(params, config, Compute()))


def assert_same(found, expected):
  """The same tokens, and log-probs but for rounding."""
  assert found.keys() == expected.keys()
  for name, episode in expected.items():
    np.testing.assert_array_equal(found[name].tokens, episode.tokens, err_msg=str(name))
    np.testing.assert_allclose(found[name].logprobs, episode.logprobs, atol=2e-5)
    assert found[name].stopped == episode.stopped


# Against the scorer


@pytest.mark.parametrize("family", [*FAMILIES, "everything"])
def test_logprobs_are_the_scorers_at_the_same_temperature(family):
  config, mesh = {**FAMILIES, "everything": EVERYTHING}[family], one_device()
  episodes = list(sample(requests(4, 2), config=config)[0].values())
  tokens, positions, mask = rows(episodes)
  with jax.set_mesh(mesh):
    found = np.asarray(logprobs(random_params(config, mesh), *put_batch(mesh, (tokens, positions)), None, config=config,
                                compute=Compute(), temperature=0.7))
  assert mask.sum() > 40
  np.testing.assert_allclose(np.concatenate([e.logprobs for e in episodes]), found[mask], atol=2e-5)


def test_greedy_follows_the_likeliest_token():
  episodes = list(sample(requests(4, 1), sampling=Sampling(0.0))[0].values())
  tokens, positions, mask = rows(episodes)
  mesh = one_device()
  with jax.set_mesh(mesh):
    scores = np.asarray(all_logits(EVERYTHING, random_params(EVERYTHING, mesh), *put_batch(mesh, (tokens, positions))))
  np.testing.assert_array_equal(scores[:, :-1].argmax(axis=-1)[mask[:, 1:]], np.concatenate([e.tokens for e in episodes]))


def test_a_response_ends_with_its_first_stop_token_or_at_its_limit(warm):
  stopped = [e for e in warm.values() if e.stopped]
  assert 5 < len(stopped) < len(warm)
  for episode in warm.values():
    stops = np.isin(episode.tokens, STOPS)
    assert not stops[:-1].any() and stops[-1] == episode.stopped and len(episode.tokens) == len(episode.logprobs)
    assert episode.stopped or len(episode.tokens) == 16
  assert len({int(e.tokens[-1]) for e in stopped}) > 1, "several stop tokens must have been met"


def test_ids_without_a_token_are_never_sampled():
  config = replace(EVERYTHING, num_tokens=40)
  episodes = sample(requests(8, 8), config=config)[0].values()
  assert max(int(e.tokens.max()) for e in episodes) == 39
  mesh, (tokens, positions, mask) = one_device(), rows(list(episodes))
  with jax.set_mesh(mesh):
    found = np.asarray(logprobs(random_params(config, mesh), *put_batch(mesh, (tokens, positions)), None, config=config,
                                compute=Compute(), temperature=0.7))
  np.testing.assert_allclose(np.concatenate([e.logprobs for e in episodes]), found[mask], atol=2e-5)


# Against itself


@pytest.mark.parametrize("decoding", [
  replace(SMALL, slots=32, segment=8), replace(SMALL, prefill_chunk=3, prefill_rows=1), replace(SMALL, cache_tokens=400),
  replace(SMALL, cache_tokens=64),
], ids=["other slots", "other prompts", "pages", "few pages"])
def test_slots_chunks_and_pages_do_not_change_a_response(warm, decoding):
  found, sampler = sample(requests(), decoding=decoding)
  assert_same(found, warm)
  assert (sampler.stats["preempted"] > 0) == (decoding.cache_tokens == 64)


@pytest.mark.parametrize(("mesh", "decoding"), [
  (one_device, replace(SMALL, cache_tokens=64)),
  pytest.param(eight_devices, replace(SMALL, slots=4), marks=pytest.mark.slow)], ids=["few pages", "eight devices"])
def test_pages_and_devices_do_not_change_a_response_of_latent_attention(mesh, decoding):
  asked, config = requests(4, 4), FAMILIES["deepseek_v3"]
  assert_same(sample(asked, mesh(), config=config, decoding=decoding)[0], sample(asked, config=config)[0])


def test_eight_devices_draw_what_one_draws(warm):
  assert_same(sample(requests(), eight_devices(), decoding=replace(SMALL, slots=4))[0], warm)
  found, sampler = sample(requests(), eight_devices(), decoding=replace(SMALL, slots=16, cache_tokens=160))
  assert_same(found, warm)
  assert sampler.stats["preempted"] > 0


@pytest.mark.parametrize(("mesh", "decoding"), [
  (one_device, SMALL), (one_device, replace(SMALL, cache_tokens=320, page=16)),
  (one_device, replace(SMALL, cache_tokens=2_048, page=128, prefill_chunk=64)), (one_device, replace(SMALL, slots=32)),
  (eight_devices, replace(SMALL, slots=32)), (eight_devices, replace(SMALL, slots=8, cache_tokens=4_096, page=64)),
], ids=["rows", "pages in blocks", "pages of blocks", "products in parts", "devices", "devices with pages"])
def test_keys_in_blocks_draw_what_keys_in_rows_draw(monkeypatch, mesh, decoding):
  config, asked = replace(EVERYTHING, head_dim=64, max_position=512), requests(4, 9, longest=150, max_new=120)
  found, sampler = sample(asked, mesh(), config=config, decoding=decoding)
  assert decoding.page != 16 or sampler.stats["preempted"] > 0
  monkeypatch.setattr(kv, "_blocked", lambda *_: False)
  in_rows = replace(SMALL, slots=7, prefill_rows=3)  # sizes of its own: what is compiled for others has keys in blocks
  assert_same(found, sample(asked, config=config, decoding=in_rows)[0])
  with jax.set_mesh(one_device()):
    layers = generate.empty_cache(config=config, slots=(in_rows.slots, 256), dtype="float32", int8=False)
  assert layers[0]["k"].shape == (7, 2, 1, 64, 256)


@pytest.mark.parametrize("shape", [WIDE, LONG], ids=["wide", "long"])
def test_repeated_heads_and_devices_of_long_rows_draw_what_one_device_draws(warm, shape):
  assert_same(sample(requests(), eight_devices(shape), decoding=replace(SMALL, slots=4))[0], warm)


def test_a_response_does_not_depend_on_its_place_in_the_queue(warm):
  asked = requests()
  assert_same(sample(asked[::-1])[0], warm)
  some = [asked[i] for i in (30, 3, 4, 17)]
  assert_same(sample(some)[0], {k: warm[k] for k in ((r.question_id, r.sample) for r in some)})


def test_the_same_settings_give_the_same_bits():
  first, second = sample(requests())[0], sample(requests())[0]
  for name, episode in first.items():
    assert episode.logprobs.tobytes() == second[name].logprobs.tobytes()


def test_key_question_and_sample_each_matter(warm):
  other_key = sample(requests(), key=1)[0]
  moved = sample([replace(r, question_id=(r.question_id + 1) % 2**32) for r in requests()])[0]
  by_place = list(warm.values())
  for name, others in (("key", [other_key[k] for k in warm]), ("sample", [*by_place[1:], by_place[0]]),
                       ("question", [moved[(q + 1) % 2**32, s] for q, s in warm])):
    same = [np.array_equal(a.tokens, b.tokens) for a, b in zip(by_place, others, strict=True)]
    assert np.mean(same) < 0.2, f"the same responses with another {name}"


def test_int8_weights_and_cache_are_close():
  """Log-probs of the same tokens; those sampled differ."""
  asked = requests(4, 2)
  plain = sample(asked, sampling=Sampling(0.0))[0]
  for decoding in (replace(SMALL, int8_cache=True, cache_tokens=200), replace(SMALL, int8_weights=True)):
    found = sample(asked, sampling=Sampling(0.0), decoding=decoding)[0]
    gaps = [abs(found[k].logprobs[0] - e.logprobs[0]) for k, e in plain.items() if found[k].tokens[0] == e.tokens[0]]
    assert len(gaps) >= 6 and 0 < max(gaps) < 0.1


# Work


def test_a_prompt_is_prefilled_once_for_all_its_samples():
  _, sampler = sample(requests(4, 8))
  assert sampler.stats["prefilled"] == sum(len(r.prompt) - 1 for r in requests(4, 1))


def test_slots_are_refilled():
  """Lengths are geometric, as every 21st token ends a response: without refilling two thirds of the slots would be idle."""
  _, sampler = sample(requests(16, 8, max_new=60), decoding=replace(SMALL, segment=2))
  assert sampler.occupancy() > 0.8
  assert sampler.stats["tokens"] == sampler.stats["slot_steps"] * sampler.occupancy()


def test_nothing_compiles_once_every_bucket_was_used():
  def programs():
    return [f._cache_size() for f in (
      generate.decode_segment, generate.prefill, generate.lengthen, generate.take_rows, generate.admit_rows)]
  sampler = Sampler(EVERYTHING, Compute(), one_device(), WARM, STOPS, replace(SMALL, slots=8))
  with jax.set_mesh(one_device()):
    weights = sampler.weights(random_params(EVERYTHING, one_device()))

    def run(seed):
      list(sampler.run(weights, jax.random.key(seed), requests(5, 2, 1 + seed % 20, 40, seed)))
    for seed in range(150):
      run(seed)
    before = programs()
    for seed in range(150, 350):
      run(seed)
    assert programs() == before


# Draws near a boundary


def draw_margin(scores, bits, sampling):
  """How far, as a share of 1, the three draws of a token were from picking another group, block or token."""
  table = jax.tree.map(lambda x: np.asarray(x, np.float64)[0], make_table(scores[None], sampling))
  groups, blocks = len(table.group_sums), len(table.block_sums)

  def pick(weights, word):
    cumulative, point = np.cumsum(weights) / weights.sum(), (int(word) + 0.5) / 2**32
    return int(np.searchsorted(cumulative, point)), float(np.abs(cumulative - point).min())
  group, first = pick(table.group_sums, bits[0])
  block, second = pick(table.block_sums[group::groups], bits[1])
  weights = np.exp(table.scores[group + groups * block::blocks] - table.highest)
  return min(first, second, pick(weights, bits[2])[1])


def bits_of(question, sample_number, position):
  slots = generate.Slots(
    token=None, length=None, limit=None, live=None, sampled=jnp.array([position], jnp.int32),
    question=jnp.array([question], jnp.uint32), sample=jnp.array([sample_number], jnp.uint32))
  with jax.set_mesh(one_device()):
    return np.asarray(generate.random_bits(jax.random.key(0), slots, 1))[0, 0]


@pytest.mark.slow  # test_slots_chunks_and_pages_do_not_change_a_response is the quick one
def test_every_difference_is_a_draw_within_rounding_of_a_boundary():
  asked = requests(32, 16, max_new=24)
  decoding = replace(SMALL, slots=33, segment=8)
  expected, config, mesh = sample(asked, decoding=decoding)[0], EVERYTHING, one_device()
  with jax.set_mesh(mesh):
    params = random_params(config, mesh)
  compared = different = 0
  for change, order in (({"slots": 9}, 1), ({"slots": 129}, -1), ({"cache_tokens": 2048}, 1), ({"cache_tokens": 128}, 1)):
    found, sampler = sample(asked[::order], decoding=replace(decoding, **change))
    assert (sampler.stats["preempted"] > 0) == (change.get("cache_tokens") == 128)
    for (question, number), episode in expected.items():
      other = found[question, number]
      n = min(len(episode.tokens), len(other.tokens))
      apart = np.flatnonzero(episode.tokens[:n] != other.tokens[:n])
      n = int(apart[0]) if len(apart) else n
      np.testing.assert_allclose(episode.logprobs[:n], other.logprobs[:n], atol=1e-4)
      compared, different = compared + 1, different + bool(len(apart))
      if len(apart):
        with jax.set_mesh(mesh):
          tokens, positions, _ = rows([episode], 64)
          scores = np.asarray(all_logits(config, params, *put_batch(mesh, (tokens, positions))))
          assert draw_margin(scores[0, len(episode.request.prompt) + n - 1], bits_of(question, number, n), WARM) < 1e-5
      else:
        assert len(episode.tokens) == len(other.tokens)
  assert different <= 0.005 * compared


def test_the_margin_explains_draws_and_would_not_explain_others(warm):
  """draw_margin repeats the sampler's draws: its own tokens follow from its bits, and most draws are far from a boundary."""
  mesh = one_device()
  (question, number), episode = next(iter(warm.items()))
  with jax.set_mesh(mesh):
    tokens, positions, _ = rows([episode])
    scores = all_logits(EVERYTHING, random_params(EVERYTHING, mesh), *put_batch(mesh, (tokens, positions)))
    scores = np.asarray(scores)[0]
  first = len(episode.request.prompt) - 1
  scores = scores[first:first + len(episode.tokens)]
  bits = [bits_of(question, number, n) for n in range(len(scores))]
  margins = [draw_margin(row, words, WARM) for row, words in zip(scores, bits, strict=True)]
  drawn = np.asarray(draw(make_table(scores, WARM), np.stack(bits)))
  assert drawn.tolist() == episode.tokens.tolist() and np.median(margins) > 1e-4


# Sessions: pieces, joining, leaving


def session(decoding, longest=None, sampling_of=None):
  """An open session and what its pieces were, by (question, sample)."""
  mesh = one_device()
  sampler = Sampler(EVERYTHING, Compute(), mesh, WARM, STOPS, decoding)
  with jax.set_mesh(mesh):
    return sampler.open(sampler.weights(random_params(EVERYTHING, mesh)), jax.random.key(0), longest, sampling_of)


def read(opened, between=lambda number: None):
  """The pieces of a session by request, until nothing is left; between: called after each list of pieces."""
  found, number = {}, 0
  with jax.set_mesh(one_device()):
    for pieces in opened.pieces():
      for piece in pieces:
        found.setdefault((piece.request.question_id, piece.request.sample), []).append(piece)
      between(number)
      number += 1
  return found


def assert_whole(pieces, expected):
  """Each response's pieces are its episode, which comes with the last of them."""
  assert_same({name: some[-1].episode for name, some in pieces.items()}, expected)
  for name, some in pieces.items():
    assert [p.episode is None for p in some] == [True] * (len(some) - 1) + [False] and all(len(p.tokens) for p in some)
    np.testing.assert_array_equal(np.concatenate([p.tokens for p in some]), expected[name].tokens)
    np.testing.assert_array_equal(np.concatenate([p.logprobs for p in some]), some[-1].episode.logprobs)


def test_on_a_cpu_a_segment_is_read_before_the_next_one_is_dispatched(warm, monkeypatch):
  opened, dispatched, seen = session(SMALL, longest=28), [], []
  dispatch = opened._dispatch
  monkeypatch.setattr(opened, "_dispatch", lambda: dispatched.append(None) or dispatch())
  opened.add(requests()[:7])
  read(opened, lambda number: seen.append(len(dispatched)))
  assert seen == list(range(1, len(seen) + 1)) and len(seen) > 2


@pytest.mark.parametrize("decoding", [SMALL, replace(SMALL, cache_tokens=96)], ids=["dense", "paged"])
def test_requests_that_join_later_are_sampled_as_if_they_had_been_there(warm, decoding):
  opened, asked = session(decoding, longest=28), requests()
  opened.add(asked[:7])
  found = read(opened, lambda number: opened.add(asked[7 + 3 * number:10 + 3 * number]))
  opened.add(asked[len(found):])  # whatever had not joined when all others had ended
  assert_whole({**found, **read(opened)}, warm)


@pytest.mark.parametrize("decoding", [SMALL, replace(SMALL, cache_tokens=96)], ids=["dense", "paged"])
def test_a_cancelled_request_leaves_the_others_alone(warm, decoding):
  opened, asked = session(decoding, longest=28), requests()
  opened.add(asked)
  gone = [asked[0], asked[9], asked[-1]]  # decoding, or waiting

  def cancel(number):
    if number == 0:
      for request in gone:
        opened.cancel(request)
  found = read(opened, cancel)
  names = {(r.question_id, r.sample) for r in gone}
  assert not any(found[name][-1].episode for name in names & found.keys())
  assert_whole({name: some for name, some in found.items() if name not in names},
               {name: episode for name, episode in warm.items() if name not in names})
  opened.cancel(asked[0])
  opened.add(gone)  # asked again, it is what it would have been
  assert_whole(read(opened), {name: warm[name] for name in names})


@dataclass(frozen=True)
class Own(Request):
  """A request with a sampling of its own."""

  sampling: Sampling


@pytest.mark.parametrize("decoding", [
  pytest.param(replace(SMALL, slots=4), id="dense"),
  pytest.param(replace(SMALL, slots=4, cache_tokens=96), id="paged", marks=pytest.mark.slow)])
def test_requests_of_different_temperatures_share_a_batch_and_a_program(decoding):
  """The batch grows from one slot to four and shrinks again; each response is that of a run at its own temperature."""
  kinds = (Sampling(0.0), WARM, Sampling(1.0, top_p=0.8))
  asked = [Own(r.question_id, r.sample, r.prompt, r.max_new, kinds[i % 3]) for i, r in enumerate(requests())]
  expected = {}
  for kind in kinds:
    expected |= sample([r for r in asked if r.sampling == kind], sampling=kind)[0]
  opened, sizes = session(decoding, longest=28, sampling_of=lambda request: request.sampling), []
  assert len(opened.sequences) == 1
  opened.add(asked[:1])
  found = read(opened, lambda number: (sizes.append(len(opened.sequences)), opened.add(asked[1:]) if number == 0 else None))
  assert_whole(found, expected)
  assert sizes[0] == 1 and max(sizes) == 4 and sizes[-1] < 4
  assert not opened.waiting  # nothing of a prompt is kept
  before = generate.decode_segment._cache_size()
  opened.add([Own(1, 0, (3, 4, 5), 9, Sampling(0.31, top_p=0.77))])
  read(opened)
  assert generate.decode_segment._cache_size() == before


def test_a_session_refuses_what_is_too_long_for_it_and_adds_nothing():
  opened = session(SMALL, longest=20)
  with pytest.raises(InputError, match="most tokens that this session takes are 20"):
    opened.add([Request(1, 0, (1,) * 4, 16), Request(1, 1, (1,) * 5, 16)])
  assert not opened.queue and not read(opened)


# Bad input


@pytest.mark.parametrize("asked, decoding, message", [
  ([Request(5, 0, (), 4)], SMALL, "request of question 5, sample 0: its prompt has no tokens"),
  ([Request(5, 1, (1, 2), 0)], SMALL, "sample 1: max_new: 0. Leave room for at least one token"),
  ([Request(5, 0, (1,) * 200, 100)], SMALL, "200 tokens of prompt and 100 of response. The model's context ends at .* 256"),
  (requests(), replace(SMALL, slots=0), "decoding.slots: 0. It must be at least 1"),
  (requests(), replace(SMALL, paged_attention="kernel"), "decoding.paged_attention: kernel, for a dense cache. Give"),
  (requests(), replace(SMALL, cache_tokens=400, paged_attention="kernel"), "kernel, for 2 key/value heads of 8 a device"),
  (requests(), replace(SMALL, cache_tokens=28), "decoding.cache_tokens: 28. One sequence of 28 tokens .* give at least 32"),
])
def test_what_cannot_be_served_is_refused_before_anything_compiles(asked, decoding, message):
  before = generate.decode_segment._cache_size()
  with pytest.raises(InputError, match=re.compile(message)):
    sample(asked, decoding=decoding)
  assert generate.decode_segment._cache_size() == before
