"""Alerts on labelled logs: each planted failure is found within 50 steps, and nothing is found where nothing is wrong."""

import pathlib

import numpy as np
import pytest

from r1jax.reports.alerts import QUIET, RULES, StageLog, alerts, alerts_of_run, lasting, noise
from r1jax.reports.run import read_run

from . import logs

ROOT = pathlib.Path(__file__).parent.parent.parent
FAILURES = ("hacking", "length", "format", "repetition", "language", "entropy", "dead_groups", "verifier", "not_a_number",
            "outlier", "slow")
WITHIN = 50  # steps


def stage_log(log, samples):
  steps = log["step"]
  return StageLog.of("r1_zero", {k: (steps, np.asarray(v, float)) for k, v in log.items() if k != "step"}, samples)


# Dense logs have a line a step, sparse ones one a rollout of 16 steps, as the paper's geometry has them.
PLANTED = [(failure, seed, every, onset) for failure in FAILURES
           for seed, every, onset in ((0, 1, 60), (1, 1, 150), (2, 1, 200), (3, 16, 401), (4, 16, 641))]
HEALTHY = [(kind, seed, every, noise) for kind in ("learning", "flat", "converged")
           for seed, every, noise in ((0, 1, 0.03), (1, 1, 0.08), (2, 16, 0.01), (3, 16, 0.03), (4, 4, 0.05))]


def test_there_are_enough_labelled_logs():
  assert len(PLANTED) >= 40 and len(HEALTHY) >= 10 and {f for f, *_ in PLANTED} == {rule.name for rule in RULES}


@pytest.mark.parametrize(("failure", "seed", "every", "onset"), PLANTED)
def test_a_planted_failure_is_found_within_50_steps_of_its_onset(failure, seed, every, onset):
  log, samples = logs.healthy(seed, steps=300 if every == 1 else 1200, every=every)
  logs.plant(failure, log, samples, onset, seed)
  found = [alert for alert in alerts(stage_log(log, samples)) if alert.rule == failure]
  assert [onset <= alert.step <= onset + WITHIN for alert in found] == [True], found  # once, however long it lasts


@pytest.mark.parametrize(("kind", "seed", "every", "noise"), HEALTHY)
def test_nothing_is_found_in_a_healthy_log(kind, seed, every, noise):
  assert alerts(stage_log(*logs.healthy(seed, 300 if every == 1 else 1600, every, noise, kind))) == []


def test_a_jump_of_length_after_a_change_of_its_maximum_is_healthy():
  log, samples = logs.healthy(0, kind="flat")
  jump = logs.ramp(log, 150, over=20)
  log["length/max"], log["length/mean"] = np.where(log["step"] >= 150, 2048, 1024), log["length/mean"] * (1 + jump)
  assert alerts(stage_log(log, samples)) == []
  log["length/max"][:] = 1024
  assert [a.rule for a in alerts(stage_log(log, samples))] == ["length"]


def test_a_jump_of_length_with_other_questions_is_healthy():
  log, samples = logs.healthy(0, kind="flat")
  log["length/mean"] = log["length/mean"] * (1 - 0.4 * (log["step"] >= 150))
  assert [a.rule for a in alerts(stage_log(log, samples))] == ["length"]
  share = {**log, "rollout/general": np.where(log["step"] >= 150, 0.5, 0.0)}
  assert alerts(stage_log(share, samples)) == []
  found = stage_log(log, samples)  # an older log tells it by the reward model that comes in
  found.series["reward/helpful"] = log["step"][149:], np.full(151, 0.5)
  assert alerts(found) == []


def test_a_reward_model_that_rises_while_accuracy_stays_is_healthy():
  log, samples = logs.healthy(0, kind="flat")
  log["reward/helpful"] = logs.ramp(log, 100, over=150)
  assert alerts(stage_log(log, samples)) == []


def test_the_true_preference_is_a_guard_too():
  log, samples = logs.healthy(0, kind="flat")
  log["reward/helpful"], log["true/helpful"] = logs.ramp(log, 100), 0.7 - 0.2 * logs.ramp(log, 100)
  assert [a.rule for a in alerts(stage_log(log, samples))] == ["hacking"]


def test_without_samples_a_fall_of_language_is_not_confused_with_texts_without_words():
  log, _ = logs.healthy(0, kind="flat")
  log["reward/language"] = 0.95 - 0.45 * logs.ramp(log, 100)  # to 0.5: what a text without words gets
  assert alerts(stage_log(log, [])) == []
  log["reward/language"] = 0.95 - 0.6 * logs.ramp(log, 100)
  assert [a.rule for a in alerts(stage_log(log, []))] == ["language"]


@pytest.mark.parametrize(("points", "told"), [([0.4], []), ([2.4], []), ([2.4, 0.05, 2.4], []), ([0.3, 0.4], [101]),
                                              ([0.3, 0.24], []), ([0.2, 3.0], []), ([6.0], [100])], ids=str)
def test_one_step_of_a_high_kl_is_a_rare_token_and_two_are_a_jump(points, told):
  log, _ = logs.healthy(0, kind="flat")
  log["policy/kl"] = np.full(len(log["step"]), 0.05)
  log["policy/kl"][log["step"].searchsorted(100):][:len(points)] = points
  found = alerts(stage_log(log, []))
  assert [(a.rule, a.step) for a in found] == [("outlier", step) for step in told]
  assert all("0.05 at most" in a.message for a in found)


def test_a_stage_without_the_metrics_has_no_alerts():
  assert alerts(StageLog("sft", {})) == []
  empty = np.array([1, 2, 3]), np.full(3, np.nan)
  assert alerts(StageLog("sft", dict.fromkeys(("reward/accuracy", "reward/format", "length/mean"), empty))) == []


@pytest.mark.parametrize("file", sorted((ROOT / "experiments" / "results").rglob("metrics.jsonl")), ids=str)
def test_nothing_is_found_in_the_runs_of_this_repository(file):
  assert alerts_of_run(read_run(file.parent)) == []


def test_noise_is_that_of_points_and_not_of_the_trend():
  steps, rng = np.arange(1000), np.random.default_rng(0)
  assert noise((steps, 0.01 * steps + 0.2 * rng.standard_normal(1000))) == pytest.approx(0.2, rel=0.15)


def test_a_condition_has_to_hold_for_six_steps():
  at = np.arange(20)
  assert not lasting(np.isin(at, [8, 9, 10, 11, 12]), at).any()
  assert np.flatnonzero(lasting(np.isin(at, [8, 9, 10, 11, 12, 13]), at)).tolist() == [13]


def test_what_recurs_after_a_quiet_time_is_a_new_onset():
  log, samples = logs.healthy(0, steps=400, kind="flat")
  broken = (log["step"] >= 60) & (log["step"] < 80)
  over = 79 + 19  # twenty steps still have the last one
  for again, expected in ((over + QUIET, [60]), (over + QUIET + 1, [60, over + QUIET + 1])):
    log["verifier/crashed"] = np.where(broken | (log["step"] >= again), 6_000.0, 0.0)
    assert [(a.rule, a.step) for a in alerts(stage_log(log, samples))] == [("verifier", step) for step in expected]
