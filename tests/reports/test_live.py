"""The run on a terminal and elsewhere: what it shows, how long it says it takes, and how it leaves the terminal."""

import io
import os
import pty
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from rich.console import Console

from r1jax.reports import live
from r1jax.reports.alerts import RULES, Alert
from r1jax.reports.live import ASCII_BLOCKS, BLOCKS, CURVE, Lines, Pace, Shown, curve, frame, printable


@pytest.fixture
def clock(monkeypatch):
  """The monotonic clock, to be set."""
  now = [0.0]
  monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
  return now


def text_of(shown: Shown, now: float = 0.0, width: int = 100, unicode: bool = True) -> str:
  console = Console(file=io.StringIO(), width=width, height=40)
  console.print(frame(shown, now, unicode))
  return console.file.getvalue()


def test_plain_lines_are_seldom_but_for_evaluations(clock, capsys):
  lines = Lines()
  lines.enter("rl", 2, 5)
  lines.begin("rl", 100, 0)
  for step in range(1, 25):
    clock[0] = float(step)
    lines.metrics({"stage": "rl", "step": step, "reward/accuracy": 0.25, "reward/format": None, "other": 1.0})
  lines.metrics({"stage": "rl", "step": 24, "eval/pass_at_1": 0.5, "eval/length": 1234.5})
  lines.leave("rl", 24.0)
  assert capsys.readouterr().err.splitlines() == [
    "rl: begins, stage 2 of 5",
    "rl 1/100  accuracy 0.25, format not a number", "rl 11/100  accuracy 0.25, format not a number  (89.0 s left)",
    "rl 21/100  accuracy 0.25, format not a number  (79.0 s left)",
    "rl 24/100  held out: pass_at_1 0.5, length 1,234", "rl: done in 24.0 s"]


def test_a_resumed_stage_and_an_alert_are_lines_too(capsys):
  lines = Lines()
  lines.begin("rl", 2000, 1500)
  lines.alert(Alert("verifier", "rl", 1502, "9 of 10\x1b[2J crashed."), next(r for r in RULES if r.name == "verifier"))
  out = capsys.readouterr().err.splitlines()
  assert out[0] == "rl: goes on at step 1,500 of 2,000"
  assert out[1].startswith("rl: ALERT at step 1,502: Verifiers fail: 9 of 10 [2J crashed. What to do: Try the answers")


def test_time_left_is_that_of_the_last_steps_without_the_first():
  pace = Pace()
  assert pace.left(0.0, 100) is None
  pace.mark(500.0, 1)  # compiled for 500 s; the clock starts here
  pace.mark(502.0, 2)
  assert pace.left(502.0, 100) is None
  pace.mark(504.0, 3)
  assert pace.left(504.0, 100) == pytest.approx(2 * 97) and pace.left(505.0, 100) == pytest.approx(2 * 97 - 1)
  assert pace.left(9_000.0, 100) == 0.0


def test_the_lines_of_one_rollout_are_one_mark():
  pace = Pace()
  for rollout in range(3):
    for update in range(16):
      pace.mark(100.0 * rollout, 16 * rollout + update + 1)
  assert pace.left(200.0, 96) == pytest.approx(300.0)


def test_the_display_has_the_stage_its_metrics_with_curves_phases_a_sample_and_the_time_left():
  shown = Shown("rl_1", 5, 16, steps=120)
  for step in range(1, 41):
    shown.take({"stage": "rl_1", "step": step, "reward/accuracy": step / 40, "reward/equal_groups": 0.5, "true/helpful": 0.7,
                "reward/helpful": None, "time/rollout": 0.4, "time/rewards_hidden": 9.0}, now=float(2 * step))
  shown.sample = {"step": 40, "question": "1 + 2", "response": "<think> so\n3 </think>", "reward": 2.0, "answer": "3"}
  shown.alerts = 1
  text = text_of(shown, now=80.0)
  for said in ("rl_1 (5 of 16)", "step 40 of 120", "80.0 s so far, about 2.7 min left", "reward/accuracy", "▁▂", "▇█",
               "true/helpful", "not a number", "seconds: rollout 0.4", "sample of step 40: 1 + 2", "<think> so 3 </think>",
               "reward 2, gold answer 3", "alerts in this stage: 1"):
    assert said in text, said
  assert "equal_groups" not in text and "hidden" not in text
  assert all(len(line) <= 40 for line in text_of(shown, width=40).splitlines())


def test_the_display_of_a_stage_that_has_logged_nothing():
  assert text_of(Shown()) == "starting\n"
  assert "preparing" in text_of(Shown("sft", 1, 2), now=3.0) and "3.0 s so far" in text_of(Shown("sft", 1, 2), now=3.0)


def test_a_stage_of_other_metrics_shows_its_first_ones():
  shown = Shown("helpful", 1, 1, steps=3)
  shown.take({"stage": "helpful", "step": 1, "eval/auc": 0.75}, 0.0)
  assert "eval/auc" in text_of(shown) and "0.75" in text_of(shown)


def test_a_curve_runs_from_its_least_to_its_greatest():
  assert curve([0, 1, 2, 3, 4, 5, 6, 7]) == BLOCKS
  assert curve([0.0, np.nan, 1.0]) == "▁ █" and curve([np.nan]) == "" and curve([2.0, 2.0]) == "▁▁" and curve([]) == ""
  assert len(curve(list(range(10_000)))) == CURVE
  assert set(curve(list(range(100)), unicode=False)) == set(ASCII_BLOCKS)


def test_nothing_in_a_sample_steers_the_terminal():
  assert printable("a\x1b[2Jb\r\nc\x07\u202ed\u2028等") == "a [2Jb  c  d 等"
  sample = {"step": 1, "question": "\x1b]0;x\x07", "response": "\x1b[31m[red]no[/red]" + 999 * "x"}
  shown = Shown("rl", 1, 1, steps=2, sample=sample)
  assert "\x1b" not in text_of(shown) and "[red]no[/red]" in text_of(shown) and len(text_of(shown)) < 900


SCRIPT = """
import os, signal, sys, time
from r1jax.reports.live import terminal
from r1jax.reports.watch import Watch
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would this
with terminal() as view:
  watch = Watch([view])
  watch.enter("rl", 1, 1)
  watch.open("rl", 50, 0, [], [])
  for step in range(1, 50):
    watch.line({"stage": "rl", "step": step, "reward/accuracy": step / 50})
    print("printed by a library", step, file=sys.stderr)
    time.sleep(0.1)
"""


def on_a_terminal(send: int | None, term: str = "xterm") -> tuple[str, int]:
  """(what a pseudo terminal was sent, exit status) of SCRIPT, which a signal ends after three seconds."""
  leader, follower = pty.openpty()
  process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=follower, stderr=follower, stdin=follower,
                             env={**os.environ, "TERM": term, "COLUMNS": "90", "LINES": "30", "PYTHONIOENCODING": "utf-8"})
  os.close(follower)
  out, deadline = b"", time.monotonic() + 60
  while time.monotonic() < deadline:
    try:
      part = os.read(leader, 65536)
    except OSError:  # the other end is closed
      break
    out += part
    if send is not None and b"step 2" in out:
      process.send_signal(send)
      send = None
  os.close(leader)
  return out.decode("utf-8", errors="replace"), process.wait(timeout=30)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill"])
def test_a_run_that_is_stopped_leaves_the_terminal_sane(sent):
  out, status = on_a_terminal(sent)
  assert status != 0 and "reward/accuracy" in out and "printed by a library 1" in out and "rl: begins, stage 1 of 1" in out
  hidden, shown = out.rfind("\x1b[?25l"), out.rfind("\x1b[?25h")
  assert shown > hidden, "the cursor is visible"
  assert "\x1b[?1049h" not in out, "no other screen"
  if sent == signal.SIGINT:
    assert "KeyboardInterrupt" in out


def test_a_terminal_that_cannot_draw_gets_plain_lines():
  out, status = on_a_terminal(None, term="dumb")
  assert status == 0 and "\x1b" not in out and "rl 1/50  accuracy 0.02" in out


def test_without_a_terminal_there_are_plain_lines():
  done = subprocess.run([sys.executable, "-c", SCRIPT.replace("0.1)", "0)")], capture_output=True, text=True, timeout=60)
  assert done.returncode == 0 and "\x1b" not in done.stderr and "rl 1/50  accuracy 0.02" in done.stderr
