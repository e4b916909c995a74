"""Reading run directories: whole, half written, damaged, of another version, or none."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from r1jax.errors import InputError
from r1jax.reports import run as run_module
from r1jax.reports.clock import BEAT_SECONDS, BEAT_SHARE, Clock, processes
from r1jax.reports.run import read_run

from . import logs

CONFIG = {"config": {"name": "toy", "seed": 3, "stages": [{"type": "GRPO", "name": "r1_zero", "steps": 40}, {
  "type": "SFT", "name": "cold_start", "steps": 9}]}}


@pytest.fixture
def run_dir(tmp_path):
  log, samples = logs.healthy(0, steps=40)
  logs.write(tmp_path, log, samples, config=CONFIG, summary={"experiment": "toy", "stages": {
    "r1_zero": {"status": "finished", "seconds": 10.0}}})
  (tmp_path / "processes.jsonl").write_text('{"process": "a", "at": 1.0, "stage": null, "chips": 1}\n')
  return tmp_path


def append(file, text):
  file.write_bytes(file.read_bytes() + text)


def test_a_whole_run_has_nothing_to_note_but_the_stage_that_waits(run_dir):
  run = read_run(run_dir)
  assert (run.name, run.seed, run.stages) == ("toy", 3, ["r1_zero", "cold_start"])
  assert run.notes == ["Not begun: cold_start."]
  steps, values = run.get("r1_zero", "reward/format")
  assert len(steps) == 40 and run.samples_total == len(run.samples) == 80 and run.total("r1_zero", "length/max") == 40 * 1024


def test_a_torn_last_line_is_named_and_left_out(run_dir):
  append(run_dir / "metrics.jsonl", b'{"stage": "r1_zero", "step": 41, "reward/mea')
  run = read_run(run_dir)
  assert any("metrics.jsonl ends in the middle of a line" in note for note in run.notes)
  assert len(run.get("r1_zero", "reward/mean")[0]) == 40 and not any("damaged" in note for note in run.notes)


def test_a_line_torn_inside_a_letter_is_left_out(run_dir):
  append(run_dir / "samples.jsonl", '{"stage": "r1_zero", "step": 41, "response": "等'.encode()[:-1])
  assert any("samples.jsonl ends in the middle of a line" in note for note in read_run(run_dir).notes)


@pytest.mark.parametrize("line", ["{not JSON}", "[1, 2]", "null", '{"step": 3}', '{"stage": "r1_zero", "step": "x"}',
                                  '{"stage": 4}'])
def test_damaged_lines_and_lines_of_another_version_are_counted(run_dir, line):
  append(run_dir / "metrics.jsonl", f"{line}\n".encode())
  run = read_run(run_dir)
  assert any(note.startswith("metrics.jsonl: 1 ") for note in run.notes) and len(run.get("r1_zero", "reward/mean")[0]) == 40


@pytest.mark.parametrize("value", ["null", "NaN", "Infinity"])
def test_what_is_no_number_is_a_gap_and_no_zero(run_dir, value):
  append(run_dir / "metrics.jsonl", f'{{"stage": "r1_zero", "step": 41, "policy/loss": {value}}}\n'.encode())
  run = read_run(run_dir)
  assert np.isnan(run.get("r1_zero", "policy/loss")[1][-1])
  assert "r1_zero: policy/loss is null (NaN or infinite) in 1 of 41 lines, first at step 41." in run.notes


@pytest.mark.parametrize("name", ["config.json", "summary.json", "metrics.jsonl", "samples.jsonl", "processes.jsonl"])
def test_a_missing_file_is_named(run_dir, name):
  (run_dir / name).unlink()
  assert any(note.startswith(f"{name} is missing") for note in read_run(run_dir).notes)


@pytest.mark.parametrize("text", ['{"conf', "[]", '{"other": 1}', '{"config": 5}', '{"config": {"stages": {"a": 1}}}',
                                  '{"config": {"stages": [1, {"name": 4}]}}'])
def test_a_config_that_cannot_be_read_does_not_stop_the_rest(run_dir, text):
  (run_dir / "config.json").write_text(text)
  assert read_run(run_dir).get("r1_zero", "reward/mean") is not None


@pytest.mark.parametrize("text", ['{"stages": [1]}', '{"stages": {"r1_zero": 4}}', "3", ""])
def test_a_summary_that_cannot_be_read_does_not_stop_the_rest(run_dir, text):
  (run_dir / "summary.json").write_text(text)
  assert read_run(run_dir).summary["stages"] == {}


def test_a_folder_without_a_run_is_refused(tmp_path):
  (tmp_path / "notes.txt").write_text("x")
  for path in (tmp_path, tmp_path / "nowhere", tmp_path / "notes.txt"):
    with pytest.raises(InputError, match="Name (the --run_dir of a run|a run directory)"):
      read_run(path)


def test_of_many_samples_the_same_even_choice_is_read(run_dir, monkeypatch):
  monkeypatch.setattr(run_module, "MAX_SAMPLES", 20)
  records = [run_module._records(run_dir / "samples.jsonl", [], 20) for _ in range(2)]
  assert records[0] == records[1] and records[0][1] == 80 and 15 <= len(records[0][0]) <= 25
  steps = [r["step"] for r in records[0][0]]
  assert min(steps) <= 4 and max(steps) >= 37 and max(np.diff(steps)) <= 6


def test_a_data_set_that_is_being_made_adds_up_its_units(run_dir):
  (run_dir / "datasets").mkdir()
  unit = json.dumps({"rows": [{}, {}], "counts": {"wrong": 3, "responses": 5}})
  (run_dir / "datasets" / "rejection.partial.jsonl").write_text(f'{unit}\n{unit}\n{{"rows": [')
  assert read_run(run_dir).datasets["rejection"] == {"rows": 4, "unfinished": True, "count/wrong": 6, "count/responses": 10}


def test_the_clock_adds_up_to_wall_time_with_a_killed_process(tmp_path):
  code = f"""if True:
    import sys, time
    from r1jax.reports.clock import Clock
    with Clock({str(tmp_path)!r}, 4, "toy") as clock:
      clock.enter("a")
      print("began", flush=True)
      time.sleep(60)"""
  child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
  assert child.stdout.readline() == "began\n"
  began = time.time()
  time.sleep(2.5)
  child.kill()  # as the operating system does when memory is short: nothing is written any more
  child.wait()
  first_wall = time.time() - began
  append(tmp_path / "processes.jsonl", b'{"process": "torn')
  began = time.time()
  with Clock(tmp_path, 4, "toy") as clock:
    clock.enter("a")
    time.sleep(0.2)
    clock.enter("b")
    time.sleep(0.3)
  second_wall = time.time() - began
  lines = (tmp_path / "processes.jsonl").read_text().splitlines()
  assert lines.pop([line.endswith("torn") for line in lines].index(True))  # on a line of its own
  first, second = processes(map(json.loads, lines))
  assert (first.ended, second.ended, first.chips) == (False, True, 4)
  assert 0 <= first_wall - first.seconds["a"] < 1.5  # a beat, and what a busy machine adds
  assert second.seconds["a"] >= 0.19 and second.seconds["b"] >= 0.29
  assert sum(second.seconds.values()) == pytest.approx(second_wall, abs=0.05)


def test_what_a_kill_leaves_uncounted_is_below_one_per_cent_and_a_week_is_a_small_file():
  assert BEAT_SHARE < 0.01
  age, beats = 0.0, 0
  while age < 7 * 24 * 3600:
    age, beats = age + max(BEAT_SECONDS, BEAT_SHARE * age), beats + 1
  assert beats < 3_000
