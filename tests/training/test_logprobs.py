"""Log-probs of given tokens: right, in chunks, in packed rows, and never with the logits of all positions at once."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import EVERYTHING, one_device, random_params, random_tokens

from r1jax.models.config import Compute
from r1jax.models.params import abstract_params
from r1jax.models.transformer import forward, head_weight, logits
from r1jax.sharding import put_batch
from r1jax.training.score import score, token_logprobs

LENGTHS = [11, 4, 7]


@partial(jax.jit, static_argnames=("compute", "temperature", "first"))
def scored(params, tokens, positions, segments=None, *, compute=Compute(), temperature=1.0, first=1):  # noqa: B008
  return token_logprobs(params, EVERYTHING, compute, tokens, positions, temperature=temperature, first=first,
                        segment_ids=segments)


def on_one_device(f, *arrays, **settings):
  mesh = one_device()
  with jax.set_mesh(mesh):
    return jax.tree.map(np.asarray, f(random_params(EVERYTHING, mesh), *put_batch(mesh, arrays), **settings))


@jax.jit
def all_logits(params, tokens, positions):
  return logits(forward(params, EVERYTHING, Compute(), tokens, positions), head_weight(params, EVERYTHING, Compute()))


@pytest.mark.parametrize("temperature, first, chunk", [(1.0, 1, 128), (0.7, 5, 3)])
def test_logprobs_and_entropy_are_those_of_the_logits(temperature, first, chunk):
  tokens, positions = random_tokens(3, 11, LENGTHS)
  found, entropy = on_one_device(
    scored, tokens, positions, compute=Compute(logprob_chunk=chunk), temperature=temperature, first=first)
  scores = on_one_device(all_logits, tokens, positions).astype(np.float64)[:, :-1] / temperature
  logprobs = scores - np.log(np.sum(np.exp(scores), axis=-1, keepdims=True))
  expected = np.take_along_axis(logprobs, tokens[:, 1:, None], axis=-1)[..., 0]
  expected_entropy = -np.sum(np.exp(logprobs) * logprobs, axis=-1)
  real = (positions[:, :-1] >= 0) & (np.arange(10) >= first - 1)
  np.testing.assert_allclose(found[:, 1:][real], expected[real], atol=1e-5)
  np.testing.assert_allclose(entropy[:, 1:][real], expected_entropy[real], atol=1e-5)
  assert np.all(found[:, :first] == 0) and np.all(entropy[:, :first] == 0) and np.isfinite(found).all()


def test_packed_rows_score_as_single_ones():
  tokens, positions = random_tokens(3, 11, LENGTHS)
  alone, _ = on_one_device(scored, tokens, positions)
  rows = [tokens[i, 11 - n:] for i, n in enumerate(LENGTHS)]
  packed = np.concatenate([*rows, [0, 0]])[None].astype(np.int32)
  restarted = np.concatenate([*(np.arange(n) for n in LENGTHS), [-1, -1]])[None].astype(np.int32)
  segments = np.repeat([0, 1, 2, 3], [*LENGTHS, 2])[None].astype(np.int32)
  together, _ = on_one_device(scored, packed, restarted, segments, compute=Compute(attention_chunk=5, logprob_chunk=6))
  start = 0
  for i, n in enumerate(LENGTHS):
    np.testing.assert_allclose(together[0, start + 1:start + n], alone[i, 12 - n:], atol=1e-5)
    start += n


# Memory: what the jaxpr holds


def sub_jaxprs(value):
  if hasattr(value, "eqns"):
    yield value
  elif hasattr(value, "jaxpr"):
    yield value.jaxpr
  elif isinstance(value, tuple | list):
    for item in value:
      yield from sub_jaxprs(item)


def largest(jaxpr) -> int:
  """Elements of the largest intermediate of a jaxpr and of all jaxprs inside it."""
  sizes = [0]
  for equation in jaxpr.eqns:
    sizes += [v.aval.size for v in equation.outvars if hasattr(v.aval, "size")]
    for value in equation.params.values():
      sizes += [largest(inner) for inner in sub_jaxprs(value)]
  return max(sizes)


B, T = 4, 32
CONFIG = replace(EVERYTHING, vocab_size=1024)
FULL = B * (T - 1) * CONFIG.vocab_size


def largest_of(f) -> int:
  mesh = one_device()
  with jax.set_mesh(mesh):
    tokens = jax.ShapeDtypeStruct((B, T), jnp.int32, sharding=put_batch(mesh, np.zeros((B, T), np.int32)).sharding)
    return largest(jax.make_jaxpr(f)(abstract_params(CONFIG, mesh), tokens, tokens).jaxpr)


def mean_logprob(params, tokens, positions, chunk):
  return token_logprobs(params, CONFIG, Compute(logprob_chunk=chunk), tokens, positions)[0].mean()


def test_scoring_never_holds_all_logits():
  def run(chunk):
    return largest_of(lambda *a: score(*a, config=CONFIG, compute=Compute(logprob_chunk=chunk), temperature=0.7, first=1))
  assert run(4) < FULL / 2
  assert run(128) >= FULL, "the walk must see the logits that a chunk of all positions makes"


def test_gradients_of_logprobs_never_hold_all_logits():
  gradient = jax.grad(mean_logprob)
  assert largest_of(lambda *a: gradient(*a, 4)) < FULL / 2
  assert largest_of(lambda *a: gradient(*a, 128)) >= FULL

  def stored(params, tokens, positions):  # logits in chunks, but kept for the backward pass
    hidden = forward(params, CONFIG, Compute(), tokens, positions)
    head = head_weight(params, CONFIG, Compute())
    chunks = jnp.moveaxis(hidden.reshape(B, 8, T // 8, -1), 1, 0)
    _, out = jax.lax.scan(lambda _, h: (None, jax.nn.logsumexp(logits(h, head), axis=-1).mean()), None, chunks)
    return out.mean()
  assert largest_of(jax.grad(stored)) >= FULL, "the walk must see what a scan stacks up"
