"""Every declared experiment forms its mesh on the slice that it names, as libtpu describes it."""
import json
import math

import pytest
from all_experiments import ENTRIES, label
from slices import DECLARED, needs_libtpu, with_libtpu

from r1jax.errors import InputError
from r1jax.experiment_file import load_experiment
from r1jax.plan.topology import slice_of
from r1jax.sharding import MeshShape

FORM = """
import json, sys
from all_experiments import entry_of
from r1jax.errors import InputError
from r1jax.experiment_file import load_experiment
from r1jax.plan.topology import devices_of, slice_of
from r1jax.sharding import MeshShape, make_mesh
made = {}
for name, topology in json.loads(sys.argv[1]).items():
  mesh = make_mesh(load_experiment(entry_of(name)).mesh, devices_of(slice_of(topology)))
  made[name] = [dict(mesh.shape), len({d.id for d in mesh.devices.flat})]
for topology in ("v5p:3x5x7", "v6e:2x4"):
  try:
    make_mesh(MeshShape(fsdp=3), devices_of(slice_of(topology)))
  except InputError as error:
    made[topology] = str(error)
print(json.dumps(made))
"""


@needs_libtpu
def test_every_declared_mesh_forms_on_its_slice():
  made = json.loads(with_libtpu("-c", FORM, json.dumps(DECLARED)).splitlines()[-1])
  assert "--topology" in made.pop("v5p:3x5x7"), "a slice that does not exist"
  assert "fsdp 3 x sequence 1 x tensor 1" in made.pop("v6e:2x4"), "axes that do not multiply to the slice"
  assert made.keys() == DECLARED.keys()
  for name, (shape, devices) in made.items():
    assert devices == slice_of(DECLARED[name]).chips, name
    assert math.prod(shape.values()) == devices


def test_every_declared_slice_is_tried():
  declared = {label(entry) for entry in ENTRIES if load_experiment(entry).mesh != MeshShape()}
  assert declared == DECLARED.keys()


@pytest.mark.parametrize("name", ["v5p", "v5p:4x4", "v5litepod:2x4", "v5e:2x4x4", "v6e:0x4", "v5p-128", "v6e:2xtwo"])
def test_a_slice_of_another_form_is_refused(name):
  with pytest.raises(InputError, match="v5p:AxBxC"):
    slice_of(name)
