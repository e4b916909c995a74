"""R1's pipeline, every kind of stage: killed at any moment it ends bit for bit as one that was left alone; what it leaves
behind; what it takes over from another run; what it refuses."""
import dataclasses
import importlib
import json
import random
import signal
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from test_resume import arrays, finish, killed_at, lines, reached, start, timeless

from r1jax.curation.datasets import Rows, Units
from r1jax.curation.overlap import NGrams
from r1jax.data.prompts import load_questions
from r1jax.data.requests import requests
from r1jax.errors import InputError
from r1jax.plan.programs import programs
from r1jax.sharding import make_mesh
from r1jax.stages import runner
from r1jax.stages.context import DATA, REPORT
from r1jax.stages.curate import Others
from r1jax.stages.preferences import balanced
from r1jax.stages.runner import experiment_tokenizer, run_experiment

small = importlib.import_module("small_pipeline").experiment
POLICIES = [s.name for s in small.stages if s.kind not in (DATA, REPORT)]


def datasets(run_dir: Path) -> dict[str, str]:
  return {f.name: f.read_text(encoding="utf-8") for f in sorted((run_dir / "datasets").iterdir())}


class Killed(Exception):
  """What a kill is within one process."""


def whole_without(stage: str, run_dir: Path, folder: Path) -> Path:
  """A run like another one, in which a stage is not finished: its own summary, and links to the rest."""
  (folder / "cut").mkdir()
  for entry in run_dir.iterdir():
    if entry.name != "summary.json":
      (folder / "cut" / entry.name).symlink_to(entry)
  summary = json.loads((run_dir / "summary.json").read_text())
  del summary["stages"][stage], summary["checksum"]
  (folder / "cut" / "summary.json").write_text(json.dumps(summary))
  return folder / "cut"


def partial(stage: str, units: int):
  """Some units of a data set are done, not all."""
  def met(run_dir):
    file = run_dir / "datasets" / f"{stage}.partial.jsonl"
    return file.exists() and file.read_text(encoding="utf-8").count("\n") >= units
  return met


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  run_dir = tmp_path_factory.mktemp("whole") / "run"
  finish(run_dir, "small_pipeline.py")
  return run_dir


@pytest.fixture
def one_device(monkeypatch):
  """Runs in this process are on one device, as those in processes of their own."""
  monkeypatch.setattr(runner, "make_mesh", lambda shape: make_mesh(shape, jax.devices()[:1]))


MOMENTS = {
  "while rows are collected": partial("cold_start_data", 1),
  "while pairs are judged": partial("pairs", 3),
  "in the reward model": reached("helpful", 1),
  "among general questions": reached("rl_2", 5),
  "in distillation": reached("student", 1),
  "between measured policies": reached("evaluation", 1),
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory, whole):
  return killed_at(MOMENTS, tmp_path_factory.mktemp("killed") / "run", "small_pipeline.py")


@pytest.mark.slow
@pytest.mark.parametrize("stage", POLICIES)
def test_a_killed_pipeline_ends_with_the_same_arrays(whole, killed, stage):
  expected, found = arrays(whole, stage), arrays(killed, stage)
  assert expected.keys() == found.keys()
  for name, array in expected.items():
    assert np.array_equal(array, found[name]), name


@pytest.mark.slow
def test_a_killed_pipeline_makes_the_same_data_and_measures_the_same(whole, killed):
  assert datasets(whole) == datasets(killed)
  assert not any(name.endswith((".partial.jsonl", ".partial.json", ".tmp")) for name in datasets(killed))
  assert timeless(lines(whole)) == timeless(lines(killed))


@pytest.mark.slow
def test_five_kills_at_random_moments_change_nothing(whole, tmp_path):
  """Wherever the clock happens to strike: in a stage, between two, or while a process starts."""
  rng, kills, tries = random.Random(), 0, 0
  longest = 15 + json.loads((whole / "summary.json").read_text())["seconds"] / 8  # of a process's life, at random
  while kills < 5:
    run_dir = tmp_path / f"run{tries}"
    process = start(run_dir, "small_pipeline.py")
    status = process.wait(timeout=rng.uniform(0, longest))
    if status is None:
      process.send_signal(signal.SIGKILL)
      kills += process.wait() == -signal.SIGKILL
    else:
      assert status == 0, Path(f"{run_dir}.log").read_text()
      kills, tries, longest = 0, tries + 1, longest / 2  # it was done before the fifth: another run, killed sooner
  finish(run_dir, "small_pipeline.py")
  for stage in POLICIES:
    expected, found = arrays(whole, stage), arrays(run_dir, stage)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
      assert array.tobytes() == found[name].tobytes(), name
  assert datasets(whole) == datasets(run_dir)
  assert timeless(lines(whole)) == timeless(lines(run_dir))


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_unit_and_its_line_are_not_parted(whole, tmp_path, one_device, monkeypatch, before):
  """Killed right before or right after a unit of a data set is written down, a stage leaves the same log."""
  append, calls = Units.append, []

  def dies(self, *arguments):
    calls.append(0)
    if len(calls) == 2 and before:
      raise Killed
    append(self, *arguments)
    if len(calls) == 2:
      raise Killed

  experiment = dataclasses.replace(small, stages=small.stages[:3])
  with monkeypatch.context() as patch, pytest.raises(Killed):
    patch.setattr(Units, "append", dies)
    run_experiment(experiment, tmp_path / "run", reuse=whole_without("cold_start_data", whole, tmp_path))
  run_experiment(experiment, tmp_path / "run")
  def log(run_dir):
    return [line for line in timeless(lines(run_dir)) if line["stage"] == "cold_start_data"]
  assert log(tmp_path / "run") == log(whole) and len(log(whole)) == 3


def test_every_stage_leaves_what_it_says(whole):
  summary = json.loads((whole / "summary.json").read_text())
  assert summary["status"] == "finished"
  assert list(summary["stages"]) == [s.name for s in small.stages]
  after = summary["stages"]["evaluation"]["after"]
  assert set(after) == {"base", "rl_2", "student"}
  for metrics in after.values():
    for name in ("sums/pass_at_1", "sums/one_language", "helpful/helpfulness", "unsafe/violations"):
      assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"]
  helpful = summary["stages"]["helpful"]["after"]
  assert {"eval/pair_accuracy", "eval/preference_agreement", "eval/ece"} <= helpful.keys()
  assert "eval/auc" in summary["stages"]["safety"]["after"]
  assert "| sums/pass_at_1 |" in (whole / "evaluation.md").read_text()


def test_rows_say_where_they_come_from(whole):
  rows = [json.loads(line) for line in datasets(whole)["cold_start_data.jsonl"].splitlines()]
  assert rows
  for row in rows:
    assert row["provenance"]["policy"] == "r1_zero" and row["provenance"]["judged_by"] == "rule"
    assert ("sampled" in row["provenance"]) == ("refined_by" in row["provenance"])
  counts = json.loads(datasets(whole)["cold_start_data.json"])
  assert counts["count/responses"] == 24 * 4
  left_out = sum(v for k, v in counts.items() if k.startswith("count/") and k not in (
    "count/questions", "count/responses", "count/refined"))
  assert counts["rows"] + left_out == counts["count/responses"]
  mixed = [json.loads(line) for line in datasets(whole)["rejection.jsonl"].splitlines()]
  others = [row for row in mixed if "document" in row["provenance"]]
  assert len(others) == round((len(mixed) - len(others)) / 2)


def test_general_questions_come_at_their_step_and_are_scored_by_their_models(whole):
  rl_2 = [line for line in lines(whole) if line["stage"] == "rl_2" and "reward/mean" in line]
  early = [line for line in rl_2 if line["step"] <= 2]
  late = [line for line in rl_2 if line["step"] > 2]
  assert early and not any("reward/helpful" in line or "reward/safety" in line for line in early)
  assert late and any("reward/helpful" in line for line in late) and all("reward/accuracy" in line for line in late)
  for kind in ("helpful", "safety"):  # what the world knows is measured beside the model's score, and is no part of a reward
    assert all((f"true/{kind}" in line) == (f"reward/{kind}" in line) for line in rl_2)
    assert all(0 <= line[f"true/{kind}"] <= 1 for line in rl_2 if f"true/{kind}" in line)
  assert all(line["rollout/general"] == (0.5 if line in late else 0.0) for line in rl_2)
  parts = {name for sample in lines(whole, "samples") if sample["stage"] == "rl_2" for name in sample["parts"]}
  assert parts <= {"accuracy", "format", "language", "helpful", "safety"}


def test_accuracy_is_told_apart_by_level(whole):
  rl = [line for line in lines(whole) if line["stage"] == "r1_zero"]
  assert all(line["level/2"] == line["reward/accuracy"] for line in rl if "reward/accuracy" in line)  # chains of two only
  assert all(line["eval/pass_at_1/level_2"] == line["eval/pass_at_1"] for line in rl if "eval/pass_at_1" in line)
  assert {sample["level"] for sample in lines(whole, "samples") if sample["stage"] == "r1_zero"} == {"2"}


def test_finished_stages_are_taken_over_bit_for_bit(whole, tmp_path, one_device):
  cut = dataclasses.replace(small, name="cut", stages=small.stages[:4])
  summary = run_experiment(cut, tmp_path / "run", reuse=whole)
  assert all(s["taken_over_from"] == str(whole) for s in summary["stages"].values())
  for stage in ("base", "r1_zero", "cold_start"):
    for name, array in arrays(whole, stage).items():
      assert np.array_equal(array, arrays(tmp_path / "run", stage)[name]), name
  assert datasets(tmp_path / "run")["cold_start_data.jsonl"] == datasets(whole)["cold_start_data.jsonl"]


def test_a_stage_of_another_config_is_not_taken_over(whole, tmp_path, one_device):
  base, r1_zero, *_ = small.stages
  other = dataclasses.replace(small, stages=(base, dataclasses.replace(r1_zero, steps=2)))
  summary = run_experiment(other, tmp_path / "run", reuse=whole)
  assert "taken_over_from" in summary["stages"]["base"]
  assert "taken_over_from" not in summary["stages"]["r1_zero"]


def test_swapping_what_the_judge_is_shown_first_changes_no_label(whole):
  """The judge favours what comes first; four queries, swapped at random, even that out."""
  rows = [json.loads(line) for line in datasets(whole)["pairs.jsonl"].splitlines()]
  agreed = np.mean([row["preference_chosen"] >= row["preference_rejected"] for row in rows])
  assert len(rows) > 20 and agreed > 0.9


def test_which_answer_is_shown_as_a_changes_nothing():
  """A judge without a favourite place gives all four queries of a pair one verdict, whichever way they were swapped."""
  stage, (question,) = small.stage("pairs"), requests(seed=0, count=1)
  shown = set()

  def judge(comparisons):
    shown.update((c.a, c.b) for c in comparisons)
    return [float(np.sign(len(c.a) - len(c.b))) * 2 for c in comparisons]

  texts = [f"<think> a </think> <answer> {'w ' * n}</answer>" for n in (1, 2, 3, 4)]
  rollout = SimpleNamespace(responses=[SimpleNamespace(text=t, episode=SimpleNamespace(stopped=True)) for t in texts])
  rows, counts = dataclasses.replace(stage, pairs=6)._unit(judge, 0, [question], rollout)
  assert len(rows) == counts["pairs"] == 6 and counts["judge_changed_its_mind"] == 0
  assert any((b, a) in shown for a, b in shown), "both orders are asked"
  for row in rows:
    assert len(row["chosen"]) > len(row["rejected"]) and set(map(abs, row["verdicts"])) == {2.0}
    assert len(set(row["verdicts"])) == 1


def test_other_data_that_is_measured_on_is_left_out(whole, tmp_path, one_device):
  held_out = [q.text for q in load_questions(small.stage("rejection").draws.questions, "held_out", whole / "data")]
  fine = [{"question": f"say {i}", "response": "so"} for i in range(500)]
  dirty = [{"question": held_out[0], "response": "so"}, {"question": "say it", "response": held_out[1]}]
  file = tmp_path / "others.jsonl"
  file.write_text("".join(json.dumps(row) + "\n" for row in dirty + fine))
  curate = dataclasses.replace(small.stage("cold_start_data"), others=Others(Rows(path=str(file)), per_reasoning=(1, 1)))
  experiment = dataclasses.replace(small, stages=(*small.stages[:2], curate))
  run_experiment(experiment, tmp_path / "run", reuse=whole)
  rows = [json.loads(line) for line in datasets(tmp_path / "run")["cold_start_data.jsonl"].splitlines()]
  others = [row["provenance"]["other"] for row in rows if "other" in row["provenance"]]
  assert others == list(range(2, 2 + len(rows) // 2)) and len(others) * 2 == len(rows)
  file.write_text("".join(json.dumps(row) + "\n" for row in dirty))
  with pytest.raises(InputError, match="0 of 2 rows share nothing"):
    run_experiment(experiment, tmp_path / "again", reuse=whole)


@dataclasses.dataclass(frozen=True)
class EveryNth:
  """Documents of which every nth is measured on."""

  nth: int

  def document(self, index: int) -> tuple[str, str]:
    return ("measured" if index % self.nth == 0 else f"say {index}"), "so"


def test_endless_data_goes_on_behind_what_is_measured_on():
  curate, measured = small.stage("rejection"), NGrams(["measured"])
  rows = dataclasses.replace(curate, others=Others(EveryNth(2)))._others(None, measured, 3)
  assert [row["provenance"]["document"] for row in rows] == [1, 3, 5]
  with pytest.raises(InputError, match="0 of 41 documents share nothing"):
    dataclasses.replace(curate, others=Others(EveryNth(1)))._others(None, measured, 3)


def stages_with(**changes):
  return tuple(dataclasses.replace(s, **changes[s.name]) if s.name in changes else s for s in small.stages)


def test_no_rows_left_is_an_error_that_counts(whole, tmp_path, one_device):
  curate = small.stage("cold_start_data")
  strict = dataclasses.replace(curate, refiner=None, filters=dataclasses.replace(curate.filters, fewest_words=1_000))
  experiment = dataclasses.replace(small, stages=(*small.stages[:2], strict))
  with pytest.raises(InputError, match="no row was kept.*filter_fewest_words"):
    run_experiment(experiment, tmp_path / "run", reuse=whole)
  assert not (tmp_path / "run" / "datasets" / "cold_start_data.jsonl").exists()


def test_what_is_missing_is_made_again(whole, tmp_path, one_device):
  experiment = dataclasses.replace(small, stages=small.stages[:4])
  run_experiment(experiment, tmp_path / "run", reuse=whole)
  (tmp_path / "run" / "datasets" / "cold_start_data.jsonl").unlink()
  run_experiment(experiment, tmp_path / "run")
  assert datasets(tmp_path / "run")["cold_start_data.jsonl"] == datasets(whole)["cold_start_data.jsonl"]


@pytest.mark.parametrize(("changes", "said"), [
  ({"cold_start": {"start": "nowhere"}}, "reads 'nowhere'"),
  ({"cold_start": {"start": "pairs"}}, "reads 'pairs', which is no earlier stage"),
  ({"rl_2": {"start": "pairs"}}, "leaves a data"),
  ({"helpful": {"data": "base"}}, "Name a stage that makes a data set"),
  ({"pairs": {"queries": 0}}, "stages.pairs.queries"),
  ({"cold_start": {"epochs": None, "steps": 3}}, "Give epochs for a data set"),
  ({"student": {"teacher": dataclasses.replace(small.stage("student").teacher, stage="helpful")}}, "teacher.stage"),
], ids=["unknown", "later", "no policy", "no data", "no queries", "steps of rows", "no teacher"])
def test_refuses_a_graph_that_cannot_work(changes, said):
  with pytest.raises(InputError, match=said):
    dataclasses.replace(small, stages=stages_with(**changes)).check()


def test_general_questions_need_a_model_each():
  rl_2 = small.stage("rl_2")
  rl_2.check_data(experiment_tokenizer(small))
  without = dataclasses.replace(rl_2.general, models=rl_2.general.models[:1])
  with pytest.raises(InputError, match="questions of kind safety have no reward model"):
    dataclasses.replace(rl_2, general=without).check_data(experiment_tokenizer(small))


def test_every_program_can_be_lowered_from_shapes():
  mesh = make_mesh(small.mesh, jax.devices()[:1])
  for stage in small.stages:
    found = list(programs(stage, small, mesh))
    assert found, stage.name
    for program in found[::3]:
      program.lower()


def test_lengths_are_balanced_by_leaving_out_the_most_unequal_pairs():
  rng = random.Random(0)
  def response(n):
    return f"<think> a </think> <answer> {'w ' * n}</answer>"
  rows = [{"chosen": response(rng.randint(3, 12)), "rejected": response(rng.randint(1, 10))} for _ in range(400)]
  kept, dropped = balanced(rows, 0.02)
  def mean(side):
    return np.mean([row[side].count("w") for row in kept])
  assert 0 < dropped < 200 and len(kept) == 400 - dropped
  assert abs(mean("chosen") - mean("rejected")) <= 0.02 * (mean("chosen") + mean("rejected")) / 2 + 1e-9
  assert balanced(kept, 0.02) == (kept, 0)
