"""programs() of every kind of stage: every program, what its arguments are for, and what is held beside it."""
import dataclasses
import sys
from pathlib import Path

import jax
import pytest
from tiny import eight_devices, one_device

from r1jax.config import Schedule
from r1jax.models.params import count_params
from r1jax.plan.programs import programs
from r1jax.plan.record import CAUSES, bytes_of
from r1jax.stages.grpo import GRPO

sys.path.insert(0, str(Path(__file__).parents[1] / "stages"))
from small_pipeline import experiment as small

SAMPLER = {"rollout_weights", "prefill", "admit", "decode"}
UPDATE = {"init_optimizer", "zeros", "accumulate", "apply"}


def by_name(name, experiment=small, mesh=None):
  stage = experiment.stage(name)
  return {(p.name, p.length): p for p in programs(stage, experiment, mesh or one_device())}


@pytest.fixture(scope="module")
def all_programs():
  mesh = one_device()
  return [(stage, p) for stage in small.stages for p in programs(stage, small, mesh)]


def test_every_argument_has_a_cause_and_causes_add_up(all_programs):
  for _, program in all_programs:
    found = program.argument_bytes()
    assert found.keys() <= set(CAUSES) and program.call.makes in CAUSES, program
    assert sum(found.values()) == bytes_of(program.call.args), program
    assert program.resident_bytes().keys() <= set(CAUSES), program


def test_shapes_are_built_when_they_are_asked_for(monkeypatch):
  from r1jax.plan import sampler
  monkeypatch.setattr(sampler.Sampled, "weights", lambda self: pytest.fail("built too early"))
  assert len(by_name("r1_zero")) > 8


def test_a_stage_of_rl_holds_its_state_beside_a_rollout_and_its_models_beside_an_update(all_programs):
  stage, found = small.stage("rl_2"), by_name("rl_2")
  each = 4 * count_params(small.model_of(stage))
  length = int(max(stage.max_length.values()))
  decode, update = found["decode", length], found["accumulate", length]
  assert decode.resident_bytes()["parameters"] == decode.resident_bytes()["reference"] == each
  assert decode.resident_bytes()["optimizer"] == pytest.approx(2 * each, rel=0.01)
  assert update.argument_bytes()["parameters"] == update.argument_bytes()["gradients"] == each
  assert update.resident_bytes()["reward models"] == pytest.approx(len(stage.general.models) * each, rel=0.05)
  assert "rollout weights" not in update.resident_bytes()
  copied = found["copy_reference", min(int(n) for n in stage.max_length.values())]
  assert copied.call.makes == "reference" and copied.resident_bytes()["reference"] == each, "the old one and the new one"
  assert {f"score_{m.kind}" for m in stage.general.models} <= {name for name, _ in found}


def test_every_length_of_a_schedule_has_programs_of_its_own():
  stage = next(s for s in small.stages if isinstance(s, GRPO))
  base = int(max(stage.max_length.values()))
  other = dataclasses.replace(stage, max_length=Schedule({0: base - 8, 1: base}))
  changed = dataclasses.replace(small, stages=tuple(other if s is stage else s for s in small.stages))
  found = by_name(stage.name, changed)
  for name in ("decode", "reference_logprobs", "accumulate"):
    assert {length for n, length in found if n == name} == {base - 8, base}
  assert len({length for n, length in found if n == "apply"}) == 1, "what has no rows is the same at every length"


@pytest.mark.parametrize(("name", "expected"), [
  ("pairs", SAMPLER), ("helpful", UPDATE | {"score"}), ("student", UPDATE | {"teacher_logprobs"}),
])
def test_the_kinds_of_stages_have_their_programs(name, expected):
  assert {n for n, _ in by_name(name)} >= expected


def test_devices_share_what_is_split():
  mesh = eight_devices()
  place = jax.NamedSharding(mesh, jax.P(("replica", "fsdp"), "tensor"))
  x = jax.ShapeDtypeStruct((8, 4), jax.numpy.bfloat16, sharding=place)
  assert bytes_of({"a": x, "b": jax.ShapeDtypeStruct((3,), jax.numpy.float32)}) == 2 * 2 * 2 + 12


def test_a_cache_is_there_once_and_one_layer_twice_while_it_changes():
  stage = small.stage("r1_zero")
  stage = dataclasses.replace(stage, max_length=Schedule({0: 900}), decoding=dataclasses.replace(stage.decoding, slots=6))
  model = dataclasses.replace(small.model, num_layers=4)
  found = by_name("r1_zero", dataclasses.replace(small, stages=(stage,), model=model))

  def cache(name):
    program = found[name, 900]
    return program.argument_bytes()["cache"] + program.resident_bytes()["cache"]
  whole = found["admit", 900].argument_bytes()["cache"]  # with a store of prompts
  layer = bytes_of(found["halve_layer", 900].call.args[0])
  assert cache("lengthen_layer") < whole, "the last layer is still short; its successor is what the program makes"
  assert cache("lengthen_layer") > whole - layer
  assert cache("halve_layer") == 4 * layer
