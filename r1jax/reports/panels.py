"""What the figures of a stage show: a panel a figure, declared as data."""
import re
from collections.abc import Iterable
from dataclasses import dataclass

from r1jax.reports.run import Run
from r1jax.reports.words import KINDS


@dataclass(frozen=True)
class Panel:
  """One figure. lines: (metric, label); a metric that ends in * stands for all that begin so, and a label with * takes the
  rest of the name. about: what is to be known to read it. sampled: counted in samples, of which few are logged."""

  key: str
  title: str
  unit: str
  lines: tuple[tuple[str, str], ...]
  about: str = ""
  share: bool = False  # from 0 to 1
  log: bool = False  # on a logarithmic scale
  marked: bool = False  # with changes of the maximum length and replacements of the reference
  sampled: bool = False


ACCURACY = Panel("accuracy", "Accuracy", "share right", (
  ("eval/pass_at_1", "pass@1, held out"), ("eval/cons_at_*", "cons@*, held out"), ("eval/pass_at_*", "pass@*, held out"),
  ("reward/accuracy", "training samples")), "Bars: 95% interval.", share=True, marked=True)
LENGTH = Panel("length", "Response length", "tokens", (
  ("eval/length", "held out"), ("length/mean", "training samples")), marked=True)
RL_PANELS = (
  ACCURACY, LENGTH,
  Panel("reflection", "Reflective words", "times a response", tuple(
    (f"words/{kind}", f"{kind}: {', '.join(words)}") for kind, words in KINDS.items()),
    "The paper's ten words and their Chinese counterparts, mean over logged samples.", marked=True, sampled=True),
  Panel("wait", "\"Wait\"", "times a response", (("words/wait", "wait and its counterparts"),),
        "Mean over logged samples. Counterparts: 等等 (which can also mean \"and so on\"), 等一下, 且慢.", marked=True,
        sampled=True),
  Panel("difficulty", "Accuracy by difficulty", "share right", (("level/*", "level *"),),
        "Of questions that carry a level, as MATH's do.", share=True, sampled=True),
  Panel("rewards", "Rewards by part", "mean", (("reward/*", "*"), ("true/*", "true preference, *")),
        "Before weighting; mean is the weighted sum. The true preference, where a world knows it, is not rewarded."),
  Panel("language", "Language consistency", "share", (
    ("eval/language", "in the question's language, held out"), ("reward/language", "in it, training samples"),
    ("samples/left_language", "logged samples that mix or leave it")),
        "The metric is 0.5 for a text without words, such as a formula.", share=True),
  Panel("kl", "KL to the reference", "nats a token", (("policy/kl", "KL"),), marked=True),
  Panel("entropy", "Entropy", "nats a token", (
    ("policy/entropy", "entropy"), ("policy/nll", "-log-prob of what was sampled"))),
  Panel("clip", "Clipped tokens", "share", (
    ("policy/clip_fraction_high", "above 1 + clip_high"), ("policy/clip_fraction_low", "below 1 - clip_low"),
    ("policy/clamped_fraction", "log-ratio clamped"))),
  Panel("ratio", "Ratio of new to old policy", "mean", (("policy/ratio", "ratio"),)),
  Panel("gap", "Gap of sampler and trainer", "|difference of log-probs|", (
    ("policy/sampler_gap", "mean"), ("policy/sampler_gap_max", "largest")), log=True),
  Panel("groups", "Groups and truncation", "share", (
    ("reward/equal_groups", "groups of one reward"), ("length/truncated", "truncated responses"),
    ("verifier/failed", "verdicts timed out or crashed")), share=True),
  Panel("gradient", "Loss and gradient", "", (("policy/loss", "loss"), ("policy/grad_norm", "gradient norm"))),
  Panel("slots", "Occupancy and padding", "share", (
    ("rollout/occupancy", "slots in use"), ("update/padding", "padding of rows")), share=True),
  Panel("time", "Time of a step", "seconds", (("time/*", "*"),), "rewards_hidden ran beside other phases.", log=True),
)
LOSS_PANELS = (
  Panel("loss", "Loss", "nats a token", (("policy/loss", "loss"), ("policy/teacher_kl", "KL to the teacher"))),
  Panel("gradient", "Gradient norm", "", (("policy/grad_norm", "gradient norm"),)),
)
_HIDDEN = {"reward/equal_groups"}  # in a panel of its own


def panels_of(runs: Iterable[Run], stage: str) -> tuple[Panel, ...]:
  """The panels for a stage: of RL, of training by a loss, or none."""
  names = {name for run in runs for name in run.series.get(stage, {})}
  if names & {"reward/mean", "eval/pass_at_1"}:
    return RL_PANELS
  return LOSS_PANELS if "policy/loss" in names else ()


def lines_of(panel: Panel, runs: Iterable[Run], stage: str) -> dict[str, str]:
  """metric -> label, of those that a run has logged."""
  runs = list(runs)
  names = dict.fromkeys(name for run in runs for name in run.series.get(stage, {}) if run.get(stage, name) is not None)
  found: dict[str, str] = {}
  for metric, label in panel.lines:
    rest = "([^/]+)" if metric.startswith(("level/", "time/", "reward/", "true/")) else r"(\d+)"
    pattern = re.escape(metric).replace(r"\*", rest)
    for name in sorted(names, key=_natural) if "*" in metric else names:
      match = re.fullmatch(pattern, name)
      if match and name not in found and name not in _HIDDEN - {metric}:
        found[name] = label.replace("*", match[1]) if match.groups() else label
  return found


def _natural(name: str) -> list:
  """level/10 after level/9."""
  return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name)]


def missing(panel: Panel, runs: Iterable[Run], stage: str) -> list[str]:
  """Names that the panel shows and no run has, where it shows nothing; of a panel counted in samples, what it needs."""
  if lines_of(panel, runs, stage):
    return []
  return [metric for metric, _ in panel.lines]
