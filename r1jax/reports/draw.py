"""Draws panels, several runs over one another, as SVG for the page and as PNG.

Matplotlib, because the same drawing is then the page's and a paper's, it needs no script, no network and no build step, and
curves.png is drawn with it too. In the SVG, text stays text, and ink, grid, ground and the one line colour that is too dark
for a dark ground become CSS variables, so that one drawing serves light and dark. Line colours are Okabe and Ito's, with
dashes beside them.
"""
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from r1jax.reports.measures import add_measures, length_changes, reference_replacements
from r1jax.reports.panels import ACCURACY, LENGTH, Panel, lines_of
from r1jax.reports.run import Run, Series, read_run

OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # yellow and black are too faint on a ground
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
INK, GRID, GROUND = "#1b1c1d", "#d9dadb", "#fdfdfc"  # light; CSS variables of these names in the SVG
WIDTH, HEIGHT = 4.6, 2.3  # inches of a figure, and of its axes
BINS, SAMPLED_BINS = 300, 60  # points of a line: of a metric, of what few samples tell
STYLE = {
  "svg.fonttype": "none", "font.size": 9, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK,
  "xtick.color": INK, "ytick.color": INK,
  "grid.color": GRID, "axes.facecolor": GROUND, "figure.facecolor": GROUND, "axes.grid": True,
  "axes.spines.top": False, "axes.spines.right": False, "legend.fontsize": 8, "legend.framealpha": 0.8,
  "legend.facecolor": GROUND, "legend.edgecolor": "none", "path.simplify_threshold": 0.5,
}


@dataclass(frozen=True)
class Group:
  """Runs of one config, which differ in their seeds only; a single run is a group of one."""

  label: str
  runs: tuple[Run, ...]


def edges_of(steps: np.ndarray, most: int) -> np.ndarray:
  """Borders of at most `most` bins of steps: one a step, or bins of equal width."""
  steps = np.unique(steps)
  if len(steps) <= most:
    return np.append(steps, steps[-1] + 1).astype(float)
  return np.linspace(steps[0], steps[-1] + 1, most + 1)


def binned(series: Series, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(mean, least, greatest) of each bin; NaN where a bin has nothing."""
  known = ~np.isnan(series[1])
  place = np.searchsorted(edges, series[0][known], side="right") - 1
  values, n = series[1][known], len(edges) - 1
  count, total = np.bincount(place, minlength=n)[:n], np.bincount(place, values, minlength=n)[:n]
  low, high = np.full(n, np.inf), np.full(n, -np.inf)
  np.minimum.at(low, place, values)
  np.maximum.at(high, place, values)
  empty = count == 0
  mean = np.where(empty, np.nan, total / np.maximum(count, 1))
  return mean, np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def _line(found: list[Series], bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, bool]:
  """(steps, mean, low, high, thinned) of one metric: over the runs, or of a single run over each bin."""
  steps = np.concatenate([series[0] for series in found])
  edges = edges_of(steps, bins)
  parts = [binned(series, edges) for series in found]
  rows = np.array([mean for mean, _, _ in parts])
  keep = ~np.isnan(rows).all(axis=0)
  thinned = len(np.unique(steps)) > bins
  centres = binned((steps, steps.astype(float)), edges)[0][keep]
  if len(found) == 1:
    mean, low, high = (part[keep] for part in parts[0])
    return centres, mean, low, high, thinned
  rows = rows[:, keep]
  return centres, np.nanmean(rows, axis=0), np.nanmin(rows, axis=0), np.nanmax(rows, axis=0), thinned


def draw(axes: Axes, panel: Panel, stage: str, groups: Sequence[Group]) -> list[str]:
  """Draws one panel; remarks on what was thinned or is a band."""
  lines = lines_of(panel, [run for group in groups for run in group.runs], stage)
  bins, several, remarks = SAMPLED_BINS if panel.sampled else BINS, len(groups) > 1, []
  colours, dashes = cycle(OKABE_ITO), cycle(DASHES)
  of_group = dict(zip((g.label for g in groups), islice(cycle(OKABE_ITO), len(groups)), strict=True))
  for metric, label in lines.items():
    colour, dash = next(colours), next(dashes)
    for group in groups:
      found = [series for run in group.runs if (series := run.get(stage, metric)) is not None]
      if not found:
        continue
      x, mean, low, high, thinned = _line(found, bins)
      ink = of_group[group.label] if several else colour
      held_out = metric.startswith("eval/")
      axes.plot(x, mean, color=ink, linestyle=dash, linewidth=1.6 if held_out else 1.2, marker="o" if len(x) < 40 else None,
                markersize=3.5 if held_out else 2, label=_plain((f"{group.label}: " if several else "") + label))
      if len(found) > 1 or thinned and not panel.sampled:
        axes.fill_between(x, low, high, color=ink, alpha=0.18, linewidth=0)
        remarks += [f"Band: least and greatest of {len(found)} seeds." if len(found) > 1 else "Band: least and greatest."]
      remarks += [f"Lines are means over {bins} bins of steps."] * thinned
      if metric == "eval/pass_at_1" and len(found) == 1 and not several:
        _intervals(axes, group.runs, stage, ink)
  _finish(axes, panel, stage, groups)
  return list(dict.fromkeys(remarks))


def _plain(label: str) -> str:
  """A label as it is: matplotlib would set what stands between dollars as mathematics, and drop one that begins with _."""
  return " " * label.startswith("_") + label.replace("$", r"\$")


def _intervals(axes: Axes, runs: tuple[Run, ...], stage: str, ink: str) -> None:
  """The 95% intervals of held-out accuracy."""
  for run in runs:
    low, high = run.get(stage, "eval/pass_at_1_low"), run.get(stage, "eval/pass_at_1_high")
    if low is not None and high is not None and len(low[0]) == len(high[0]):
      axes.vlines(low[0], low[1], high[1], color=ink, linewidth=1)


def _finish(axes: Axes, panel: Panel, stage: str, groups: Sequence[Group]) -> None:
  """Scales, labels, marks and legend."""
  if panel.share:
    axes.set_ylim(-0.03, 1.03)
  if panel.log:
    axes.set_yscale("log", nonpositive="mask")
  axes.set_ylabel(panel.unit)
  axes.set_xlabel("step (one policy update)" if panel.key != "loss" else "step")
  if panel.marked:
    _mark(axes, stage, groups)
  _legend(axes)


def _legend(axes: Axes) -> None:
  """The legend below the axes, in two columns where its labels are many and short."""
  labels = axes.get_legend_handles_labels()[1]
  if labels:
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.2), ncols=_columns(labels), borderpad=0.1, handlelength=2.4,
                labelspacing=0.25, columnspacing=1.0)


def _columns(labels: list[str]) -> int:
  return 2 if len(labels) > 4 and max(map(len, labels)) <= 30 else 1


def _mark(axes: Axes, stage: str, groups: Sequence[Group]) -> None:
  """A dashed line where the maximum length changes, a triangle where the reference is replaced."""
  changes = sorted({change for group in groups for run in group.runs for change in length_changes(run, stage)})
  for i, (step, old, new) in enumerate(changes):
    axes.axvline(step, color=INK, linestyle=(0, (3, 3)), linewidth=0.9,
                 label=f"maximum length {old:,.0f} -> {new:,.0f}" if i < 3 else None)
  replaced = sorted({step for group in groups for run in group.runs for step in reference_replacements(run, stage)})
  if replaced:
    axes.plot(replaced, np.zeros(len(replaced)), "^", color=INK, markersize=4, clip_on=False, linestyle="none",
              transform=axes.get_xaxis_transform(), label="reference replaced")


def figure_of(panel: Panel, stage: str, groups: Sequence[Group]) -> tuple[Figure, list[str]]:
  """A figure of one panel and its remarks. Its height follows from the legend; letting savefig find it doubles the time."""
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(WIDTH, HEIGHT))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    remarks = draw(axes, panel, stage, groups)
    legend = axes.get_legend()
    labels = [text.get_text() for text in legend.texts] if legend else []
    below = 0.48 + 0.155 * -(-len(labels) // _columns(labels))
    figure.set_size_inches(WIDTH, HEIGHT + 0.08 + below)
    axes.set_position((0.14, below / (HEIGHT + 0.08 + below), 0.84, HEIGHT / (HEIGHT + 0.08 + below)))
  return figure, remarks


def to_svg(figure: Figure, salt: str) -> str:
  """The figure as an <svg> element that takes its ink, grid and ground from CSS. salt: unique on a page."""
  text = io.StringIO()
  with matplotlib.rc_context({**STYLE, "svg.hashsalt": salt}), warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Glyph")  # matplotlib's font may lack a letter that the reader's has
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
  svg = text.getvalue()
  svg = svg[svg.index("<svg"):]
  svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
  svg = re.sub(r' id="[A-Za-z0-9]+(?:\.[a-z]+)?_\d+"', "", svg)  # of groups, nothing refers to them
  svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1), count=1)
  for colour, name in ((INK, "ink"), (GRID, "grid"), (GROUND, "ground"), (OKABE_ITO[0], "blue")):
    svg = svg.replace(colour, f"var(--{name})")
  svg = re.sub(r" font-family: [^;]*;", "", svg)  # the page's
  return re.sub(r"\n\s*", "\n", svg)


def save_png(figure: Figure, path: Path) -> None:
  """The figure as a PNG, for a paper or a README."""
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Glyph")
    figure.savefig(path, dpi=150)


def draw_curves(run_dir: Path) -> Path | None:
  """RUN_DIR/curves.png: accuracy and length of every RL stage by step, as in Figure 1 of R1 (Nature). None without one."""
  run = read_run(run_dir)
  add_measures(run)
  stages = [name for name in run.series if {"reward/mean", "eval/pass_at_1"} & run.series[name].keys()]
  if not stages:
    return None
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(5.2 * len(stages), 7.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(stages), squeeze=False)
    for column, stage in enumerate(stages):
      for row, panel in enumerate((ACCURACY, LENGTH)):
        draw(axes[row, column], panel, stage, [Group(run.name, (run,))])
      axes[0, column].set_title(stage)
    path = Path(run_dir) / "curves.png"
    figure.savefig(path, dpi=120)
  return path
