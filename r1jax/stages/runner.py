"""Runs an experiment's stages in order in a run directory, and resumes one that stopped anywhere."""
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp

from r1jax.config import config_hash, differences, to_json
from r1jax.data.tokenizer import Tokenizer, named_tokenizer
from r1jax.ending import Ending
from r1jax.errors import InputError, WatchdogStop
from r1jax.models.huggingface import check_weights, config_from_folder, load
from r1jax.models.params import init_params, num_params
from r1jax.reports.clock import Clock
from r1jax.reports.draw import draw_curves
from r1jax.reports.live import terminal
from r1jax.reports.tracker import Tracker, check_tracker
from r1jax.reports.watch import Watch, logged_alerts
from r1jax.reports.watchdogs import Watchdogs
from r1jax.run_dir import RunDir, say
from r1jax.sharding import make_mesh
from r1jax.stages.context import POLICY, REWARD_MODEL, Base, Context, Experiment, with_tokens
from r1jax.stages.reuse import stage_hash, take_over
from r1jax.stages.rollout import policy_params
from r1jax.training.checkpoint import finite


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
    check_weights(base.weights, base.model)


def _check_disk(experiment: Experiment, run: RunDir, todo: Sequence) -> None:
  """InputError where the checkpoints of stages that have none yet find no room: two kept and one being written, of the
  parameters, both moments of the optimizer and, of RL, the reference."""
  needed = largest = 0
  for stage in todo:
    if stage.kind in (POLICY, REWARD_MODEL) and not run.checkpoints(stage.name).exists():
      moments = 2 * jnp.dtype(stage.optimizer.moments).itemsize
      each = num_params(experiment.model_of(stage)) * (4 + moments + (4 if hasattr(stage, "reference_every") else 0))
      needed, largest = needed + 2 * each, max(largest, each)
  there = next(path for path in (run.path.absolute(), *run.path.absolute().parents) if path.exists())
  free = shutil.disk_usage(there).free
  if needed + largest > free:
    raise InputError(f"--run_dir {run.path}", f"{free / 1e9:.1f} GB are free, and the checkpoints take "
                     f"{(needed + largest) / 1e9:.1f} GB", "Give a directory on a larger disk, or make room.")


def claim_run_dir(experiment: Experiment, run_dir: Path) -> None:
  """Writes config.json, or refuses a directory that holds a run of another config."""
  run = RunDir(run_dir)
  run.claim(to_json(experiment), config_hash(experiment))
  run.begin()


def run_experiment(experiment: Experiment, run_dir: Path, only: str | None = None, reuse: Path | None = None,
                   began: float | None = None, report_to: str | None = None) -> dict:
  """Runs all stages, or up to and with stage `only`; the content of summary.json.

  Finished stages are skipped, a half-finished one resumes from its newest sound checkpoint. reuse: another run's directory;
  stages that are finished there, and made there from the same configs and files, are taken over. began: when the process
  did (Unix seconds), for its start is time of the run. report_to: "wandb" or "trackio", beside TensorBoard.

  Raises:
    InputError: before anything is compiled or written, where it can be known by then.
    WatchdogStop: a watchdog has ended a stage; summary.json has it as `stopped`.
    Terminated: SIGTERM came.
  """
  if report_to is not None:
    check_tracker(report_to)
  names = [stage.name for stage in experiment.stages]
  if only is not None and only not in names:
    raise InputError("--stage", repr(only), f"Stages of this experiment: {', '.join(names)}.")
  run, other, ending = RunDir(run_dir), reuse and RunDir(reuse), Ending()
  if other and not other.summary.is_file():
    raise InputError(f"--reuse {reuse}", "no summary.json", "Name the directory of a run that has finished stages.")
  tokenizer = check_run(experiment)
  with run.held(), ending.on_signals():
    run.claim(to_json(experiment), config_hash(experiment))
    mesh = make_mesh(experiment.mesh)
    experiment.check_mesh(mesh)
    for stage in experiment.stages:
      stage.check_data(tokenizer)
    _check_disk(experiment, run, experiment.stages)
    run.begin()
    summary = _finished(run, experiment)
    for name in take_over(experiment, other, run, summary) if other else ():
      say(f"{name}: taken over from {reuse}")
      _write_summary(run, summary, names)
    wanted = experiment.stages[:names.index(only) + 1] if only else experiment.stages
    todo = [stage for stage in wanted if stage.name not in summary["stages"]]
    if todo and run.read_only:
      raise InputError(f"--run_dir {run.path}", "cannot be written, and the run is not finished", "Make it writable.")
    if todo:
      run.check_sets()
      with (jax.set_mesh(mesh), watching(experiment, run_dir, report_to) as watch,
            Clock(run_dir, mesh.size, mesh.devices.flat[0].device_kind, began) as clock):
        for stage in todo:
          summary["stages"][stage.name] = _run_stage(experiment, stage, run, mesh, tokenizer, watch, clock, ending, summary)
          _write_summary(run, summary, names)
      draw_curves(run_dir)
  return summary


def _run_stage(experiment: Experiment, stage, run: RunDir, mesh, tokenizer: Tokenizer, watch: Watch, clock: Clock,
               ending: Ending, summary: dict) -> dict:
  """Runs or resumes one stage; what summary.json says of it."""
  _check_inputs(experiment, stage, run, summary)
  start, number = time.perf_counter(), experiment.stages.index(stage) + 1
  clock.enter(stage.name)
  watch.watchdogs = getattr(stage, "watchdogs", Watchdogs())
  watch.enter(stage.name, number, len(experiment.stages))
  params = starting_params(experiment, stage, mesh, run.path)
  if not finite(params):
    raise InputError(f"stages.{stage.name}", "the parameters that it starts from have a NaN or an infinite number",
                     "Start from other weights.")
  context = Context(
    experiment=experiment, run_dir=run.path, mesh=mesh, tokenizer=tokenizer,
    model=with_tokens(experiment.model_of(stage), tokenizer), params=params,
    key=jax.random.fold_in(jax.random.key(experiment.seed), number), watch=watch, ending=ending)
  del params  # the stage donates them
  try:
    result = stage.run(context)
  except WatchdogStop as stop:
    stopped = {"stage": stage.name, "watchdog": stop.rule, "step": stop.step, "message": stop.message}
    run.write_summary(summary | {"status": "stopped", "stopped": stopped})
    raise
  finally:
    ending.saves = False
  run.seal_sets()
  clock.enter(None)
  watch.leave(stage.name, time.perf_counter() - start)
  return {"status": "finished", "hash": stage_hash(experiment, stage), "seconds": round(clock.spent(stage.name), 1),
          **result, "alerts": logged_alerts(run.records("metrics", stage.name)), "made": run.made(stage.name),
          "log": run.log_checksums().get(stage.name, {})}


@contextmanager
def watching(experiment: Experiment, run_dir: Path, report_to: str | None) -> Iterator[Watch]:
  """Who reads along while the run is under way: the terminal, and a tracker where one is wanted."""
  with ExitStack() as open_until_the_end:
    tracker = report_to and open_until_the_end.enter_context(
      Tracker(report_to, run_dir, experiment.name, to_json(experiment)))
    view = open_until_the_end.enter_context(terminal())
    yield Watch([view, tracker] if tracker else [view])


def _check_inputs(experiment: Experiment, stage, run: RunDir, summary: dict) -> None:
  """InputError if what a stage reads is missing, or was made by another config than this experiment's."""
  for name in experiment.reads(stage):
    if summary["stages"].get(name, {}).get("hash") != stage_hash(experiment, experiment.stage(name)):
      raise InputError(f"stages.{stage.name}", f"reads stage {name!r}, which {run.summary} does not have as finished by "
                       "this config", "Start in another --run_dir.")


def starting_params(experiment: Experiment, stage, mesh, run_dir: Path):
  """What a stage starts from: the last checkpoint of another stage, a folder of weights, or random parameters."""
  source = experiment.source_of(stage)
  if not isinstance(source, Base):
    return policy_params(experiment, source, mesh, run_dir)
  if source.weights is not None:
    return load(source.weights, source.model, mesh, jnp.float32)
  return init_params(jax.random.fold_in(jax.random.key(experiment.seed), 0), source.model, mesh)


def _finished(run: RunDir, experiment: Experiment) -> dict:
  """summary.json, with those stages alone whose results are still what was written."""
  summary, sums = run.read_summary(experiment.name), run.log_checksums()
  summary.pop("stopped", None)
  for stage in experiment.stages:
    entry = summary["stages"].get(stage.name)
    wrong = entry and run.unsound(stage.name, entry, stage.kind)
    if wrong:
      say(f"{stage.name}: no longer finished: {wrong}")
    if entry and (wrong or entry.get("status") != "finished"):
      del summary["stages"][stage.name]
    for name, known in entry.get("log", {}).items() if entry else ():
      if sums.get(stage.name, {}).get(name) != known:
        say(f"{run.log(name)}: the lines of stage {stage.name} are not those that were written")
  return summary


def _write_summary(run: RunDir, summary: dict, names: list[str]) -> None:
  done = summary["stages"].values()
  summary["status"] = "finished" if len(done) == len(names) else "running"
  summary["seconds"] = round(sum(s["seconds"] for s in done), 1)
  run.write_summary(summary)
