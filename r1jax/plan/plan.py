"""A plan of an experiment on a slice: every program compiled, and what follows from it."""
from collections.abc import Callable, Iterator
from dataclasses import replace

from r1jax.config import Schedule
from r1jax.errors import InputError
from r1jax.experiment_file import load_experiment
from r1jax.plan.changes import candidates
from r1jax.plan.compile import FITS, TOO_LARGE, Job, Limits, compile_program, program_names
from r1jax.plan.cost import Assumptions, step_of
from r1jax.plan.report import completed
from r1jax.plan.topology import slice_of
from r1jax.sharding import MESH_AXES
from r1jax.stages.context import Experiment


def plan(job: Job, limits: Limits, assumed: Assumptions, tell: Callable[[str], None] = lambda text: None,
         tries: int = 4) -> dict:
  """The plan, as JSON. job: program and length None for all. tell: gets a line for each program as it is done. tries: the
  changes that are compiled for a program that does not fit.

  Raises:
    InputError: for what `program_names` refuses, and for a program or length that the stage does not have.
  """
  found, experiment = slice_of(job.topology), load_experiment(job.experiment, job.smoke, job.settings)
  names = [stage.name for stage in experiment.stages]
  if job.stage is not None and job.stage not in names:
    raise InputError("--stage", repr(job.stage), f"Stages of this experiment: {', '.join(names)}.")
  job, jobs = wanted(job, experiment, limits)
  experiment, said = load_experiment(job.experiment, job.smoke, job.settings), []
  for one in jobs:
    said.append(completed(compile_program(one, limits), found))
    tell(f"{one.stage} {one.program} {one.length:,}: {said[-1]['outcome']}, {said[-1]['why']} ({said[-1]['seconds']:.0f} s)")
  changes = []
  for one in said:
    if one["outcome"] == TOO_LARGE:
      changes.append(nearest(job, one, limits, tell, tries))
  stages = [stage for stage in experiment.stages if job.stage in (None, stage.name)]
  steps = [] if job.program else [step_of(stage, experiment, said, found, assumed) for stage in stages]
  sizes = zip(MESH_AXES, experiment.mesh.resolve(found.chips * found.chip.cores), strict=True)
  mesh = " x ".join(f"{axis} {size}" for axis, size in sizes if size > 1)
  return {"experiment": experiment.name, "settings": list(job.settings), "topology": job.topology, "chips": found.chips,
          "limit_gib": found.chip.limit_gib, "mesh": mesh, "programs": said, "changes": changes,
          "fits": all(one["outcome"] == FITS for one in said), "assumed": str(assumed), "steps": [s for s in steps if s]}


def wanted(job: Job, experiment: Experiment, limits: Limits) -> tuple[Job, list[Job]]:
  """(the job, those of the programs that it asks for). A length that no program has is set where a stage has a schedule."""
  named = program_names(job, limits)
  stages = [s.name for s in experiment.stages if job.stage in (None, s.name)
            and isinstance(getattr(s, "max_length", None), Schedule)]
  if job.length is not None and stages and all(one.length != job.length for one in named):
    lengths = (f"stages.{stage}.max_length={{0: {job.length}}}" for stage in stages)
    job = replace(job, settings=(*job.settings, *lengths))
    named = program_names(job, limits)
  # A prefill has the length of prompts, at whatever length the cache beside it is.
  chosen = [one for one in named if job.program in (None, one.program)
            and (job.length in (None, one.length) or one.program == "prefill")]
  if not chosen:
    of = ", ".join(dict.fromkeys(f"{one.program} {one.length}" for one in named))
    raise InputError("--program, --length", f"{job.program} {job.length or ''}".strip(), f"Programs here: {of or 'none'}.")
  return job, chosen


def nearest(job: Job, said: dict, limits: Limits, tell: Callable[[str], None], tries: int) -> str:
  """The first change of settings, of those that may help, with which a program fits: found by compiling it."""
  experiment, found = load_experiment(job.experiment, job.smoke, job.settings), slice_of(job.topology)
  name = f"{said['stage']} {said['program']} at {said['length']:,}"
  tried = []
  for settings in candidates(experiment, experiment.stage(said["stage"]), said["program"], found, tries):
    one = replace(job, stage=said["stage"], program=said["program"], length=said["length"],
                  settings=(*job.settings, *settings))
    try:
      again = compile_program(one, limits)
    except InputError as error:
      tried.append(f"{' '.join(settings)}: refused, {error}")
      continue
    tell(f"{name} with {' '.join(settings)}: {again['outcome']}, {again['why']}")
    if again["outcome"] == FITS:
      return f"{name} {said['why']}; it fits with --set {' --set '.join(settings)}: {again['why']}."
    tried.append(f"{' '.join(settings)}: {again['why']}")
  return f"{name} {said['why']}; tried and not enough: {'; '.join(tried) or 'nothing'}."


def suggested(job: Job, limits: Limits, slices: Iterator[str], tell: Callable[[str], None]) -> str | None:
  """The first of `slices` on which the dearest programs of every stage fit, fsdp taking what is there; None for none."""
  for name in slices:
    one = replace(job, topology=name, settings=(*job.settings, "mesh.fsdp=-1"))
    try:
      _, jobs = wanted(one, load_experiment(one.experiment, one.smoke, one.settings), limits)
      dearest = [x for x in jobs if x.program in ("decode", "accumulate", "apply", "lengthen_layer")]
    except InputError as error:
      tell(f"{name}: {error}")
      continue
    for x in reversed(dearest):
      said = compile_program(x, limits)
      tell(f"{name} {x.stage} {x.program} {x.length:,}: {said['outcome']}, {said['why']}")
      if said["outcome"] != FITS:
        break
    else:
      return name
  return None
