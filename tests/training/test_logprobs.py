"""Log-probs of given tokens: right, in chunks, in packed rows, and never with the logits of all positions at once."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import EVERYTHING, FAMILIES, eight_devices, one_device, random_params, random_tokens

from r1jax.models.config import Compute
from r1jax.models.params import abstract_params
from r1jax.models.transformer import forward, head_weight, logits
from r1jax.sharding import put_batch
from r1jax.training.logprobs import logprobs, token_logprobs

LENGTHS = [11, 4, 7]
# Six ids of the vocabulary have no token.
PADDED = replace(EVERYTHING, num_tokens=58)


@partial(jax.jit, static_argnames=("config", "compute", "temperature"))
def scored(params, tokens, positions, segments=None, *, config=EVERYTHING, compute=Compute(), temperature=1.0):  # noqa: B008
  """(logprobs, entropy, gradient of the parameters) of a sum that gives every token a weight of its own."""
  def total(params):
    found, entropy = token_logprobs(params, config, compute, tokens, positions, segments, temperature=temperature,
                                    entropy=True)
    counted = (positions > 0) & (jnp.arange(tokens.shape[1]) > 0)[None]
    probe = jnp.cos(jnp.arange(tokens.size, dtype=jnp.float32)).reshape(tokens.shape)
    return jnp.sum(jnp.where(counted, found * probe, 0.0)), (found, entropy)
  gradient, found = jax.grad(total, has_aux=True)(params)
  return *found, gradient


def on(mesh, f, *arrays, config=EVERYTHING, **settings):
  with jax.set_mesh(mesh):
    return jax.tree.map(np.asarray, f(random_params(config, mesh), *put_batch(mesh, arrays), config=config, **settings))


@partial(jax.jit, static_argnames=("config", "temperature"))
def from_all_logits(params, tokens, positions, *, config, temperature):
  """scored() by autodiff of log_softmax, of the logits of the ids that have a token."""
  def total(params):
    scores = logits(forward(params, config, Compute(), tokens, positions), head_weight(params, config, Compute()))
    scores = jax.sharding.reshard(scores, jax.P())[:, :-1, :config.num_tokens] / temperature
    hit = tokens[:, 1:, None] == jnp.arange(scores.shape[-1], dtype=jnp.int32)[None, None]
    found = jnp.sum(jnp.where(hit, jax.nn.log_softmax(scores), 0.0), axis=-1)
    entropy = -jnp.sum(jax.nn.softmax(scores) * jax.nn.log_softmax(scores), axis=-1)
    probe = jnp.cos(jnp.arange(tokens.size, dtype=jnp.float32)).reshape(tokens.shape)[:, 1:]
    return jnp.sum(jnp.where(positions[:, 1:] > 0, found * probe, 0.0)), (found, entropy)
  gradient, found = jax.grad(total, has_aux=True)(params)
  return *found, gradient


def assert_close(a, b):
  np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config, temperature, chunk", [
  (EVERYTHING, 1.0, 512), (PADDED, 0.7, 5), (replace(FAMILIES["qwen2"], num_tokens=58), 0.7, 9)],
  ids=["whole", "padded", "tied"])
def test_logprobs_entropy_and_gradient_are_those_of_the_logits(config, temperature, chunk):
  tokens, positions = random_tokens(3, 11, LENGTHS)
  tokens = np.minimum(tokens, 57)
  mesh = one_device()
  found, entropy, gradient = on(mesh, scored, tokens, positions, config=config, compute=Compute(logprob_chunk=chunk),
                                temperature=temperature)
  expected = on(mesh, from_all_logits, tokens, positions, config=config, temperature=temperature)
  real = positions[:, 1:] > 0
  assert_close(found[:, 1:][real], expected[0][real])
  assert_close(entropy[:, 1:][real], expected[1][real])
  jax.tree.map(assert_close, gradient, expected[2])
  assert np.all(found[:, 0] == 0) and np.all(entropy[:, 0] == 0) and np.isfinite(found).all()


def test_chunks_and_eight_devices_give_the_same():
  tokens, positions = random_tokens(8, 11, [11, 4, 7, 11, 2, 9, 11, 5])
  whole = on(one_device(), scored, tokens, positions, config=PADDED, temperature=0.7)
  for mesh, chunk in ((one_device(), 7), (eight_devices(), 9)):
    jax.tree.map(assert_close, on(mesh, scored, tokens, positions, config=PADDED, compute=Compute(logprob_chunk=chunk),
                                  temperature=0.7), whole)
  with jax.set_mesh(mesh):
    alone = logprobs(random_params(PADDED, mesh), *put_batch(mesh, (tokens, positions)), None, config=PADDED,
                     compute=Compute(), temperature=0.7)
  real = positions > 0
  assert_close(np.asarray(alone)[real], whole[0][real])


def test_ids_without_a_token_have_no_probability_and_no_gradient():
  tokens, positions = random_tokens(2, 9)
  tokens[:, 4] = 60  # a token that no tokenizer makes; even so
  found, entropy, gradient = on(one_device(), scored, tokens, positions, config=PADDED)
  assert np.exp(found[:, 4]).tolist() == [0, 0] and np.isfinite(entropy).all()
  assert np.all(gradient["head"][:, 58:] == 0) and np.all(np.any(gradient["head"][:, :58] != 0, axis=0))
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


def test_packed_rows_score_as_single_ones():
  tokens, positions = random_tokens(3, 11, LENGTHS)
  alone = on(one_device(), scored, tokens, positions)[0]
  rows = [tokens[i, 11 - n:] for i, n in enumerate(LENGTHS)]
  packed = np.concatenate([*rows, [0, 0]])[None].astype(np.int32)
  restarted = np.concatenate([*(np.arange(n) for n in LENGTHS), [-1, -1]])[None].astype(np.int32)
  segments = np.repeat([0, 1, 2, 3], [*LENGTHS, 2])[None].astype(np.int32)
  together = on(one_device(), scored, packed, restarted, segments, compute=Compute(attention_chunk=10, logprob_chunk=6))[0]
  start = 0
  for i, n in enumerate(LENGTHS):
    assert_close(together[0, start + 1:start + n], alone[i, 12 - n:])
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
FULL = B * T * CONFIG.vocab_size


def largest_of(f) -> int:
  mesh = one_device()
  with jax.set_mesh(mesh):
    tokens = jax.ShapeDtypeStruct((B, T), jnp.int32, sharding=put_batch(mesh, np.zeros((B, T), np.int32)).sharding)
    return largest(jax.make_jaxpr(f)(abstract_params(CONFIG, mesh), tokens, tokens).jaxpr)


def mean_logprob(params, tokens, positions, chunk):
  return token_logprobs(params, CONFIG, Compute(logprob_chunk=chunk), tokens, positions, None)[0].mean()


def test_scoring_never_holds_all_logits():
  def run(chunk):
    return largest_of(lambda *a: logprobs(*a, None, config=CONFIG, compute=Compute(logprob_chunk=chunk), temperature=0.7))
  assert run(16) < FULL / 2
  assert run(B * T) >= FULL, "the walk must see the logits that a chunk of all positions makes"


def test_gradients_of_logprobs_never_hold_all_logits():
  gradient = jax.grad(mean_logprob)
  assert largest_of(lambda *a: gradient(*a, 16)) < FULL / 2
  assert largest_of(lambda *a: gradient(*a, B * T)) >= FULL

  def stored(params, tokens, positions):  # logits in chunks, but kept for the backward pass
    hidden = forward(params, CONFIG, Compute(), tokens, positions)
    head = head_weight(params, CONFIG, Compute())
    hidden = jax.sharding.reshard(hidden, jax.P(None, None, None))
    chunks = jnp.moveaxis(hidden.reshape(B, 8, T // 8, -1), 1, 0)
    _, out = jax.lax.scan(lambda _, h: (None, jax.nn.logsumexp(logits(h, head), axis=-1).mean()), None, chunks)
    return out.mean()
  assert largest_of(jax.grad(stored)) >= FULL, "the walk must see what a scan stacks up"
