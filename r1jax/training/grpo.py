"""The update of GRPO: the policy's log-probs, the loss on them, one optimizer step."""
from functools import cache

import jax
import jax.numpy as jnp

from r1jax.losses.grpo import KLEstimator, grpo_loss
from r1jax.models.config import Compute, ModelConfig
from r1jax.records import GRPOBatch
from r1jax.training.optimizer import AdamW
from r1jax.training.score import token_logprobs
from r1jax.training.step import make_update


@cache
def grpo_update(config: ModelConfig, compute: Compute, optimizer: AdamW, temperature: float, first: int,
                   clip_low: float, clip_high: float, kl_coef: float, kl_estimator: KLEstimator):
  """update(state, GRPOBatch of [M, N / M, ...]) -> (state, metrics) for these settings, jitted and cached.

  first: slot of the first response token. Beside grpo_loss's metrics (weighted sums): `entropy`, and `sampler_gap`,
  |trainer's - sampler's log-prob|, which on a rollout's first minibatch should be rounding alone.
  """
  def loss_fn(params, batch: GRPOBatch):
    logprobs, entropy = token_logprobs(params, config, compute, batch.tokens, batch.positions,
                                       temperature=temperature, first=first)
    old = jax.lax.stop_gradient(logprobs) if batch.old_logprobs is None else batch.old_logprobs
    loss, metrics = grpo_loss(logprobs, old, batch.ref_logprobs, batch.advantages, batch.mask,
                              batch.weights, clip_low=clip_low, clip_high=clip_high, kl_coef=kl_coef,
                              kl_estimator=kl_estimator)
    gap = jnp.where(batch.mask, jnp.abs(jax.lax.stop_gradient(logprobs) - batch.sampler_logprobs), 0.0)
    return loss, {**metrics, "entropy": jnp.sum(batch.weights * entropy),
                  "sampler_gap": jnp.sum(batch.weights * gap), "sampler_gap_max": jnp.max(gap)}

  return make_update(loss_fn, optimizer.build())
