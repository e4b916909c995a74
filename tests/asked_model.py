"""A random model over words w0, w1, ... in a Hugging Face folder, for what asks a model: nothing it says makes sense."""
from dataclasses import replace

from tiny import FAMILIES, one_device, random_params

from r1jax.data.tokenizer import word_level_tokenizer
from r1jax.models.huggingface import export

WORDS = [f"w{i}" for i in range(56)]
TAGS = ["<think>", "</think>"]
CONFIG = replace(FAMILIES["llama"], max_position=64)


def write_model(folder):
  """Writes the folder and returns it: 60 ids of a vocabulary of 64."""
  return export(random_params(CONFIG, one_device()), CONFIG, folder, word_level_tokenizer([*TAGS, *WORDS]))
