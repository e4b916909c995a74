"""One program, compiled by the TPU compiler in a process of its own: `python -m r1jax.plan.worker JOB FOLDER`.

JOB is the JSON of a compile.Job; what was found is printed as the last line. The folder keeps what was compiled before.
"""
import hashlib
import json
import math
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jaxlib

from r1jax.errors import InputError
from r1jax.experiment_file import load_experiment
from r1jax.files import write_atomically
from r1jax.plan import hlo
from r1jax.plan.flops import counted
from r1jax.plan.programs import programs
from r1jax.plan.record import CACHE, ROLLOUT_WEIGHTS, Program, bytes_of
from r1jax.plan.topology import Slice, devices_of, libtpu_version, slice_of
from r1jax.sharding import DATA, batch_parts, make_mesh
from r1jax.stages.context import Experiment

OPTIONS: dict[str, Any] = {}  # of the compiler, beside those that dump
READER = 3  # to be raised whenever what is read of a program changes


def experiment_of(job: dict) -> Experiment:
  """The experiment, with a name for weights that the user is still to name."""
  experiment = load_experiment(job["experiment"], job["smoke"], job["settings"])
  return replace(experiment, weights="DIR") if experiment.weights == "" else experiment


def listed(job: dict) -> list[Program]:
  """The programs of the stages that a job asks for, without building their shapes."""
  experiment, found = experiment_of(job), slice_of(job["topology"])
  experiment.check()
  mesh = make_mesh(experiment.mesh, devices_of(found))
  experiment.check_mesh(mesh)
  stages = [stage for stage in experiment.stages if job["stage"] in (None, stage.name)]
  return [program for stage in stages for program in programs(stage, experiment, mesh)]


def compiled(program: Program, found: Slice, folder: Path) -> dict:
  """What the compiler says of a program: JSON values, from `folder` where it was compiled before."""
  call, traced = program.call, program.trace()
  with jax.set_mesh(program.mesh):
    text = traced.lower().as_text()
  versions = (jax.__version__, jaxlib.__version__, libtpu_version(), str(READER))
  key = "\n".join([text, json.dumps(OPTIONS), found.name, *versions])
  file = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
  if file.exists():
    facts = json.loads(file.read_text(encoding="utf-8"))
  else:
    facts = _compile(program, traced)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(facts))
  return facts | {
    "stage": program.stage, "program": program.name, "length": program.length, "makes": call.makes,
    "arguments": program.argument_bytes(), "resident": program.resident_bytes(), "ideal_flops": call.ideal,
    "flops": counted(traced.jaxpr, call.steps), "devices": program.mesh.size}


def _compile(program: Program, traced) -> dict:
  """Memory, collectives, copies and traffic, or why there is no program."""
  dump = Path(tempfile.mkdtemp(prefix="r1jax_plan_"))
  try:
    with jax.set_mesh(program.mesh):
      done = traced.lower().compile(compiler_options={**OPTIONS, "xla_dump_to": str(dump), "xla_dump_hlo_as_text": True})
    memory = done.memory_analysis()
    (text,) = sorted(dump.glob("*after_codegen.txt"), key=lambda f: f.stat().st_size)[-1:]
    return {"memory": {name: getattr(memory, f"{name}_size_in_bytes") for name in (
      "argument", "temp", "output", "alias", "host_argument", "host_temp")}} | _read(program, text.read_text())
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return {"too_large": str(error)[:4_000], "needs": needed(str(error))}
  finally:
    shutil.rmtree(dump, ignore_errors=True)


def needed(message: str) -> float | None:
  """Bytes that the compiler says a program uses, of its refusal; None where it does not say."""
  said = (re.search(r"[Uu]sed ([\d.]+)([KMGT]) of [\d.]+[KMGT] hbm", message)
          or re.search(r"\(([\d.]+)([KMGT])\) exceeds available HBM", message))
  return float(said.group(1)) * 1024 ** ("KMGT".index(said.group(2)) + 1) if said else None


def _read(program: Program, text: str) -> dict:
  """What the final text says."""
  module = hlo.parse(text, program.call.steps)
  # Whole, or as the tensor and expert axes leave them.
  parts = {program.mesh.shape["tensor"] ** i * program.mesh.shape["expert"] ** j for i in (0, 1) for j in (0, 1)}
  weights = {x.size // n for cause, tree in _arguments(program) if cause == ROLLOUT_WEIGHTS for x in jax.tree.leaves(tree)
             for n in parts if x.ndim > 1}
  cached = [bytes_of(x) for cause, tree in _arguments(program) if cause == CACHE for x in jax.tree.leaves(tree)]
  collectives = [vars(c) for c in module.collectives()]
  copies = module.copies(0.5 * max(cached)) if cached else []
  return {
    "collectives": collectives, "traffic": module.traffic(),
    "copied_cache": sum(one.bytes * place.times for one, place in copies),
    "copies": [{"opcode": one.opcode, "bytes": one.bytes, "times": place.times, "where": one.where} for one, place in
               copies[:10]],
    "weight_gathers": [c for c in collectives if c["gathers"] and c["loop"] and c["elements"] in weights],
    "whole": _whole(program, module),
  }


def _whole(program: Program, module: hlo.Module) -> list[dict]:
  """What should exist a piece at a time, and is there whole: logits of all positions, scores of all pairs."""
  call, mesh = program.call, program.mesh
  if not call.rows:
    return []
  rows, tensor, T = call.rows / batch_parts(mesh), mesh.shape["tensor"], program.length
  tokens, vocab = call.rows * T / batch_parts(mesh, DATA), call.model.vocab_size // tensor
  heads = max(1, call.model.num_heads // tensor // mesh.shape["sequence"])
  found = {}
  for array, one in module.arrays(min(tokens * vocab, rows * heads * T * T)):
    size = math.prod(array.shape)
    if size >= tokens * vocab and vocab in array.shape and call.model.d_model not in array.shape:
      found["logits of all positions", str(array)] = one
    elif size >= rows * heads * T * T and sum(side >= T for side in array.shape) > 1:
      found["attention scores of all pairs", str(array)] = one
  return [{"what": what, "shape": shape, "where": one.where} for (what, shape), one in found.items()]


def _arguments(program: Program) -> list[tuple[Any, Any]]:
  return list(zip(program.call.causes, program.call.args, strict=True))


def _end_with(parent: int) -> None:
  """Ends this process when the one that asked for it is gone: nobody would stop the compiler."""
  while os.getppid() == parent:
    time.sleep(1)
  os._exit(1)


def main(argv: list[str]) -> None:
  """Compiles the program of a job, or lists the names of all; prints JSON."""
  job = json.loads(argv[0])
  threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
  found = listed(job)
  if job["program"] is None:
    print(json.dumps([[p.stage, p.name, p.length] for p in found]))
    return
  (program,) = (p for p in found if [p.stage, p.name, p.length] == [job["stage"], job["program"], job["length"]])
  print(json.dumps(compiled(program, slice_of(job["topology"]), Path(argv[1]))))


if __name__ == "__main__":
  try:
    main(sys.argv[1:])
  except InputError as error:
    print("InputError " + json.dumps([error.where, str(error.found), error.remedy]))
    sys.exit(2)
