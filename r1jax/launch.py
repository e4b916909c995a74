"""The command line: one command, `r1jax` or `python -m r1jax`, a verb each."""
import argparse
import importlib.util
import os
import sys
from pathlib import Path

from r1jax.errors import InputError


def load_experiment(path: str, smoke: bool, settings: list[str]):
  """The Experiment in an experiment file (its `experiment`, or its `smoke`), with --set a.b=c applied."""
  from r1jax.config import override
  from r1jax.stages.context import Experiment

  file = Path(path)
  if not file.is_file():
    raise InputError(path, "no such file", "Name an experiment file, for example experiments/r1_zero_tiny.py.")
  spec = importlib.util.spec_from_file_location(file.stem, file)
  if spec is None:
    raise InputError(path, "not a Python file", "Name an experiment file, for example experiments/r1_zero_tiny.py.")
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
  except SyntaxError as error:
    raise InputError(f"{error.filename}, line {error.lineno}", error.msg, "Correct the line.") from None
  name = "smoke" if smoke else "experiment"
  experiment = getattr(module, name, None)
  if experiment is None:
    raise InputError(path, f"defines no `{name}`", f"An experiment file ends with {name} = Experiment(...).")
  if not isinstance(experiment, Experiment):
    raise InputError(path, f"`{name}` is {experiment!r}", f"An experiment file ends with {name} = Experiment(...).")
  for setting in settings:
    key, equals, value = setting.partition("=")
    if not equals:
      raise InputError(f"--set {setting}", "no '='", "Write --set field.name=value.")
    experiment = override(experiment, key, value)
  return experiment


def _run(args) -> None:
  from r1jax.stages.runner import run_experiment

  experiment = load_experiment(args.experiment, args.smoke, args.set)
  run_dir = Path(args.run_dir or Path("runs") / (experiment.name + ("_smoke" if args.smoke else "")))
  summary = run_experiment(experiment, run_dir, args.stage)
  for name, stage in summary["stages"].items():
    numbers = {k: (stage["before"][k], stage["after"].get(k)) for k in stage.get("before", {}) if k in (
      "eval/pass_at_1", "eval/length", "eval/format")}
    print(f"{name}: {stage['steps']} steps in {stage['seconds']:.0f} s" + "".join(
      f", {k.removeprefix('eval/')} {a:.3g} -> {b:.3g}" for k, (a, b) in numbers.items()))
  print(f"summary: {run_dir / 'summary.json'}")
  if (run_dir / "curves.png").exists():
    print(f"curve:   {run_dir / 'curves.png'}")


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(prog="r1jax", description="DeepSeek-R1 and R1-Zero in JAX.")
  verbs = parser.add_subparsers(dest="verb", required=True)
  run = verbs.add_parser(
    "run", help="run or resume an experiment",
    description="Runs the stages of an experiment file in order. A run directory that exists is resumed where it stood: "
    "finished stages are skipped, the half-finished one goes on from its newest checkpoint. Writes config.json, "
    "metrics.jsonl, samples.jsonl, tensorboard/, checkpoints/, curves.png and summary.json into the run directory.")
  run.add_argument("experiment", help="an experiment file, for example experiments/r1_zero_tiny.py")
  run.add_argument("--stage", help="stop after this stage")
  run.add_argument("--smoke", action="store_true", help="the file's smallest variant: seconds on a CPU")
  run.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE",
                   help="change a field, for example stages.r1_zero.optimizer.lr=1e-6 (may be repeated)")
  run.add_argument("--run_dir", help="where the run is kept (default: runs/NAME)")
  run.set_defaults(call=_run)
  return parser


def main(argv: list[str] | None = None) -> int:
  """Runs one verb; 0, or 2 after bad input."""
  args = _parser().parse_args(argv)
  # Without an accelerator, JAX would probe for one and complain; a user's own choice stands.
  if not any(os.path.exists(p) for p in ("/dev/accel0", "/dev/vfio/0", "/dev/nvidia0")):
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
  try:
    args.call(args)
  except InputError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  return 0
