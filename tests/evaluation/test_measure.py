"""Metrics of responses, and the table of them, by hand."""
import numpy as np
import pytest

from r1jax.errors import InputError
from r1jax.evaluation.accuracy import pass_at_1, pass_at_k
from r1jax.evaluation.measure import accuracy, conduct, several, share, table


def test_one_value_a_response_is_read_question_by_question():
  right = [1, 1, 0, 0, 1, 0]  # three questions, two samples each
  expected = pass_at_1(np.array([[1, 1], [0, 0], [1, 0]]))
  assert accuracy(right, 2) == {
    "pass_at_1": expected.mean, "pass_at_1_low": expected.low, "pass_at_1_high": expected.high}
  assert share("x", [0.5, 1.0, 0.0, 0.5, 1.0, 0.0], 2)["x"] == 0.5


def test_several_samples_are_powers_of_two_and_all_of_them():
  right = np.random.default_rng(0).integers(0, 2, 60)
  found = several(right, 6)
  assert [name for name in found if not name.endswith(("_low", "_high"))] == ["pass_at_2", "pass_at_4", "pass_at_6"]
  assert found["pass_at_4"] == pass_at_k(right.reshape(10, 6), 4).mean
  assert several(right, 1) == {}


def test_shares_of_what_went_wrong_are_of_all_responses():
  statuses = ["scored", "unparsable", "timed_out", "crashed", "unparsable"]
  found = conduct([2, 4, 6, 8, 10], [True, True, True, True, False], statuses)
  assert found == {"length": 6, "truncated": pytest.approx(0.2), "unparsable": 0.2, "verifier_failures": 0.4}
  assert conduct([2], [False], None) == {"length": 2, "truncated": 1}


def test_a_number_of_values_that_is_no_multiple_of_the_samples():
  for values, samples in (([1, 0, 1], 2), ([], 1), ([1], 0)):
    with pytest.raises(InputError, match="one value for each sample"):
      accuracy(values, samples)


def test_the_table_has_a_column_a_model_and_a_line_a_metric():
  one = {"x/pass_at_1": 0.5, "x/pass_at_1_low": 0.25, "x/pass_at_1_high": 0.75, "x/questions": 4}
  found = {"a": one, "b": {"x/length": 3}}
  assert table(found).split("\n") == [
    "| | a | b |", "|---|---|---|", "| x/pass_at_1 | 0.500 (0.250 to 0.750) |  |", "| x/length |  | 3.000 |", ""]
