"""`r1jax bench rollout|update|step`: the fields it writes, the work it counts, and what it refuses before any compile."""
import dataclasses
import gzip
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from r1jax import bench
from r1jax.launch import main
from r1jax.models.config import MoE
from r1jax.models.flops import flops, matmul_params
from r1jax.models.huggingface import config_from_folder

TINY = str(Path(__file__).parent / "models" / "reference" / "qwen2_tied")  # 80 ids, max_position 128; no tokenizer
ZERO = str(Path(__file__).parent.parent / "experiments" / "r1_zero_tiny.py")
SIZES = ("--prompts", "2", "--group", "3", "--prompt_len", "5", "--completion_len", "7")
OF_A_PHASE = {"wall_seconds", "cpu_seconds", "useful_tokens", "useful_tokens_per_second", "flops", "flops_per_second",
              "share_of_matmul"}


@pytest.fixture(autouse=True)
def small_matmul(monkeypatch):
  monkeypatch.setattr(bench, "MATMUL", 128)


def run(capsys, *arguments):
  status = main(["bench", *arguments])
  out, err = capsys.readouterr()
  return status, out, err


def test_a_step_has_all_fields(tmp_path, capsys):
  file = tmp_path / "step.json"
  status, out, err = run(capsys, "step", "--model", TINY, *SIZES, "--steps", "2", "--json", str(file),
                         "--set", "decoding.slots=8", "--set", "compute.remat=dots", "--set", "microbatch_tokens=24")
  found = json.loads(out)
  assert status == 0 and json.loads(file.read_text()) == found and list(tmp_path.iterdir()) == [file]
  assert list(found["phases"]) == ["rollout", "reference", "update", "step"]
  for name, phase in found["phases"].items():
    assert phase.keys() - {"slot_tokens", "slot_tokens_per_second"} == OF_A_PHASE and name in err
    assert 0 < phase["wall_seconds"]["min"] <= phase["wall_seconds"]["median"] <= phase["wall_seconds"]["max"]
    assert phase["cpu_seconds"]["min"] > 0 and phase["share_of_matmul"] > 0
  useful = {name: phase["useful_tokens"] for name, phase in found["phases"].items()}
  assert useful["rollout"] == useful["step"] == {"median": 42, "min": 42, "max": 42}  # 2 x 3 x 7
  assert useful["reference"]["median"] == useful["update"]["median"] == 72
  slots = found["phases"]["update"]["slot_tokens"]["median"]
  assert slots >= 72 and slots % 12 == 0 and found["padding"]["median"] == pytest.approx(1 - 72 / slots)
  assert found["occupancy"]["median"] == pytest.approx(42 / found["phases"]["rollout"]["slot_tokens"]["median"], rel=1e-5)
  assert found["preempted"]["max"] == 0 and 0 <= found["others_share"]["median"] <= 1
  assert found["first_step_seconds"] > found["compile_seconds_in_timed_steps"] >= 0
  assert found["process_to_first_step_seconds"] > found["first_step_seconds"] > 0
  assert found["compile_seconds"] > 0 and found["matmul_flops_per_second"] > 0 and found["peak_memory_mib"] > 50
  assert found["xla_temporaries_mib"] is None
  settings = found["settings"]
  assert (settings["decoding"]["slots"], settings["compute"]["remat"], settings["parameters"]) == (8, "dots", 18_208)
  assert settings["stage"]["microbatch_tokens"] == 24 and settings["versions"]["jax"] == jax.__version__


def test_stop_ids_end_responses_that_are_sampled(capsys):
  found = json.loads(run(capsys, "rollout", "--model", TINY, *SIZES[:-1], "20", "--steps", "1", "--memory", "--stop_ids",
                         "3-9,11,60-79", "--set", "decoding.slots=8")[1])
  assert list(found["phases"]) == ["rollout", "step"] and "padding" not in found and found["stop_ids"] == 28
  assert 6 <= found["phases"]["rollout"]["useful_tokens"]["median"] < 6 * 20
  assert found["xla_temporaries_mib"].keys() == {"prefill", "decode"} and min(found["xla_temporaries_mib"].values()) > 0


def test_a_trace_has_the_operations_of_one_more_step(tmp_path, capsys):
  folder = tmp_path / "new" / "trace"
  status, out, _ = run(capsys, "rollout", "--model", TINY, *SIZES, "--steps", "1", "--trace", str(folder))
  file, = folder.glob("**/*.trace.json.gz")
  events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
  of_decoding = {e["args"]["hlo_op"] for e in events if e.get("args", {}).get("hlo_module") == "jit_decode_segment"}
  assert status == 0 and json.loads(out)["steps"] == 1 and len(of_decoding) > 10


def test_an_update_of_a_stage_has_its_own_geometry(capsys):
  found = json.loads(run(capsys, "update", "--experiment", ZERO, "--smoke", "--stage", "r1_zero", "--steps", "1",
                         "--stop_ids", "1-9", "--set", "minibatches=2", "--set", "questions_per_step=2",
                         "--set", "compute.remat=dots")[1])
  assert [found[k] for k in ("prompts", "group", "minibatches", "prompt_len", "completion_len")] == [2, 2, 2, 11, 23]
  assert list(found["phases"]) == ["reference", "old", "update", "step"] and "occupancy" not in found
  assert 8 <= found["phases"]["step"]["useful_tokens"]["median"] < 2 * 2 * 2 * 23
  assert 0 < found["padding"]["median"] < 1
  assert found["settings"]["weights"] == "random" and found["settings"]["compute"]["remat"] == "dots"


def test_flops_are_those_of_the_comparison_with_other_trainers():
  """tools/peers/workload.py counts them for its model of 24 million matmul parameters."""
  model = dataclasses.replace(config_from_folder(TINY), vocab_size=4_096, d_model=512, num_layers=8, num_heads=8,
                              head_dim=64, d_ff=1_536, tie_embeddings=False)
  assert matmul_params(model) == (24_117_248, 2_097_152)
  found = flops(model, 32, np.full(32, 128))  # W1: 4 prompts x 8 responses
  assert (found["rollout"], found["reference"], found["update"]) == (269_265_928_192, 270_893_318_144, 812_679_954_432)


def test_experts_count_as_far_as_a_token_takes_them():
  dense = dataclasses.replace(config_from_folder(TINY), num_layers=2)
  mixed = dataclasses.replace(dense, moe=MoE(first_dense=1, experts=8, shared=1, top_k=2, d_ff=16))
  D, F = dense.d_model, dense.d_ff
  assert matmul_params(mixed)[0] == matmul_params(dense)[0] - 3 * D * F + 3 * D * 16 * (1 + 2) + D * 8


@pytest.mark.parametrize(("arguments", "said"), [
  (("--model", "/no/such/folder", *SIZES), "/no/such/folder"),
  (("--model", TINY, *SIZES[:-1], "0"), "--completion_len: 0"),
  (("--model", TINY, *SIZES[:-1], "124"), "max_position 128"),
  (("--model", TINY, *SIZES[:-2]), "needs --completion_len"),
  (("--model", TINY, *SIZES, "--stop_ids", "9-3"), "'9-3'"),
  (("--model", TINY, *SIZES, "--stop_ids", "a"), "--stop_ids: 'a'"),
  (("--model", TINY, *SIZES, "--stop_ids", "80"), "0 to 79"),
  (("--model", TINY, *SIZES, "--stop_ids", "1-79"), "Leave some"),
  (("--model", TINY, *SIZES, "--steps", "0"), "--steps: 0"),
  (("--model", TINY, *SIZES, "--set", "decoding.slot=4"), "Decoding has no field 'slot'"),
  (("--model", TINY, *SIZES, "--set", "compute.remat"), "no '='"),
  (("--model", TINY, *SIZES, "--set", "mesh.tensor=3"), "mesh"),
  (("--model", TINY, *SIZES, "--json", "/no/such/folder/file.json"), "--json"),
  (("--model", TINY, *SIZES, "--trace", __file__), "--trace"),
  (("--model", TINY, *SIZES, "--stage", "r1_zero"), "--stage"),
  ((), "neither"),
  (("--model", TINY, "--experiment", ZERO), "both"),
  (("--experiment", ZERO, "--stage", "r1_zero", "--prompts", "4"), "--prompts: given with --experiment"),
  (("--experiment", ZERO, "--stage", "base"), "GRPO stages of this experiment: r1_zero"),
  (("--experiment", ZERO), "--stage"),
  (("--experiment", ZERO, "--stage", "r1_zero", "--set", "group_size=1"), "group_size"),
])
def test_bad_input_is_one_error_before_any_compile(capsys, monkeypatch, arguments, said):
  monkeypatch.setattr(bench, "_Steps", None)
  status, out, err = run(capsys, "step", *arguments)
  assert status == 2 and out == "" and said in err and err.count("\n") == 1
