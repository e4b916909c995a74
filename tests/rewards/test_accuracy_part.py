"""The part accuracy: samples of all kinds in one batch, each judged by its own verifier in the worker processes."""
import json
import shutil

import pytest

from r1jax.rewards.rules import RuleRewards, Sample
from r1jax.verifiers.verdict import SCORED, UNPARSABLE

CHOICE = json.dumps({"answer": "B", "options": {"A": "4 m", "B": "5 m"}})
LOGIC = json.dumps({"puzzle": "countdown", "numbers": [3, 5, 7], "target": 26, "use": "all"})
CODE = json.dumps({"tests": [{"stdin": "3\n", "stdout": "6\n"}]})
needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


def tagged(answer: str) -> str:
  return f"<think> so </think> <answer> {answer} </answer>"


def scores(*samples):
  with RuleRewards({"accuracy": 1.0, "format": 1.0}, timeout_seconds=20.0) as rewards:
    return [(s.parts["accuracy"], s.parts["format"], s.status) for s in rewards.submit(samples).result()]


def test_samples_of_all_kinds_in_one_batch():
  found = scores(
    Sample(tagged("1/2"), r"\frac{1}{2}", False),
    Sample(tagged("(B) 5 m"), CHOICE, False, kind="choice"),
    Sample(tagged("4 m"), CHOICE, False, kind="choice"),
    Sample(tagged("3 * 7 + 5"), LOGIC, False, kind="logic"),
    Sample(tagged("26"), LOGIC, False, kind="logic"),
    Sample("no tags: B", CHOICE, False, kind="choice"),
    Sample(tagged("B"), CHOICE, True, kind="choice"),
  )
  assert found == [
    (1.0, 1.0, SCORED), (1.0, 1.0, SCORED), (0.0, 1.0, SCORED), (1.0, 1.0, SCORED), (0.0, 1.0, SCORED),
    (0.0, 0.0, UNPARSABLE), (0.0, 0.0, SCORED)]


@needs_bwrap
def test_programs_are_run():
  double, wrong = "print(2 * int(input()))", "print(3)"
  found = scores(*(Sample(tagged(f"```python\n{text}\n```"), CODE, False, kind="code") for text in (double, wrong)))
  assert found == [(1.0, 1.0, SCORED), (0.0, 1.0, SCORED)]
