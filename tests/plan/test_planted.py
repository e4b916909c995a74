"""Programs with a fault each, through the compiler: every fault is reported, and its sound neighbour is not."""
import json
from pathlib import Path

import pytest
from slices import needs_libtpu, with_libtpu

from r1jax.plan.compile import FITS, TOO_LARGE, judge, total_bytes
from r1jax.plan.report import by_cause, completed, findings
from r1jax.plan.topology import GIB, slice_of

pytestmark = needs_libtpu
SLICE = slice_of("v5e:2x2")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
  folder = tmp_path_factory.mktemp("planted")
  found = json.loads(with_libtpu(str(Path(__file__).parent / "planted.py"), str(folder)).splitlines()[-1])
  assert len(list(folder.iterdir())) == len(found), "each is kept"
  return {name: completed(said, SLICE) for name, said in found.items()}


def reported(said):
  return " ".join(findings({"programs": [said]}))


@pytest.mark.parametrize(("fault", "sound", "words"), [
  ("gathers weights", "gathers none", "gathers weights inside the decode loop"),
  ("copies the cache", "copies none", "copies the cache"),
  ("full logits", "chunked logits", "logits of all positions at once"),
  ("all scores", "chunked logits", "attention scores of all pairs at once"),
])
def test_a_fault_is_reported_and_its_sound_neighbour_is_not(planted, fault, sound, words):
  assert words in reported(planted[fault]) and reported(planted[sound]) == ""


def test_what_is_gathered_is_counted_to_the_byte(planted):
  gathered = sum(c["bytes"] * c["times"] for c in planted["gathers weights"]["weight_gathers"])
  assert gathered == 8 * 16 * 2 * 2_048**2  # matrices, steps, bfloat16
  assert planted["gathers weights"]["collective_bytes"] == {"all-gather in loops": gathered}
  assert planted["gathers none"]["collective_bytes"] == {}
  # Weights are read in every step, but for the few that the faster memory holds.
  assert 0.6 * gathered < planted["gathers none"]["traffic"]["loops"] < 1.01 * gathered
  assert planted["copies the cache"]["copied_cache"] == 64 * 4_096 * 512 * 2 // 4


def test_flops_are_those_of_a_count_by_hand(planted):
  for name in ("gathers weights", "gathers none"):
    assert planted[name]["flops"] == 8 * 16 * 2 * 16 * 2_048**2
  assert planted["full logits"]["flops"] == 2 * 8 * 1_024 * 128 * 2_048


def test_memory_by_cause_adds_up_to_the_compilers_total(planted):
  for said in planted.values():
    if "memory" in said:
      assert sum(by_cause(said).values()) == pytest.approx(total_bytes(said), rel=1e-9)
      assert said["bytes"].get("layout", 0) <= max(0.03 * total_bytes(said), 100_000)


def test_what_does_not_fit_says_by_how_much(planted):
  outcome, why = judge(planted["too large"], SLICE.limit)
  assert outcome == TOO_LARGE and why == "needs 24.00 of 15.75 GiB"
  sound = planted["copies none"]
  assert judge(sound, SLICE.limit)[0] == FITS
  crowded = sound | {"resident": {"optimizer": int(15.9 * GIB)}}
  assert judge(crowded, SLICE.limit) == (TOO_LARGE, "needs 15.96 of 15.75 GiB"), "what is held beside it counts"
