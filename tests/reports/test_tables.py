"""The report's tables against counts by hand on a fixed log."""

import json
import pathlib

import pytest

from r1jax.config import to_json
from r1jax.experiment_file import load_experiment
from r1jax.reports.measures import add_measures, length_changes, reference_replacements, word_table
from r1jax.reports.run import Run, read_run
from r1jax.reports.tables import (
  Table,
  chip_hours,
  cost_table,
  data_flow,
  paper_names,
  phase_seconds,
  policy_table,
  stage_seconds,
  time_table,
)

ROOT = pathlib.Path(__file__).parent.parent.parent
STAGES = [{"type": "SFT", "name": "base"}, {"type": "GRPO", "name": "zero"},
          {"type": "Curate", "name": "data", "start": "zero"},
          {"type": "SFT", "name": "cold", "documents": {"stage": "data"}}, {"type": "GRPO", "name": "rl", "start": "cold"}]


def beats(process, chips, *marks):
  """Lines of the clock: (second, stage) each, the last one being the last that was seen of the process."""
  return [{"process": process, "at": 1000.0 + at, "stage": stage, "chips": chips, "event": "alive"} for at, stage in marks]


@pytest.fixture
def run(tmp_path):
  lines = beats("first", 4, (0, None), (10, "base"), (110, "zero"), (400, "zero"))  # killed
  lines += beats("second", 8, (1000, None), (1010, "zero"), (1610, "data"), (1700, "cold"), (1800, "rl"), (2800, "rl"))
  lines.append({**lines[-1], "at": 1000.0 + 2810, "event": "ended"})
  (tmp_path / "processes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  (tmp_path / "config.json").write_text(json.dumps({"config": {"name": "toy", "stages": STAGES}}))
  rows = [{"stage": "zero", "step": step, "time/rollout": 3.0, "time/update": 2.0, "time/rewards_hidden": 99.0,
           "reward/mean": 0.5} for step in (1, 2)]
  (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  texts = [(1, "wait, but no"), (1, "fine"), (2, "Wait wait 等等"), (2, "check: wrong")]
  (tmp_path / "samples.jsonl").write_text("".join(json.dumps(
    {"stage": "zero", "step": step, "response": text, "level": "easy" if step == 1 else "hard",
     "parts": {"accuracy": float(text == "fine")}}) + "\n" for step, text in texts))
  (tmp_path / "datasets").mkdir()
  (tmp_path / "datasets" / "data.json").write_text(json.dumps(
    {"rows": 7, "count/responses": 20, "count/wrong": 9, "count/filter_language": 4, "rows_other": 2}))
  found = read_run(tmp_path)
  add_measures(found)
  return found


def test_the_cost_adds_up_to_the_time_that_processes_ran_killed_ones_included(run):
  wall = 400 * 4 + 1810 * 8
  hours = chip_hours(run)
  assert sum(hours.values()) == pytest.approx(wall / 3600)
  assert hours["zero"] == pytest.approx((290 * 4 + 600 * 8) / 3600)
  assert hours[None] == pytest.approx((10 * 4 + 10 * 8) / 3600)
  table = cost_table([run], ["toy"], price=2.0, chips=None)
  zero, data, r1, other, total = table.rows[0][1:]
  assert zero == pytest.approx(hours["zero"]) and data == pytest.approx(90 * 8 / 3600)
  assert r1 == pytest.approx((100 + 1010) * 8 / 3600) and other == pytest.approx((100 * 4 + 10 * 4 + 10 * 8) / 3600)
  assert total == pytest.approx(wall / 3600) and table.rows[1][-1] == f"${wall / 3600 * 2:,.2f}"
  assert "of 2 processes 1 were killed" in table.about


def test_without_a_clock_the_table_says_what_is_missing(run):
  run.processes.clear()
  assert stage_seconds(run) == {"zero": 10.0}  # its phases; what ran beside others does not count twice
  table = cost_table([run], ["toy"], price=1.0, chips=3)
  assert table.rows[0][-1] == pytest.approx(30 / 3600) and "time of killed processes is missing" in table.about


def test_phases_and_what_is_outside_of_them_add_up_to_a_stages_wall_time(run):
  assert phase_seconds(run, "zero") == {"rollout": 6.0, "update": 4.0}
  assert sum(row[2] for row in time_table(run).rows if row[0] == "zero") == pytest.approx(890)


def test_reflective_words_agree_with_a_count_by_hand(run):
  steps, wait = run.get("zero", "words/wait")
  assert steps.tolist() == [1, 2] and wait.tolist() == [0.5, 1.5]
  assert run.get("zero", "words/doubting")[1].tolist() == [0.0, 0.5]
  assert {row[0]: row[1:] for row in word_table(run, "zero")}["wait"] == (4, 0.5, 1.5)


def test_accuracy_by_level_is_that_of_the_samples_that_carry_one(run):
  assert run.get("zero", "level/easy")[1].tolist() == [0.5] and run.get("zero", "level/hard")[1].tolist() == [0.0]


def test_the_data_flow_names_what_was_kept_and_dropped(run):
  assert data_flow(run).rows == [
    ["data", "from", "responses", 20], ["data", "kept", "rows", 7], ["data", "of these", "other", 2],
    ["data", "dropped", "wrong", 9], ["data", "dropped", "filter language", 4]]


def test_the_papers_names_are_found_in_r1_tiny():
  experiment = load_experiment(str(ROOT / "experiments" / "r1_tiny.py"), smoke=False, settings=[])
  run = Run(pathlib.Path("x"), config=json.loads(json.dumps(to_json(experiment))))
  assert paper_names(run) == {"r1_zero": "R1-Zero", "cold_start": "Dev1", "rl_1": "Dev2", "sft": "Dev3", "rl_2": "R1"}


def test_policies_of_several_seeds_have_a_range():
  runs = [Run(pathlib.Path(str(i)), summary={"stages": {"evaluation": {"after": {"base": {
    "sums/pass_at_1": value, "sums/pass_at_1_low": 0.0, "sums/pass_at_1_high": 1.0}}}}})
    for i, value in enumerate((0.2, 0.6))]
  assert policy_table(runs).rows == [["base", "0.400 (0.200 to 0.600; 2)"]]
  assert policy_table(runs[:1]).rows == [["base", "0.200 (0.000 to 1.000)"]]


def test_references_are_replaced_where_a_rollout_reaches_the_multiple(run):
  run.config["stages"][1] |= {"reference_every": 5, "minibatches": 4, "steps": 18, "kl_coef": 0.1,
                              "max_length": {"points": [[0, 10], [8, 20]]}}
  run.series["zero"]["reward/mean"] = run.series["zero"]["reward/mean"][0] * 8, run.series["zero"]["reward/mean"][1]
  assert reference_replacements(run, "zero") == [8, 12, 16]
  assert length_changes(run, "zero") == [(8, 10.0, 20.0)]


def test_a_notebook_shows_a_table_whose_cells_cannot_end_it():
  table = Table("Samples", ("response", "reward"), [("<think> a | b\n</think>", 0.12345), ("c & d", 12_345)], "Two.")
  assert table._repr_markdown_().split("\n\n") == ["**Samples**", "Two.", "\n".join([
    "| response | reward |", "| --- | --- |", "| &lt;think> a \\| b &lt;/think> | 0.123 |", "| c &amp; d | 12,345 |"])]
