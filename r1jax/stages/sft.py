"""Supervised training: next-token prediction on prompt + response (pre-training), or on responses alone (SFT)."""
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.curation.datasets import Rows
from r1jax.data.packing import batches_for, pack
from r1jax.data.prompts import question_stream
from r1jax.data.templates import Template, render
from r1jax.data.tokenizer import Tokenizer
from r1jax.errors import InputError
from r1jax.losses.reductions import Reduction, token_weights
from r1jax.losses.sft import sft_loss
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.params import abstract_params
from r1jax.records import DistillBatch, TokenBatch, TrainState
from r1jax.sharding import batch_parts, batch_sharding, put_batch
from r1jax.stages.context import POLICY, Base, Context, Experiment
from r1jax.stages.policy import policy_params
from r1jax.training.checkpoint import Checkpoints
from r1jax.training.distill import distill_update, topk_logprobs
from r1jax.training.metrics import RunLog, Timers
from r1jax.training.optimizer import AdamW
from r1jax.training.score import token_logprobs
from r1jax.training.step import init_state, make_update, microbatched

Sequences = Callable[[int], tuple[list[int], int]]  # number -> (token ids, how many of the first are not trained on)


class Documents(Protocol):
  """An endless, positional source of documents: a frozen dataclass."""

  def document(self, index: int) -> tuple[str, str]:
    """(question text, response text) number `index`; the same on every call."""


@dataclass(frozen=True)
class Teacher:
  """Token-level distillation beside the rows' own tokens; beyond the paper, whose distillation is SFT alone.

  stage: the policy whose k likeliest tokens in each slot are to be matched. weight: of the KL divergence to it; 1 - weight
  is that of the usual loss. Student and teacher share the experiment's tokenizer.
  """

  stage: str
  k: int = 16
  weight: float = 0.5


@dataclass(frozen=True)
class SFT:
  """One stage of supervised training: each update takes batch_size rows of max_length tokens, filled with documents.

  Documents that share a row cannot see one another. An endless source of documents is read for `steps` updates, a data
  set (Rows) for `epochs`, each in an order of its own. R1's numbers (V2, appendix B.4.2): 2-3 epochs, cosine from 5e-5 to
  5e-6, batch 128, context 32,768; packing is what V3's SFT did (V3, section 5.1).
  """

  documents: Documents | Rows
  optimizer: AdamW
  batch_size: int
  max_length: int
  template: Template
  steps: int | None = None
  epochs: int | None = None
  name: str = "sft"
  start: str | Base | None = None
  teacher: Teacher | None = None
  train_on_prompt: bool = False  # True: pre-training, every token counts
  microbatches: int = 1
  checkpoint_every: int = 500  # steps
  log_every: int = 50  # steps
  kind = POLICY

  def inputs(self) -> tuple[str, ...]:
    """The stage whose data set it reads, and the teacher."""
    made = (self.documents.stage,) if isinstance(self.documents, Rows) and self.documents.stage else ()
    return (*made, self.teacher.stage) if self.teacher else made

  def check(self, experiment: Experiment) -> None:
    """InputError for an impossible geometry."""
    where = f"stages.{self.name}"
    for name in ("steps", "epochs", "batch_size", "max_length", "microbatches", "checkpoint_every", "log_every"):
      value = getattr(self, name)
      if value is not None and value < 1:
        raise InputError(f"{where}.{name}", value, "It must be at least 1.")
    wanted, other = ("epochs", "steps") if isinstance(self.documents, Rows) else ("steps", "epochs")
    if getattr(self, wanted) is None or getattr(self, other) is not None:
      raise InputError(f"{where}.{wanted}", f"{wanted} {getattr(self, wanted)}, {other} {getattr(self, other)}",
                       "Give epochs for a data set, steps for an endless source of documents, and not the other.")
    if self.batch_size % self.microbatches:
      raise InputError(f"{where}.microbatches", self.microbatches, f"It must divide batch_size ({self.batch_size}).")
    if self.teacher is not None:
      self._check_teacher(f"{where}.teacher", experiment)
    longest = experiment.model_of(self).max_position
    if self.max_length > longest:
      raise InputError(f"{where}.max_length", self.max_length, f"The model's context ends at max_position {longest}.")

  def _check_teacher(self, where: str, experiment: Experiment) -> None:
    stage = experiment.stage(self.teacher.stage)
    if stage.kind != POLICY:
      raise InputError(f"{where}.stage", repr(stage.name), "Name a stage that trains a policy.")
    smallest = min(experiment.model_of(s).vocab_size for s in (stage, self))
    if not 1 <= self.teacher.k <= smallest:
      raise InputError(f"{where}.k", self.teacher.k, f"Give 1 to the size of the vocabulary, {smallest}.")
    if not 0 <= self.teacher.weight <= 1:
      raise InputError(f"{where}.weight", self.teacher.weight, "Give a number from 0 to 1.")

  def check_mesh(self, mesh) -> None:
    """InputError if a microbatch cannot be split over the data-parallel devices."""
    rows, parts = self.batch_size // self.microbatches, batch_parts(mesh)
    if rows % parts:
      raise InputError(f"stages.{self.name}.batch_size", f"{rows} rows a microbatch for {parts} data-parallel devices",
                       "Make it a multiple of mesh.replica x mesh.fsdp.")

  def check_data(self, tokenizer: Tokenizer) -> None:
    """InputError for a document that is too long or has an unknown word, among those of the first update; for a file
    of rows, for any row."""
    if not isinstance(self.documents, Rows):
      self.batch(tokenizer.pad_id, partial(self._document, tokenizer), 0)
    elif self.documents.path is not None:
      self._encoded(tokenizer, self.documents.read(""))

  def batch(self, pad_id: int, sequences: Sequences, cursor: int) -> tuple[TokenBatch, int]:
    """(host arrays [batch_size, max_length] of sequences cursor, cursor + 1, ..., the next cursor)."""
    rows, following = pack(sequences, cursor, self.batch_size, self.max_length, pad_id)
    weights = np.asarray(token_weights(rows.mask, Reduction.TOKEN_MEAN))
    return TokenBatch(tokens=rows.tokens, positions=rows.positions, segment_ids=rows.segment_ids,
                      weights=weights), following

  def _document(self, tokenizer: Tokenizer, number: int) -> tuple[list[int], int]:
    """One document of an endless source, with its stop token."""
    question, response = self.documents.document(number)
    ids, context = self._encode(tokenizer, question, response)
    if len(ids) > self.max_length:
      raise InputError(f"stages.{self.name}.max_length", self.max_length,
                       f"Document {number} has {len(ids)} tokens: raise it, or shorten the documents.")
    return ids, context

  def _encode(self, tokenizer: Tokenizer, question: str, response: str) -> tuple[list[int], int]:
    prompt = tokenizer.encode(render(self.template, question))
    if tokenizer.adds_bos and prompt[:1] != [tokenizer.bos_id]:
      prompt = [tokenizer.bos_id, *prompt]  # as it is sampled: prompts.encode_prompts
    # A response as a data set keeps it is whole; what the template has written of it already is in the prompt.
    response = response.removeprefix(self.template.prefill.strip())
    ids = prompt + tokenizer.encode(response) + [tokenizer.stop_ids[0]]
    return ids, 1 if self.train_on_prompt else len(prompt)

  def _encoded(self, tokenizer: Tokenizer, rows: list[dict]) -> tuple[list[tuple[list[int], int]], int]:
    """(a data set's sequences, how many of its rows were left out as too long). All are held in memory."""
    encoded = []
    for number, row in enumerate(rows):
      if not isinstance(row.get("question"), str) or not isinstance(row.get("response"), str):
        raise InputError(f"stages.{self.name}.documents, row {number + 1}", f"fields {sorted(row)}",
                         "A row needs the texts question and response.")
      encoded.append(self._encode(tokenizer, row["question"], row["response"]))
    kept = [e for e in encoded if len(e[0]) <= self.max_length]
    if not kept:
      raise InputError(f"stages.{self.name}.documents", f"{len(rows)} rows, none within max_length {self.max_length}",
                       "Loosen the filters of the stage that made them, sample more, or raise max_length.")
    return kept, len(rows) - len(kept)

  def _sequences(self, context: Context) -> tuple[Sequences, int, dict]:
    """(the stream of sequences, steps of the stage, what summary.json says of the data)."""
    tokenizer = context.tokenizer
    if not isinstance(self.documents, Rows):
      return partial(self._document, tokenizer), self.steps, {}
    encoded, too_long = self._encoded(tokenizer, self.documents.read(context.run_dir))
    order = question_stream(range(len(encoded)), context.experiment.seed)
    lengths = (len(encoded[order[i]][0]) for i in range(self.epochs * len(encoded)))
    steps = batches_for(lengths, self.batch_size, self.max_length)
    return lambda i: encoded[order[i]], steps, {"rows": len(encoded), "rows_too_long": too_long}

  def update(self, model: ModelConfig, compute: Compute, steps: int):
    """The jitted update of this stage: of (state, TokenBatch), or of (state, DistillBatch) with a teacher."""
    optimizer = self.optimizer.over(steps)
    return distill_update(model, compute, optimizer, self.teacher.weight) if self.teacher else sft_update(
      model, compute, optimizer)

  def _taught(self, context: Context) -> Callable[[TokenBatch], TokenBatch | DistillBatch]:
    """What adds the teacher's tokens to a batch [M, N / M, T] on the devices."""
    if self.teacher is None:
      return lambda rows: rows
    experiment = context.experiment
    model = experiment.model_of(experiment.stage(self.teacher.stage))
    params = policy_params(experiment, self.teacher.stage, context.mesh, context.run_dir)

    def taught(rows: TokenBatch) -> DistillBatch:
      found = [topk_logprobs(params, model, experiment.compute, rows.tokens[m], rows.positions[m], rows.segment_ids[m],
                             self.teacher.k) for m in range(self.microbatches)]
      ids, logprobs = (jnp.stack(parts) for parts in zip(*found, strict=True))
      return DistillBatch(rows=rows, teacher_ids=ids, teacher_logprobs=logprobs)

    return taught

  def run(self, context: Context) -> dict:
    """Trains from context.params, or resumes; what summary.json says of it."""
    sequences, steps, about = self._sequences(context)
    taught = self._taught(context)
    update = self.update(context.model, context.experiment.compute, steps)
    checkpoints = Checkpoints(context.run_dir / "checkpoints" / self.name)
    state = init_state(context.params, self.optimizer.over(steps).build())
    cursor = 0
    if checkpoints.latest() is not None:
      state, _, progress = checkpoints.restore(state, has_reference=False)
      cursor = progress["cursor"]
    step = int(state.step)
    log = RunLog(context.run_dir, self.name, steps, checkpoints.latest(), set(context.finished))
    timers = Timers()
    while step < steps:
      with timers("batch"):
        batch, cursor = self.batch(context.tokenizer.pad_id, sequences, cursor)
        batch = put_batch(context.mesh, microbatched(batch, self.microbatches), axis=1)
      with timers("update"):
        state, metrics = update(state, taught(batch))
        step += 1
        log_now = step % self.log_every == 0 or step in (1, steps)
        if log_now:
          metrics = jax.device_get(metrics)
      if log_now:
        log.metrics(step, {
          "policy/loss": metrics["loss"], "policy/grad_norm": metrics["grad_norm"],
          **({"policy/teacher_kl": metrics["kl"]} if self.teacher else {}), **timers.take()})
      if step % self.checkpoint_every == 0 or step == steps:
        log.sync()
        checkpoints.save(state, None, {"cursor": cursor})
    checkpoints.close()
    log.close()
    return {"steps": steps, **about, "before": {}, "after": {}}

  def programs(self, experiment: Experiment, mesh) -> dict[str, Any]:
    """update, lowered from shapes alone."""
    self.check_mesh(mesh)
    model = experiment.model_of(self)
    shape = (self.microbatches, self.batch_size // self.microbatches, self.max_length)
    sharding = batch_sharding(mesh, 3, 1)
    steps = self.steps or self.optimizer.warmup_steps + 2  # how many epochs make does not change the program's shape
    with jax.set_mesh(mesh):
      params = abstract_params(model, mesh)
      state = TrainState(step=jax.ShapeDtypeStruct((), jnp.int32), params=params,
                         opt_state=jax.eval_shape(self.optimizer.over(steps).build().init, params))
      ints = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=sharding)
      weights = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)
      batch = TokenBatch(tokens=ints, positions=ints, segment_ids=ints, weights=weights)
      if self.teacher:
        wide = partial(jax.ShapeDtypeStruct, (*shape, self.teacher.k), sharding=batch_sharding(mesh, 4, 1))
        batch = DistillBatch(rows=batch, teacher_ids=wide(jnp.int32), teacher_logprobs=wide(jnp.float32))
      return {"update": self.update(model, experiment.compute, steps).lower(state, batch)}


@cache
def sft_update(config: ModelConfig, compute: Compute, optimizer: AdamW):
  """update(state, TokenBatch of [M, N / M, T]) -> (state, metrics), jitted and cached."""
  def loss_fn(params, batch: TokenBatch):
    logprobs, _ = token_logprobs(params, config, compute, batch.tokens, batch.positions,
                                 segment_ids=batch.segment_ids)
    return sft_loss(logprobs, batch.weights)
  return make_update(loss_fn, optimizer.build())
