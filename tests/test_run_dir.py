"""A run directory: one process writes there, what it reads and holds is what it was, and whatever is damaged has a name."""
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from r1jax import run_dir
from r1jax.cli import check
from r1jax.curation.datasets import Units
from r1jax.errors import InputError
from r1jax.files import CHECKSUMS, damage, seal
from r1jax.reports.clock import Clock
from r1jax.run_dir import RunDir, contents

HOLDER = """
import sys, time
from r1jax.run_dir import RunDir
with RunDir(sys.argv[1]).held():
  print("held", flush=True)
  time.sleep(60)
"""


def flip(file, bit: int) -> None:
  """Flips one bit of a file."""
  content = bytearray(file.read_bytes())
  content[bit // 8] ^= 1 << bit % 8
  file.write_bytes(content)


def begun(path, config=None, **summary) -> RunDir:
  """A run directory with a config and, where stages are given, a summary."""
  run = RunDir(path)
  run.claim(config or {"name": "x", "stages": []}, "hash")
  run.begin()
  if summary:
    run.write_summary({"stages": summary})
  return run


# Who writes


def test_a_second_process_is_refused_at_once_and_starts_once_the_first_is_killed(tmp_path):
  with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True) as first:
    assert first.stdout.readline() == "held\n"
    start = time.monotonic()
    with pytest.raises(InputError, match=rf"process {first.pid} on .+ is writing there"), RunDir(tmp_path / "run").held():
      pass
    assert time.monotonic() - start < 1
    first.send_signal(signal.SIGKILL)
    first.wait()
    with RunDir(tmp_path / "run").held():
      pass


def test_a_refused_start_leaves_no_directory(tmp_path):
  with pytest.raises(InputError), RunDir(tmp_path / "runs" / "run").held():
    raise InputError("stages", "wrong", "Correct it.")
  assert os.listdir(tmp_path) == []
  (tmp_path / "letter.txt").write_text("dear")
  with pytest.raises(InputError, match="not empty, and not a run directory"), RunDir(tmp_path).held():
    pass
  assert os.listdir(tmp_path) == ["letter.txt"]


@pytest.mark.parametrize("path", ["file", "file/run", "x" * 300], ids=["a file", "below a file", "too long"])
def test_a_path_that_cannot_be_a_run_directory(tmp_path, path):
  (tmp_path / "file").write_text("")
  with pytest.raises(InputError, match="Give a directory that can be written"), RunDir(tmp_path / path).held():
    pass


def test_a_directory_that_cannot_be_written_can_be_asked(tmp_path, monkeypatch):
  run = begun(tmp_path / "run")

  def refused(self, *arguments, **named):
    raise PermissionError(13, "Permission denied")
  monkeypatch.setattr(run_dir.Path, "open", refused)
  with run.held():
    assert run.read_only
  (tmp_path / "empty").mkdir()
  with pytest.raises(InputError, match="Permission denied"), RunDir(tmp_path / "empty").held():
    pass


# What it reads


@pytest.mark.parametrize("changes", ["data.jsonl", "weights/model.safetensors", "words/tokenizer.json", "tfds/sums/1.0.0/x"])
def test_a_file_that_changed_since_the_run_began_is_refused_by_name(tmp_path, changes):
  for name in ("data.jsonl", "weights/model.safetensors", "weights/README.md", "words/tokenizer.json", "tfds/sums/1.0.0/x"):
    (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / name).write_text(name)
  config = {"weights": str(tmp_path / "weights"), "tokenizer": str(tmp_path / "words"),
            "stages": [{"questions": [{"type": "Jsonl", "path": str(tmp_path / "data.jsonl")},
                                      {"type": "Tfds", "name": "sums:1.0.0", "data_dir": str(tmp_path / "tfds")}]}]}
  assert len(contents(config)) == 4
  begun(tmp_path / "run", config)
  (tmp_path / "weights/README.md").write_text("another")
  RunDir(tmp_path / "run").claim(config, "hash")
  (tmp_path / changes).write_text("another")
  with pytest.raises(InputError, match=f"{changes}: changed since the run in .*run began"):
    RunDir(tmp_path / "run").claim(config, "hash")


def test_packages_of_another_version_are_named(tmp_path, monkeypatch, capsys):
  run = begun(tmp_path / "run")
  monkeypatch.setattr(run_dir, "version", lambda name: "9.9")
  run.claim({"name": "x", "stages": []}, "hash")
  assert "the run began with jax " in capsys.readouterr().err


def test_a_run_may_go_on_with_another_policy_of_its_watchdogs(tmp_path):
  run = begun(tmp_path / "run", {"stages": [{"name": "a", "watchdogs": {"slow": "warn"}}]})
  run.claim({"stages": [{"name": "a", "watchdogs": {"slow": "stop"}}]}, "hash")
  run.claim({"stages": [{"name": "a"}]}, "hash")
  with pytest.raises(InputError, match="stages.a.lr: absent -> 1"):
    run.claim({"stages": [{"name": "a", "lr": 1}]}, "hash")


# What it holds


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"[1]", b'{"config": 3}'], ids=str)
def test_a_damaged_config_is_refused_by_name(tmp_path, content):
  run = begun(tmp_path / "run")
  run.config.write_bytes(content)
  with pytest.raises(InputError, match=r"config.json: .*Restore it from a copy"):
    run.claim({}, "hash")


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"[1]", b'{"stages": {"a": 3}}'], ids=str)
def test_a_damaged_summary_is_set_aside(tmp_path, content, capsys):
  run = begun(tmp_path / "run")
  run.summary.write_bytes(content)
  assert run.read_summary("x")["stages"] == {}
  assert "summary.json: damaged; set aside as summary.json.unsound" in capsys.readouterr().err
  assert (tmp_path / "run" / "summary.json.unsound").read_bytes() == content


@pytest.mark.parametrize("name", ["config", "summary"])
def test_every_flipped_bit_of_what_is_said_of_a_run_is_found(tmp_path, name):
  run = begun(tmp_path / "run", a={"status": "finished", "after": {"eval/pass_at_1": 0.51}})
  file = getattr(run, name)
  whole, value = file.read_bytes(), run._read(file)
  for bit in range(0, len(whole) * 8, 7 if name == "summary" else 61):
    flip(file, bit)
    assert run._read(file) in (None, value), bit  # white space may turn into other white space
    file.write_bytes(whole)


def test_a_stage_is_finished_as_long_as_what_it_left_is_sound(tmp_path):
  run = begun(tmp_path / "run")
  step = run.checkpoints("a") / "7"
  (step / "params").mkdir(parents=True)
  (step / "params" / "array").write_bytes(bytes(100))
  seal(step)
  run.datasets.mkdir()
  (run.datasets / "a.jsonl").write_text("{}\n")
  entry = {"made": run.made("a")}
  assert entry["made"].keys() == {"datasets/a.jsonl", f"checkpoints/a/7/{CHECKSUMS}"}
  assert run.unsound("a", entry, "policy") is None and damage(step) is None
  for file in (step / "params" / "array", step / CHECKSUMS, run.datasets / "a.jsonl"):
    flip(file, 13)
    assert run.unsound("a", entry, "policy"), file
    flip(file, 13)
  (step / "params" / "array").unlink()
  assert "array is missing" in run.unsound("a", entry, "policy")
  assert "gone" in run.unsound("b", {}, "policy")  # an older version wrote no checksums


def test_lines_that_nobody_wrote_are_left_out_and_said(tmp_path, capsys):
  run = begun(tmp_path / "run")
  lines = [b'{"stage": "a", "step": 1, "x": "\xe7\xad\x89"}', b'{"step": 2}', b'{"stage": "a", "st',
           b'{"stage": "b", "step": 1}']
  run.log("metrics").write_bytes(b"\n".join(lines) + b'\n{"stage": "a", "step": 3, "x": "\xe7\xad')
  assert [r["stage"] for r in run.records("metrics")] == ["a", "b"]
  assert [line for line, _ in run.keep_lines("metrics", lambda r: True)] == [lines[0] + b"\n", lines[3] + b"\n"]
  assert "metrics.jsonl: 2 damaged lines are left out" in capsys.readouterr().err
  assert run.log("metrics").read_bytes() == lines[0] + b"\n" + lines[3] + b"\n"


def test_units_are_kept_whatever_their_characters_and_damaged_ones_made_again(tmp_path, capsys):
  units = Units(tmp_path, "a")
  for number in range(5):
    units.append([{"response": f"{number}\u2028\u2029\x85"}], Counter(right=1))
  assert Units(tmp_path, "a").done == 5 and Units(tmp_path, "a").rows == units.rows and not capsys.readouterr().err
  file = tmp_path / "datasets" / "a.partial.jsonl"
  content = file.read_bytes()
  file.write_bytes(content.replace(b'"response": "3', b'"response": "7'))
  assert Units(tmp_path, "a").done == 3 and "unit 4 is damaged" in capsys.readouterr().err
  file.write_bytes(content[:-9])
  assert Units(tmp_path, "a").done == 4


def test_built_sets_that_were_damaged_are_removed(tmp_path, capsys):
  run = begun(tmp_path / "run")
  for name in ("local/x/3.0.0", "token_rows/key", "token_rows/key.incomplete"):
    (run.data / name).mkdir(parents=True)
    (run.data / name / "records").write_bytes(bytes(50))
  (run.data / "token_rows" / "key.lock").write_text("")
  run.seal_sets()
  run.check_sets()
  assert len(list(run.data.rglob(CHECKSUMS))) == 2 and not capsys.readouterr().err
  flip(run.data / "local/x/3.0.0" / "records", 77)
  assert "3.0.0: records is not what was written" in str(run.faults())
  run.check_sets()
  assert not (run.data / "local/x/3.0.0").exists() and (run.data / "token_rows/key").exists()
  assert "it is built anew" in capsys.readouterr().err


def test_seconds_of_a_stage_are_those_of_killed_processes_too(tmp_path):
  lines = [("killed", 0, "a"), ("killed", 40, "a"), ("second", 100, "b"), ("second", 102, "a"), ("second", 107, None)]
  (tmp_path / "processes.jsonl").write_text("".join(
    json.dumps({"process": name, "at": at, "stage": stage, "chips": 1}) + "\n" for name, at, stage in lines) + "torn\n[1]\n")
  assert Clock(tmp_path, 1, "cpu").spent("a") == 45


def test_the_verb_names_what_differs(tmp_path, capsys):
  run = begun(tmp_path / "run", a={"status": "finished", "log": {"metrics": "0"}})
  args = type("Args", (), {"run": str(run.path)})
  assert check._check(args) == 1 and "the lines of stage a are not those that were written" in capsys.readouterr().out
  run.write_summary({"stages": {}})
  assert check._check(args) == 0 and capsys.readouterr().out.endswith("run: sound\n")
