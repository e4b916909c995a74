"""Responses beside a baseline's: what the judge sees, both orders, and the share of games that are won."""
import json

import pytest

from r1jax.data.questions import Question
from r1jax.errors import InputError
from r1jax.evaluation.preference import BY_FAR, baselines, games, summary_of, win_rate

QUESTIONS = [Question(f"q:{i}", f"Question {i}?", json.dumps({"uid": f"u{i}"}), "judged") for i in range(3)]
COMPARED = {q.id: f"baseline {i}" for i, q in enumerate(QUESTIONS)}


def longer(comparisons):
  """A judge that likes length, prefers by far what is twice as long, and sees no difference in front of a tie."""
  def verdict(a, b):
    sign = (len(a) > len(b)) - (len(a) < len(b))
    return sign * (2.0 if max(len(a), len(b)) >= 2 * min(len(a), len(b)) else 1.0)

  return [verdict(c.a, c.b) for c in comparisons]


def test_the_judge_sees_the_summary_alone():
  assert summary_of("<think> secret </think> <answer> so </answer>") == "so"
  assert summary_of("secret </think> so") == "so"
  assert summary_of("just so") == "just so"
  assert summary_of("<think> secret") == ""
  seen = []
  games(QUESTIONS[:1], [summary_of("<think> secret </think> so")], COMPARED, lambda c: seen.extend(c) or longer(c))
  assert [(c.a, c.b) for c in seen] == [("so", "baseline 0"), ("baseline 0", "so")]


def test_both_orders_are_games_of_the_response():
  assert games(QUESTIONS, ["x" * 11, "x" * 100, ""], COMPARED, longer) == [(1.0, 1.0), (2.0, 2.0), (-2.0, -2.0)]
  first = games(QUESTIONS, ["x"] * 3, COMPARED, lambda c: [1.0] * len(c))  # whatever stands first
  assert first == [(1.0, -1.0)] * 3


def test_a_game_won_by_far_counts_three_times():
  verdicts = [(2.0, 1.0), (1.0, 0.0), (None, -2.0)]
  found = win_rate(verdicts, 1, BY_FAR)
  assert found["win_rate"] == pytest.approx((3 + 1 + 1 + 0.5 + 0) / (3 + 1 + 1 + 1 + 3))
  assert found["judge_failures"] == pytest.approx(1 / 6)
  assert win_rate(verdicts, 1, 1)["win_rate"] == pytest.approx((1 + 1 + 1 + 0.5 + 0) / 5)
  assert found["win_rate_low"] < found["win_rate"] < found["win_rate_high"]


def test_a_bradley_terry_fit_of_two_sides_is_the_share_of_weighted_games():
  verdicts = [(2.0, 1.0), (-1.0, 0.0), (1.0, -2.0), (1.0, 1.0)]
  won = lost = 0.0
  for v in (v for pair in verdicts for v in pair):
    weight = 3 if abs(v) == 2 else 1
    share = 1.0 if v > 0 else 0.5 if v == 0 else 0.0
    won, lost = won + weight * share, lost + weight * (1 - share)
  strength = 0.0  # gradient ascent on won log s(x) + lost log s(-x)
  for _ in range(2000):
    strength += 0.05 * (won - (won + lost) / (1 + 2.718281828459045 ** -strength))
  assert win_rate(verdicts, 1, BY_FAR)["win_rate"] == pytest.approx(1 / (1 + 2.718281828459045 ** -strength), abs=1e-6)


def test_without_any_verdict_there_is_no_share():
  with pytest.raises(InputError, match="no usable verdict in 4 games"):
    win_rate([(None, None)] * 2, 1, 1)


@pytest.mark.parametrize("row", [
  {"uid": "u0", "answer": "so"}, {"question_id": "u0", "choices": [{"index": 0, "turns": [{"content": "so"}]}]},
  {"uid": "u0", "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": {"answer": "so"}}]},
  {"id": "q:0", "sample": 0, "text": "<think> secret </think> so", "tokens": 3, "stopped": True}])
def test_the_forms_of_a_baseline(tmp_path, row):
  file = tmp_path / "baseline.jsonl"
  file.write_text(json.dumps(row) + "\n")
  assert baselines(QUESTIONS[:1], file) == {"q:0": "so"}
  with pytest.raises(InputError, match="1 of 2 questions, first q:1"):
    baselines(QUESTIONS[:2], file)


def test_alpaca_eval_brings_its_own_baseline():
  question = Question("q:7", "Who?", json.dumps({"baseline": "Nobody."}), "judged")
  assert baselines([question], None) == {"q:7": "Nobody."}
  with pytest.raises(InputError, match="--baseline: no answer to compare with for 3 of 3"):
    baselines(QUESTIONS, None)
