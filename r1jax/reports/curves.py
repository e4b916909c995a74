"""curves.png of a run: held-out accuracy, rewards and response length by step, as in Figure 1 of R1 (Nature)."""
from pathlib import Path

import matplotlib

from r1jax.training.metrics import read_metrics

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def draw_curves(run_dir: Path) -> Path | None:
  """Draws every RL stage of a run side by side; None when there is none yet."""
  lines = [line for line in read_metrics(run_dir) if "reward/mean" in line or "eval/pass_at_1" in line]
  stages = list(dict.fromkeys(line["stage"] for line in lines))
  if not stages:
    return None
  figure, axes = plt.subplots(2, len(stages), figsize=(7 * len(stages), 7), sharex="col", squeeze=False)
  for column, stage in enumerate(stages):
    _draw_stage(axes[0, column], axes[1, column], stage, [line for line in lines if line["stage"] == stage])
  figure.tight_layout()
  path = Path(run_dir) / "curves.png"
  figure.savefig(path, dpi=120)
  plt.close(figure)
  return path


def _series(lines: list[dict], name: str) -> tuple[list[int], list[float]]:
  rows = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
  return [r[0] for r in rows], [r[1] for r in rows]


def _draw_stage(top, bottom, stage: str, lines: list[dict]) -> None:
  top.set_title(stage)
  for part in ("accuracy", "format", "language"):
    if any(f"reward/{part}" in line for line in lines):
      top.plot(*_series(lines, f"reward/{part}"), label=f"{part}, training samples", linewidth=1, alpha=0.8)
  steps, mean = _series(lines, "eval/pass_at_1")
  if steps:
    low, high = _series(lines, "eval/pass_at_1_low")[1], _series(lines, "eval/pass_at_1_high")[1]
    errors = [[m - a for m, a in zip(mean, low, strict=True)], [b - m for m, b in zip(mean, high, strict=True)]]
    top.errorbar(steps, mean, yerr=errors, fmt="o-", capsize=3, color="black", label="pass@1, held out (95% interval)")
  top.set_ylim(-0.02, 1.02)
  top.set_ylabel("share")
  bottom.plot(*_series(lines, "length/mean"), label="response length, training samples", linewidth=1)
  bottom.plot(*_series(lines, "eval/length"), "o-", color="black", label="response length, held out")
  bottom.set_ylabel("tokens")
  bottom.set_xlabel("step (one policy update)")
  steps, limits = _series(lines, "length/max")
  for i in range(1, len(steps)):
    if limits[i] != limits[i - 1]:
      for axis in (top, bottom):
        axis.axvline(steps[i], color="grey", linestyle="--", linewidth=1)
      bottom.annotate(f"maximum {limits[i - 1]:.0f} -> {limits[i]:.0f}", (steps[i], bottom.get_ylim()[1]), fontsize=8,
                      ha="left", va="top")
  for axis in (top, bottom):
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
