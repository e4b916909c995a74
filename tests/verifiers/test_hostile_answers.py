"""Hostile answers through the pool, for every verifier: a verdict in time, the pool survives, nothing is left behind."""

import threading
import time
from pathlib import Path

import pytest
from hostile_answers import HOSTILE

from r1jax.rewards.format import format_reward
from r1jax.rewards.language import language_reward
from r1jax.verifiers import logic
from r1jax.verifiers.choice import reference
from r1jax.verifiers.maths import Extraction, extract_answer, verify_plain
from r1jax.verifiers.pool import VerifierPool
from r1jax.verifiers.verdict import SCORED, STATUSES, TIMED_OUT

SECONDS = 1.0  # the deadline; the verdict may be a second later
WHO = logic.knights_and_knaves({"Alice": "knight", "Bob": "knave"})
# kind -> references, each with an answer that is right.
REFERENCES = {
  "maths": [("28", "28"), (r"\sqrt{2}", r"2^{1/2}"), ("x^2+1", "1+x^2"), (r"(-\infty, 3)", "x<3")],
  "choice": [(reference("Which?", "B", [r"\sqrt{2}", r"\sqrt{3}", "neither", "x+1"]), r"\boxed{B}"), ("C", "(C)")],
  "logic": [
    (logic.countdown([3, 5, 7], 26), "3*7+5"),
    (logic.sudoku(["1234", "3412", "2143", "432."]), "1234\n3412\n2143\n4321"),
    (WHO, "Alice is a knight, Bob is a knave"),
    (logic.zebra("Arnold"), "arnold"),
    (logic.code_output([1, {"a": None}]), "[1, {'a': None}]"),
    (logic.code_output("printed text"), "printed text"),
  ],
}


def processes_of(sessions):
  """Ids of the running processes whose session one of these processes opened (Linux)."""
  found = []
  for path in Path("/proc").glob("[0-9]*/stat"):
    try:
      fields = path.read_text(errors="replace").rpartition(")")[2].split()
    except OSError:  # it ended meanwhile
      continue
    if int(fields[3]) in sessions and fields[0] != "Z":
      found.append(int(path.parent.name))
  return found


def test_the_corpus_is_large_enough():
  assert len(HOSTILE) >= 60 and len(set(HOSTILE.values())) == len(HOSTILE)


@pytest.mark.parametrize("kind", REFERENCES)
def test_every_hostile_answer_has_its_verdict_in_time(kind, tmp_path, monkeypatch):
  here, temporary = tmp_path / "here", tmp_path / "temporary"
  here.mkdir()
  temporary.mkdir()
  monkeypatch.chdir(here)  # the workers inherit both
  monkeypatch.setenv("TMPDIR", str(temporary))
  verdicts, sessions, counts = [], set(), []

  def judge(names):
    with VerifierPool(workers=1, timeout_seconds=SECONDS, max_tasks=10_000) as pool:  # none is retired for its age
      for name in names:
        for place, (gold, _) in enumerate(REFERENCES[kind]):
          assert pool.submit("1", "1").result(timeout=60)[0]  # a worker is there: its start is not the answer's time
          sessions.update(pool.pids())
          began = time.monotonic()
          verdict = pool.submit(HOSTILE[name], gold, kind).result(timeout=60)
          verdicts.append((name, place, verdict, time.monotonic() - began))
      for gold, right in REFERENCES[kind]:
        assert pool.submit(right, gold, kind).result(timeout=60) == (True, SCORED)
      counts.append(pool.counts())

  names = list(HOSTILE)
  threads = [threading.Thread(target=judge, args=(names[half::2],)) for half in range(2)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(counts) == 2 and len(verdicts) == len(HOSTILE) * len(REFERENCES[kind])
  assert [each for each in verdicts if each[2][0] or each[2][1] not in STATUSES] == []
  assert [each for each in verdicts if each[3] > SECONDS + 1.0] == []
  # No worker was lost but those that were killed at the deadline.
  late = sum(each[2][1] == TIMED_OUT for each in verdicts)
  assert sum(each["started"] for each in counts) == 2 + late and sum(each["crashed"] for each in counts) == 0
  assert processes_of(sessions) == []
  assert list(here.iterdir()) == list(temporary.iterdir()) == []


def test_what_is_judged_outside_the_pool_is_quick():
  """Extraction, plain numbers, format and language run in the trainer's own process."""
  slowest = 0.0
  for answer in HOSTILE.values():
    response = f"<think>{answer}</think> <answer>{answer}</answer>"
    began = time.perf_counter()
    for how in Extraction:
      extract_answer(response, how=how)
    assert not verify_plain(answer, "28")
    format_reward(response)
    assert 0.0 <= language_reward(answer, response) <= 1.0
    slowest = max(slowest, time.perf_counter() - began)
  assert slowest < 4.0  # for answers of a million characters
