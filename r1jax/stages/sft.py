"""Supervised training: next-token prediction on prompt + response (pre-training), or on responses alone (SFT)."""
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from r1jax.curation.datasets import Rows
from r1jax.data.prompts import question_stream, sequence_ids
from r1jax.data.templates import Template
from r1jax.data.token_rows import TokenRows, rows_key, write_token_rows
from r1jax.data.tokenizer import Tokenizer, fingerprint
from r1jax.errors import InputError
from r1jax.fields import Count, Name, Share
from r1jax.files import sha256_of
from r1jax.losses.reductions import Reduction
from r1jax.models.config import Compute, ModelConfig
from r1jax.records import PackedRows
from r1jax.reports.watchdogs import Watchdogs
from r1jax.sharding import batch_parts, put_batch
from r1jax.stages.context import POLICY, Base, Context, Experiment
from r1jax.stages.rollout import policy_params
from r1jax.stages.supervised import train
from r1jax.training.distill import distill_step, topk_logprobs
from r1jax.training.optimizer import AdamW
from r1jax.training.pack import MICROBATCH_TOKENS, Packed, batches_for, fill, rows_for
from r1jax.training.sft import sft_step
from r1jax.training.step import Step, init_state

Sequences = Callable[[int], tuple[Any, int]]  # number -> (token ids, how many of the first are not trained on)


@runtime_checkable
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
  k: Count = 16
  weight: Share = 0.5


@dataclass(frozen=True)
class SFT:
  """One stage of supervised training: each update takes batch_size rows of max_length tokens, filled with documents.

  Documents that share a row cannot see one another. An endless source of documents is read for `steps` updates, a data
  set (Rows) for `epochs`, each in an order of its own. R1's numbers (V2, appendix B.4.2): 2-3 epochs, cosine from 5e-5 to
  5e-6, batch 128, context 32,768; packing is what V3's SFT did (V3, section 5.1).
  """

  documents: Documents | Rows
  optimizer: AdamW
  batch_size: Count
  max_length: Count
  template: Template
  steps: Count | None = None
  epochs: Count | None = None
  name: Name = "sft"
  start: str | Base | None = None
  teacher: Teacher | None = None
  train_on_prompt: bool = False  # True: pre-training, every token counts
  microbatch_tokens: Count = MICROBATCH_TOKENS  # slots of the rows whose gradients are computed at a time
  checkpoint_every: Count = 500  # steps
  log_every: Count = 50  # steps
  watchdogs: Watchdogs = Watchdogs()
  kind = POLICY

  def inputs(self) -> tuple[str, ...]:
    """The stage whose data set it reads, and the teacher."""
    made = (self.documents.stage,) if isinstance(self.documents, Rows) and self.documents.stage else ()
    return (*made, self.teacher.stage) if self.teacher else made

  def check(self, experiment: Experiment) -> None:
    """InputError for an impossible geometry."""
    where = f"stages.{self.name}"
    wanted, other = ("epochs", "steps") if isinstance(self.documents, Rows) else ("steps", "epochs")
    if getattr(self, wanted) is None or getattr(self, other) is not None:
      raise InputError(f"{where}.{wanted}", f"{wanted} {getattr(self, wanted)}, {other} {getattr(self, other)}",
                       "Give epochs for a data set, steps for an endless source of documents, and not the other.")
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
    if self.teacher.k > smallest:
      raise InputError(f"{where}.k", self.teacher.k, f"Give 1 to the size of the vocabulary, {smallest}.")

  def check_mesh(self, mesh) -> None:
    """InputError if a batch cannot be split over the data-parallel devices."""
    parts = batch_parts(mesh)
    if self.batch_size % parts:
      raise InputError(f"stages.{self.name}.batch_size", f"{self.batch_size} rows for {parts} data-parallel devices",
                       "Make it a multiple of mesh.replica x mesh.fsdp.")

  def check_data(self, tokenizer: Tokenizer) -> None:
    """InputError for a document that is too long or has an unknown word, among those of the first update; for a file
    of rows, for any row."""
    if not isinstance(self.documents, Rows):
      self.pack(tokenizer, partial(self._document, tokenizer), 0, 1)
    elif self.documents.path is not None:
      for _ in self._encoded(tokenizer, ""):
        pass

  def pack(self, tokenizer: Tokenizer, sequences: Sequences, cursor: int, parts: int) -> tuple[Packed, int]:
    """(batch_size rows of sequences cursor, cursor + 1, ..., the next cursor)."""
    rows = rows_for(self.microbatch_tokens, self.max_length, parts, of=self.batch_size)
    return fill(sequences, cursor, self.batch_size, self.max_length, tokenizer.pad_id, self.batch_size // rows, parts)

  def _document(self, tokenizer: Tokenizer, number: int) -> tuple[list[int], int]:
    """One document of an endless source."""
    ids, context = self._encode(tokenizer, *self.documents.document(number))
    if len(ids) > self.max_length:
      raise InputError(f"stages.{self.name}.max_length", self.max_length,
                       f"Document {number} has {len(ids)} tokens: raise it, or shorten the documents.")
    return ids, context

  def _encode(self, tokenizer: Tokenizer, question: str, response: str) -> tuple[list[int], int]:
    ids, context = sequence_ids(question, response, self.template, tokenizer)
    return ids, 1 if self.train_on_prompt else context

  def _encoded(self, tokenizer: Tokenizer, run_dir: str | Path) -> Iterator[tuple[list[int], int]]:
    """A data set's sequences that are not too long, one after another; InputError if none is, or a row has a word that the
    tokenizer lacks."""
    kept = seen = 0
    for seen, row in enumerate(self.documents.examples(run_dir), 1):
      try:
        ids, context = self._encode(tokenizer, row["question"], row["response"])
      except InputError as error:
        raise InputError(f"{self.documents.file(run_dir)}, row {seen}, {error.where}", error.found, error.remedy) from None
      if len(ids) <= self.max_length:
        kept += 1
        yield ids, context
    if not kept:
      raise InputError(f"stages.{self.name}.documents", f"{seen} rows, none within max_length {self.max_length}",
                       "Loosen the filters of the stage that made them, sample more, or raise max_length.")

  def _token_rows(self, context: Context) -> tuple[TokenRows, int]:
    """(the data set's sequences, on disk; how many of its rows were left out as too long)."""
    key = rows_key(sha256_of(self.documents.file(context.run_dir)), fingerprint(context.tokenizer), self.template.text,
                   self.template.prefill, self.max_length, self.train_on_prompt)
    kept = write_token_rows(context.run_dir / "data" / "token_rows", key, self._encoded(context.tokenizer, context.run_dir))
    return kept, sum(1 for _ in self.documents.read(context.run_dir)) - len(kept)

  def _sequences(self, context: Context) -> tuple[Sequences, int, dict]:
    """(the stream of sequences, steps of the stage, what summary.json says of the data)."""
    if not isinstance(self.documents, Rows):
      return partial(self._document, context.tokenizer), self.steps, {}
    rows, too_long = self._token_rows(context)
    order = question_stream(range(len(rows)), context.experiment.seed)
    lengths = (int(rows.lengths[order[i]]) for i in range(self.epochs * len(rows)))
    steps = batches_for(lengths, self.batch_size, self.max_length)
    return lambda i: rows[order[i]], steps, {"rows": len(rows), "rows_too_long": too_long}

  def step(self, model: ModelConfig, compute: Compute, steps: int) -> Step:
    """The update of this stage, with the teacher's share if there is one."""
    optimizer = self.optimizer.over(steps)
    return distill_step(model, compute, optimizer, self.teacher.weight) if self.teacher else sft_step(
      model, compute, optimizer)

  def _taught(self, context: Context) -> Callable[[PackedRows], PackedRows]:
    """What adds the teacher's tokens to rows on the devices."""
    if self.teacher is None:
      return lambda rows: rows
    model, compute = context.model_of(self.teacher.stage), context.experiment.compute
    params = policy_params(context.experiment, self.teacher.stage, context.mesh, context.run_dir)

    def taught(rows: PackedRows) -> PackedRows:
      ids, logprobs = topk_logprobs(params, model, compute, rows.tokens, rows.positions, rows.segment_ids, self.teacher.k)
      return rows.replace(teacher_ids=ids, teacher_logprobs=logprobs)
    return taught

  def run(self, context: Context) -> dict:
    """Trains from context.params, or resumes; what summary.json says of it."""
    sequences, steps, about = self._sequences(context)
    taught = self._taught(context)
    state = init_state(context.params, self.optimizer.over(steps).build())

    def batch(cursor: int) -> tuple[list[PackedRows], int]:
      packed, following = self.pack(context.tokenizer, sequences, cursor, batch_parts(context.mesh))
      rows = packed.replace(weights=packed.weights(Reduction.TOKEN_MEAN))
      return [taught(put_batch(context.mesh, r)) for r in rows], following

    def line(metrics: dict) -> dict:
      kl = {"policy/teacher_kl": metrics["kl"]} if self.teacher else {}
      return {"policy/loss": metrics["loss"], "policy/grad_norm": metrics["grad_norm"], **kl}

    train(self, context, self.step(context.model, context.experiment.compute, steps), state, steps, batch, line)
    return {"steps": steps, **about, "before": {}, "after": {}}
