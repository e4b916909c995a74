"""Settings that make a program smaller, nearest first, and slices to try."""
import math
from collections.abc import Iterator
from itertools import islice

from r1jax.plan.topology import Slice
from r1jax.sharding import BATCH, DATA, MESH_AXES, MeshShape
from r1jax.stages.context import Experiment
from r1jax.training.pack import rows_for

# Slices that can be had, by version, from the smallest.
SLICES = {
  "v5e": ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
  "v6e": ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
  "v5p": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16"),
  "tpu7x": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8"),
}
UPDATES = ("accumulate", "logprobs", "reference_logprobs", "teacher_logprobs", "score")


def slices_of(kind: str) -> Iterator[str]:
  """The slices of a version, from the smallest."""
  return (f"{kind}:{sides}" for sides in SLICES[kind])


def candidates(experiment: Experiment, stage, program: str, found: Slice, tries: int) -> Iterator[tuple[str, ...]]:
  """Up to `tries` changes, each as settings "a.b=c"."""
  return islice(_changes(experiment, stage, program, found.chips * found.chip.cores), tries)


def _changes(experiment: Experiment, stage, program: str, devices: int) -> Iterator[tuple[str, ...]]:
  where, optimizer = f"stages.{stage.name}", getattr(stage, "optimizer", None)
  decoding = getattr(stage, "decoding", None) or getattr(getattr(stage, "draws", None), "decoding", None)
  place = f"{where}.decoding" if hasattr(stage, "decoding") else f"{where}.draws.decoding"
  sizes = dict(zip(MESH_AXES, experiment.mesh.resolve(devices), strict=True))
  fsdp, tensor = sizes["fsdp"], sizes["tensor"]
  rows, sequences = (math.prod(sizes[axis] for axis in axes) for axes in (BATCH, DATA))
  if program.startswith(UPDATES):
    length = max(stage.max_length.values()) if hasattr(stage.max_length, "values") else stage.max_length
    if rows_for(stage.microbatch_tokens, int(length), rows) > rows:
      yield (f"{where}.microbatch_tokens={stage.microbatch_tokens // 2}",)
      yield (f"{where}.microbatch_tokens=1",)
  elif decoding is not None:
    slots = decoding.slots // 2
    if slots and slots % sequences == 0:
      yield (f"{place}.slots={slots}",)
    if slots and slots // 2 % sequences == 0:
      yield (f"{place}.slots={slots // 2}",)
    if not decoding.int8_cache:
      yield (f"{place}.int8_cache=True",)
  if fsdp % 2 == 0 and experiment.model_of(stage).num_heads % (2 * tensor) == 0:
    yield (*_mesh(experiment.mesh, fsdp // 2), f"mesh.tensor={2 * tensor}")
  if optimizer is not None and optimizer.moments == "float32":
    yield (f"{where}.optimizer.moments=bfloat16",)
  if program.startswith(UPDATES):
    sequence = sizes["sequence"]
    if fsdp % 2 == 0 and experiment.model_of(stage).num_heads % (2 * sequence * tensor) == 0:
      yield (*_mesh(experiment.mesh, fsdp // 2), f"mesh.sequence={2 * sequence}")
    if not experiment.compute.offload:
      yield ("compute.offload=True",)


def _mesh(mesh: MeshShape, fsdp: int) -> tuple[str, ...]:
  """fsdp, where it is declared and does not follow from the others."""
  return () if mesh.fsdp == -1 else (f"mesh.fsdp={fsdp}",)
