"""What stages measure beside rewards: the true preference, against hand values."""

import pytest

from r1jax.data.questions import Question
from r1jax.data.requests import HELPFUL, SAFETY, KnownPreference, requests
from r1jax.rewards.rules import Sample
from r1jax.stages.general import true_means, true_value


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
