"""Every experiment of experiments/, as `r1jax run` takes it: FILE, or FILE:NAME of a file with several."""
from pathlib import Path

from r1jax.experiment_file import entries

FOLDER = Path(__file__).parent.parent / "experiments"
ENTRIES = [entry for file in sorted(FOLDER.glob("*.py")) for entry in entries(file)]


def label(entry: str) -> str:
  """.../distill.py:qwen7b -> distill:qwen7b."""
  return Path(entry).name.replace(".py", "")


def entry_of(name: str) -> str:
  """distill:qwen7b -> .../distill.py:qwen7b."""
  file, colon, inside = name.partition(":")
  return f"{FOLDER / file}.py{colon}{inside}"
