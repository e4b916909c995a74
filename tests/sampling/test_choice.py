"""The choice of a token against distributions worked out by sorting in NumPy, float64."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from scipy.special import chdtrc
from tiny import eight_devices, one_device

from r1jax.errors import InputError
from r1jax.sampling.choice import (
  WORDS,
  RowSampling,
  Sampling,
  block_and_group_sums,
  choose,
  draw,
  high_word,
  likeliest,
  make_table,
  nucleus,
  pick,
  sampled_distribution,
)
from r1jax.sharding import BATCH, put_batch

VOCAB = 152_064  # Qwen2.5's, with its unused ids at the end
USED = 151_665
ALL_ONES = 2**32 - 1


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


def random_bits(rows, seed=4):
  return np.random.default_rng(seed).integers(0, 2**32, (rows, WORDS), dtype=np.uint32)


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


@pytest.mark.parametrize("values, count, kept", [
  ([3.0, -1.0, 2.0, -5.0], 2, [1, 0, 1, 0]),
  ([-3.0, -1.0, -2.0, -5.0], 3, [1, 1, 1, 0]),
  ([1.0, 2.0, 1.0, 0.5], 2, [1, 1, 1, 0]),  # as likely as the last one kept
  ([-0.0, 0.0, -1e-30, -1.0], 1, [1, 1, 0, 0]),
  ([-np.inf, 7.0, -np.inf, 3e38], 2, [0, 1, 0, 1]),
  ([-np.inf, 7.0, -np.inf, -3e38], 3, [1, 1, 1, 1]),
])
def test_the_likeliest_and_their_ties(values, count, kept):
  found = jax.jit(partial(likeliest, count=count))(np.array([values], np.float32))
  np.testing.assert_array_equal(found[0], np.array(kept, bool))


def test_the_high_word_of_a_product():
  a = np.concatenate([random_bits(5000).ravel(), np.array([0, 0, 1, ALL_ONES, ALL_ONES, 0xFFFF], np.uint32)])
  b = np.concatenate([random_bits(5000, seed=5).ravel(), np.array([0, 9, ALL_ONES, 1, ALL_ONES, 0xFFFF], np.uint32)])
  np.testing.assert_array_equal(high_word(a, b), (a.astype(np.uint64) * b.astype(np.uint64) >> np.uint64(32)))


def test_a_pick_in_proportion_to_its_weight():
  """The words that fall on each of a few weights, from the first to the last, by a bisection for each boundary."""
  weights = np.array([0, 1e-9, 0.3, 0, 0.7 - 1e-6, 1e-6, 0], np.float32)
  first = [0]  # the first word of each index
  for index in range(1, len(weights) + 1):
    low, high = first[-1], 2**32
    while low < high:
      middle = (low + high) // 2
      at = pick(jnp.asarray(weights[None]), jnp.array([middle], jnp.uint32))
      low, high = (low, middle) if int(at[0]) >= index else (middle + 1, high)
    first.append(low)
  shares = np.diff(first) / 2**32
  np.testing.assert_array_equal(shares[weights == 0], 0)
  np.testing.assert_allclose(shares, weights / weights.sum(dtype=np.float64), rtol=1e-6, atol=2.0**-31)
  assert shares[1] > 0


def heavy_tail():
  """Logits [VOCAB] like a model's: a few likely tokens, and a tail that falls as the rank does, in random order."""
  rng = np.random.default_rng(8)
  logits = rng.permutation(-1.1 * np.log(np.arange(VOCAB) + 1.0)) + rng.standard_normal(VOCAB)
  logits[rng.integers(0, USED, 3)] += [8.0, 7.0, 5.0]
  return logits


def normal():
  """Logits [VOCAB], three standard normals: about half of all tokens are rarer than a step of a 24-bit uniform."""
  return np.random.default_rng(9).standard_normal(VOCAB) * 3


def equal_and_rare():
  """Logits [VOCAB]: the first token has a probability of 0.997, the others 2e-8 each, a third of 2**-24."""
  return np.where(np.arange(VOCAB) == 0, np.log(0.997), np.log(0.003 / (USED - 1)))


@pytest.fixture
def optimised():
  """These tests compute for longer than they compile: undoes this folder's conftest.py."""
  jax.config.update("jax_disable_most_optimizations", False)
  yield
  jax.config.update("jax_disable_most_optimizations", True)


def masked(logits):
  """The logits [VOCAB] float32 with -inf for the ids that stand for no token."""
  return np.where(np.arange(VOCAB) < USED, logits, -np.inf).astype(np.float32)


def draw_many(logits, sampling, draws):
  """How often each token is drawn [VOCAB], of `draws` draws from one table."""
  table = jax.jit(make_table, static_argnums=1)(logits[None], sampling)
  draws_of = jax.jit(jax.vmap(draw, in_axes=(None, 0)))
  counts, chunk = np.zeros(VOCAB, np.int64), 2**16
  for part in range(draws // chunk):
    counts += np.bincount(draws_of(table, random_bits(chunk, seed=part)[:, None])[:, 0], minlength=VOCAB)
  return counts


def chi_square(seen, expected, cells):
  """The probability of a chi-square statistic as high as that of draws pooled into cells, numbered by `cells`."""
  _, cells = np.unique(cells, return_inverse=True)
  pooled = np.bincount(cells, expected)
  statistic = np.sum((np.bincount(cells, seen) - pooled) ** 2 / pooled)
  return chdtrc(len(pooled) - 1, statistic) if len(pooled) > 1 else 1.0


def assert_frequencies(counts, probs, groups=1):
  """That counts [V] are those of draws from probs [V], by chi-square tests at 1e-3: of tokens pooled from the rarest up
  into cells of about 20 draws or more, and of the sampler's groups. They are blind to how the draws of a cell are
  spread, so also by the number of tokens seen at all, and by the mass of the rare ones."""
  draws = counts.sum()
  assert np.all(counts[probs == 0] == 0)
  order = np.argsort(probs)[np.count_nonzero(probs == 0):]
  expected, seen = draws * probs[order], counts[order]
  assert chi_square(seen, expected, np.floor(np.cumsum(expected) / 20)) > 1e-3
  assert chi_square(seen, expected, order % groups) > 1e-3
  missed = np.exp(-expected)
  assert abs((seen > 0).sum() - (1 - missed).sum()) < 5 * np.sqrt(np.sum(missed * (1 - missed))) + 1
  rare = probs < 1e-6
  assert abs(counts[rare].sum() / draws - probs[rare].sum()) < 1e-4


@pytest.mark.parametrize("logits, sampling, draws", [
  (equal_and_rare, Sampling(), 2**22),
  (heavy_tail, Sampling(0.9, top_p=0.95), 2**21),
  (normal, Sampling(top_k=5000), 2**21),
  *(pytest.param(*case, 2**24, marks=pytest.mark.slow) for case in [
    (normal, Sampling()), (heavy_tail, Sampling()), (equal_and_rare, Sampling()),
    (normal, Sampling(top_p=0.95)), (heavy_tail, Sampling(0.9, top_p=0.95)), (normal, Sampling(top_k=5000))]),
], ids=lambda x: getattr(x, "__name__", str(x)))
def test_frequencies_at_a_full_vocabulary(optimised, logits, sampling, draws):
  logits = masked(logits())
  kept = np.asarray(distribution(logits, sampling)) > -np.inf
  assert not kept[USED:].any()
  probs = numpy_distribution(logits, sampling.temperature, sampling.top_p, sampling.top_k)
  # float32 and float64 may disagree about the last tokens of a nucleus of tens of thousands.
  assert numpy_distribution(logits, sampling.temperature)[kept != (probs > 0)].sum() < 1e-5
  probs = np.where(kept, numpy_distribution(logits, sampling.temperature), 0)
  groups = block_and_group_sums(jnp.asarray(probs, jnp.float32))[1].size
  assert_frequencies(draw_many(logits, sampling, draws), probs / probs.sum(), groups)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.6, top_p=0.95), Sampling(top_p=0.95), Sampling(top_k=50)],
                         ids=str)
@pytest.mark.parametrize("logits", [normal, heavy_tail, equal_and_rare])
def test_the_ends_of_the_random_words_fall_on_tokens_that_can_be_drawn(logits, sampling):
  logits = masked(logits())
  bits = np.array(list(itertools.product([0, 2**31, ALL_ONES], repeat=WORDS)), np.uint32)
  tokens, logprobs = choice(np.tile(logits, (len(bits), 1)), bits, sampling)
  assert np.all(np.asarray(tokens) < USED)
  probs = numpy_distribution(logits, sampling.temperature, sampling.top_p, sampling.top_k)
  np.testing.assert_allclose(logprobs, np.log(probs[np.asarray(tokens)]), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("logits", [normal, heavy_tail, equal_and_rare])
def test_logprobs_at_a_full_vocabulary(logits):
  logits = masked(logits())
  expected = np.log(numpy_distribution(logits[:USED], 1.0))
  found = np.asarray(distribution(logits, Sampling()))
  np.testing.assert_allclose(found[:USED], expected, atol=5e-6)
  assert np.all(found[USED:] == -np.inf)


@pytest.mark.parametrize("word", [0, 2**31, ALL_ONES])
@pytest.mark.parametrize("kept", [[0, 1], [10, 11], [0, 11], [5]])
def test_the_ends_of_the_random_words_in_a_small_vocabulary(kept, word):
  logits = np.full((1, 12), -5.0, np.float32)
  logits[0, kept] = 5.0
  tokens, logprobs = choice(logits, np.full((1, WORDS), word, np.uint32), Sampling(1.0, top_k=len(kept)))
  assert int(tokens[0]) in kept
  np.testing.assert_allclose(logprobs[0], -np.log(len(kept)), atol=1e-6)


@pytest.mark.parametrize("sampling", [Sampling(0.8), Sampling(1.0, top_p=0.8), Sampling(1.0, top_k=4)], ids=str)
@pytest.mark.parametrize("vocab", [1, 12, 13, 151])
def test_frequencies_are_the_probabilities(vocab, sampling):
  """Vocabularies that blocks divide and that they do not."""
  logits, draws = random_logits(1, vocab, 1.5), 2**14
  counts = np.bincount(choice(np.repeat(logits, draws, axis=0), random_bits(draws), sampling)[0], minlength=vocab)
  assert_frequencies(counts, numpy_distribution(logits[0], sampling.temperature, sampling.top_p, sampling.top_k))


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.6, top_p=0.95), Sampling(top_k=5), Sampling(0.0)], ids=str)
@pytest.mark.parametrize("vocab", [64, 151])
def test_a_row_depends_on_no_other_row_and_on_no_mesh(vocab, sampling):
  logits, bits = random_logits(8, vocab), random_bits(8)
  tokens, logprobs = choice(logits, bits, sampling)
  mixed, mixed_bits = random_logits(8, vocab, 9.0, seed=1), random_bits(8, seed=5)
  mixed[5], mixed_bits[5] = logits[2], bits[2]
  found = choice(mixed, mixed_bits, sampling)
  assert (found[0][5], found[1][5]) == (tokens[2], logprobs[2])
  for mesh, rows in (eight_devices(), 8), (one_device(), 1):
    with jax.set_mesh(mesh):
      split = choice(put_batch(mesh, logits[:rows]), put_batch(mesh, bits[:rows]), sampling)
    assert jax.typeof(split[0]).sharding.spec == jax.typeof(split[1]).sharding.spec == P(BATCH)
    np.testing.assert_array_equal(split[0], tokens[:rows])
    np.testing.assert_allclose(split[1], logprobs[:rows], rtol=1e-6)


def test_logits_that_are_not_numbers_give_a_valid_token_and_say_so():
  logits = random_logits(2, 151)
  logits[0, 7] = np.nan
  tokens, logprobs = choice(logits, np.full((2, WORDS), ALL_ONES, np.uint32), Sampling())
  assert 0 <= tokens[0] < 151
  assert np.isnan(logprobs[0]) and np.isfinite(logprobs[1])


def test_the_logprob_is_that_of_the_distribution_drawn_from():
  logits, sampling = random_logits(), Sampling(0.6, top_p=0.95)
  tokens, logprobs = choice(logits, random_bits(64), sampling)
  expected = [np.log(numpy_distribution(row, 0.6, 0.95)[token]) for row, token in zip(logits, tokens, strict=True)]
  np.testing.assert_allclose(logprobs, expected, atol=1e-5)
  assert len(set(np.asarray(tokens).tolist())) > 10


def test_greedy_takes_the_likeliest_and_reports_temperature_one():
  logits = random_logits()
  tokens, logprobs = choice(logits, random_bits(64), Sampling(0.0, top_p=0.5))
  np.testing.assert_array_equal(tokens, logits.argmax(axis=1))
  expected = [np.log(numpy_distribution(row, 1.0).max()) for row in logits]
  np.testing.assert_allclose(logprobs, expected, atol=1e-5)


@pytest.mark.parametrize("values, message", [
  ({"temperature": -0.1}, r"sampling\.temperature: -0\.1\. It must be at least 0"),
  ({"temperature": float("nan")}, r"sampling\.temperature: nan"),
  ({"top_p": 0.0}, r"sampling\.top_p: 0\.0\. It must be more than 0"),
  ({"top_p": 1.01}, r"sampling\.top_p: 1\.01"),
  ({"top_k": 0}, r"sampling\.top_k: 0\. It must be at least 1"),
])
def test_wrong_settings_are_refused(values, message):
  with pytest.raises(InputError, match=message):
    Sampling(**values)


# Rows of several people in one batch


MIXED = [Sampling(0.0), Sampling(1.0), Sampling(0.6, 0.95), Sampling(1.4, 0.3), Sampling(0.0, 0.5), Sampling(0.7, 1e-6)]


def by_row(samplings):
  return RowSampling(*(np.array([getattr(s, name) for s in samplings], np.float32) for name in RowSampling._fields))


@pytest.mark.parametrize("vocab", [64, 151])
@pytest.mark.parametrize("kinds", [MIXED, MIXED[:2]], ids=["some cut", "none cut"])
def test_each_row_is_chosen_as_by_its_own_sampling(vocab, kinds):
  """On one device and on eight, against one program for each sampling."""
  samplings = (kinds * 8)[:16]
  logits, bits, each = random_logits(16, vocab), random_bits(16), jax.jit(choose)
  expected = [choice(logits[i:i + 1], bits[i:i + 1], sampling) for i, sampling in enumerate(samplings)]
  for mesh in one_device(), eight_devices():
    with jax.set_mesh(mesh):
      tokens, logprobs = each(*put_batch(mesh, (logits, bits, by_row(samplings))))
      assert jax.typeof(tokens).sharding.spec == jax.typeof(logprobs).sharding.spec == P(BATCH)
    np.testing.assert_array_equal(tokens, [token[0] for token, _ in expected])
    np.testing.assert_allclose(logprobs, [logprob[0] for _, logprob in expected], rtol=1e-5, atol=1e-6)
