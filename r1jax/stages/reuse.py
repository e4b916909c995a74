"""Stages that another run has finished: recognised by a hash of all that decides their result, and taken over."""
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from r1jax.config import config_hash, to_json
from r1jax.errors import InputError
from r1jax.run_dir import LOGS, RunDir, changed, contents, say, without_watchdogs
from r1jax.stages.context import Base, Experiment, Stage


def _decides(experiment: Experiment, stage: Stage) -> dict:
  """What decides what a stage leaves behind, but for the stages that it reads, as JSON."""
  source = experiment.source_of(stage)
  return without_watchdogs(to_json({
    "stage": stage, "place": experiment.stages.index(stage), "seed": experiment.seed, "tokenizer": experiment.tokenizer,
    "mesh": experiment.mesh, "compute": experiment.compute, "base": source if isinstance(source, Base) else None}))


def stage_hash(experiment: Experiment, stage: Stage) -> str:
  """A hash of all that decides what a stage leaves behind: its config, seed, place, model, and the stages that it reads."""
  return config_hash({**_decides(experiment, stage),
                      "reads": [stage_hash(experiment, experiment.stage(name)) for name in experiment.reads(stage)]})


def take_over(experiment: Experiment, other: RunDir, run: RunDir, summary: dict) -> Iterator[str]:
  """Copies each unfinished stage that `other` has finished with the same hash; yields its name once all of it is here.

  Checkpoints are hard-linked where the file system can. `summary` gets the stage's entry; the caller writes it. InputError
  for a file that a stage has read there, and that is another one by now.
  """
  read, found = other.read_config().get("read", {}), other.read_summary("", change=False)["stages"]
  for stage in experiment.stages:
    theirs = found.get(stage.name, {})
    here = summary["stages"].get(stage.name, {}).get("status") == "finished"
    if here or theirs.get("status") != "finished" or theirs.get("hash") != stage_hash(experiment, stage):
      continue
    now = contents(_decides(experiment, stage))
    files = changed({file: read[file] for file in now if file in read}, {file: now[file] for file in now if file in read})
    if files:
      raise InputError(", ".join(files), f"changed since stage {stage.name!r} of {other.path} read it",
                       "Restore it, or leave --reuse out.")
    wrong = other.unsound(stage.name, theirs, stage.kind)
    if wrong:
      say(f"{stage.name}: not taken over: {wrong}")
      continue
    made = other.made(stage.name)
    _copy_folder(other.checkpoints(stage.name), run.checkpoints(stage.name))
    for name in made:
      if not (run.path / name).exists():
        (run.path / name).parent.mkdir(exist_ok=True)
        shutil.copy2(other.path / name, run.path / name)
    for name in LOGS:
      lines = b"".join(line for line, record in other.lines(name)[0] if record["stage"] == stage.name)
      run.keep_lines(name, lambda record, stage=stage: record["stage"] != stage.name, lines)
    summary["stages"][stage.name] = {**theirs, "made": made, "taken_over_from": str(other.path)}
    yield stage.name


def _copy_folder(source: Path, target: Path) -> None:
  if not source.is_dir():
    return
  shutil.rmtree(target, ignore_errors=True)  # of a copy that was killed, or of a stage that had only begun

  def link(a, b):
    try:
      os.link(a, b)
    except OSError:  # another file system
      shutil.copy2(a, b)

  shutil.copytree(source, target, copy_function=link, ignore=shutil.ignore_patterns("*.unsound*"))
