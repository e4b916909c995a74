import pytest

from r1jax.errors import InputError
from r1jax.evaluation.claims import Claim, claims_table, examine, measurements, spread_table


def summary(rl=0.9, base=0.2, low=None, high=None):
  """As stages.runner leaves it: a stage of training, and a table of policies."""
  interval = {} if low is None else {"sums/pass_at_1_low": low, "sums/pass_at_1_high": rl + 0.01}
  return {"seconds": 60.0, "stages": {
    "rl": {"before": {"eval/length": 13.0}, "after": {"eval/length": 21.0}},
    "evaluation": {"before": {}, "after": {
      "base": {"sums/pass_at_1": base, **({} if high is None else {"sums/pass_at_1_high": high, "sums/pass_at_1_low": 0.1})},
      "rl": {"sums/pass_at_1": rl, **interval}}}}}


def test_measurements_join_a_stage_and_its_row_of_the_table():
  found = measurements(summary())
  assert found["rl"] == {"eval/length": 21.0, "sums/pass_at_1": 0.9} and found["rl.before"] == {"eval/length": 13.0}


@pytest.mark.parametrize(("claim", "of", "holds"), [
  (Claim("", "rl sums/pass_at_1", "base sums/pass_at_1"), summary(), True),
  (Claim("", "base sums/pass_at_1", "rl sums/pass_at_1"), summary(), False),
  (Claim("", "rl sums/pass_at_1", "base sums/pass_at_1"), summary(0.5, 0.5), False),  # equal is not more
  (Claim("", "rl sums/pass_at_1", "base sums/pass_at_1", by=0.5), summary(0.7, 0.25), False),
  (Claim("", "rl sums/pass_at_1", "base sums/pass_at_1", by=-0.1), summary(0.45, 0.5), True),
  (Claim("", "rl sums/pass_at_1", 0.95), summary(), False),
  (Claim("", 1, "rl sums/pass_at_1"), summary(), True),
  (Claim("", "rl eval/length", "rl.before eval/length"), summary(), True),
  (Claim("", "rl sums/pass_at_1", "base sums/pass_at_1", apart=True), summary(0.9, 0.2, 0.8, 0.3), True),
  (Claim("", "rl sums/pass_at_1", "base sums/pass_at_1", apart=True), summary(0.9, 0.2, 0.25, 0.3), False),
  (Claim("", "rl sums/pass_at_1", "base sums/pass_at_1", apart=True), summary(), None),  # no intervals
  (Claim("", "rl nothing", 0.5), summary(), None),
  (Claim("", "other eval/length", 0.5), summary(), None),
  (Claim("", "rl sums/pass_at_1", 0.5), summary(float("nan")), None),
])
def test_a_claim_holds_or_not_or_was_not_measured(claim, of, holds):
  assert examine(claim, of).holds is holds


def test_the_tables_count_seeds_and_name_what_is_missing():
  claims = [Claim("RL learns", "rl sums/pass_at_1", "base sums/pass_at_1", by=0.3), Claim("absent", "rl x/y", 0)]
  runs = {101: summary(0.9, 0.2), 102: summary(0.4, 0.2), 103: summary(float("nan"), 0.2)}
  lines = claims_table(claims, runs).splitlines()
  assert lines[2].endswith("| 0.900 / 0.200 yes | 0.400 / 0.200 **no** | nan / 0.200 not measured | 1 of 3 |")
  assert "by 0.3 at least" in lines[2] and lines[3].endswith("| 0 of 3 |") and "–" in lines[3]
  assert "| rl sums/pass_at_1 | 0.650 | 0.400 | 0.900 | 2 of 3 |" in spread_table(runs)
  assert claims_table((), runs) == ""


@pytest.mark.parametrize("side", ["rl", "nobody sums/pass_at_1", float("nan"), True, "rl a b"])
def test_a_side_that_means_nothing_is_refused(side):
  with pytest.raises(InputError, match=r"claims\.0\.than"):
    Claim("x", 1.0, side).check("claims.0", ("rl",))
  Claim("x", "rl.before eval/length", 2).check("claims.0", ("rl",))
