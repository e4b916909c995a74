"""Rule rewards: parts, weights, statuses, and scoring in the background."""

import time
from concurrent.futures import Future

import pytest

from r1jax.errors import InputError
from r1jax.rewards.rules import RuleRewards, Sample, counts
from r1jax.rewards.score import Score
from r1jax.verifiers.verdict import SCORED, TIMED_OUT, UNPARSABLE

EQUAL = {"accuracy": 1.0, "format": 1.0}


def well_formed(answer, gold, **fields):
  return Sample(f"<think>hm</think> <answer>{answer}</answer>", gold, **{"truncated": False, **fields})


class FakePool:
  """Stands for the worker processes: hands out futures that the test resolves."""

  def __init__(self):
    self.asked = []

  def submit(self, answer, gold, kind="maths", question=""):
    self.asked.append((answer, gold, Future()))
    return self.asked[-1][2]


def test_parts_and_weighted_sum():
  with RuleRewards({"accuracy": 1.0, "format": 0.25}, pool=FakePool()) as rewards:
    scores = rewards.submit(
      [
        well_formed("4", "4"),
        well_formed("5", "4"),
        Sample("<answer>4</answer>", "4", truncated=False),
        Sample("four", "4", truncated=False),
        well_formed("", "4"),
        well_formed("4", "4", truncated=True),
        Sample("hm</think> <answer>4</answer>", "4", truncated=False, prefill="<think>"),
        Sample("4</answer>", "4", truncated=False, prefill="<think>hm</think> <answer>"),
      ]
    ).result()
  assert [(s.value, s.parts["accuracy"], s.parts["format"], s.status) for s in scores] == [
    (1.25, 1.0, 1.0, SCORED),
    (0.25, 0.0, 1.0, SCORED),
    (1.0, 1.0, 0.0, SCORED),
    (0.0, 0.0, 0.0, UNPARSABLE),
    (0.25, 0.0, 1.0, UNPARSABLE),
    (0.0, 0.0, 0.0, SCORED),
    (1.25, 1.0, 1.0, SCORED),
    (1.25, 1.0, 1.0, SCORED),
  ]
  assert counts(scores) == {"scored": 6, "unparsable": 2, "timed_out": 0, "crashed": 0}


def test_only_the_named_parts_are_scored():
  pool = FakePool()
  right = well_formed(r"\frac12", "0.5")
  assert RuleRewards({"format": 2.0}, pool).submit([right]).result() == [Score(2.0, {"format": 1.0}, SCORED)]
  assert pool.asked == []
  handle = RuleRewards({"accuracy": 1.0}, pool).submit([right])
  pool.asked[0][2].set_result((True, SCORED))
  assert handle.result() == [Score(1.0, {"accuracy": 1.0}, SCORED)]


def test_background_scoring_keeps_order_and_asks_once_for_equal_pairs():
  pool = FakePool()
  rewards = RuleRewards(EQUAL, pool)
  handle = rewards.submit(
    [
      well_formed("x", "y"),
      well_formed("4", "4"),
      well_formed("z", "y"),
      well_formed("x", "y"),
      well_formed("x", "w"),
      well_formed("x", "y", truncated=True),
    ]
  )
  assert [ask[:2] for ask in pool.asked] == [("x", "y"), ("z", "y"), ("x", "w")]
  pool.asked[2][2].set_result((False, SCORED))
  pool.asked[1][2].set_result((False, TIMED_OUT))
  assert not handle.done()
  pool.asked[0][2].set_result((True, SCORED))
  assert handle.done()
  scores = handle.result()
  assert [s.value for s in scores] == [2.0, 2.0, 1.0, 2.0, 1.0, 0.0]
  assert [s.status for s in scores] == [SCORED, SCORED, TIMED_OUT, SCORED, SCORED, SCORED]
  assert handle.result() == scores


def test_with_real_workers():
  with RuleRewards(EQUAL, workers=1, timeout_seconds=1.5) as rewards:
    warm = rewards.submit([well_formed(r"\frac{1}{2}", "0.5")])
    assert warm.result()[0].value == 2.0
    began = time.monotonic()
    handle = rewards.submit(
      [
        well_formed("0.333333", r"\frac{1}{3}"),
        well_formed(r"\boxed{\frac{2}{6}}", r"\frac{1}{3}"),
        well_formed(r"\prod_{k=1}^{10^9} k", r"\sqrt{2}"),
        well_formed(r"\prod_{k=1}^{10^9} k", r"\sqrt{2}"),
      ]
    )
    assert time.monotonic() - began < 0.5  # submit does not wait for the workers
    scores = handle.result()
  assert [s.value for s in scores] == [1.0, 2.0, 1.0, 1.0]
  assert counts(scores) == {"scored": 2, "unparsable": 2, "timed_out": 0, "crashed": 0}
  assert rewards.pool.counts()["checked"] == 4  # asked once for both products
  assert rewards.pool.pids() == []


def test_plain_numbers_start_no_process():
  with RuleRewards(EQUAL) as rewards:
    samples = [well_formed(str(i), str(i % 7)) for i in range(50)]
    assert sum(s.parts["accuracy"] for s in rewards.submit(samples).result()) == 7
    assert rewards.pool.counts()["started"] == 0


@pytest.mark.parametrize(
  "weights, message",
  [
    ({"accuracy": 1.0, "lenght": 1.0}, "unknown part 'lenght'. Known parts: accuracy, format"),
    ({}, "empty"),
    ({"accuracy": float("nan")}, "finite"),
    ({"accuracy": -1.0}, "at least 0"),
  ],
)
def test_bad_weights(weights, message):
  with pytest.raises(InputError, match=message):
    RuleRewards(weights)


def test_scoring_knows_when_its_last_verdict_came():
  pool = FakePool()
  with RuleRewards({"accuracy": 1.0}, pool=pool) as rewards:
    scoring = rewards.submit([Sample("<answer>x</answer>", gold, False) for gold in ("y", "z")])
    plain = rewards.submit([Sample("<answer>1</answer>", "1", False)])
    assert scoring.ended == scoring.began and not scoring.done()
    time.sleep(0.02)
    for _, _, future in pool.asked:
      future.set_result((True, SCORED))
    assert scoring.done() and scoring.ended - scoring.began >= 0.02
    assert plain.ended == plain.began


def test_language_consistency_is_a_part_of_its_own():
  def sample(thought, **fields):
    return Sample(f"<think> {thought} </think> <answer>4</answer>", "4", **{"truncated": False, **fields})

  with RuleRewards({"accuracy": 1.0, "language": 1.0}, pool=FakePool()) as rewards:
    scores = rewards.submit([
      sample("two and two"), sample("二加二"), sample("二加二", language="zh"), sample("two and 二"),
      sample("two and two", truncated=True)]).result()
  assert [s.parts["language"] for s in scores] == pytest.approx([1.0, 0.0, 1.0, 2 / 3, 0.0])
  assert [s.value for s in scores] == pytest.approx([2.0, 1.0, 2.0, 5 / 3, 0.0])
