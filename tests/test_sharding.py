"""The mesh, the rules from logical axes to mesh axes, and host arrays in their shards."""

import dataclasses
import subprocess
import sys
from platform import libc_ver

import jax
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from tiny import EVERYTHING, FAMILIES

from r1jax.errors import InputError
from r1jax.models.params import is_weight, weight_table
from r1jax.sharding import (
  BATCH,
  MESH_AXES,
  ROLLOUT_RULES,
  TRAIN_RULES,
  MeshShape,
  batch_parts,
  batch_sharding,
  check_divisible,
  make_mesh,
  partition_spec,
  put_batch,
)


def mesh_of(**shape):
  return make_mesh(MeshShape(**shape), jax.devices()[:8])


# Shapes


@pytest.mark.parametrize(("shape", "devices", "sizes"), [
  ({}, 1, (1, 1, 1, 1, 1)),
  ({}, 8, (1, 8, 1, 1, 1)),
  ({"tensor": 2}, 8, (1, 4, 1, 2, 1)),
  ({"replica": 2, "tensor": 2, "expert": 2}, 8, (2, 1, 1, 2, 2)),
  ({"replica": 4, "fsdp": 2}, 8, (4, 2, 1, 1, 1)),
  ({"tensor": 8}, 512, (1, 64, 1, 8, 1)),
  ({"sequence": 4, "tensor": 2}, 64, (1, 8, 4, 2, 1)),
])
def test_fsdp_takes_what_the_other_axes_leave(shape, devices, sizes):
  assert MeshShape(**shape).resolve(devices) == sizes


@pytest.mark.parametrize(("shape", "devices", "said"), [
  ({"tensor": 3}, 8, "tensor 3 x expert 1 = 6 devices, but there are 8"),
  ({"fsdp": 4}, 8, "fsdp 4 x sequence 1 x tensor 1 x expert 1 = 4 devices, but there are 8"),
  ({"replica": 16}, 8, "replica 16 x fsdp 1 .* = 16 devices, but there are 8"),
  ({"tensor": 0}, 8, r"mesh\.tensor: 0\. It must be at least 1"),
  ({"tensor": -1}, 8, r"mesh\.tensor: -1\. It must be at least 1"),
  ({"fsdp": 0}, 8, r"mesh\.fsdp: 0\. It must be at least 1 \(fsdp may be -1"),
  ({"fsdp": -2}, 8, r"mesh\.fsdp: -2"),
])
def test_a_shape_that_the_devices_cannot_take_is_refused(shape, devices, said):
  with pytest.raises(InputError, match=said):
    MeshShape(**shape).resolve(devices)


def test_all_axes_are_there_and_explicit():
  mesh = mesh_of(replica=2, tensor=2)
  assert mesh.axis_names == MESH_AXES == tuple(f.name for f in dataclasses.fields(MeshShape))
  assert dict(mesh.shape) == {"replica": 2, "fsdp": 2, "sequence": 1, "tensor": 2, "expert": 1}
  assert set(mesh.axis_types) == {AxisType.Explicit}
  assert set(mesh.devices.flat) == set(jax.devices()[:8])
  assert make_mesh(MeshShape()).size == len(jax.devices())


# Rules


@pytest.mark.parametrize("rules", [TRAIN_RULES, ROLLOUT_RULES], ids=["training", "rollouts"])
@pytest.mark.parametrize("config", [*FAMILIES.values(), EVERYTHING], ids=[*FAMILIES, "everything"])
def test_every_weight_has_a_rule_for_each_axis_and_uses_a_mesh_axis_once(config, rules):
  for weight in jax.tree.leaves(weight_table(config), is_leaf=is_weight):
    used = [axis for axis in partition_spec(weight.axes, rules) if axis is not None]
    assert len(partition_spec(weight.axes, rules)) == len(weight.shape)
    assert len(used) == len(set(used)) and set(used) <= set(MESH_AXES)


def test_training_splits_weights_over_fsdp_and_rollouts_do_not():
  axes = ("layers", "embed", "q_heads", "head_dim")
  assert partition_spec(axes, TRAIN_RULES) == P(None, "fsdp", "tensor", None)
  assert partition_spec(axes, ROLLOUT_RULES) == P(None, None, "tensor", None)
  assert "fsdp" in TRAIN_RULES.values() and "fsdp" not in ROLLOUT_RULES.values()


def test_a_weight_that_cannot_be_shared_evenly_is_refused():
  mesh = mesh_of(replica=2, tensor=2)
  check_divisible("w", (6, 4), P("tensor", BATCH), mesh)
  check_divisible("w", (7, 4), P(None, "fsdp"), mesh)
  with pytest.raises(InputError, match=r"mesh\.tensor: 2 devices cannot share w with shape \(7, 4\).*divides 7"):
    check_divisible("w", (7, 4), P("tensor", None), mesh)
  with pytest.raises(InputError, match=r"mesh\.replica\*fsdp: 4 devices cannot share w with shape \(8, 6\).*divides 6"):
    check_divisible("w", (8, 6), P(None, BATCH), mesh)


# Arrays


def rows_on(array, device):
  (shard,) = [s for s in array.addressable_shards if s.device == device]
  return np.asarray(shard.data)


def test_a_batch_is_split_over_replica_then_fsdp_and_copied_over_tensor():
  mesh = mesh_of(replica=2, tensor=2)
  host = np.arange(8 * 3, dtype=np.int32).reshape(8, 3)
  array = put_batch(mesh, host)
  np.testing.assert_array_equal(array, host)
  assert array.sharding == batch_sharding(mesh, 2) and array.sharding.spec == P(BATCH, None)
  for (replica, fsdp, *_), device in np.ndenumerate(mesh.devices):
    piece = 2 * replica + fsdp
    np.testing.assert_array_equal(rows_on(array, device), host[2 * piece:2 * piece + 2])


def test_a_batch_of_microbatches_is_split_along_its_second_axis():
  mesh = mesh_of()
  tree = {"tokens": np.arange(2 * 8 * 3).reshape(2, 8, 3).astype(np.int32), "weights": [np.ones((4, 16), np.float32)],
          "absent": None}
  arrays = put_batch(mesh, tree, axis=1)
  assert jax.tree.structure(arrays) == jax.tree.structure(tree)
  for array, host in zip(jax.tree.leaves(arrays), jax.tree.leaves(tree), strict=True):
    np.testing.assert_array_equal(array, host)
    assert array.dtype == host.dtype and array.sharding.spec[1] == BATCH
    for i, device in enumerate(mesh.devices.flat):
      wide = host.shape[1] // 8
      np.testing.assert_array_equal(rows_on(array, device), host[:, i * wide:(i + 1) * wide])


@pytest.mark.parametrize(("shape", "parts"), [
  ({}, 8), ({"tensor": 2}, 4), ({"replica": 2, "tensor": 2}, 4), ({"tensor": 8}, 1)])
def test_a_batch_has_as_many_parts_as_there_are_data_parallel_devices(shape, parts):
  mesh = mesh_of(**shape)
  assert batch_parts(mesh) == parts
  array = put_batch(mesh, np.zeros((8, 2), np.float32))
  assert array.sharding.shard_shape(array.shape) == (8 // parts, 2)


# Memory of a CPU

UPDATES = """
import contextlib, resource
import jax, jax.numpy as jnp
from r1jax.sharding import MeshShape, make_mesh, reused_memory

def new_pages(block):
  before, y = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, x
  with block():
    for _ in range(5):
      y = product(y)
  y.block_until_ready()
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with jax.set_mesh(make_mesh(MeshShape())):
  x = jnp.ones((3_000, 8))
  product = jax.jit(lambda x: jnp.sin(x @ x.T) @ x / 1e4)  # 36 MB in between: 9,000 pages
  outside = new_pages(contextlib.nullcontext)
  new_pages(reused_memory)  # the first time they are new
  print(outside, new_pages(reused_memory))
"""


@pytest.mark.skipif(libc_ver()[0] != "glibc", reason="what glibc does with memory that is free")
def test_a_program_finds_the_memory_of_the_one_before_in_reused_memory():
  done = subprocess.run([sys.executable, "-c", UPDATES], capture_output=True, text=True, timeout=120)
  assert done.returncode == 0, done.stderr
  outside, within = map(int, done.stdout.split())
  assert outside > 40_000 and within < 1_000, done.stdout
