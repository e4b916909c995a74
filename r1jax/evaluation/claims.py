"""What an experiment claims about its measurements, checked on the summary of a run, and over several seeds as tables."""
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1jax.errors import InputError


@dataclass(frozen=True)
class Claim:
  """One sentence about two measurements of a run, which the run fulfils or does not.

  says: the sentence. more, than: the claim holds where `more` exceeds `than` by at least `by` (which may be negative: not
  worse by more than that). Each is a number, or a measurement written "STAGE METRIC": of a policy as the run's table has it
  ("rl_2 sums/pass_at_1"), or of a stage itself ("helpful eval/accuracy"; "r1_zero.before eval/length" for its start).
  apart: their 95% intervals must not overlap either.
  """

  says: str
  more: str | float
  than: str | float
  by: float = 0.0
  apart: bool = False

  def check(self, where: str, stages: Sequence[str]) -> None:
    """InputError for a side that is neither a number nor a measurement of one of the stages."""
    for name in ("more", "than"):
      side = getattr(self, name)
      known = isinstance(side, str) and len(side.split()) == 2 and side.split()[0].removesuffix(".before") in stages
      if not known and (isinstance(side, str | bool) or not math.isfinite(side)):
        raise InputError(f"{where}.{name}", repr(side),
                         f'Give a number, or "STAGE METRIC" with one of the stages {", ".join(stages)}.')


@dataclass(frozen=True)
class Finding:
  """A claim on one run: whether it holds (None: something was not measured), and the two values, None where missing."""

  holds: bool | None
  more: float | None
  than: float | None


def measurements(summary: Mapping[str, Any]) -> dict[str, dict[str, float]]:
  """What summary.json says of each stage ("NAME", "NAME.before"), with what the tables of policies add to a stage's own."""
  found: dict[str, dict[str, float]] = {}
  for name, stage in summary["stages"].items():
    for key, values in ((name, stage.get("after", {})), (f"{name}.before", stage.get("before", {}))):
      rows = values if any(isinstance(value, Mapping) for value in values.values()) else {key: values}
      for row, metrics in rows.items():
        found.setdefault(row, {}).update(metrics)
  return found


def examine(claim: Claim, summary: Mapping[str, Any]) -> Finding:
  """The claim on the run that left this summary."""
  known = measurements(summary)
  more, low, _ = _value(claim.more, known)
  than, _, high = _value(claim.than, known)
  if more is None or than is None or not (math.isfinite(more) and math.isfinite(than)):
    return Finding(None, more, than)
  if claim.apart and (low is None or high is None):
    return Finding(None, more, than)
  enough = more > than if claim.by == 0 else more - than >= claim.by
  return Finding(enough and (not claim.apart or low > high), more, than)


def _value(side: str | float, known: Mapping[str, Mapping[str, float]]) -> tuple[float | None, float | None, float | None]:
  """(value, lower and upper end of its interval) of one side; None where it was not measured. A number is its own ends."""
  if not isinstance(side, str):
    return side, side, side
  stage, metric = side.split()
  row = known.get(stage, {})
  return row.get(metric), row.get(f"{metric}_low"), row.get(f"{metric}_high")


def claims_table(claims: Sequence[Claim], summaries: Mapping[int, Mapping[str, Any]]) -> str:
  """Markdown, one row per claim: what it says, both values on each seed, and on how many seeds it holds.

  summaries: by seed. A value that is missing is a dash, and its claim does not hold there.
  """
  if not claims or not summaries:
    return ""
  lines = ["| claim | " + " | ".join(f"seed {seed}" for seed in summaries) + " | holds on |",
           "|" + "---|" * (len(summaries) + 2)]
  for claim in claims:
    findings = [examine(claim, summary) for summary in summaries.values()]
    cells = [f"{_number(f.more)} / {_number(f.than)} " + {True: "yes", False: "**no**", None: "not measured"}[f.holds]
             for f in findings]
    lines.append(f"| {claim.says}{_terms(claim)} | " + " | ".join(cells)
                 + f" | {sum(f.holds is True for f in findings)} of {len(findings)} |")
  return "\n".join(lines) + "\n"


def _terms(claim: Claim) -> str:
  """How the two values of a row are to be read."""
  def side(value: str | float) -> str:
    return f"`{value}`" if isinstance(value, str) else f"{value:g}"

  by = f", by {claim.by:g} at least" if claim.by > 0 else f", or less by at most {-claim.by:g}" if claim.by < 0 else ""
  return f" ({side(claim.more)} over {side(claim.than)}{by}{', intervals apart' if claim.apart else ''})"


def spread_table(summaries: Mapping[int, Mapping[str, Any]]) -> str:
  """Markdown, one row per measurement of a policy or stage: mean over seeds, least and most. NaN is named, not averaged."""
  rows: dict[tuple[str, str], list[float]] = {}
  for summary in summaries.values():
    for stage, metrics in measurements(summary).items():
      for metric, value in metrics.items():
        if isinstance(value, int | float) and not metric.endswith(("_low", "_high", "questions", "samples", "max_length")):
          rows.setdefault((stage, metric), []).append(float(value))
  lines = ["| measurement | mean | least | most | seeds |", "|---|---|---|---|---|"]
  for (stage, metric), values in rows.items():
    finite = [value for value in values if math.isfinite(value)]
    numbers = [sum(finite) / len(finite), min(finite), max(finite)] if finite else [None] * 3
    lines.append(f"| {stage} {metric} | " + " | ".join(map(_number, numbers)) + f" | {len(finite)} of {len(summaries)} |")
  return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
  if value is None:
    return "–"
  return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"
