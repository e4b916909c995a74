"""Stages that another run has finished: recognised by a hash of all that decides their result, and taken over."""
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from r1jax.config import config_hash
from r1jax.curation import datasets
from r1jax.errors import InputError
from r1jax.files import write_atomically
from r1jax.stages.context import Base, Experiment, Stage


def stage_hash(experiment: Experiment, stage: Stage) -> str:
  """A hash of all that decides what a stage leaves behind: its config, seed, place, model, and the stages that it reads."""
  source = experiment.source_of(stage)
  return config_hash({
    "stage": stage, "place": experiment.stages.index(stage), "seed": experiment.seed, "tokenizer": experiment.tokenizer,
    "mesh": experiment.mesh, "compute": experiment.compute, "base": source if isinstance(source, Base) else None,
    "reads": [stage_hash(experiment, experiment.stage(name)) for name in experiment.reads(stage)]})


def take_over(experiment: Experiment, other: Path, run_dir: Path, summary: dict) -> Iterator[str]:
  """Copies each unfinished stage that `other` has finished with the same hash; yields its name once all of it is here.

  Checkpoints are hard-linked where the file system can. `summary` gets the stage's entry; the caller writes it.
  """
  file = other / "summary.json"
  if not file.is_file():
    raise InputError(f"--reuse {other}", "no summary.json", "Name the directory of a run that has finished stages.")
  found = json.loads(file.read_text(encoding="utf-8"))["stages"]
  for stage in experiment.stages:
    theirs = found.get(stage.name, {})
    here = summary["stages"].get(stage.name, {}).get("status") == "finished"
    if here or theirs.get("status") != "finished" or theirs.get("hash") != stage_hash(experiment, stage):
      continue
    _copy_folder(other / "checkpoints" / stage.name, run_dir / "checkpoints" / stage.name)
    for name in (f"{stage.name}.jsonl", f"{stage.name}.json"):
      if (datasets.folder(other) / name).is_file():
        datasets.folder(run_dir).mkdir(exist_ok=True)
        shutil.copy2(datasets.folder(other) / name, datasets.folder(run_dir) / name)
    for name in ("metrics.jsonl", "samples.jsonl"):
      _copy_lines(other / name, run_dir / name, stage.name)
    summary["stages"][stage.name] = {**theirs, "taken_over_from": str(other)}
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

  shutil.copytree(source, target, copy_function=link)


def _copy_lines(source: Path, target: Path, stage: str) -> None:
  """Replaces the stage's lines in a log by those of another run."""
  def of_stage(line: str) -> bool:
    return json.loads(line)["stage"] == stage

  theirs = source.read_text(encoding="utf-8").splitlines(keepends=True) if source.exists() else []
  ours = target.read_text(encoding="utf-8").splitlines(keepends=True) if target.exists() else []
  write_atomically(target, "".join([*(x for x in ours if not of_stage(x)), *(x for x in theirs if of_stage(x))]))
