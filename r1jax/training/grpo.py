"""The update of GRPO: the policy's log-probs, the loss on them, one optimizer step."""
import math
from functools import cache

import jax
import jax.numpy as jnp

from r1jax.losses.grpo import KLEstimator, grpo_loss
from r1jax.models.config import Compute, ModelConfig
from r1jax.records import PackedRows
from r1jax.training.logprobs import token_logprobs
from r1jax.training.optimizer import AdamW
from r1jax.training.step import Step, make_step

WIDE_GAP = math.log(2)  # ours: of sampler_gap_above


@cache
def grpo_step(config: ModelConfig, compute: Compute, optimizer: AdamW, temperature: float, clip_low: float, clip_high: float,
              kl_coef: float, kl_estimator: KLEstimator) -> Step:
  """The Step of grpo_loss for these settings, cached. Of PackedRows it reads all fields of RL.

  Metrics beside grpo_loss's, weighted sums like them: `entropy`; `sampler_gap`, |trainer's - sampler's log-prob|, which on
  a rollout's first minibatch should be rounding alone; `sampler_gap_above`, the tokens whose gap is more than log 2 (one of
  the two finds the token more than twice as likely as the other does); and the maximum `sampler_gap_max`.
  """
  def loss_fn(params, rows: PackedRows):
    logprobs, entropy = token_logprobs(params, config, compute, rows.tokens, rows.positions, rows.segment_ids,
                                       temperature=temperature, entropy=True)
    own = jax.lax.stop_gradient(logprobs)
    loss, metrics = grpo_loss(
      logprobs, own if rows.old_logprobs is None else rows.old_logprobs, rows.ref_logprobs, rows.advantages, rows.mask,
      rows.weights, clip_low=clip_low, clip_high=clip_high, kl_coef=kl_coef, kl_estimator=kl_estimator,
      correction=rows.correction)
    gap = jnp.where(rows.mask, jnp.abs(own - rows.sampler_logprobs), 0.0)
    return loss, {**metrics, "entropy": jnp.sum(jnp.where(rows.mask, rows.weights * entropy, 0.0)),
                  "sampler_gap": jnp.sum(rows.weights * gap), "sampler_gap_max": jnp.max(gap),
                  "sampler_gap_above": jnp.sum(rows.weights * (gap > WIDE_GAP).astype(jnp.float32))}

  return make_step(loss_fn, optimizer.build())
