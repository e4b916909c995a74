"""Log-probs of tokens that are given, such as a prompt's, by the same code that training uses."""
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.hub.model import Model
from r1jax.sampling.slots import bucket
from r1jax.sharding import batch_parts, put_batch
from r1jax.training.distill import topk_logprobs
from r1jax.training.logprobs import token_logprobs

LIKELIEST = (0, 1, 5, 20)  # each is compiled by itself: a request gets the next larger one


@dataclass(frozen=True)
class Scored:
  """Log-probs [T] float32 of T tokens, each given those before it, at temperature 1; the likeliest tokens at each place, ids
  [T, k] int32 and their log-probs top [T, k] float32. The first token has none before it: its entries mean nothing."""

  logprobs: np.ndarray
  ids: np.ndarray
  top: np.ndarray


@partial(jax.jit, static_argnames=("config", "compute", "k"))
def _scored(params, tokens, positions, *, config, compute, k):
  logprobs, _ = token_logprobs(params, config, compute, tokens, positions, None)
  if not k:
    empty = jnp.zeros((*tokens.shape, 0))
    return logprobs, empty.astype(jnp.int32), empty
  return logprobs, *topk_logprobs(params, config, compute, tokens, positions, None, k)


def score(model: Model, tokens: tuple[int, ...], likeliest: int = 0) -> Scored:
  """The log-probs of tokens, at least one. likeliest: 0 to 20. Call under jax.set_mesh(model.mesh)."""
  length, rows = len(tokens), batch_parts(model.mesh)
  wide = bucket(length, 32)
  padded, positions = np.zeros((rows, wide), np.int32), np.full((rows, wide), -1, np.int32)
  padded[0, :length], positions[0, :length] = tokens, np.arange(length)
  k = min(next(size for size in LIKELIEST if size >= likeliest), model.config.num_tokens or model.config.vocab_size)
  found = _scored(model.params, *put_batch(model.mesh, (padded, positions)), config=model.config, compute=model.compute, k=k)
  logprobs, ids, top = (x[0, :length] for x in jax.device_get(found))
  # Both are of one program but of two sums: a token that is the likeliest has the same log-prob in both places.
  same = ids == np.asarray(tokens)[:, None]
  logprobs = np.where(same.any(axis=1), np.sum(np.where(same, top, 0), axis=1), logprobs)
  return Scored(logprobs, ids[:, :likeliest], top[:, :likeliest])
