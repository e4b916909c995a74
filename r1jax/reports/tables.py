"""The report's tables as plain rows: stages by the paper's names, measurements, cost, time, data flow."""
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from r1jax.reports.measures import word_table
from r1jax.reports.run import Run

PAPER_PRICE = 2.0  # dollars an H800 hour: R1, arXiv 2501.12948v2, appendix B.4.4
GROUPS = ("R1-Zero", "SFT data", "R1", "not in the paper's table")  # columns of its Table 7
ASKED, TOLD = ("questions", "responses", "pairs"), ("refined", "safe", "unsafe")  # counts that are no reason to drop a row


@dataclass(frozen=True)
class Table:
  """Cells are text, or numbers that are shown with three digits. about: one sentence above it. bars: the columns whose
  numbers, all of one unit, are shown as bars too. A notebook shows it as a table."""

  title: str
  header: Sequence[str]
  rows: Sequence[Sequence]
  about: str = ""
  bars: tuple[int, ...] = ()

  def _repr_markdown_(self) -> str:
    """The table in Markdown: what a notebook shows of a cell that ends in one."""
    lines = [self.header, ["---"] * len(self.header), *([cell_text(value) for value in row] for row in self.rows)]
    text = "\n".join("| " + " | ".join(map(_in_markdown, line)) + " |" for line in lines)
    return "\n\n".join(part for part in (f"**{self.title}**" * bool(self.title), self.about, text) if part)


def cell_text(value: object) -> str:
  """A cell as it is shown: a number with three digits, from 1,000 on as a whole one."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return str(value)
  return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _in_markdown(text: str) -> str:
  """Without what would end the cell or become a tag of HTML."""
  return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def paper_names(run: Run) -> dict[str, str]:
  """stage -> what the paper calls its policy: R1-Zero, Dev1 to Dev3, R1; found by who starts from whom."""
  def first(kind: str, start: str | None = None, rows: str | None = None) -> str | None:
    for stage in run.declared():
      documents = stage.get("documents")
      reads = documents.get("stage") if isinstance(documents, dict) else None
      if stage.get("type") == kind and (start is None or stage.get("start") == start) and (rows is None or reads == rows):
        return stage["name"]
    return None

  names, last = {}, first("GRPO")
  for rl, sft, next_rl in (("R1-Zero", "Dev1", "Dev2"), ("Dev2", "Dev3", "R1")):
    if last is None:
      break
    names[last] = rl
    data = first("Curate", start=last)
    tuned = data and first("SFT", rows=data)
    last = tuned and first("GRPO", start=tuned)
    names |= {tuned: sft} if tuned else {}
    names |= {last: next_rl} if last else {}
  return names


def _title(run: Run, stage: str) -> str:
  name = paper_names(run).get(stage)
  return f"{stage} ({name})" if name else stage


def stage_table(run: Run) -> Table:
  """What each stage did: how far it is, how long it took, held-out accuracy and length before and after."""
  rows = []
  for stage in run.stages:
    of = run.summary["stages"].get(stage, {})
    status = "taken over" if of.get("taken_over_from") else of.get("status")
    status = status or ("running or killed" if stage in run.series else "not begun")
    ends = [max((int(s[0][-1]) for s in run.series.get(stage, {}).values() if len(s[0])), default=None), of.get("steps")]
    wanted = run.stage_config(stage).get("steps")
    done = of.get("steps") if of.get("status") == "finished" else ends[0]
    rows.append([_title(run, stage), run.stage_config(stage).get("type", ""), status,
                 "" if done is None else f"{done:,}" + (f" of {wanted:,}" if isinstance(wanted, int) else ""),
                 seconds_text(stage_seconds(run).get(stage)), *(
                   _before_after(run, stage, metric) for metric in ("eval/pass_at_1", "eval/length", "eval/format"))])
  return Table("Stages", ("stage", "kind", "status", "steps", "wall time", "pass@1, held out", "length", "format"), rows,
               "Before -> after, with the 95% interval after. Dev1 to Dev3 are the paper's names of the stages between.")


def _before_after(run: Run, stage: str, metric: str) -> str:
  of, series = run.summary["stages"].get(stage, {}), run.get(stage, metric)
  ends = [of.get(when, {}).get(metric) if isinstance(of.get(when), dict) else None for when in ("before", "after")]
  if series is not None and not all(isinstance(v, int | float) for v in ends):
    ends = [float(series[1][0]), float(series[1][-1])]
  if not all(isinstance(v, int | float) for v in ends):
    return ""
  after = of.get("after", {})
  low, high = after.get(f"{metric}_low"), after.get(f"{metric}_high")
  return f"{ends[0]:.3g} -> {ends[1]:.3g}" + (f" ({low:.3g} to {high:.3g})" if isinstance(low, int | float) and high else "")


def measured(run: Run) -> dict[str, dict[str, float]]:
  """policy -> metric -> value, of the run's evaluation stages."""
  found: dict[str, dict[str, float]] = {}
  for of in run.summary["stages"].values():
    after = of.get("after")
    for policy, metrics in after.items() if isinstance(after, dict) else ():
      if isinstance(metrics, dict):
        found.setdefault(policy, {}).update({k: v for k, v in metrics.items() if isinstance(v, int | float)})
  return found


def policy_table(runs: Sequence[Run]) -> Table | None:
  """All policies on the same held-out questions: of one run with intervals, of several as mean and range over them."""
  found = [measured(run) for run in runs]
  policies = list(dict.fromkeys(policy for of in found for policy in of))
  metrics = [m for m in dict.fromkeys(m for of in found for row in of.values() for m in row)
             if not m.endswith(("_low", "_high", "/questions", "/samples"))]
  if not policies:
    return None

  def cell(policy: str, metric: str) -> str:
    values = [of[policy][metric] for of in found if metric in of.get(policy, {})]
    if not values:
      return ""
    if len(runs) > 1:
      return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f}; {len(values)})"
    row = found[0][policy]
    low, high = row.get(f"{metric}_low"), row.get(f"{metric}_high")
    return f"{values[0]:.3f}" + ("" if low is None or high is None else f" ({low:.3f} to {high:.3f})")

  return Table("Policies compared", ("policy", *metrics), [
    [_title(runs[0], policy), *(cell(policy, metric) for metric in metrics)] for policy in policies],
    "On the same held-out questions. " + ("In brackets: 95% interval." if len(runs) == 1 else
                                          "In brackets: least and greatest of the seeds, and how many there are."))


def chips_of(run: Run, chips: int | None) -> tuple[int, str]:
  """(chips of a run without a clock, how that is known)."""
  if chips is not None:
    return chips, "as given by --chips"
  mesh = run.config.get("mesh")
  sizes = [n for n in mesh.values() if isinstance(n, int)] if isinstance(mesh, dict) else [-1]
  if min(sizes, default=-1) > 0:
    return int(np.prod(sizes)), "as its mesh says"
  return 1, "assumed, as its mesh takes all there are"


def stage_seconds(run: Run) -> dict[str | None, float]:
  """Wall seconds by stage, None for what lies between: of all processes, or without a clock what finished stages took and
  the phases of the others add up to."""
  found: dict[str | None, float] = {}
  for process in run.processes:
    for stage, seconds in process.seconds.items():
      found[stage] = found.get(stage, 0.0) + seconds
  if found:
    return found
  for stage in run.stages:
    of = run.summary["stages"].get(stage, {})
    if of.get("taken_over_from"):
      continue  # another run's time
    seconds = of.get("seconds")
    seconds = float(seconds) if isinstance(seconds, int | float) else sum(phase_seconds(run, stage).values())
    if seconds:
      found[stage] = seconds
  return found


def phase_seconds(run: Run, stage: str) -> dict[str, float]:
  """Seconds by phase of a stage's steps; what ran beside other phases is left out."""
  names = [n for n in run.series.get(stage, {}) if n.startswith("time/") and not n.endswith("_hidden")]
  return {name.removeprefix("time/"): run.total(stage, name) for name in names}


def chip_hours(run: Run, chips: int | None = None) -> dict[str | None, float]:
  """Chip-hours by stage; of each process with its own number of chips."""
  if not run.processes or chips is not None:
    return {stage: seconds * chips_of(run, chips)[0] / 3600 for stage, seconds in stage_seconds(run).items()}
  found: dict[str | None, float] = {}
  for process in run.processes:
    for stage, seconds in process.seconds.items():
      found[stage] = found.get(stage, 0.0) + seconds * process.chips / 3600
  return found


def cost_groups(run: Run, hours: dict[str | None, float]) -> dict[str, float]:
  """Chip-hours in the columns of the paper's table."""
  names, found = paper_names(run), dict.fromkeys(GROUPS, 0.0)
  for stage, value in hours.items():
    kind, name = run.stage_config(stage).get("type") if stage else None, names.get(stage)
    if name == "R1-Zero":
      group = "R1-Zero"
    elif kind == "Curate":
      group = "SFT data"
    elif name or kind in ("Preferences", "SafetyLabels", "RewardModel"):
      group = "R1"
    else:
      group = GROUPS[-1]
    found[group] += value
  return found


def cost_table(runs: Sequence[Run], labels: Sequence[str], price: float, chips: int | None) -> Table:
  """Chip-hours and dollars in the form of the paper's Table 7; the total is all time that processes ran."""
  rows, remarks = [], []
  for run, label in zip(runs, labels, strict=True):
    groups = cost_groups(run, chip_hours(run, chips))
    total = sum(groups.values())
    prefix = f"{label}: " if len(runs) > 1 else ""
    rows += [[prefix + "chip-hours", *groups.values(), total],
             [prefix + "USD", *(f"${hours * price:,.2f}" for hours in (*groups.values(), total))]]
    killed = [process for process in run.processes if not process.ended]
    if killed:
      lost = sum(p.last - p.began for p in killed) / 3600
      remarks.append(f"{prefix}of {len(run.processes)} processes {len(killed)} were killed or are running "
                     f"({lost:.3g} h of the {seconds_text(sum(p.last - p.began for p in run.processes))}).")
    elif not run.processes:
      count, how = chips_of(run, chips)
      remarks.append(f"{prefix or 'This log has '}no clock: finished stages and phases, chips: {count} ({how}); the time of "
                     "killed processes is missing.")
  return Table("Cost", ("", *GROUPS, "total"), rows, " ".join([
    f"At ${price:g} a chip-hour (the paper: ${PAPER_PRICE:g} an H800 hour; --price changes it). The last column but one: "
    "pre-training, evaluation, students, time between stages.", *remarks]))


def time_table(run: Run) -> Table:
  """Where the time of each stage went."""
  rows, walls = [], stage_seconds(run)
  for stage in run.stages:
    phases, wall = phase_seconds(run, stage), walls.get(stage)
    inside = sum(phases.values())
    rows += [[stage, phase, seconds, seconds / inside] for phase, seconds in phases.items() if seconds >= 0.005]
    if wall is not None and wall - inside > 0.01 * wall:
      other = "evaluation, checkpoints, start, steps done again" if phases else "all of it"
      rows.append([stage, other, wall - inside, ""])
  if None in walls:
    rows.append(["between stages", "start, reading", walls[None], ""])
  return Table("Where the time went", ("stage", "phase", "seconds", "share of the phases"), rows,
               "Verifiers work beside sampling; rewards is the time that was waited for them.", bars=(2,))


def data_flow(run: Run) -> Table | None:
  """Rows that stages made for one another: kept, and dropped by reason."""
  rows = []
  for stage in run.stages:
    about = run.datasets.get(stage) or run.summary["stages"].get(stage, {})
    counts = {k.removeprefix("count/"): v for k, v in about.items() if k.startswith("count/") and isinstance(v, int | float)}
    if not isinstance(about.get("rows"), int) or not (counts or stage in run.datasets):
      continue
    rows += [[stage, "from", name.replace("_", " "), counts.pop(name)] for name in ASKED if name in counts]
    rows.append([stage, "kept", "so far" if about.get("unfinished") else "rows", about["rows"]])
    rows += [[stage, "of these", name.removeprefix("rows_").replace("_", " "), value] for name, value in about.items()
             if name.startswith("rows_") and isinstance(value, int | float)]
    rows += [[stage, "with", name, counts.pop(name)] for name in TOLD if name in counts]
    rows += [[stage, "dropped", reason.replace("_", " "), value]
             for reason, value in sorted(counts.items(), key=lambda item: -item[1]) if value]
  return Table("Data flow", ("data set", "", "what", "number"), rows, "What stages made for one another; the reasons are "
               "those of datasets/STAGE.json.", bars=(3,)) if rows else None


def words_table(run: Run, stages: Iterable[str]) -> Table | None:
  """The paper's words in the samples of RL stages."""
  rows = [[stage, *row] for stage in stages for row in word_table(run, stage) if row[1]]
  return Table("Reflective words", ("stage", "word", "occurrences", "a response, first tenth of steps", "last tenth"), rows,
               f"Counted in {len(run.samples):,} of {run.samples_total:,} logged samples, whole words in English and their "
               "Chinese counterparts; words that never occur are left out.") if rows else None


def seconds_text(seconds: float | None) -> str:
  """Hours, minutes and seconds in words."""
  if seconds is None:
    return ""
  if seconds < 120:
    return f"{seconds:.1f} s"
  return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
