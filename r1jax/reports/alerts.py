"""Alerts: what goes wrong in RL, found in the series and the samples of a stage. Pure functions, for the report and the run.

A rule compares the mean of the last RECENT steps with that of the SPAN steps that ended a lag earlier. A change counts when
it exceeds both a size of its own and NOISE standard errors, which are estimated from the differences of neighbours: rewards
of small batches are noisy, and an alert that cries wolf is switched off. All thresholds are ours.

Whatever a rule says of a step rests on the steps up to it, but for the noise, which is estimated from all there is. So the
report, which sees a whole log, and the run (r1jax/reports/watch.py), which sees its beginning, find the same.
"""
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from r1jax.reports.run import Run, Series
from r1jax.reports.watchdogs import Watchdogs
from r1jax.reports.words import is_repetitive, leaves_language

RECENT, SPAN = 20, 30  # steps
LAGS = (30, 160, 640)  # steps: of sudden changes, and of slow ones
NOISE = 4.0  # standard errors
HOLDS = 6  # steps through which a condition has to hold
FEW = 8  # points from which on noise can be estimated
POINTS = 8  # rollouts that a stretch of SPAN steps has to hold where two noisy series are compared
QUIET = 200  # steps for which a rule has not held before it is a new onset: a dozen rollouts of 16 steps
RULE_PARTS = ("accuracy", "format", "language", "mean", "equal_groups")  # of reward/NAME: not a reward model's
HISTORY = 50  # points that one point is compared with; fewer than RECENT are no history
UNUSUAL = {"policy/kl": 0.02, "policy/ratio": 1.0, "policy/teacher_kl": 1.0, "policy/grad_norm": 1.0,
           "reward_model/grad_norm": 1.0}  # what is told of a jump: metric -> what counts as its history at least
LONE = 10.0  # times an outlier's threshold: how far a KL has to be out that the step after does not confirm
SLOW_SECONDS = 60.0  # that a step takes longer than it did


FLAGS: dict[str, Callable[[dict], bool]] = {  # what is told of a sample by its text
  "repetition": lambda sample: is_repetitive(sample["response"]),
  "language": lambda sample: leaves_language(str(sample.get("question", "")), sample["response"]),
}


def flags_of(sample: dict) -> dict[str, float]:
  """1 or 0 for each of FLAGS; nothing for a line without a text."""
  return {name: float(flag(sample)) for name, flag in FLAGS.items()} if isinstance(sample.get("response"), str) else {}


@dataclass(frozen=True)
class StageLog:
  """What rules look at. flags: of FLAGS, one point for each sample, by step. watchdogs: whose thresholds they go by."""

  stage: str
  series: dict[str, Series]
  flags: dict[str, Series] = field(default_factory=dict)
  watchdogs: Watchdogs = Watchdogs()

  @classmethod
  def of(cls, stage: str, series: dict[str, Series], samples: Iterable[dict]) -> "StageLog":
    """samples: rows of samples.jsonl, by step."""
    found = [(sample["step"], flags) for sample in samples if (flags := flags_of(sample))]
    steps = np.array([step for step, _ in found])
    return cls(stage, series, {name: (steps, np.array([f[name] for _, f in found])) for name in FLAGS} if found else {})

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


@dataclass(frozen=True, order=True)
class Finding:
  """A stretch of steps in which a rule held, both ends included, and what it says of the first. since: the earliest
  step that the first was compared with."""

  step: int
  last: int
  message: str
  since: int


@dataclass(frozen=True)
class Alert:
  """One onset. step: the first at which the rule held."""

  rule: str
  stage: str
  step: int
  message: str


@dataclass(frozen=True)
class Rule:
  """An alert's definition, in words that name its thresholds, and what to do. find: every stretch, in any order."""

  name: str
  title: str
  definition: str
  action: str
  find: Callable[[StageLog], list[Finding]]

  def onsets(self, log: StageLog) -> list[Finding]:
    """The stretches in which the rule held. Those that are less than QUIET steps apart are one, and one that compares with
    steps before the last onset has found the same change from farther away."""
    found: list[Finding] = []
    for new in sorted(self.find(log)):
      if found and new.step <= found[-1].last + QUIET:
        found[-1] = replace(found[-1], last=max(found[-1].last, new.last))
      elif not found or new.since > found[-1].step:
        found.append(new)
    return found


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


def change(series: Series, at: np.ndarray, lag: int,
           span: int = SPAN) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """(recent mean, earlier mean, difference, its standard error) at each step; NaN where a window is empty."""
  recent, n = window(series, at, 0, RECENT)
  earlier, m = window(series, at, lag, span)
  return recent, earlier, recent - earlier, noise(series) * np.sqrt(1 / np.maximum(n, 1) + 1 / np.maximum(m, 1))


def lasting(holds: np.ndarray, at: np.ndarray) -> np.ndarray:
  """Where a condition holds and has held for HOLDS steps."""
  share, count = window((at, holds.astype(float)), at, 0, HOLDS)
  begun = at - at[0] >= HOLDS if len(at) else holds
  return holds & (share == 1.0) & (count > 0) & begun


def stretches(holds: np.ndarray, at: np.ndarray, message: Callable[[int], str], back: int = 0) -> list[Finding]:
  """The runs of neighbouring steps at which a condition holds. message: of the index of a run's first. back: steps that it
  looks back."""
  edges = np.diff(np.concatenate([[False], holds, [False]]).astype(int))
  return [Finding(int(at[i]), int(at[j - 1]), message(i), int(at[i]) - back) for i, j in
          zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)]


def _rising(series: Series | None, at: np.ndarray, lag: int, least: float) -> np.ndarray:
  """Where a series has gone up by `least` and by its standard error; False where it is not known."""
  if series is None:
    return np.zeros(len(at), bool)
  _, _, delta, error = change(series, at, lag)
  return delta >= np.maximum(least, error)


def _hacking(log: StageLog) -> list[Finding]:
  found = []
  guards = [n for n in log.series if n in ("reward/accuracy", "eval/pass_at_1", "eval/helpfulness") or n.startswith("true/")]
  models = [n for n in log.series if n.startswith("reward/") and n.removeprefix("reward/") not in RULE_PARTS]
  for model in models:
    rewards = log.get(model)
    for guard in guards:
      judge = log.get(guard)
      if rewards is not None and judge is not None:
        for lag in LAGS:
          found += _apart(model, rewards, guard, judge, lag)
  return found


def _apart(model: str, rewards: Series, guard: str, judge: Series, lag: int) -> list[Finding]:
  """Where the one rises and the other falls. Of few rollouts in SPAN steps the mean would be noise: they take POINTS."""
  at = np.union1d(rewards[0], judge[0])
  span = max(SPAN, POINTS * int(np.median(np.diff(at)))) if len(at) > 1 else SPAN
  _, _, up, up_error = change(rewards, at, lag, span)
  new, old, down, down_error = change(judge, at, lag, span)
  least = 0.05 if len(judge[1]) >= FEW else 0.08
  holds = (up >= np.maximum(0.1, NOISE * up_error)) & (-down >= np.maximum(least, NOISE * down_error))
  return stretches(lasting(holds, at), at, lambda i: f"{model} rose by {up[i]:.2f} while {guard} fell from {old[i]:.2f} to "
                   f"{new[i]:.2f}.", lag + span)


def _length(log: StageLog) -> list[Finding]:
  length, accuracy = log.get("length/mean"), log.accuracy()
  return [] if length is None or accuracy is None else [
    finding for lag in LAGS[:2] for finding in _drift(log, length, accuracy, lag)]


def _meant(log: StageLog, start: int) -> set[int]:
  """The steps at which the length is meant to change: there is another limit, or other questions, as where general ones with
  a reward model of their own come in after the start."""
  found: set[int] = set()
  for name in log.series:
    steps, values = log.get(name) or (np.array([], int), np.array([]))
    if name in ("length/max", "rollout/general"):
      found |= set(steps[1:][np.diff(values) != 0].tolist())
    elif name.startswith("reward/") and name.removeprefix("reward/") not in RULE_PARTS:
      found |= set(steps[:1][steps[:1] > start].tolist())
  return found


def _drift(log: StageLog, length: Series, accuracy: Series, lag: int) -> list[Finding]:
  """Where the length has changed and nothing is gained by it."""
  at = length[0]
  new, old, delta, error = change(length, at, lag)
  drifts = (np.abs(delta) >= 0.25 * old) & (np.abs(delta) >= NOISE * error)
  for step in _meant(log, at[0]):
    drifts &= (at < step) | (at - lag - SPAN > step)
  earns = _rising(accuracy, at, lag, 0.03) | _rising(log.get("reward/format"), at, lag, 0.05)
  known = ~np.isnan(change(accuracy, at, lag)[2])
  return stretches(lasting(drifts & ~earns & known, at), at, lambda i: f"mean length went from {old[i]:.0f} to {new[i]:.0f} "
                   "tokens, accuracy did not rise.", lag + SPAN)


def _start(series: Series) -> float:
  """The mean of a series over the first ten steps of its stage, three points at least."""
  steps, values = series
  return float(values[:max(3, np.searchsorted(steps, steps[0] + 10))].mean())


def _format(log: StageLog) -> list[Finding]:
  shape, accuracy = log.get("reward/format"), log.accuracy()
  if shape is None or accuracy is None:
    return []
  at, start, base = shape[0], _start(shape), _start(accuracy)
  wanted = min(start + 0.3, 0.9)
  recent, n = window(accuracy, at, 0, RECENT)
  error = noise(accuracy) / np.sqrt(np.maximum(n, 1))
  now, then = (window(shape, at, lag, RECENT)[0] for lag in (0, 20))
  learnt = (now >= wanted) & (then >= wanted) & (wanted >= start + 0.15)
  holds = learnt & (recent - base < np.maximum(0.03, 2 * error)) & (recent < 0.9)
  return stretches(lasting(holds, at), at, lambda i: f"format is up from {start:.2f} to {now[i]:.2f} and stays there, "
                   f"accuracy is at {recent[i]:.2f} where it began ({base:.2f}).")


def _share(flags: Series | None, least: float) -> list[Finding]:
  """Where `least` more of the samples of 30 steps have a flag than of the stage's first ten steps, three of them or more."""
  if flags is None:
    return []
  at = np.unique(flags[0])
  share, count = window(flags, at, 0, 30)
  wanted = min(_start(flags) + least, 0.9)
  return stretches((share >= wanted) & (share * count >= 3) & (at >= at[0] + 10), at, lambda i: f"{share[i]:.0%} of the "
                   f"{count[i]} samples of the last 30 steps, {_start(flags):.0%} at the start.")


def _repetition(log: StageLog) -> list[Finding]:
  return _share(log.flags.get("repetition"), 0.2)


def _language(log: StageLog) -> list[Finding]:
  found = _share(log.flags.get("language"), 0.25)
  for name in ("reward/language", "eval/language") if not log.flags else ():
    series = log.get(name)
    if series is not None:
      found += _fallen(name, series)
  return found


def _fallen(name: str, series: Series) -> list[Finding]:
  """Where the metric of languages has fallen."""
  recent, _ = window(series, series[0], 0, RECENT)
  best = np.maximum.accumulate(recent)
  # 0.5 is what texts without words get, and a policy may rightly stop to use words.
  holds = lasting((best - recent >= 0.15) & (recent < 0.48), series[0])
  return stretches(holds, series[0], lambda i: f"{name} fell from {best[i]:.2f} to {recent[i]:.2f}.")


def _entropy(log: StageLog) -> list[Finding]:
  entropy, accuracy = log.get("policy/entropy"), log.accuracy()
  return [] if entropy is None or accuracy is None else [
    finding for lag in LAGS for finding in _collapse(entropy, accuracy, lag)]


def _collapse(entropy: Series, accuracy: Series, lag: int) -> list[Finding]:
  """Where the entropy has fallen and accuracy has not risen."""
  at = entropy[0]
  new, old, delta, error = change(entropy, at, lag)
  level, _, rise, _ = change(accuracy, at, lag)
  low = (new <= 0.3 * old) & (-delta >= NOISE * error) & (level < 0.9) & ~np.isnan(rise)
  return stretches(lasting(low & ~_rising(accuracy, at, lag, 0.03), at), at, lambda i: f"entropy fell from {old[i]:.3g} to "
                   f"{new[i]:.3g}, accuracy stays at {level[i]:.2f}.", lag + SPAN)


def _dead_groups(log: StageLog) -> list[Finding]:
  equal, accuracy = log.get("reward/equal_groups"), log.accuracy()
  if equal is None or accuracy is None:
    return []
  at = equal[0]
  share, level = window(equal, at, 0, RECENT)[0], window(accuracy, at, 0, SPAN)[0]
  holds = lasting((share >= log.watchdogs.dead_groups.threshold) & (level < 0.9) & (at >= at[0] + RECENT), at)
  return stretches(holds, at, lambda i: f"{share[i]:.0%} of groups have one reward for all samples, accuracy is "
                   f"{level[i]:.2f}.")


def _verifier(log: StageLog) -> list[Finding]:
  counts = {name: log.get(f"verifier/{name}") for name in ("scored", "unparsable", "timed_out", "crashed")}
  at = next((series[0] for series in counts.values() if series is not None), None)
  if at is None:
    return []

  def total(*names: str) -> np.ndarray:
    windows = [window(counts[name], at, 0, RECENT) for name in names if counts[name] is not None]
    return sum((np.nan_to_num(mean) * n for mean, n in windows), np.zeros(len(at)))

  failed, every = total("timed_out", "crashed"), total(*counts)
  holds = (failed >= log.watchdogs.verifier.threshold * every) & (failed >= 3)
  return stretches(holds, at, lambda i: f"{failed[i]:.0f} of {every[i]:.0f} verdicts in 20 steps timed out or crashed.")


def _not_a_number(log: StageLog) -> list[Finding]:
  found = []
  for name in ("policy/loss", "policy/grad_norm", "reward/mean", "reward_model/loss", "reward_model/grad_norm"):
    steps, values = log.series.get(name, (np.array([]), np.array([])))
    found += stretches(np.isnan(values), steps, lambda i, name=name: f"{name} is NaN or infinite.")
  return found


def _before(values: np.ndarray, rank: float, where: np.ndarray) -> np.ndarray:
  """The value of a rank (1: the largest, 0.5: the median) among the HISTORY points before each one; infinite where there are
  fewer than RECENT, and where nobody asks."""
  found, at = np.full(len(values), np.inf), np.flatnonzero(where & (np.arange(len(values)) >= RECENT))
  if len(at):
    padded = np.concatenate([np.full(HISTORY, np.inf), values])
    ordered = np.sort(np.lib.stride_tricks.sliding_window_view(padded, HISTORY)[at], axis=1)
    found[at] = ordered[np.arange(len(at)), (rank * (np.minimum(at, HISTORY) - 1)).astype(int)]
  return found


def _outlier(log: StageLog) -> list[Finding]:
  found, times = [], log.watchdogs.outlier.threshold
  for name, least in UNUSUAL.items():
    steps, values = log.get(name) or (np.array([], int), np.array([]))
    most = _before(values, 1.0, values > times * least)
    far = values > times * most
    if name == "policy/kl":  # k3's exp(-d) has a tail of index 1: one rare token of 1,400 moves a healthy step's mean by 2
      before = np.concatenate([[np.inf], most[:-1]])
      lasts = np.minimum(values, np.roll(values, 1)) > times * before
      most, far = np.where(lasts, before, most), lasts | (values > LONE * times * most)
    found += stretches(far, steps, lambda i, name=name, values=values, most=most:
                       f"{name} is {values[i]:.3g}, and was {most[i]:.3g} at most.")
  return found


def _slow(log: StageLog) -> list[Finding]:
  times = [log.series[name] for name in log.series if name.startswith("time/") and not name.endswith("_hidden")]
  if not times:
    return []
  at = np.unique(np.concatenate([steps for steps, _ in times]))
  seconds = np.zeros(len(at))
  for steps, values in times:
    np.add.at(seconds, np.searchsorted(at, steps), np.nan_to_num(values))
  usual = _before(seconds, 0.5, seconds > SLOW_SECONDS)
  return stretches((seconds > log.watchdogs.slow.threshold * usual) & (seconds > usual + SLOW_SECONDS), at, lambda i:
                   f"{seconds[i]:.0f} s, and {usual[i]:.1f} s before.")


RULES = (
  Rule("hacking", "A reward model is being hacked",
       "A reward model's part rises by 0.1 or more while rule accuracy, held-out pass@1 or the true preference falls by "
       "0.05 or more (0.08 where it has fewer than 8 values), against 30, 160 or 640 steps before.",
       "Stop the stage before that step; use the model reward for fewer steps (the paper: the last 400 of 1,700), lower "
       "its weight, refresh the reference more often, or train the reward model on samples of this policy.", _hacking),
  Rule("length", "Length drifts without accuracy",
       "Mean length changes by a quarter or more against 30 or 160 steps before, while accuracy rises by less than 0.03 "
       "and format by less than 0.05; not counted until a change of the maximum length or of the mixture of questions is "
       "that far back.",
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
       "A loss, a gradient's norm or reward/mean is NaN or infinite in one step or more. The run stops.",
       "The checkpoint before stands: look at the learning rate, the precision, and at samples of that "
       "step.", _not_a_number),
  Rule("outlier", "A jump far out of its history",
       "Ratio or a gradient's norm is more than 5 times the largest of the 50 values before, of 20 at least (5 at least); "
       "KL is so in two steps in a row (0.1 at least), or is 50 times as large in one.",
       "Look at samples of that step. Lower the learning rate, clip the gradient, or raise the KL coefficient.", _outlier),
  Rule("slow", "A step takes far longer than before",
       "A step takes more than 10 times the median of the 50 before, of 20 at least, and 60 s longer.",
       "Look at the time/ metrics of that step, and at what else runs on this machine.", _slow),
)


def alerts(log: StageLog) -> list[Alert]:
  """The onsets of all rules in a stage, by step."""
  found = [Alert(rule.name, log.stage, onset.step, onset.message) for rule in RULES for onset in rule.onsets(log)]
  return sorted(found, key=lambda alert: alert.step)


def alerts_of_run(run: Run) -> list[Alert]:
  """Those of all stages of a run."""
  by_stage: dict[str, list[dict]] = {}
  for sample in run.samples:
    by_stage.setdefault(sample["stage"], []).append(sample)
  logs = [StageLog.of(stage, series, by_stage.get(stage, [])) for stage, series in run.series.items()]
  return [alert for log in logs for alert in alerts(log)]
