"""One loader for whatever can answer questions: a Hugging Face folder, or what a stage of a run has trained."""
import json
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from r1jax.data.prompts import prompt_ids
from r1jax.data.templates import PLACE, Template
from r1jax.data.tokenizer import Tokenizer, load_tokenizer, named_tokenizer, stop_ids
from r1jax.errors import InputError
from r1jax.hub import chat_template as chat
from r1jax.hub.runs import RunStage, find_stage, is_run
from r1jax.models import huggingface
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.params import abstract_params
from r1jax.sharding import MeshShape, make_mesh
from r1jax.training.checkpoint import Checkpoints


@dataclass(frozen=True)
class Model:
  """A policy with all that is needed to ask it something.

  name: what it was loaded from, as given. config: its architecture; num_tokens says which ids exist. params: nested dict in
  the training layout over `mesh`, of dtype compute.dtype. tokenizer: its stop_ids hold those of the run's stop texts too.
  template: writes the prompt of one question; that of the run's stage, or one made of the folder's chat template.
  chat_template: a jinja2 source, made of the run's template or the folder's own. compute: how it is computed. trained: the
  stage that trained it, None for a Hugging Face folder. step: of the checkpoint.
  """

  name: str
  config: ModelConfig
  params: Any = field(repr=False)
  tokenizer: Tokenizer
  template: Template
  chat_template: str
  mesh: Any
  compute: Compute
  trained: RunStage | None = None
  step: int | None = None

  @property
  def context(self) -> int:
    """Most tokens of a prompt and its response together."""
    return self.config.max_position

  def prompt(self, question: str) -> tuple[int, ...]:
    """The ids of a question's prompt, as the policy was trained on them. InputError for a word that the tokenizer lacks."""
    return tuple(prompt_ids(question, self.template, self.tokenizer))

  def conversation(self, messages: Sequence[chat.Message]) -> tuple[int, ...]:
    """The ids of a conversation by the chat template, up to where the next answer starts; of one user message alone those
    of `prompt`. InputError for messages that the template refuses."""
    return tuple(prompt_ids("", Template(PLACE, prefill=chat.render(self.chat_template, messages, self.tokenizer)),
                            self.tokenizer))


def load(model: str | os.PathLike[str], mesh=None, dtype: str = "float32", tokenizer: str | None = None) -> Model:
  """The model in a Hugging Face folder, or the one that a stage of a run has trained.

      model = load("runs/r1_zero_tiny")  # also "runs/r1_zero_tiny:base", or "models/SmolLM2-135M-Instruct"
      model.config, model.params, model.tokenizer, model.template, model.chat_template

  Args:
    model: a folder with config.json, safetensors weights and tokenizer.json; RUN, a run directory, for its last finished
      stage that trained a policy; or RUN:STAGE, for the newest checkpoint of a stage, finished or not. Only read.
    mesh: where the parameters go; all devices, split over fsdp, by default.
    dtype: of parameters and computation, "float32" or "bfloat16".
    tokenizer: a folder or tokenizer.json to use instead of the one that the run names, which may have moved.

  Raises:
    InputError: nothing there, a run of another version or one that no stage has trained yet, a stage that left no policy,
      weights or a tokenizer that do not fit.
  """
  folder, stage = _place(os.fspath(model))
  compute = Compute(dtype=dtype)
  mesh = make_mesh(MeshShape()) if mesh is None else mesh
  if is_run(folder):
    return _of_run(os.fspath(model), find_stage(folder, stage), mesh, compute, tokenizer)
  if stage is not None:
    raise InputError(os.fspath(model), "a Hugging Face folder, which has no stages", f"Give {folder} alone.")
  return _of_folder(folder, mesh, compute, tokenizer)


def _place(model: str) -> tuple[Path, str | None]:
  """(folder, name of a stage or None) of MODEL."""
  for text, stage in ((model, None), model.rpartition(":")[::2]):
    folder = Path(text).expanduser()
    if text and folder.is_dir():
      if not (folder / "config.json").is_file():
        raise InputError(str(folder), "no config.json in it",
                         "Name a run directory (RUN or RUN:STAGE), or a folder with a Hugging Face model.")
      return folder, stage
  raise InputError(model, "no such folder", "Name a run directory (RUN or RUN:STAGE), or a folder with a Hugging Face model "
                   "on this machine; r1jax downloads none.")


def _of_run(name: str, found: RunStage, mesh, compute: Compute, tokenizer: str | None) -> Model:
  try:
    words = named_tokenizer(tokenizer or found.tokenizer)
  except InputError as error:
    raise InputError(f"tokenizer of {name}: {error.where}", error.found,
                     f"{error.remedy}, or name where it is now: --tokenizer DIR.") from None
  words = replace(words, stop_ids=stop_ids(words, found.stop))
  _check_vocabulary(name, found.model, words)
  with closing(Checkpoints(found.checkpoints, read_only=True)) as checkpoints:
    step = checkpoints.latest()
    params = checkpoints.restore_params(abstract_params(found.model, mesh, dtype=compute.dtype))
  return Model(
    name=name, config=_with_tokens(found.model, words), params=params, tokenizer=words, template=found.template,
    chat_template=chat.of_template(found.template, words), mesh=mesh,
    compute=replace(found.compute, dtype=compute.dtype), trained=found, step=step)


def _of_folder(folder: Path, mesh, compute: Compute, tokenizer: str | None) -> Model:
  config = huggingface.config_from_folder(folder)
  words = load_tokenizer(tokenizer or folder)
  _check_vocabulary(str(folder), config, words)
  source = json.loads(words.settings).get("chat_template")
  if isinstance(source, list):  # several by name, as older folders have them
    source = next((entry["template"] for entry in source if entry.get("name") == "default"), None)
  template = chat.to_template(source, words) if source else Template(PLACE)
  return Model(
    name=str(folder), config=_with_tokens(config, words), params=huggingface.load(folder, config, mesh, compute.dtype),
    tokenizer=words, template=template, chat_template=source or chat.of_template(template, words), mesh=mesh,
    compute=compute)


def _with_tokens(config: ModelConfig, tokenizer: Tokenizer) -> ModelConfig:
  """The config with num_tokens where its vocabulary is padded beyond the tokenizer's."""
  return replace(config, num_tokens=tokenizer.vocab_size) if tokenizer.vocab_size < config.vocab_size else config


def _check_vocabulary(name: str, config: ModelConfig, tokenizer: Tokenizer) -> None:
  if tokenizer.vocab_size > config.vocab_size:
    raise InputError(f"tokenizer of {name}", f"{tokenizer.vocab_size} ids, and a model with {config.vocab_size}",
                     "Use the tokenizer of this model.")
