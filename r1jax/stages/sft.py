"""Supervised training on documents: next-token prediction on prompt + response, or on responses alone."""
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.data.packing import pack
from r1jax.data.templates import Template, render
from r1jax.data.tokenizer import Tokenizer
from r1jax.errors import InputError
from r1jax.losses.reductions import Reduction, token_weights
from r1jax.losses.sft import sft_loss
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.params import abstract_params
from r1jax.records import TokenBatch, TrainState
from r1jax.sharding import batch_parts, batch_sharding, put_batch
from r1jax.stages.context import Context, Experiment
from r1jax.training.checkpoint import Checkpoints
from r1jax.training.metrics import RunLog, Timers
from r1jax.training.optimizer import AdamW
from r1jax.training.score import token_logprobs
from r1jax.training.step import init_state, make_update, microbatched


class Documents(Protocol):
  """An endless, positional source of documents: a frozen dataclass."""

  def document(self, index: int) -> tuple[str, str]:
    """(question text, response text) number `index`; the same on every call."""


@dataclass(frozen=True)
class SFT:
  """One stage of supervised training: each update takes batch_size rows of max_length tokens, filled with documents."""

  documents: Documents
  optimizer: AdamW
  steps: int
  batch_size: int
  max_length: int
  template: Template
  name: str = "sft"
  train_on_prompt: bool = False  # True: pre-training, every token counts
  microbatches: int = 1
  checkpoint_every: int = 500  # steps
  log_every: int = 50  # steps

  def check(self, experiment: Experiment) -> None:
    """InputError for an impossible geometry."""
    where = f"stages.{self.name}"
    for name in ("steps", "batch_size", "max_length", "microbatches", "checkpoint_every", "log_every"):
      if getattr(self, name) < 1:
        raise InputError(f"{where}.{name}", getattr(self, name), "It must be at least 1.")
    if self.batch_size % self.microbatches:
      raise InputError(f"{where}.microbatches", self.microbatches, f"It must divide batch_size ({self.batch_size}).")
    if self.max_length > experiment.model.max_position:
      raise InputError(f"{where}.max_length", self.max_length,
                       f"The model's context ends at max_position {experiment.model.max_position}.")

  def check_mesh(self, mesh) -> None:
    """InputError if a microbatch cannot be split over the data-parallel devices."""
    rows, parts = self.batch_size // self.microbatches, batch_parts(mesh)
    if rows % parts:
      raise InputError(f"stages.{self.name}.batch_size", f"{rows} rows a microbatch for {parts} data-parallel devices",
                       "Make it a multiple of mesh.replica x mesh.fsdp.")

  def check_data(self, tokenizer: Tokenizer) -> None:
    """InputError for a document that is too long or has an unknown word, among those of the first update."""
    self.batch(tokenizer, 0)

  def batch(self, tokenizer: Tokenizer, cursor: int) -> tuple[TokenBatch, int]:
    """(host arrays [batch_size, max_length] of documents cursor, cursor + 1, ..., the next cursor)."""
    rows, following = pack(partial(self._document, tokenizer), cursor, self.batch_size, self.max_length, tokenizer.pad_id)
    weights = np.asarray(token_weights(rows.mask, Reduction.TOKEN_MEAN))
    return TokenBatch(tokens=rows.tokens, positions=rows.positions, segment_ids=rows.segment_ids,
                      weights=weights), following

  def _document(self, tokenizer: Tokenizer, number: int) -> tuple[list[int], int]:
    """(token ids of one document with its stop token, how many of the first are not trained on)."""
    question, response = self.documents.document(number)
    prompt = tokenizer.encode(render(self.template, question))
    ids = prompt + tokenizer.encode(response) + [tokenizer.stop_ids[0]]
    if len(ids) > self.max_length:
      raise InputError(f"stages.{self.name}.max_length", self.max_length,
                       f"Document {number} has {len(ids)} tokens: raise it, or shorten the documents.")
    return ids, 1 if self.train_on_prompt else len(prompt)

  def update(self, experiment: Experiment):
    """The jitted update(state, TokenBatch) of this stage."""
    return sft_update(experiment.model, experiment.compute, self.optimizer)

  def run(self, context: Context) -> dict:
    """Trains from context.params, or resumes; what summary.json says of it."""
    update = self.update(context.experiment)
    checkpoints = Checkpoints(context.run_dir / "checkpoints" / self.name)
    state = init_state(context.params, self.optimizer.build())
    cursor = 0
    if checkpoints.latest() is not None:
      state, _, progress = checkpoints.restore(state, has_reference=False)
      cursor = progress["cursor"]
    step = int(state.step)
    log = RunLog(context.run_dir, self.name, self.steps, checkpoints.latest(), set(context.finished))
    timers = Timers()
    while step < self.steps:
      with timers("batch"):
        batch, cursor = self.batch(context.tokenizer, cursor)
        batch = put_batch(context.mesh, microbatched(batch, self.microbatches), axis=1)
      with timers("update"):
        state, metrics = update(state, batch)
        step += 1
        log_now = step % self.log_every == 0 or step in (1, self.steps)
        if log_now:
          metrics = jax.device_get(metrics)
      if log_now:
        log.metrics(step, {"policy/loss": metrics["loss"], "policy/grad_norm": metrics["grad_norm"], **timers.take()})
      if step % self.checkpoint_every == 0 or step == self.steps:
        log.sync()
        checkpoints.save(state, None, {"cursor": cursor})
    checkpoints.close()
    log.close()
    return {"steps": self.steps, "before": {}, "after": {}}

  def programs(self, experiment: Experiment, mesh) -> dict[str, Any]:
    """update, lowered from shapes alone."""
    self.check_mesh(mesh)
    shape = (self.microbatches, self.batch_size // self.microbatches, self.max_length)
    sharding = batch_sharding(mesh, 3, 1)
    with jax.set_mesh(mesh):
      params = abstract_params(experiment.model, mesh)
      state = TrainState(step=jax.ShapeDtypeStruct((), jnp.int32), params=params,
                         opt_state=jax.eval_shape(self.optimizer.build().init, params))
      ints = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=sharding)
      weights = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)
      return {"update": self.update(experiment).lower(state, TokenBatch(
        tokens=ints, positions=ints, segment_ids=ints, weights=weights))}


@cache
def sft_update(config: ModelConfig, compute: Compute, optimizer: AdamW):
  """update(state, TokenBatch of [M, N / M, T]) -> (state, metrics), jitted and cached."""
  def loss_fn(params, batch: TokenBatch):
    logprobs, _ = token_logprobs(params, config, compute, batch.tokens, batch.positions,
                                 segment_ids=batch.segment_ids)
    return sft_loss(logprobs, batch.weights)
  return make_update(loss_fn, optimizer.build())
