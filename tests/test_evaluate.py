"""r1jax evaluate from one end to the other: what decides a score and what does not, kills, refusals, and real files."""
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import pytest
from made_run import experiment_of, make_run
from tiny import one_device

from r1jax import evaluate
from r1jax.evaluation.benchmarks import BENCHMARKS
from r1jax.hub import load
from r1jax.launch import main
from r1jax.models.huggingface import export
from r1jax.sampling.choice import Sampling
from r1jax.sampling.sampler import Decoding
from r1jax.sharding import MeshShape, make_mesh

SMALL = experiment_of("small_run")
DATA, SMOLLM2 = os.environ.get("R1JAX_DATA"), os.environ.get("R1JAX_SMOLLM2")
SETTINGS = evaluate.Settings(sampling=Sampling(1.0), max_new=12, bare=True, decoding=Decoding(slots=8, segment=4))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run whose stage `base` has finished, and a file of questions in its words."""
  folder = tmp_path_factory.mktemp("evaluate")
  make_run(SMALL, folder / "small", finished=("base",))
  rows = [{"question": f"{a} + {b}", "answer": f"#### {a + b}"} for a in range(2, 6) for b in range(2, 5)]
  (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  return folder


def asked(run, samples=3, most=6):
  return [evaluate.ask(BENCHMARKS["gsm8k"], run / "sums.jsonl", samples, most, drop=False)]


def responses(out: Path) -> dict:
  (file,) = out.glob("*/gsm8k.responses.jsonl")
  rows = [json.loads(line) for line in file.read_text().split("\n")[1:] if line]
  return {(row["id"], row["sample"]): row["text"] for row in rows}


def metrics(found):
  return found["gsm8k"]["metrics"]


@pytest.fixture(scope="module")
def plain(run):
  """(metrics, responses) of the small run on one device."""
  found = evaluate.evaluate(load(run / "small", mesh=one_device()), asked(run), SETTINGS, run / "plain")
  return metrics(found), responses(run / "plain")


@pytest.mark.parametrize("change", ["slots", "segment", "mesh", "fewer questions"])
def test_a_score_depends_on_neither_slots_nor_mesh_nor_the_other_questions(run, plain, change, tmp_path):
  mesh = make_mesh(MeshShape(fsdp=4, tensor=1), jax.devices()[:4]) if change == "mesh" else one_device()
  decoding = {"slots": Decoding(slots=3, segment=4), "segment": Decoding(slots=8, segment=7)}.get(change, SETTINGS.decoding)
  most = 4 if change == "fewer questions" else 6
  model, settings = load(run / "small", mesh=mesh), replace(SETTINGS, decoding=decoding)
  found = evaluate.evaluate(model, asked(run, most=most), settings, tmp_path)
  assert responses(tmp_path) == {key: text for key, text in plain[1].items() if int(key[0].rpartition(":")[2]) <= most}
  if most == 6:
    assert metrics(found) == plain[0]


def test_what_a_kill_left_is_not_sampled_again_and_the_score_is_the_same(run, plain, tmp_path, monkeypatch):
  model = load(run / "small", mesh=one_device())
  evaluate.evaluate(model, asked(run), SETTINGS, tmp_path)
  (file,) = tmp_path.glob("*/gsm8k.responses.jsonl")
  file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:8])[:-5])  # 6 whole responses and a torn one
  sampled = []
  original = evaluate._sample
  monkeypatch.setattr(evaluate, "_sample", lambda model, benchmark, requests, *rest: sampled.extend(requests) or original(
    model, benchmark, requests, *rest))
  found = evaluate.evaluate(model, asked(run), SETTINGS, tmp_path)
  assert len(sampled) == 18 - 6 and responses(tmp_path) == plain[1] and metrics(found) == plain[0]
  sampled.clear()
  evaluate.evaluate(model, asked(run, samples=4), SETTINGS, tmp_path)  # one more sample of each
  assert {request.sample for request in sampled} == {3} and len(sampled) == 6


def test_results_say_what_was_measured(run, plain):
  (file,) = (run / "plain").glob("*/results.json")
  found = json.loads(file.read_text())["gsm8k"]
  assert (found["questions"], found["questions_in_file"], found["samples"], found["left_out"]) == (6, 12, 3, 0)
  assert {"pass_at_1", "pass_at_2", "pass_at_3", "cons_at_3", "truncated", "unparsable", "verifier_failures",
          "contaminated", "length"} <= found["metrics"].keys()
  assert found["contamination"]["not_searched"] == ["Corpus"] and len(found["outcomes"]) == 18
  wrong = [status for *_, right, status in found["outcomes"] if status == "truncated"]
  assert found["metrics"]["truncated"] == pytest.approx(len(wrong) / 18)


def test_lm_evals_form_has_the_same_numbers(run, plain):
  (file,) = (run / "plain").glob("*/lm_eval.json")
  found = json.loads(file.read_text())
  assert found["results"]["gsm8k"]["exact_match,none"] == plain[0]["pass_at_1"]
  width = plain[0]["pass_at_1_high"] - plain[0]["pass_at_1_low"]
  assert found["results"]["gsm8k"]["exact_match_stderr,none"] == pytest.approx(width / 3.92, rel=1e-4)
  assert found["n-samples"] == {"gsm8k": {"original": 12, "effective": 6}}
  assert found["higher_is_better"]["gsm8k"]["exact_match"] and not found["higher_is_better"]["gsm8k"]["truncated"]


def test_one_table_of_several_models(run, tmp_path, capsys):
  hub = tmp_path / "hub"
  model = load(run / "small", mesh=one_device())
  export(model.params, SMALL.model, hub, model.tokenizer)
  arguments = ["evaluate", str(run / "small"), str(hub), "--benchmark", f"gsm8k={run / 'sums.jsonl'}", "--samples", "2",
               "--questions", "2", "--max_new", "6", "--bare", "--slots", "8", "--out", str(tmp_path / "out")]
  assert main(arguments) == 0
  table = (tmp_path / "out" / "table.md").read_text()
  assert table.startswith(f"| | {run / 'small'} | {hub} |\n") and "| gsm8k/pass_at_1 | " in table
  assert table in capsys.readouterr().out
  assert main([*arguments, "--temperature", "1"]) == 2
  assert "temperature: 0.6 -> 1.0" in capsys.readouterr().err


@pytest.mark.parametrize(("change", "said"), [
  (["--benchmark", "mmlu"], "Known benchmarks"), (["--benchmark", "aime"], "no file for it"),
  (["--samples", "0"], "--samples: 0"), (["--benchmark", "gsm8k=nothing.jsonl"], "no such file"),
  (["--benchmark", "arena_hard=ARENA"], "--judge: not given"), (["--judge", "http://x/v1"], "--judge_model"),
  (["--training", "nothing.jsonl"], "--training nothing.jsonl"), (["--temperature", "-1"], "temperature"),
])
def test_bad_arguments_are_refused_before_a_model_is_loaded(run, change, said, capsys, monkeypatch):
  (run / "arena.jsonl").write_text('{"uid": "u", "prompt": "p"}\n')
  monkeypatch.setattr("r1jax.hub.load", None)
  change = [part.replace("ARENA", str(run / "arena.jsonl")) for part in change]
  benchmark = [] if "--benchmark" in change else ["--benchmark", f"gsm8k={run / 'sums.jsonl'}"]
  assert main(["evaluate", str(run / "small"), *benchmark, *change, "--out", str(run / "refused")]) == 2
  assert said in capsys.readouterr().err and not (run / "refused").exists()


def test_a_prompt_longer_than_the_context_is_refused_by_its_question(run, tmp_path, capsys):
  (tmp_path / "long.jsonl").write_text(json.dumps({"question": "1 + " * 40 + "1", "answer": "#### 41"}) + "\n")
  assert main(["evaluate", str(run / "small"), "--benchmark", f"gsm8k={tmp_path / 'long.jsonl'}", "--bare", "--out",
               str(tmp_path / "out")]) == 2
  error = capsys.readouterr().err
  assert "long.jsonl:1: its prompt has 81 tokens, and the context of" in error and "ends at 64" in error


REAL = ("gsm8k", "math500", "cmath", "mmlu_stem", "aqua", "humaneval", "mbpp", "ifeval", "arena_hard")


class Judge:
  """Prefers the first answer, whatever it is."""

  def connect(self, folder):
    import contextlib

    return contextlib.nullcontext(lambda comparisons: [1.0] * len(comparisons))


@pytest.mark.slow
@pytest.mark.skipif(not (DATA and SMOLLM2), reason="R1JAX_DATA and R1JAX_SMOLLM2 are not set")
def test_every_real_file_is_evaluated_on_smollm2(tmp_path):
  from r1jax.evaluation.benchmarks import named

  names = [name for name in REAL if BENCHMARKS[name].kind != "code" or shutil.which("bwrap")]
  baseline = tmp_path / "baseline.jsonl"
  rows = (Path(DATA) / "arena_hard_v0.1/question.jsonl").read_text(encoding="utf-8").split("\n")
  baseline.write_text("".join(json.dumps({"uid": json.loads(row)["uid"], "answer": "so"}) + "\n" for row in rows if row))
  settings = evaluate.Settings(max_new=48, decoding=Decoding(slots=4), judge=Judge(), baseline=str(baseline))
  benchmarks = [evaluate.ask(*named(name, DATA), 2, 2, drop=False) for name in names]
  evaluate.check(benchmarks, settings)
  found = evaluate.evaluate(load(SMOLLM2, mesh=one_device()), benchmarks, settings, tmp_path)
  assert list(found) == names
  for name, result in found.items():
    assert result["questions"] == 2 and len(responses_of(tmp_path, name)) == 4
    assert 0 <= result["metrics"].get("pass_at_1", result["metrics"].get("win_rate")) <= 1


def responses_of(out: Path, name: str) -> list:
  (file,) = out.glob(f"*/{name}.responses.jsonl")
  return file.read_text(encoding="utf-8").split("\n")[1:-1]
