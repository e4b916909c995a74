"""TPU slices as the compiler knows them: their names, devices and limits, and the machine on which it runs.

libtpu compiles for a named slice on a machine that has none. It shows what fits and what is computed, gathered and copied;
it does not show how long anything takes.
"""
import importlib.metadata
import math
import os
import re
from dataclasses import dataclass

from r1jax.errors import InputError

VERSIONS = ("0.0.42", "0.0.5")  # libtpu's versions, as prefixes, whose dumps have been read
# Read by libtpu when it is loaded: nothing to ask on a network, no lock that a second process would wait for.
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost",
               "TPU_ACCELERATOR_TYPE": "v5e-16", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
GIB = 2**30


@dataclass(frozen=True)
class Chip:
  """A device, as jax counts them. limit_gib: what the compiler allows a program to use of its memory (from its refusals).
  flops: bfloat16, a second. hbm, ici: bytes a second, ici over all links. cores: devices of a chip. sides: of a slice."""

  limit_gib: float
  flops: float
  hbm: float
  ici: float
  cores: int
  sides: int


# Peaks and bandwidths: cloud.google.com/tpu/docs, the page of each version, divided by the devices of a chip; ICI is in
# bits there.
CHIPS = {
  "v5e": Chip(15.75, 197e12, 0.82e12, 1.6e12 / 8, cores=1, sides=2),
  "v5p": Chip(95.73, 459e12, 2.765e12, 4.8e12 / 8, cores=1, sides=3),
  "v6e": Chip(31.24, 918e12, 1.64e12, 3.584e12 / 8, cores=1, sides=2),
  "tpu7x": Chip(94.74, 2307e12 / 2, 7.38e12 / 2, 9.6e12 / 8 / 2, cores=2, sides=3),
}


@dataclass(frozen=True)
class Slice:
  """A slice by its name, as in v5p:8x8x8."""

  name: str

  @property
  def chip(self) -> Chip:
    """What each of its devices is."""
    return CHIPS[self.name.split(":")[0]]

  @property
  def chips(self) -> int:
    """How many chips it has."""
    return math.prod(int(side) for side in self.name.split(":")[1].split("x"))

  @property
  def limit(self) -> float:
    """Bytes that a program may use on a device."""
    return self.chip.limit_gib * GIB


def slice_of(name: str) -> Slice:
  """The slice of this name. InputError for one of another form; whether it exists, `devices_of` tells."""
  kind, _, sides = name.partition(":")
  if kind not in CHIPS or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)+", sides) or len(sides.split("x")) != CHIPS[kind].sides:
    known = ", ".join(f"{kind}:{'x'.join('ABC'[:chip.sides])}" for kind, chip in CHIPS.items())
    raise InputError("--topology", repr(name), f"Use one of {known}, with a number for each side, for example v5p:4x4x4.")
  return Slice(name)


def libtpu_version() -> str:
  """Of the installed libtpu; InputError where there is none, or one whose dumps nobody has read."""
  try:
    version = importlib.metadata.version("libtpu")
  except importlib.metadata.PackageNotFoundError:
    raise InputError("libtpu", "not installed, and it is the compiler of TPUs",
                     "Install it: pip install 'r1jax[tpu]'. It needs no TPU.") from None
  if not version.startswith(VERSIONS):
    raise InputError("libtpu", f"version {version}, whose programs may be written down differently",
                     f"Install one of {', '.join(f'{v}*' for v in VERSIONS)}, for example libtpu==0.0.42.1.")
  return version


def devices_of(found: Slice) -> list:
  """Its devices, without any of them being here. The process must have been started with ENVIRONMENT. InputError for a slice
  that does not exist."""
  from jax.experimental import topologies

  libtpu_version()
  missing = [name for name in ENVIRONMENT if name not in os.environ]
  if missing:
    raise InputError("environment", f"without {', '.join(missing)}", "Compile in a process that r1jax.plan has started.")
  try:
    return list(topologies.get_topology_desc(platform="tpu", topology_name=found.name).devices)
  except Exception as error:  # of a type of its own in each release of jax
    raise InputError("--topology", f"{found.name!r}: {str(error).splitlines()[0]}",
                     "Give sides that such slices have, for example v5p:4x4x4 or v6e:2x4.") from None
