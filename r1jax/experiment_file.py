"""Experiment files: Python files that define `experiment`, an Experiment, or several under names of their own."""
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from r1jax.config import override
from r1jax.errors import InputError
from r1jax.stages.context import Experiment

REMEDY = "Name an experiment file, for example experiments/r1_zero_tiny.py."


def load_experiment(path: str | os.PathLike[str], smoke: bool = False, settings: Sequence[str] = ()) -> Experiment:
  """The Experiment of FILE, which is its `experiment`, or of FILE:NAME.

      load_experiment("experiments/r1_zero_tiny.py", settings=["seed=1"])
      load_experiment("experiments/distill.py:qwen7b")

  smoke: the smallest variant instead: `smoke`, or NAME_smoke. settings: fields that change, each as "a.b=c".

  Raises:
    InputError: a file that is missing or is no Python, a name that it does not give an Experiment, an unknown field.
  """
  file, name = place_of(path, smoke)
  module = _module(file)
  experiment = getattr(module, name, None)
  if not isinstance(experiment, Experiment):
    found = f"defines no `{name}`" if experiment is None else f"`{name}` is {experiment!r}"
    others = [key for key in _names(module) if key != "experiment"]
    raise InputError(str(file), found, f"Name one of its experiments: {', '.join(f'{file}:{key}' for key in others)}."
                     if others else f"An experiment file ends with {name} = Experiment(...).")
  for key, value in pairs(settings):
    experiment = override(experiment, key, value)
  return experiment


def place_of(path: str | os.PathLike[str], smoke: bool = False) -> tuple[Path, str]:
  """(file, name in it) of FILE or FILE:NAME."""
  file, colon, name = os.fspath(path).rpartition(":")
  if not (colon and name.isidentifier()):
    return Path(path), "smoke" if smoke else "experiment"
  return Path(file), f"{name}_smoke" if smoke else name


def entries(file: str | os.PathLike[str]) -> list[str]:
  """FILE where it defines `experiment`, and FILE:NAME for every other one that it defines; no smoke variants."""
  return [str(file) if name == "experiment" else f"{file}:{name}" for name in _names(_module(Path(file)))]


def pairs(settings: Sequence[str]) -> list[tuple[str, str]]:
  """(field, value) of each FIELD=VALUE."""
  for setting in settings:
    if "=" not in setting:
      raise InputError(f"--set {setting}", "no '='", "Write --set field.name=value.")
  return [tuple(setting.split("=", 1)) for setting in settings]


def _module(file: Path) -> ModuleType:
  if not file.is_file():
    raise InputError(str(file), "no such file", REMEDY)
  spec = importlib.util.spec_from_file_location(file.stem, file)
  if spec is None:
    raise InputError(str(file), "not a Python file", REMEDY)
  module = importlib.util.module_from_spec(spec)
  sys.path.insert(0, str(file.parent.resolve()))  # as Python does for a script: an ablation imports what it changes
  try:
    spec.loader.exec_module(module)
  except InputError:
    raise
  except SyntaxError as error:
    raise InputError(f"{error.filename}, line {error.lineno}", error.msg, "Correct the line.") from None
  except Exception as error:
    here = file.resolve().parent
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).parent == here]  # of the user
    where = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else str(file)
    raise InputError(where, f"{type(error).__name__}: {error}",
                     f"Correct `{frames[-1].line if frames else 'the file'}`.") from None
  finally:
    sys.path.pop(0)
  return module


def _names(module: ModuleType) -> list[str]:
  return [name for name, value in vars(module).items()
          if isinstance(value, Experiment) and not name.endswith("smoke")]
