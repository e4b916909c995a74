"""One explicit mesh, and rules from logical axes to mesh axes: of weights in training and in rollouts, of activations.

Mesh axes: `replica` (data parallel, parameters copied), `fsdp` (data parallel, parameters split), `sequence` (positions
of a row split, parameters copied), `tensor` (heads, FFN and vocabulary split) and `expert` (MoE). A laptop is a mesh of
ones. All axes are explicit: a sharding is part of an array's type, and a wrong one is an error when tracing, on the CPU as
on a pod.
"""
import ctypes
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import cache
from platform import libc_ver
from typing import Any

import jax
import numpy as np
from jax.experimental.mesh_utils import create_device_mesh
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from r1jax.errors import InputError
from r1jax.fields import Count

MESH_AXES = ("replica", "fsdp", "sequence", "tensor", "expert")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of glibc's malloc.h
BATCH = ("replica", "fsdp")  # the mesh axes that the rows of a batch are split over
DATA = (*BATCH, "sequence")  # all that data are split over: the sequences of a rollout, tokens laid end to end

# Training: each weight is split over fsdp along its embed axis and gathered where it is used (ZeRO-3).
TRAIN_RULES: Mapping[str, Any] = {
  "layers": None, "embed": "fsdp", "q_heads": "tensor", "kv_heads": "tensor", "head_dim": None, "mlp": "tensor",
  "vocab": "tensor", "vocab_in": "tensor", "experts": "expert", "latent": None,
}
# Rollouts: nothing is split over fsdp, so that no weight is gathered inside the decode loop.
ROLLOUT_RULES: Mapping[str, Any] = {**TRAIN_RULES, "embed": None, "vocab_in": None}
# Activations of training. Between the products of a layer a row's positions are split over `tensor` too, so that what a
# layer keeps is split over all devices; inside them heads or widths are, as the weights say. Attention takes whole rows:
# heads are then split over `sequence` as well.
ACTIVATION_RULES: Mapping[str, Any] = {
  "rows": BATCH, "positions": "sequence", "positions_between": ("sequence", "tensor"),
  "heads_of_rows": ("tensor", "sequence"),
}


@dataclass(frozen=True)
class MeshShape:
  """Devices along each mesh axis; fsdp = -1 takes all that the others leave."""

  replica: Count = 1
  fsdp: int = -1
  sequence: Count = 1
  tensor: Count = 1
  expert: Count = 1

  def resolve(self, num_devices: int) -> tuple[int, ...]:
    """The sizes in the order of MESH_AXES for num_devices devices; InputError if they do not multiply to it."""
    sizes = list(astuple(self))
    for name, size in zip(MESH_AXES, sizes, strict=True):
      if size < 1 and not (name == "fsdp" and size == -1):
        raise InputError(f"mesh.{name}", size, "It must be at least 1 (fsdp may be -1: all that is left).")
    if self.fsdp == -1:
      sizes[1] = max(1, num_devices // (self.replica * self.sequence * self.tensor * self.expert))
    if math.prod(sizes) != num_devices:
      shape = " x ".join(f"{n} {s}" for n, s in zip(MESH_AXES, sizes, strict=True))
      raise InputError("mesh", f"{shape} = {math.prod(sizes)} devices, but there are {num_devices}",
                       "Make the product of the axes equal the number of devices.")
    return tuple(sizes)


def make_mesh(shape: MeshShape, devices: list | None = None) -> Mesh:
  """The explicit mesh of all axes over `devices` (default: all of this run's); InputError where they cannot form it.

  An axis of the mesh may take a part of a physical one: fsdp 32 x tensor 2 on a torus of 4 x 4 x 4. Where no devices are
  given and nobody has asked JAX for one yet, programs on a CPU run in the thread that calls them, for `reused_memory`.
  """
  if devices is None:
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    devices = jax.devices()
  sizes = shape.resolve(len(devices))
  try:
    grid = create_device_mesh(sizes, devices, allow_split_physical_axes=True)
  except (NotImplementedError, ValueError) as error:
    raise InputError("mesh", f"{' x '.join(map(str, sizes))} on this slice: {error}",
                     "Give axes that the sides of the slice can be cut into, or another slice.") from None
  return Mesh(grid, MESH_AXES, axis_types=(AxisType.Explicit,) * len(MESH_AXES))


@contextmanager
def reused_memory() -> Iterator[None]:
  """What is freed in this block, this process keeps for the next such block: on a CPU, where the block is the first
  thread's. Elsewhere nothing changes.

  XLA takes the temporaries of a program in one piece. From 32 MiB on glibc gives such a piece back to the system at once,
  and the next program waits for new pages: a tenth of an update.
  """
  glibc = _glibc() if platform() == "cpu" else None
  if glibc is None:
    yield
    return
  glibc.mallopt(M_MMAP_MAX, 0)
  try:
    yield
  finally:
    glibc.mallopt(M_MMAP_MAX, 65_536)


@cache
def _glibc() -> ctypes.CDLL | None:
  """glibc, told to do outside of `reused_memory` what it comes to do by itself; None where there is none."""
  if libc_ver()[0] != "glibc":
    return None
  glibc = ctypes.CDLL(None)
  glibc.mallopt(M_MMAP_THRESHOLD, 2**25)
  glibc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
  return glibc


def activation(*axes: str | None) -> P:
  """The PartitionSpec of an activation with these logical axes; None: whole."""
  return P(*(None if a is None else ACTIVATION_RULES[a] for a in axes))


def platform() -> str:
  """Of the devices of the mesh in use, which need not be this machine's: "cpu", "tpu"."""
  device = jax.sharding.get_abstract_mesh().abstract_device
  return jax.default_backend() if device is None else device.platform


def partition_spec(axes: tuple[str, ...], rules: Mapping[str, Any]) -> P:
  """The PartitionSpec of a weight with these logical axes."""
  return P(*(rules[a] for a in axes))


def check_divisible(name: str, shape: tuple[int, ...], spec: P, mesh: Mesh) -> None:
  """InputError if a dimension of `shape` cannot be split evenly over the mesh axes that `spec` gives it."""
  for size, axes in zip(shape, spec, strict=True):
    axes = () if axes is None else (axes,) if isinstance(axes, str) else axes
    parts = math.prod(mesh.shape[a] for a in axes)
    if size % parts:
      raise InputError(f"mesh.{'*'.join(axes)}", f"{parts} devices cannot share {name} with shape {shape}",
                       f"Choose a size that divides {size}.")


def batch_sharding(mesh: Mesh, ndim: int, axis: int = 0, over: tuple[str, ...] = BATCH) -> NamedSharding:
  """Dimension `axis` split over the mesh axes `over`, all others whole."""
  spec = [None] * ndim
  spec[axis] = over
  return NamedSharding(mesh, P(*spec))


def put_batch(mesh: Mesh, tree, axis: int = 0, over: tuple[str, ...] = BATCH):
  """Host arrays -> global arrays with dimension `axis` split over the mesh axes `over`."""
  def put(x):
    x = np.asarray(x)
    return jax.device_put(x, batch_sharding(mesh, x.ndim, axis, over))
  return jax.tree.map(put, tree)


def batch_parts(mesh: Mesh, over: tuple[str, ...] = BATCH) -> int:
  """Number of pieces that a batch is split into; over=DATA: the sequences of a rollout."""
  return math.prod(mesh.shape[a] for a in over)
