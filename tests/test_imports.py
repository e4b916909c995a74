"""Imports run one way. The table is the whole rule; every file is read as text, imports inside functions too."""

import ast
import functools
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
# What each folder or file of r1jax/ stands on. It may import that, and whatever that stands on in turn.
STANDS_ON = {
  "errors": [],
  "fields": ["errors"],
  "config": ["fields"],
  "files": ["errors"],
  "run_dir": ["config", "files"],
  "ending": ["run_dir"],
  "records": ["errors"],
  "sharding": ["config"],
  "models": ["sharding", "config"],
  "losses": ["records"],
  "sampling": ["models", "records"],
  "training": ["models", "losses", "run_dir"],
  "reports": ["files", "fields"],
  "data": ["config", "verifiers"],
  "verifiers": ["errors", "files"],
  "rewards": ["verifiers"],
  "evaluation": ["curation"],
  "curation": ["data", "rewards", "run_dir"],
  "plan": ["stages", "experiment_file"],
  "stages": ["training", "sampling", "evaluation", "data", "rewards", "verifiers", "curation", "reports",
             "ending"],
  "hub": ["training", "data"],
  "bench": ["plan"],
  "evaluate": ["hub", "evaluation", "sampling"],
  "serving": ["hub", "sampling"],
  "server": ["serving"],
  "cli": ["serving", "server", "evaluate", "run_dir", "plan"],
  "experiment_file": ["stages"],
  "explain": ["stages"],
  "seeds": ["stages"],
  "launch": ["stages", "bench", "cli", "experiment_file", "explain", "seeds"],
  "__main__": ["launch"],
  "__init__": [],
  "experiments": ["stages"],
}
WITHOUT_JAX = ("errors", "fields", "config", "files", "run_dir", "data", "verifiers", "rewards", "evaluation", "curation",
               "reports")
BRINGS_JAX = {"jax", "jaxlib", "flax", "optax", "orbax", "grain", "chex"}
LAZILY = {"grain"}  # for the order of questions; imported where a stream is made, as most of data/ does without


@functools.cache
def allowed(folder: str) -> frozenset[str]:
  """The folder itself and all that it stands on, however far below."""
  return frozenset({folder}).union(*(allowed(below) for below in STANDS_ON[folder]))


def folder_of(module: str) -> str:
  """r1jax.models.rope -> models; r1jax itself -> __init__."""
  return (module.split(".") + ["__init__"])[1]


def imports(source: str, module: str, is_package: bool = False) -> list[tuple[int, str, bool]]:
  """(line, absolute name, inside a function) of each import; `from a import b` is both a and a.b."""
  found = []

  def visit(node, inside):
    if isinstance(node, ast.Import):
      found.extend((node.lineno, alias.name, inside) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      here = module.split(".")
      above = here[:len(here) - node.level + is_package] if node.level else []
      base = ".".join([*above, *([node.module] if node.module else [])])
      found.append((node.lineno, base, inside))
      found.extend((node.lineno, f"{base}.{alias.name}", inside) for alias in node.names)
    for child in ast.iter_child_nodes(node):
      visit(child, inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

  visit(ast.parse(source), False)
  return found


def files():
  """(file, its module's name, its folder in the table)."""
  for file in sorted((ROOT / "r1jax").rglob("*.py")):
    parts = file.relative_to(ROOT).with_suffix("").parts
    yield file, ".".join(parts[:-1] if parts[-1] == "__init__" else parts), parts[1]
  for file in sorted((ROOT / "experiments").glob("*.py")):
    yield file, f"experiments.{file.stem}", "experiments"


def wrong_imports(source: str, module: str, folder: str, is_package: bool = False) -> list[str]:
  """What the table forbids in one file, a sentence each."""
  wrong = []
  for line, name, inside in imports(source, module, is_package):
    root = name.split(".")[0]
    target = "experiments" if root == "experiments" else folder_of(name) if root == "r1jax" else None
    # `from r1jax.models import x` is seen as r1jax.models too: a name that is no folder has been judged by then.
    if target in STANDS_ON and target != "__init__" and target not in allowed(folder):
      wrong.append(f"line {line}: {folder} imports {name}, and may import {', '.join(sorted(allowed(folder)))}")
    if folder in WITHOUT_JAX and root in BRINGS_JAX and not (root in LAZILY and inside):
      wrong.append(f"line {line}: {folder} does without jax, and imports {name}")
  return wrong


def test_every_file_is_in_the_table():
  assert {folder for _, _, folder in files()} <= STANDS_ON.keys()
  assert len(list(files())) > 40


def test_imports_run_one_way():
  wrong = [f"{file.relative_to(ROOT)}: {sentence}" for file, module, folder in files()
           for sentence in wrong_imports(file.read_text(encoding="utf-8"), module, folder, file.name == "__init__.py")]
  assert not wrong, "\n".join(wrong)


def test_only_the_command_line_its_verbs_and_experiments_see_the_stages():
  assert {folder for folder in STANDS_ON if "stages" in allowed(folder)} == {
    "stages", "plan", "cli", "bench", "experiment_file", "explain", "seeds", "launch", "__main__", "experiments"}


@pytest.mark.parametrize(("folder", "line"), [
  ("losses", "import r1jax.models.rope"),
  ("losses", "from r1jax import models"),
  ("losses", "from ..models.rope import rotate"),
  ("models", "def f():\n  from r1jax.stages.grpo import GRPO"),
  ("training", "if True:\n  from r1jax import sampling, models"),
  ("data", "import jax.numpy as jnp"),
  ("data", "import grain"),
  ("rewards", "def f():\n  import jax"),
  ("verifiers", "from r1jax.rewards.format import format_reward"),
  ("verifiers", "from r1jax.config import Schedule"),
  ("evaluation", "from r1jax.records import Rollouts"),
  ("stages", "import experiments.r1_zero_tiny"),
])
def test_a_wrong_import_is_found(folder, line):
  assert wrong_imports(f"import math\n{line}\n", f"r1jax.{folder}.something", folder)


@pytest.mark.parametrize(("folder", "line"), [
  ("losses", "from r1jax.records import TokenBatch"),
  ("losses", "from .shapes import require_shape"),
  ("stages", "from r1jax import models, losses"),
  ("data", "def f():\n  import grain"),
  ("training", "import jax"),
])
def test_a_right_import_is_left_alone(folder, line):
  assert wrong_imports(f"import math\n{line}\n", f"r1jax.{folder}.something", folder) == []


def test_what_does_without_jax_imports_none_of_it():
  modules = [module for _, module, folder in files() if folder in WITHOUT_JAX]
  assert len(modules) > 15
  code = f"import importlib, sys\nfor m in {modules}: importlib.import_module(m)\nprint('jax' in sys.modules)"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
  assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
