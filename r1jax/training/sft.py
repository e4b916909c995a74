"""The update of supervised training: next-token prediction on packed rows."""
from functools import cache

from r1jax.losses.sft import sft_loss
from r1jax.models.config import Compute, ModelConfig
from r1jax.records import PackedRows
from r1jax.training.logprobs import token_logprobs
from r1jax.training.optimizer import AdamW
from r1jax.training.step import Step, make_step


@cache
def sft_step(config: ModelConfig, compute: Compute, optimizer: AdamW) -> Step:
  """The Step of sft_loss for these settings, cached. Of PackedRows it reads tokens, positions, segment_ids and weights;
  metrics are the loss's."""
  def loss_fn(params, rows: PackedRows):
    logprobs, _ = token_logprobs(params, config, compute, rows.tokens, rows.positions, rows.segment_ids)
    return sft_loss(logprobs, rows.weights)

  return make_step(loss_fn, optimizer.build())
