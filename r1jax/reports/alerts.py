"""Alerts: what goes wrong in RL, found in the series and the samples of a stage. Pure functions, for the report and the run.

A rule compares the mean of the last RECENT steps with that of the SPAN steps that ended a lag earlier. A change counts when
it exceeds both a size of its own and NOISE standard errors, which are estimated from the differences of neighbours: rewards
of small batches are noisy, and an alert that cries wolf is switched off. All thresholds are ours.
"""
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from r1jax.reports.run import Run, Series
from r1jax.reports.words import is_repetitive, leaves_language

RECENT, SPAN = 20, 30  # steps
LAGS = (30, 160, 640)  # steps: of sudden changes, and of slow ones
NOISE = 4.0  # standard errors
HOLDS = 6  # steps through which a condition has to hold
FEW = 8  # points from which on noise can be estimated
RULE_PARTS = ("accuracy", "format", "language", "mean", "equal_groups")  # of reward/NAME: not a reward model's


@dataclass(frozen=True)
class StageLog:
  """What rules look at. samples: rows of samples.jsonl, by step."""

  stage: str
  series: dict[str, Series]
  samples: list[dict] = field(default_factory=list)

  def get(self, name: str) -> Series | None:
    """A series without its gaps; None where nothing is left."""
    if name not in self.series:
      return None
    steps, values = self.series[name]
    known = ~np.isnan(values)
    return (steps[known], values[known]) if known.any() else None

  def accuracy(self) -> Series | None:
    """Of the training samples, or of the held-out questions where that is not logged."""
    return self.get("reward/accuracy") or self.get("eval/pass_at_1")


@dataclass(frozen=True)
class Alert:
  """One finding. step: the first at which the rule held."""

  rule: str
  stage: str
  step: int
  message: str


@dataclass(frozen=True)
class Rule:
  """An alert's definition, in words that name its thresholds, and what to do. find: (step, message), or None."""

  name: str
  title: str
  definition: str
  action: str
  find: Callable[[StageLog], tuple[int, str] | None]


def window(series: Series, at: np.ndarray, lag: int, span: int) -> tuple[np.ndarray, np.ndarray]:
  """Means and numbers of the points in (at - lag - span, at - lag]; NaN where there is none."""
  steps, values = series
  sums = np.concatenate([[0.0], np.cumsum(values)])
  low, high = (np.searchsorted(steps, at - offset, side="right") for offset in (lag + span, lag))
  count = high - low
  return np.where(count > 0, (sums[high] - sums[low]) / np.maximum(count, 1), np.nan), count


def noise(series: Series) -> float:
  """The standard deviation of points around their trend, from the median difference of neighbours; 0 for few points."""
  values = series[1]
  return 0.0 if len(values) < FEW else float(1.4826 * np.median(np.abs(np.diff(values))) / np.sqrt(2))


def change(series: Series, at: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """(recent mean, earlier mean, difference, its standard error) at each step; NaN where a window is empty."""
  recent, n = window(series, at, 0, RECENT)
  earlier, m = window(series, at, lag, SPAN)
  return recent, earlier, recent - earlier, noise(series) * np.sqrt(1 / np.maximum(n, 1) + 1 / np.maximum(m, 1))


def first(holds: np.ndarray, at: np.ndarray) -> int | None:
  """The index of the first step at which a condition holds and has held for HOLDS steps."""
  share, count = window((at, holds.astype(float)), at, 0, HOLDS)
  begun = at - at[0] >= HOLDS if len(at) else holds
  found = np.flatnonzero(holds & (share == 1.0) & (count > 0) & begun)
  return int(found[0]) if len(found) else None


def _rising(series: Series | None, at: np.ndarray, lag: int, least: float) -> np.ndarray:
  """Where a series has gone up by `least` and by its standard error; False where it is not known."""
  if series is None:
    return np.zeros(len(at), bool)
  _, _, delta, error = change(series, at, lag)
  return delta >= np.maximum(least, error)


def _hacking(log: StageLog) -> tuple[int, str] | None:
  found = []
  guards = [n for n in log.series if n in ("reward/accuracy", "eval/pass_at_1", "eval/helpfulness") or n.startswith("true/")]
  models = [n for n in log.series if n.startswith("reward/") and n.removeprefix("reward/") not in RULE_PARTS]
  for model in models:
    rewards = log.get(model)
    for guard in guards:
      judge = log.get(guard)
      if rewards is None or judge is None:
        continue
      at = np.union1d(rewards[0], judge[0])
      for lag in LAGS:
        _, _, up, up_error = change(rewards, at, lag)
        new, old, down, down_error = change(judge, at, lag)
        least = 0.05 if len(judge[1]) >= FEW else 0.08
        i = first((up >= np.maximum(0.1, NOISE * up_error)) & (-down >= np.maximum(least, NOISE * down_error)), at)
        if i is not None:
          found.append((int(at[i]), f"{model} rose by {up[i]:.2f} while {guard} fell from {old[i]:.2f} to {new[i]:.2f}."))
  return min(found, default=None)


def _length(log: StageLog) -> tuple[int, str] | None:
  length, accuracy, limit = log.get("length/mean"), log.accuracy(), log.get("length/max")
  if length is None or accuracy is None:
    return None
  at, found = length[0], []
  changed = limit[0][1:][np.diff(limit[1]) != 0] if limit is not None else np.array([], int)
  for lag in LAGS[:2]:
    new, old, delta, error = change(length, at, lag)
    drifts = (np.abs(delta) >= 0.25 * old) & (np.abs(delta) >= NOISE * error)
    for step in changed:  # a new limit is meant to change the length
      drifts &= (at < step) | (at - lag - SPAN > step)
    earns = _rising(accuracy, at, lag, 0.03) | _rising(log.get("reward/format"), at, lag, 0.05)
    known = ~np.isnan(change(accuracy, at, lag)[2])
    i = first(drifts & ~earns & known, at)
    if i is not None:
      found.append((int(at[i]), f"mean length went from {old[i]:.0f} to {new[i]:.0f} tokens, accuracy did not rise."))
  return min(found, default=None)


def _start(series: Series) -> float:
  """The mean of a series over the first ten steps of its stage, three points at least."""
  steps, values = series
  return float(values[:max(3, np.searchsorted(steps, steps[0] + 10))].mean())


def _format(log: StageLog) -> tuple[int, str] | None:
  shape, accuracy = log.get("reward/format"), log.accuracy()
  if shape is None or accuracy is None:
    return None
  at, start, base = shape[0], _start(shape), _start(accuracy)
  wanted = min(start + 0.3, 0.9)
  recent, n = window(accuracy, at, 0, RECENT)
  error = noise(accuracy) / np.sqrt(np.maximum(n, 1))
  now, then = (window(shape, at, lag, RECENT)[0] for lag in (0, 20))
  learnt = (now >= wanted) & (then >= wanted) & (wanted >= start + 0.15)
  i = first(learnt & (recent - base < np.maximum(0.03, 2 * error)) & (recent < 0.9), at)
  return None if i is None else (int(at[i]), f"format is up from {start:.2f} to {now[i]:.2f} and stays there, accuracy is "
                                 f"at {recent[i]:.2f} where it began ({base:.2f}).")


def _share(log: StageLog, flag: Callable[[dict], bool], least: float) -> tuple[int, str] | None:
  """Where `least` more of the samples of 30 steps have a flag than of the stage's first ten steps, three of them or more."""
  samples = [s for s in log.samples if isinstance(s.get("response"), str)]
  if not samples:
    return None
  steps = np.array([s["step"] for s in samples])
  flags = (steps, np.array([float(flag(s)) for s in samples]))
  at = np.unique(steps)
  share, count = window(flags, at, 0, 30)
  wanted = min(_start(flags) + least, 0.9)
  found = np.flatnonzero((share >= wanted) & (share * count >= 3) & (at >= at[0] + 10))
  if not len(found):
    return None
  i = found[0]
  return int(at[i]), f"{share[i]:.0%} of the {count[i]} samples of the last 30 steps, {_start(flags):.0%} at the start."


def _repetition(log: StageLog) -> tuple[int, str] | None:
  return _share(log, lambda s: is_repetitive(s["response"]), 0.2)


def _language(log: StageLog) -> tuple[int, str] | None:
  found = []
  by_text = _share(log, lambda s: leaves_language(str(s.get("question", "")), s["response"]), 0.25)
  if by_text:
    found.append(by_text)
  for name in ("reward/language", "eval/language") if not log.samples else ():
    series = log.get(name)
    if series is not None:
      recent, _ = window(series, series[0], 0, RECENT)
      best = np.maximum.accumulate(recent)
      # 0.5 is what texts without words get, and a policy may rightly stop to use words.
      i = first((best - recent >= 0.15) & (recent < 0.48), series[0])
      if i is not None:
        found.append((int(series[0][i]), f"{name} fell from {best[i]:.2f} to {recent[i]:.2f}."))
  return min(found, default=None)


def _entropy(log: StageLog) -> tuple[int, str] | None:
  entropy, accuracy = log.get("policy/entropy"), log.accuracy()
  if entropy is None or accuracy is None:
    return None
  at, found = entropy[0], []
  for lag in LAGS:
    new, old, delta, error = change(entropy, at, lag)
    level, _, rise, _ = change(accuracy, at, lag)
    low = (new <= 0.3 * old) & (-delta >= NOISE * error) & (level < 0.9) & ~np.isnan(rise)
    i = first(low & ~_rising(accuracy, at, lag, 0.03), at)
    if i is not None:
      found.append((int(at[i]), f"entropy fell from {old[i]:.3g} to {new[i]:.3g}, accuracy stays at {level[i]:.2f}."))
  return min(found, default=None)


def _dead_groups(log: StageLog) -> tuple[int, str] | None:
  equal, accuracy = log.get("reward/equal_groups"), log.accuracy()
  if equal is None or accuracy is None:
    return None
  at = equal[0]
  share, level = window(equal, at, 0, RECENT)[0], window(accuracy, at, 0, SPAN)[0]
  i = first((share >= 0.9) & (level < 0.9) & (at >= at[0] + RECENT), at)
  return None if i is None else (
    int(at[i]), f"{share[i]:.0%} of groups have one reward for all samples, accuracy is {level[i]:.2f}.")


def _verifier(log: StageLog) -> tuple[int, str] | None:
  counts = {name: log.get(f"verifier/{name}") for name in ("scored", "unparsable", "timed_out", "crashed")}
  at = next((series[0] for series in counts.values() if series is not None), None)
  if at is None:
    return None

  def total(*names: str) -> np.ndarray:
    windows = [window(counts[name], at, 0, RECENT) for name in names if counts[name] is not None]
    return sum((np.nan_to_num(mean) * n for mean, n in windows), np.zeros(len(at)))

  failed, every = total("timed_out", "crashed"), total(*counts)
  found = np.flatnonzero((failed >= 0.05 * every) & (failed >= 3))
  if not len(found):
    return None
  i = found[0]
  return int(at[i]), f"{failed[i]:.0f} of {every[i]:.0f} verdicts in 20 steps timed out or crashed."


def _not_a_number(log: StageLog) -> tuple[int, str] | None:
  found = []
  for name in ("policy/loss", "policy/grad_norm", "reward/mean"):
    steps, values = log.series.get(name, (np.array([]), np.array([])))
    if np.isnan(values).any():
      found.append((int(steps[np.isnan(values)][0]), f"{name} is NaN or infinite."))
  return min(found, default=None)


RULES = (
  Rule("hacking", "A reward model is being hacked",
       "A reward model's part rises by 0.1 or more while rule accuracy, held-out pass@1 or the true preference falls by "
       "0.05 or more (0.08 where it has fewer than 8 values), against 30, 160 or 640 steps before.",
       "Stop the stage before that step; use the model reward for fewer steps (the paper: the last 400 of 1,700), lower "
       "its weight, refresh the reference more often, or train the reward model on samples of this policy.", _hacking),
  Rule("length", "Length drifts without accuracy",
       "Mean length changes by a quarter or more against 30 or 160 steps before, while accuracy rises by less than 0.03 "
       "and format by less than 0.05; not counted until a change of the maximum length is that far back.",
       "Read samples of both steps: padding, loops and hedging mean that length pays by itself. Look at the reduction "
       "(per response or per token), at truncation, and at mask_truncated.", _length),
  Rule("format", "Format is learnt, accuracy is not",
       "The format reward is 0.3 above its start (or at 0.9) and was so 20 steps before, while accuracy is within 0.03 "
       "of its start and below 0.9.",
       "Look at whether any group has a right answer (dead groups): the questions may be too hard for this model, the "
       "verifier may refuse right answers (r1jax score), or the format weighs too much.", _format),
  Rule("repetition", "Samples repeat themselves",
       "20 percentage points more samples of 30 steps than at the start, three or more, have over half of the 4-grams "
       "of their last 200 words repeated, \"!!!!\", or twenty equal characters in a row.",
       "Read them. Lower the learning rate or raise the KL coefficient; look at sampler_gap, for a sampler that "
       "disagrees with the trainer ends like this; make sure that truncated samples are not rewarded.", _repetition),
  Rule("language", "Languages are mixed",
       "25 percentage points more samples of 30 steps than at the start, three or more, mix Chinese and Latin script or "
       "are in another one than their question; without samples: the language metric is 0.15 under its best, and under "
       "0.48.",
       "Add the language part to the rewards, as the paper's first RL stage does, or expect it to cost readability "
       "(R1-Zero does this).", _language),
  Rule("entropy", "Entropy collapses",
       "The policy's entropy falls to 30% or less of what it was 30, 160 or 640 steps before, accuracy is below 0.9 and "
       "has risen by less than 0.03 since.",
       "Samples of a group are becoming one: raise clip_high, lower the learning rate, raise the temperature of "
       "rollouts, or mix in questions that are not solved yet.", _entropy),
  Rule("dead_groups", "Groups are dead",
       "In 90% or more of the groups of 20 steps all samples have the same reward, while accuracy is below 0.9.",
       "No advantage, nothing is learnt: take easier or better graded questions, larger groups, or filter out questions "
       "that are always or never solved.", _dead_groups),
  Rule("verifier", "Verifiers fail",
       "5% or more of the verdicts of 20 steps, three or more, timed out or crashed; their samples count as wrong.",
       "Try the answers with `r1jax score`; raise verifier_seconds or verifier_workers, and check the "
       "sandbox.", _verifier),
  Rule("not_a_number", "Loss, gradient or reward is not a number",
       "policy/loss, policy/grad_norm or reward/mean is NaN or infinite in one step or more.",
       "Resume from the checkpoint before; look at the learning rate, the precision, and at samples of that "
       "step.", _not_a_number),
)


def alerts(log: StageLog) -> list[Alert]:
  """The first finding of each rule in a stage, by step."""
  found = [(rule.name, rule.find(log)) for rule in RULES]
  return sorted((Alert(name, log.stage, *at) for name, at in found if at is not None), key=lambda alert: alert.step)


def alerts_of_run(run: Run) -> list[Alert]:
  """Those of all stages of a run."""
  by_stage: dict[str, list[dict]] = {}
  for sample in run.samples:
    by_stage.setdefault(sample["stage"], []).append(sample)
  stages = [StageLog(stage, series, by_stage.get(stage, [])) for stage, series in run.series.items()]
  return [alert for log in stages for alert in alerts(log)]

