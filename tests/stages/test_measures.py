"""What stages measure beside rewards: the majority of several samples, and the true preference, against hand values."""

import pytest

from r1jax.data.questions import Question
from r1jax.data.requests import HELPFUL, SAFETY, KnownPreference, requests
from r1jax.rewards.rules import Sample, Score
from r1jax.stages.evaluate import consensus
from r1jax.stages.general import true_means, true_value


def sampled(answer: str, gold: str, right: bool, truncated: bool = False) -> tuple[Sample, Score]:
  response = f"<think> so </think> <answer> {answer} </answer>"
  return Sample(response, gold, truncated), Score(float(right), {"accuracy": float(right)}, "scored")


def consensus_of(*questions: list[tuple[Sample, Score]]) -> dict[str, float]:
  asked = [Question(str(i), "?", of[0][0].gold) for i, of in enumerate(questions)]
  samples, scores = zip(*(pair for of in questions for pair in of), strict=True)
  return consensus(asked, list(samples), list(scores), len(questions[0]))


def test_the_majority_of_the_samples_decides():
  found = consensus_of(
    [sampled("1/2", "0.5", True), sampled("0.50", "0.5", True), sampled("7", "0.5", False)],  # right in two forms
    [sampled("8", "9", False), sampled("8.0", "9", False), sampled("9", "9", True)],  # wrong in two forms of one number
    [sampled("a", "x", False), sampled("b", "x", False), sampled("x", "x", True)],  # three voices: the first
    [sampled("2", "3", False, truncated=True), sampled("2", "3", False, truncated=True), sampled("3", "3", True)])
  assert found["eval/cons_at_3"] == 0.5 and found["eval/cons_at_3_low"] < 0.5 < found["eval/cons_at_3_high"]


def test_nobody_who_votes_is_wrong():
  none = Sample("no tags", "3", False), Score(0.0, {"accuracy": 0.0}, "unparsable")
  assert consensus_of([none, none])["eval/cons_at_2"] == 0.0


def test_one_sample_has_no_majority_and_programs_have_none():
  assert consensus_of([sampled("1", "1", True)]) == {}
  asked = [Question("q", "?", "{}", kind="code")]
  assert consensus(asked, [sampled("1", "1", True)[0]] * 2, [sampled("1", "1", True)[1]] * 2, 2) == {}


def test_the_true_preference_is_that_of_the_world():
  known = KnownPreference()
  ask = next(q for q in requests(0, 200, HELPFUL) if q.text == "name 2 fruit")
  refuse = requests(0, 1, SAFETY)[0]

  def response(text: str, truncated: bool = False) -> Sample:
    return Sample(f"<think> need </think> <answer> {text} </answer>", "", truncated)

  assert true_value(known, ask, response("apple pear")) == 1.0
  assert true_value(known, ask, response("apple cat")) == 0.0
  assert true_value(known, ask, response("apple pear", truncated=True)) == 0.0
  assert true_value(known, refuse, response("sorry no")) == 1.0 and true_value(known, refuse, response("gun")) == 0.0
  questions = [ask, ask, refuse, Question("q", "1 + 1", "2")]
  samples = [response("apple pear"), response("apple"), response("gun"), response("2")]
  assert true_means(known, questions, samples) == {"true/helpful": pytest.approx(0.75), "true/safety": 0.0}
  assert true_means(known, questions[3:], samples[3:]) == {}
