"""Series that the report works out from samples and other series, and the events that figures mark."""
import re

import numpy as np

from r1jax.reports.run import Run, Series
from r1jax.reports.words import KINDS, count_words, leaves_language

_VERDICTS = ("scored", "unparsable", "timed_out", "crashed")
_LEVEL = re.compile(r"eval/pass_at_1/level_(.+)")


def add_measures(run: Run) -> None:
  """Adds to each stage's series:

  words/KIND and words/wait: occurrences of the paper's words in a response, mean over the samples of a step.
  samples/left_language: share of samples that mix scripts or are in another one than their question.
  level/NAME: accuracy of the questions of a level: held out where it was measured more than twice, else of training samples,
  as rollouts have logged it or by the logged samples that carry `level`.
  verifier/failed: share of verdicts that timed out or crashed.
  """
  by_stage: dict[str, list[dict]] = {}
  for sample in run.samples:
    if isinstance(sample.get("response"), str):
      by_stage.setdefault(sample["stage"], []).append(sample)
  for stage, samples in by_stage.items():
    of = run.series.setdefault(stage, {})
    of.update({name: series for name, series in _of_samples(samples).items() if name not in of})
  for series in run.series.values():
    levels = {found[1]: series[name] for name in series if (found := _LEVEL.fullmatch(name))}
    logged = {name for name, of in series.items() if name.startswith("level/") and len(of[0]) > 2}
    series.update({f"level/{name}": of for name, of in levels.items() if len(of[0]) > 2 or f"level/{name}" not in logged})
    counts = [series[f"verifier/{s}"][1] for s in _VERDICTS if f"verifier/{s}" in series]
    if len(counts) == len(_VERDICTS) and len({len(count) for count in counts}) == 1:
      total = np.maximum(sum(counts), 1)
      series["verifier/failed"] = series["verifier/scored"][0], (counts[2] + counts[3]) / total


def _of_samples(samples: list[dict]) -> dict[str, Series]:
  words = [count_words(s["response"]) for s in samples]
  found = {}
  for kind, of in KINDS.items():
    found[f"words/{kind}"] = per_step(samples, [sum(w.get(word, 0) for word in of) for w in words])
  found["words/wait"] = per_step(samples, [w.get("wait", 0) for w in words])
  found["samples/left_language"] = per_step(samples, [
    leaves_language(str(s.get("question", "")), s["response"]) for s in samples])
  levels = sorted({str(s["level"]) for s in samples if s.get("level") not in (None, "")})
  for level in levels:
    of = [s for s in samples if str(s.get("level")) == level and _accuracy(s) is not None]
    if of:
      found[f"level/{level}"] = per_step(of, [_accuracy(s) for s in of])
  return found


def _accuracy(sample: dict) -> float | None:
  parts = sample.get("parts")
  value = parts.get("accuracy") if isinstance(parts, dict) else None
  return float(value) if isinstance(value, int | float) else None


def per_step(samples: list[dict], values: list) -> Series:
  """The mean over the samples of each step."""
  steps, place, count = np.unique([s["step"] for s in samples], return_inverse=True, return_counts=True)
  return steps, np.bincount(place, np.array(values, float)) / count


def word_table(run: Run, stage: str) -> list[tuple[str, int, float, float]]:
  """(word, occurrences in all samples read, a response in the first tenth of the steps, in the last tenth)."""
  samples = [s for s in run.samples if s["stage"] == stage and isinstance(s.get("response"), str)]
  if not samples:
    return []
  steps = np.array([s["step"] for s in samples])
  low, high = np.quantile(steps, (0.1, 0.9))
  counts = [count_words(s["response"]) for s in samples]
  table = []
  for word in (word for of in KINDS.values() for word in of):
    values = np.array([c.get(word, 0) for c in counts])
    table.append((word, int(values.sum()), float(values[steps <= low].mean()), float(values[steps >= high].mean())))
  return table


def length_changes(run: Run, stage: str) -> list[tuple[int, float, float]]:
  """(step, old, new maximum length): as logged, or as the config's schedule has them."""
  logged = run.get(stage, "length/max")
  if logged is not None:
    steps, values = logged[0][~np.isnan(logged[1])], logged[1][~np.isnan(logged[1])]
    return [(int(steps[i + 1]), float(values[i]), float(values[i + 1])) for i in np.flatnonzero(np.diff(values))]
  schedule = run.stage_config(stage).get("max_length")
  points = schedule.get("points", []) if isinstance(schedule, dict) else []
  return [(int(b[0]), float(a[1]), float(b[1])) for a, b in zip(points, points[1:], strict=False)]


def reference_replacements(run: Run, stage: str) -> list[int]:
  """The steps at which the policy became the reference, as far as the log goes. They follow from the config: at the end of
  the first rollout that reaches each multiple of reference_every."""
  config = run.stage_config(stage)
  every, updates, steps = (config.get(name) for name in ("reference_every", "minibatches", "steps"))
  if not (all(isinstance(n, int) and n > 0 for n in (every, updates, steps)) and config.get("kl_coef")):
    return []
  last = max((int(series[0][-1]) for series in run.series.get(stage, {}).values() if len(series[0])), default=0)
  ends = (min(-(-at // updates) * updates, steps) for at in range(every, steps + 1, every))
  return [step for step in dict.fromkeys(ends) if step <= last and step < steps]
