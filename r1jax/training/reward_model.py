"""Reward models: a scalar head on the policy's decoder, its scores, and its update.

Parameters: {"decoder": the policy's parameters, as they are, "head": {"weight": [D], "bias": []}}, so that a reward model
starts from any policy's checkpoint. The decoder's own output head, if it has one, is carried along without a gradient.
"""
from functools import cache, partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, reshard
from jax.sharding import PartitionSpec as P

from r1jax.losses.reward_model import RewardKind, pairwise_loss, pointwise_loss
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.params import abstract_params
from r1jax.models.transformer import forward, gathered
from r1jax.records import PackedRows
from r1jax.sharding import BATCH, TRAIN_RULES, check_divisible, partition_spec
from r1jax.training.optimizer import AdamW
from r1jax.training.step import Step, make_step


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


def reward_scores(params: dict, config: ModelConfig, compute: Compute, tokens, positions, segment_ids) -> jax.Array:
  """Scores [B, T] float32: the head on the final hidden state of every slot; a response's score is that at its last one.
  Not jitted, for losses.

  tokens, positions, segment_ids: [B, T] int32, as in PackedRows; segment_ids None: a row is a sequence.
  """
  hidden = forward(params["decoder"], config, compute, tokens, positions, segment_ids).astype(jnp.float32)
  with jax.named_scope("head"):
    weight = gathered(params["head"]["weight"], ("embed",), jnp.float32)
    found = jnp.einsum("btd,d->bt", hidden, weight) + params["head"]["bias"]
    return reshard(found, P(BATCH, None))


@partial(jax.jit, static_argnames=("config", "compute"))
def scores(params: dict, tokens, positions, segment_ids, *, config: ModelConfig, compute: Compute) -> jax.Array:
  """reward_scores without gradients: [B, T] float32."""
  return reward_scores(params, config, compute, tokens, positions, segment_ids)


@cache
def reward_step(config: ModelConfig, compute: Compute, optimizer: AdamW, kind: RewardKind) -> Step:
  """The Step of the loss of `kind` for these settings, cached; metrics are that loss's.

  Of PackedRows it reads tokens, positions, segment_ids and weights, which are 0 but at the slots that are judged: of pairs
  the last slot of the rejected response, with `partner`; of labelled responses the last slot of each, with `safe`.
  """
  def loss_fn(params, rows: PackedRows):
    found = reward_scores(params, config, compute, rows.tokens, rows.positions, rows.segment_ids)
    weights = rows.weights.reshape(-1, out_sharding=P(BATCH))
    if kind is RewardKind.PAIRWISE:
      # A product with the one-hot partner instead of a gather: it runs on a batch split over devices.
      slots = jnp.arange(found.shape[1], dtype=jnp.int32)[None, None]
      picked = (rows.partner[:, :, None] == slots).astype(jnp.float32)
      chosen = jnp.einsum("bts,bs->bt", picked, found)
      return pairwise_loss(*(x.reshape(-1, out_sharding=P(BATCH)) for x in (chosen, found)), weights)
    return pointwise_loss(*(x.reshape(-1, out_sharding=P(BATCH)) for x in (found, rows.safe)), weights)

  return make_step(loss_fn, optimizer.build())
