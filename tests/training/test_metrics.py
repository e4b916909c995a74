"""The run's log: whole lines, JSON numbers, cut back to the checkpoint."""
import json
import math

from r1jax.files import write_atomically
from r1jax.training import metrics
from r1jax.training.metrics import RunLog, Timers, read_metrics


def log_of(run_dir, stage="rl", step=None):
  return RunLog(run_dir, stage, 100, step)


def test_lines_carry_stage_and_step_and_no_nan(tmp_path):
  log = log_of(tmp_path)
  log.metrics(3, {"policy/loss": math.nan, "length/max": 7, "policy/kl": 0.25, "note": "x"})
  log.close()
  (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
  assert json.loads(line) == {"stage": "rl", "step": 3, "policy/loss": None, "length/max": 7, "policy/kl": 0.25, "note": "x"}


def test_what_came_after_the_checkpoint_is_cut_off(tmp_path):
  for stage in ("sft", "rl"):
    log = log_of(tmp_path, stage)
    for step in range(4):
      log.metrics(step, {"policy/loss": 1.0})
      log.sample(step, {"response": "é\u2028"})
    log.close()
  with (tmp_path / "metrics.jsonl").open("a") as f:
    f.write('{"stage": "rl", "st')  # killed while writing
  log_of(tmp_path, "rl", 2).close()
  expected = [("sft", 0), ("sft", 1), ("sft", 2), ("sft", 3), ("rl", 0), ("rl", 1), ("rl", 2)]
  for name in ("metrics", "samples"):
    lines = (tmp_path / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    assert [(r["stage"], r["step"]) for r in map(json.loads, lines)] == expected
  assert [r["step"] for r in read_metrics(tmp_path, "rl")] == [0, 1, 2]


def test_without_a_checkpoint_nothing_of_the_stage_stays(tmp_path):
  log = log_of(tmp_path)
  log.metrics(0, {"eval/pass_at_1": 0.5})
  log.close()
  log_of(tmp_path).close()
  assert read_metrics(tmp_path) == []


def test_a_file_is_replaced_whole(tmp_path):
  file = tmp_path / "summary.json"
  write_atomically(file, "old")
  write_atomically(file, "new")
  assert file.read_text() == "new" and list(tmp_path.iterdir()) == [file]


def test_timers_add_up_and_start_anew(monkeypatch):
  ticks = iter([0.0, 1.0, 5.0, 7.5, 10.0, 10.5])
  monkeypatch.setattr(metrics.time, "perf_counter", lambda: next(ticks))
  timers = Timers()
  for name in ("rollout", "rollout", "update"):
    with timers(name):
      pass
  assert timers.take() == {"time/rollout": 3.5, "time/update": 0.5}
  assert timers.take() == {}
