"""Runs an experiment's stages in order in a run directory, and resumes one that stopped anywhere."""
import importlib.metadata
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp

from r1jax.config import config_hash, differences, to_json
from r1jax.data.tokenizer import Tokenizer, named_tokenizer
from r1jax.errors import InputError
from r1jax.files import write_atomically
from r1jax.models.huggingface import config_from_folder, load
from r1jax.models.params import init_params, shardings
from r1jax.reports.clock import Clock
from r1jax.reports.draw import draw_curves
from r1jax.reports.live import terminal
from r1jax.reports.tracker import Tracker, check_tracker
from r1jax.reports.watch import Watch, logged_alerts
from r1jax.sharding import ROLLOUT_RULES, TRAIN_RULES, make_mesh
from r1jax.stages.context import POLICY, REWARD_MODEL, Base, Context, Experiment, with_tokens
from r1jax.stages.reuse import stage_hash, take_over
from r1jax.stages.rollout import policy_params
from r1jax.training.metrics import read_metrics

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "grain", "mpmath")


def experiment_tokenizer(experiment: Experiment) -> Tokenizer:
  """The tokenizer that the experiment names."""
  return named_tokenizer(experiment.tokenizer or experiment.weights)


def check_run(experiment: Experiment) -> Tokenizer:
  """Everything that can be known wrong before arrays are made; the tokenizer, as it was read on the way."""
  experiment.check()
  tokenizer = experiment_tokenizer(experiment)
  for base in experiment.bases():
    _check_base(base, tokenizer)
  return tokenizer


def _check_base(base: Base, tokenizer: Tokenizer) -> None:
  if tokenizer.vocab_size > base.model.vocab_size:
    raise InputError("model.vocab_size", base.model.vocab_size,
                     f"The tokenizer has {tokenizer.vocab_size} ids: use the tokenizer of this model.")
  if base.weights is not None:
    found = config_from_folder(base.weights)
    if found != base.model:
      fields = differences(to_json(found), to_json(base.model))
      raise InputError(f"{base.weights}/config.json", "another architecture than the experiment's model: "
                       + "; ".join(fields), "Name the folder of the declared model.")


def claim_run_dir(experiment: Experiment, run_dir: Path) -> None:
  """Writes config.json, or refuses a directory that holds a run of another config."""
  file = run_dir / "config.json"
  config = to_json(experiment)
  if file.exists():
    old = json.loads(file.read_text(encoding="utf-8"))["config"]
    changed = differences(old, json.loads(json.dumps(config)))
    if changed:
      raise InputError(str(file), "this run was started with another config: " + "; ".join(changed),
                       "Give the old values, or another --run_dir.")
    return
  if run_dir.exists() and any(run_dir.iterdir()):
    raise InputError(f"--run_dir {run_dir}", "not empty, and not a run directory (no config.json)",
                     "Give a new or an empty directory.")
  run_dir.mkdir(parents=True, exist_ok=True)
  versions = {name: importlib.metadata.version(name) for name in PACKAGES}
  write_atomically(file, json.dumps({"config": config, "hash": config_hash(experiment), "versions": versions}, indent=1))


def run_experiment(experiment: Experiment, run_dir: Path, only: str | None = None, reuse: Path | None = None,
                   began: float | None = None, report_to: str | None = None) -> dict:
  """Runs all stages, or up to and with stage `only`; the content of summary.json.

  Finished stages are skipped, a half-finished one resumes from its newest checkpoint. reuse: another run's directory;
  stages that are finished there, and made there from the same configs, are taken over. began: when the process did (Unix
  seconds), for its start is time of the run. report_to: "wandb" or "trackio", beside TensorBoard. Raises InputError before
  anything is compiled.
  """
  if report_to is not None:
    check_tracker(report_to)
  tokenizer = check_run(experiment)
  names = [stage.name for stage in experiment.stages]
  if only is not None and only not in names:
    raise InputError("--stage", repr(only), f"Stages of this experiment: {', '.join(names)}.")
  mesh = make_mesh(experiment.mesh)
  for base in experiment.bases():
    for rules in (TRAIN_RULES, ROLLOUT_RULES):
      shardings(base.model, mesh, rules)  # refuses weights that the mesh cannot share
  for stage in experiment.stages:
    stage.check_mesh(mesh)
    stage.check_data(tokenizer)
  claim_run_dir(experiment, run_dir)
  summary = _read_summary(run_dir, experiment)
  for name in take_over(experiment, reuse, run_dir, summary) if reuse is not None else ():
    print(f"{name}: taken over from {reuse}", file=sys.stderr)
    _write_summary(run_dir, summary, names)
  root = jax.random.key(experiment.seed)
  with (jax.set_mesh(mesh), watching(experiment, run_dir, report_to) as watch,
        Clock(run_dir, mesh.size, mesh.devices.flat[0].device_kind, began) as clock):
    for i, stage in enumerate(experiment.stages):
      if summary["stages"].get(stage.name, {}).get("status") != "finished":
        _check_inputs(experiment, stage, run_dir, summary)
        start = time.perf_counter()
        clock.enter(stage.name)
        watch.enter(stage.name, i + 1, len(names))
        context = Context(
          experiment=experiment, run_dir=run_dir, mesh=mesh, tokenizer=tokenizer,
          model=with_tokens(experiment.model_of(stage), tokenizer),
          params=starting_params(experiment, stage, mesh, run_dir), finished=frozenset(names[:i]),
          key=jax.random.fold_in(root, i + 1), watch=watch)
        result = stage.run(context)
        del context  # the stage has donated its parameters
        seconds = time.perf_counter() - start
        clock.enter(None)
        watch.leave(stage.name, seconds)
        summary["stages"][stage.name] = {"status": "finished", "hash": stage_hash(experiment, stage),
                                         "seconds": round(seconds, 1), **result,
                                         "alerts": logged_alerts(read_metrics(run_dir, stage.name))}
        _write_summary(run_dir, summary, names)
      if stage.name == only:
        break
    draw_curves(run_dir)
  return summary


@contextmanager
def watching(experiment: Experiment, run_dir: Path, report_to: str | None) -> Iterator[Watch]:
  """Who reads along while the run is under way: the terminal, and a tracker where one is wanted."""
  with ExitStack() as open_until_the_end:
    tracker = report_to and open_until_the_end.enter_context(
      Tracker(report_to, run_dir, experiment.name, to_json(experiment)))
    view = open_until_the_end.enter_context(terminal())
    yield Watch([view, tracker] if tracker else [view])


def _check_inputs(experiment: Experiment, stage, run_dir: Path, summary: dict) -> None:
  """InputError if what a stage reads is missing, or was made by another config than this experiment's."""
  for name in experiment.reads(stage):
    made, folder = summary["stages"].get(name, {}), run_dir / "checkpoints" / name
    needed = experiment.stage(name)
    if made.get("hash") != stage_hash(experiment, needed):
      raise InputError(f"stages.{stage.name}", f"reads stage {name!r}, which {run_dir / 'summary.json'} does not have as "
                       "finished by this config", "Start in another --run_dir.")
    if needed.kind in (POLICY, REWARD_MODEL) and not folder.is_dir():
      raise InputError(str(folder), f"missing, and stage {stage.name!r} starts from it",
                       "Restore the folder, or start in another --run_dir.")


def starting_params(experiment: Experiment, stage, mesh, run_dir: Path):
  """What a stage starts from: the last checkpoint of another stage, a folder of weights, or random parameters."""
  source = experiment.source_of(stage)
  if not isinstance(source, Base):
    return policy_params(experiment, source, mesh, run_dir)
  if source.weights is not None:
    return load(source.weights, source.model, mesh, jnp.float32)
  return init_params(jax.random.fold_in(jax.random.key(experiment.seed), 0), source.model, mesh)


def _read_summary(run_dir: Path, experiment: Experiment) -> dict:
  file = run_dir / "summary.json"
  if file.exists():
    return json.loads(file.read_text(encoding="utf-8"))
  return {"experiment": experiment.name, "status": "running", "seconds": 0.0, "stages": {}}


def _write_summary(run_dir: Path, summary: dict, names: list[str]) -> None:
  done = [s for s in summary["stages"].values() if s["status"] == "finished"]
  summary["status"] = "finished" if len(done) == len(names) else "running"
  summary["seconds"] = round(sum(s["seconds"] for s in done), 1)
  write_atomically(run_dir / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False))
