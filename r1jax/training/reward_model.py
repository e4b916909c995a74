"""Reward models: a scalar head on the policy's decoder, its scores, and its update.

Parameters: {"decoder": the policy's parameters, as they are, "head": {"weight": [D], "bias": []}}, so that a reward model
starts from any policy's checkpoint. The decoder's own output head, if it has one, is carried along without a gradient.
"""
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from r1jax.losses.reward_model import RewardKind, pairwise_loss, pointwise_loss
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.params import abstract_params
from r1jax.models.transformer import forward, gathered
from r1jax.sharding import BATCH, TRAIN_RULES, check_divisible, partition_spec
from r1jax.training.optimizer import AdamW
from r1jax.training.step import make_update


@struct.dataclass
class RewardBatch:
  """One batch of a reward model: N rows of R = 2 responses (chosen, rejected) or of R = 1, right-padded to T slots.

  tokens, positions: [N, R, T] int32, prompt and response together, positions -1 in padding. last: [N, R] int32, the slot
  that the score is read at. weights: [N] float32, of a sum over the whole batch. safe: [N] float32, 0 or 1, where R = 1.
  """

  tokens: Any
  positions: Any
  last: Any
  weights: Any
  safe: Any = None


def _head_shardings(config: ModelConfig, mesh: Mesh) -> dict:
  spec = partition_spec(("embed",), TRAIN_RULES)
  check_divisible("weight head.weight", (config.d_model,), spec, mesh)
  return {"weight": NamedSharding(mesh, spec), "bias": NamedSharding(mesh, P())}


def abstract_reward_params(config: ModelConfig, mesh: Mesh) -> dict:
  """ShapeDtypeStructs with shardings of a reward model's parameters."""
  sharding = _head_shardings(config, mesh)
  head = {"weight": jax.ShapeDtypeStruct((config.d_model,), jnp.float32, sharding=sharding["weight"]),
          "bias": jax.ShapeDtypeStruct((), jnp.float32, sharding=sharding["bias"])}
  return {"decoder": abstract_params(config, mesh), "head": head}


def init_reward_params(policy_params: dict, config: ModelConfig, mesh: Mesh) -> dict:
  """A reward model on a policy's parameters, which are taken as they are, not copied. The head starts at zeros (ours):
  every response scores 0."""
  head = {"weight": jnp.zeros((config.d_model,), jnp.float32), "bias": jnp.zeros((), jnp.float32)}
  return {"decoder": policy_params, "head": jax.device_put(head, _head_shardings(config, mesh))}


def reward_scores(params: dict, config: ModelConfig, compute: Compute, tokens, positions, last) -> jax.Array:
  """Scores [B] float32: the head on the final hidden state at slot `last` of each row. Not jitted, for losses.

  tokens, positions: [B, T] int32, right-padded, positions -1 in padding; last: [B] int32.
  """
  hidden = forward(params["decoder"], config, compute, tokens, positions)
  # A masked sum instead of a gather: it runs on a batch split over devices, and one row is picked exactly.
  picked = (jnp.arange(tokens.shape[1], dtype=jnp.int32)[None] == last[:, None])[:, :, None]
  final = jnp.sum(jnp.where(picked, hidden, jnp.zeros((), hidden.dtype)), axis=1).astype(jnp.float32)
  weight = gathered(params["head"]["weight"], ("embed",), jnp.float32)
  return jnp.einsum("bd,d->b", final, weight) + params["head"]["bias"]


@partial(jax.jit, static_argnames=("config", "compute"))
def scores(params: dict, tokens, positions, last, *, config: ModelConfig, compute: Compute) -> jax.Array:
  """reward_scores without gradients: [B] float32."""
  return reward_scores(params, config, compute, tokens, positions, last)


@cache
def reward_update(config: ModelConfig, compute: Compute, optimizer: AdamW, kind: RewardKind):
  """update(state, RewardBatch of [M, N / M, ...]) -> (state, metrics), jitted and cached.

  All responses of a microbatch go through one forward pass. Metrics are those of the loss of `kind`.
  """
  def loss_fn(params, batch: RewardBatch):
    N, R, T = batch.tokens.shape
    flat = [x.reshape(N * R, T, out_sharding=P(BATCH, None)) for x in (batch.tokens, batch.positions)]
    last = batch.last.reshape(N * R, out_sharding=P(BATCH))
    found = reward_scores(params, config, compute, *flat, last).reshape(N, R, out_sharding=P(BATCH, None))
    if kind is RewardKind.PAIRWISE:
      return pairwise_loss(found[:, 0], found[:, 1], batch.weights)
    return pointwise_loss(found[:, 0], batch.safe, batch.weights)

  return make_update(loss_fn, optimizer.build())
