"""`r1jax explain` as a user types it."""
import json
from pathlib import Path

import pytest

from r1jax.launch import main

ROOT = Path(__file__).parents[2]


def run(capsys, name, *arguments, status=0):
  assert main(["explain", str(ROOT / "experiments" / f"{name}.py"), *arguments]) == status
  return capsys.readouterr()


def test_text_and_json_say_the_same(capsys):
  text = run(capsys, "r1_zero_tiny").out
  said = json.loads(run(capsys, "r1_zero_tiny", "--json").out)
  assert [stage["name"] for stage in said["stages"]] == ["base", "r1_zero", "evaluation"]
  zero = said["stages"][1]
  assert zero["starts_from"] == "stage base" and zero["geometry"]["responses of a rollout"] == 128
  assert zero["changes"][0] == {"field": "max_length", "step": 60, "acts_at": 60, "before": 34, "after": 68}
  assert {field["source"] for field in zero["fields"]} == {"paper", "ours"}
  for shown in ("max_length", "34 -> 68 from update 60 on", "staleness", "the paper's 32, halved for two cores", "[N]",
                "responses of a rollout", "FLOPs, update, per update, at most"):
    assert shown in text
  for field in zero["fields"]:
    assert field["path"].split(".", 2)[2] in text


def test_short_leaves_the_fields_out(capsys):
  text = run(capsys, "r1_tiny", "--short").out
  assert "staleness" in text and "set in" not in text


def test_weights_need_not_be_named_to_explain(capsys):
  text = run(capsys, "r1_zero_qwen2p5_32b", "--short").out
  assert "--set weights=DIR" in text and "0 to 15" in text


@pytest.mark.parametrize(("setting", "says"), [
  ("stages.r1_zero.group_size=1", "It must be at least 2"), ("stages.r1_zero.nothing=1", "has no field 'nothing'"),
  ("stages.r1_zero.max_length={0: 500}", "max_position"), ("stages.r1_zero.decoding.slots=0", "slots")])
def test_what_cannot_work_is_refused(capsys, setting, says):
  found = run(capsys, "r1_zero_tiny", "--set", setting, status=2)
  assert says in found.err and not found.out
