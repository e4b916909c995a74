"""What a stage has trained as a Hugging Face folder, which transformers and vLLM read and which says where it came from."""
import json
import os
from dataclasses import replace
from pathlib import Path

from r1jax.errors import InputError
from r1jax.hub.card import model_card
from r1jax.hub.model import Model
from r1jax.models import huggingface


def export(model: Model, out: str | os.PathLike[str], dtype: str = "float32", max_shard_bytes: int = 5 * 10**9) -> Path:
  """Writes `out`, a new folder, whole or not at all: safetensors in files of at most max_shard_bytes, config, tokenizer,
  chat template, generation_config.json and a model card.

  The chat template writes the prompts that the stage was trained on. generation_config.json has all stop ids, the paper's
  temperature and top-p, and forbids ids beyond the tokenizer. A tokenizer of one token a word becomes a tokenizer.json of
  type WordLevel, cut at white space, which transformers reads as any other.

  Raises:
    InputError: `out` holds anything, the model is no run's, or its architecture is none of the hub's.
  """
  if model.trained is None:
    raise InputError(model.name, "a Hugging Face folder already", "Name what is to be exported: RUN or RUN:STAGE.")
  if max_shard_bytes < 1:
    raise InputError("max_shard_bytes", max_shard_bytes, "It must be at least 1.")
  settings = {"model_max_length": model.context, **json.loads(model.tokenizer.settings),
              "chat_template": model.chat_template}
  words = replace(model.tokenizer, settings=json.dumps(settings))
  generation = {"do_sample": True, "temperature": 0.6, "top_p": 0.95}
  if model.config.num_tokens is not None:
    generation["suppress_tokens"] = list(range(model.config.num_tokens, model.config.vocab_size))
  return huggingface.export(
    model.params, model.config, out, words, dtype, max_shard_bytes, generation,
    {"chat_template.jinja": model.chat_template, "README.md": model_card(model, dtype, Path(out).resolve().name)})
