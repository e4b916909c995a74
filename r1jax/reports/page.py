"""The page: one HTML file that needs nothing else, and the PNGs of its figures.

Everything that comes from a run is escaped, texts of samples reach the page as JSON and are set as text by the script, and a
content security policy forbids the page to load anything.
"""
import json
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from r1jax.errors import InputError
from r1jax.files import write_atomically
from r1jax.reports import browse, draw, tables
from r1jax.reports.alerts import RULES, Alert, alerts_of_run
from r1jax.reports.draw import Group
from r1jax.reports.measures import add_measures
from r1jax.reports.panels import RL_PANELS, Panel, lines_of, missing, panels_of
from r1jax.reports.run import MAX_SAMPLES, Run
from r1jax.reports.seeds import Seeds, read, runs_of

HERE = Path(__file__).parent


def labels_of(runs: Sequence[Run]) -> list[str]:
  """A name for each run: of the experiment, with the seed or the folder where that tells them apart."""
  names = [run.name for run in runs]
  if len(set(names)) == len(names):
    return names
  seeded = [f"{run.name}, seed {run.seed}" if run.seed is not None else f"{run.name}, {run.path.name}" for run in runs]
  return seeded if len(set(seeded)) == len(seeded) else [f"{run.name}, {run.path}" for run in runs]


def groups_of(runs: Sequence[Run]) -> list[Group]:
  """Runs whose configs differ in the seed only are one group. A run without its config stands alone."""
  by_config: dict[str, list[int]] = {}
  for i, run in enumerate(runs):
    config = {k: v for k, v in run.config.items() if k != "seed"}
    by_config.setdefault(json.dumps(config, sort_keys=True) if config else f"alone {i}", []).append(i)
  labels, names = labels_of(runs), [runs[own[0]].name for own in by_config.values()]
  return [Group(labels[own[0]] if len(own) == 1 else f"{runs[own[0]].name}, {len(own)} seeds" + (
    f" of {runs[own[0]].path}" if names.count(runs[own[0]].name) > 1 else ""), tuple(runs[i] for i in own))
    for own in by_config.values()]


def report(paths: Sequence[Path], out: Path | None = None, price: float = tables.PAPER_PRICE,
           chips: int | None = None) -> list[Path]:
  """Writes report.html and figures/*.png; what was written, the page first.

  paths: run directories, or folders of `r1jax run --seeds`, which stand for the runs in them. out: a folder; by default that
  of a single path, and ./report for several. price: dollars a chip-hour. chips: of runs, in place of what their logs say.
  Raises InputError for a folder that holds no run, and for a price or a number of chips that makes no sense.
  """
  if not (np.isfinite(price) and price >= 0):
    raise InputError("--price", price, "Give dollars a chip-hour, at least 0.")
  if chips is not None and chips < 1:
    raise InputError("--chips", chips, "Give a number of at least 1.")
  found = [read(path) for path in dict.fromkeys(map(Path, paths))]
  runs = runs_of(found)
  if not runs:
    raise InputError("report", "no run", "Name one run directory or more.")
  out = out or (found[0].path if len(found) == 1 else Path("report"))
  if out.exists() and not out.is_dir():
    raise InputError(f"--out {out}", "a file", "Name a folder.")
  (out / "figures").mkdir(parents=True, exist_ok=True)
  alerts = [alerts_of_run(run) for run in runs]
  for run in runs:
    add_measures(run)
  sections, pictures = _stage_sections(runs, out / "figures")
  seeds = [part for part in found if isinstance(part, Seeds)]
  main = [*map(_claims, seeds), _alerts(runs, alerts), _tables_before(runs), *sections, _tables_after(runs, price, chips)]
  write_atomically(out / "report.html", _page(
    runs, main, [stage for stage in _stages(runs) if panels_of(runs, stage)]))
  return [out / "report.html", *pictures]


def _stages(runs: Sequence[Run]) -> list[str]:
  return list(dict.fromkeys(stage for run in runs for stage in run.stages))


def _anchor(name: str) -> str:
  return "stage-" + re.sub(r"[^A-Za-z0-9_-]", "-", name)


def _page(runs: Sequence[Run], main: list[str], drawn: list[str]) -> str:
  """The template with its places filled, each once: what is filled in is not searched again."""
  chosen = browse.choose(runs)
  read, total = sum(len(run.samples) for run in runs), sum(run.samples_total for run in runs)
  about = f"{len(chosen):,} of {total:,} logged samples, spread evenly over the steps of each stage."
  if read < total:
    about += f" Words and alerts count {read:,} of them (at most {MAX_SAMPLES:,} a run)."
  links = [("alerts", "Alerts"), ("stages", "Stages"), *((_anchor(stage), stage) for stage in drawn),
           ("cost", "Cost, time, data"), ("samples", "Samples")]
  parts = {
    "title": escape(" · ".join(dict.fromkeys(run.name for run in runs))[:200]), "intro": _intro(runs),
    "css": (HERE / "page.css").read_text(encoding="utf-8"), "js": (HERE / "page.js").read_text(encoding="utf-8"),
    "contents": " ".join(f'<a href="#{anchor}">{escape(label)}</a>' for anchor, label in links), "main": "\n".join(main),
    "samples_about": escape(about), "footer": "<p>Made by <code>r1jax report</code>; this file needs nothing beside it.</p>",
    "data": browse.to_script({"runs": labels_of(runs), "samples": browse.rows(chosen)}),
  }
  template = (HERE / "page.html").read_text(encoding="utf-8")
  page = re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template)
  return page.encode("utf-8", errors="replace").decode("utf-8")  # a log may hold half a surrogate pair


def _intro(runs: Sequence[Run]) -> str:
  """Which runs, how far they are, and what is missing of each."""
  rows, text = [], ""
  for run, label in zip(runs, labels_of(runs), strict=True):
    done = sum(stage.get("status") == "finished" for stage in run.summary["stages"].values())
    wall = sum(tables.stage_seconds(run).values())
    rows.append([label, str(run.path), "" if run.seed is None else str(run.seed),
                 f"{done} of {len(run.stages)} stages finished", tables.seconds_text(wall)])
  text += _table(tables.Table("Runs", ("run", "directory", "seed", "state", "wall time"), rows))
  for run, label in zip(runs, labels_of(runs), strict=True):
    if run.notes:
      title = "Missing or damaged" + (f" in {label}" if len(runs) > 1 else "")
      text += f'<details open><summary>{escape(title)}</summary><ul class="notes">' + "".join(
        f"<li>{escape(note)}</li>" for note in run.notes[:30]) + "</ul>" + (
        f"<p>and {len(run.notes) - 30} more.</p>" if len(run.notes) > 30 else "") + "</details>"
  return text


def _claims(seeds: Seeds) -> str:
  """What holds on how many seeds, and which seeds are missing."""
  text = f"<section><h2>Claims over {len(seeds.runs)} seeds</h2>"
  if seeds.claims is not None:
    text += _table(seeds.claims, f"{seeds.claims.title} of {seeds.path.name}")
  elif not seeds.notes:
    text += '<p class="absent">This experiment makes no claims.</p>'
  notes = "".join(f"<li>{escape(note)}</li>" for note in seeds.notes)
  return text + (f'<ul class="notes">{notes}</ul>' if notes else "") + "</section>"


def _alerts(runs: Sequence[Run], found: Sequence[list[Alert]]) -> str:
  """What the rules found, and the rules themselves."""
  text, rules = '<section id="alerts"><h2>Alerts</h2>', {rule.name: rule for rule in RULES}
  for run, label, alerts in zip(runs, labels_of(runs), found, strict=True):
    where = f"{label}, " if len(runs) > 1 else ""
    for alert in alerts:
      rule = rules[alert.rule]
      text += (f'<div class="alert"><h3>{escape(rule.title)}</h3><p>{escape(where + alert.stage)}, step {alert.step:,}: '
               f"{escape(alert.message)}</p><p><b>What to do:</b> {escape(rule.action)}</p></div>")
    unseen = not any(panels_of([run], stage) for stage in run.series)
    if not alerts:
      said = "nothing to look at: no metrics of RL or training." if unseen else (
        f"none of the {len(RULES)} rules found anything.")
      text += f'<p class="fine">{escape(where + said if where else said[0].upper() + said[1:])}</p>'
  text += "<details><summary>The rules</summary>" + _table(tables.Table("Rules", ("alert", "when", "what to do"), [
    [rule.title, rule.definition, rule.action] for rule in RULES])) + "</details>"
  return text + "</section>"


def _tables_before(runs: Sequence[Run]) -> str:
  text = '<section id="stages"><h2>Stages</h2>'
  for group in groups_of(runs):
    many = len(runs) > 1
    for run in group.runs:
      table = tables.stage_table(run)
      text += _table(table, f"{table.title} of {labels_of(runs)[runs.index(run)]}" if many else None)
    compared = tables.policy_table(group.runs)
    text += _table(compared, f"{compared.title}: {group.label}" if many else None) if compared else ""
  return text + "</section>"


def _tables_after(runs: Sequence[Run], price: float, chips: int | None) -> str:
  labels = labels_of(runs)
  text = '<section id="cost"><h2>Cost, time, data</h2>' + _table(tables.cost_table(runs, labels, price, chips))
  for run, label in zip(runs, labels, strict=True):
    rl = [stage for stage in run.series if panels_of([run], stage) is RL_PANELS]
    for table in (tables.time_table(run), tables.data_flow(run), tables.words_table(run, rl)):
      if table is not None and table.rows:
        text += _table(table, f"{table.title}: {label}" if len(runs) > 1 else None)
    if tables.data_flow(run) is None:
      text += f'<p class="absent">{escape(label)}: no data sets, and no counts of rows in summary.json.</p>'
  return text + "</section>"


def _stage_sections(runs: Sequence[Run], folder: Path) -> tuple[list[str], list[Path]]:
  """The figures of every stage that has some, and the PNGs that were written."""
  groups, sections, pictures = groups_of(runs), [], []
  for stage in _stages(runs):
    panels = panels_of(runs, stage)
    if not panels:
      continue
    figures = []
    for panel in panels:
      picture = folder / f"{_anchor(stage).removeprefix('stage-')}_{panel.key}.png"
      figures.append(_figure(panel, stage, groups, runs, picture))
      pictures += [picture] * (not missing(panel, runs, stage))
    sections.append(f'<section id="{_anchor(stage)}"><h2>{escape(stage)}</h2><div class="grid">' + "".join(figures)
                    + "</div></section>")
  return sections, pictures


def _figure(panel: Panel, stage: str, groups: Sequence[Group], runs: Sequence[Run], picture: Path) -> str:
  """One figure with its remarks and numbers, or what it would need."""
  title = f"<h3>{escape(panel.title)}</h3>"
  needs = missing(panel, runs, stage)
  if needs:
    said = f"Not in this log: {', '.join(needs)}. {panel.about}"
    return f'<figure>{title}<p class="absent">{escape(said)}</p></figure>'
  figure, remarks = draw.figure_of(panel, stage, groups)
  draw.save_png(figure, picture)
  svg = draw.to_svg(figure, f"{stage} {panel.key}")
  svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(f"{panel.title}, {stage}")}"', 1)
  said = " ".join([panel.about, *remarks]).strip()
  return (f"<figure>{title}{svg}" + (f'<p class="remark">{escape(said)}</p>' if said else "")
          + f"<details><summary>Numbers</summary>{_numbers(panel, stage, runs)}</details></figure>")


def _numbers(panel: Panel, stage: str, runs: Sequence[Run]) -> str:
  """First, last, least and greatest of each line, for readers who do not see the figure."""
  rows = []
  for metric, label in lines_of(panel, runs, stage).items():
    for run, name in zip(runs, labels_of(runs), strict=True):
      series = run.get(stage, metric)
      if series is not None:
        values = series[1][~np.isnan(series[1])]
        ends = map(float, (values[0], values[-1], values.min(), values.max()))
        rows.append([f"{name}: {label}" if len(runs) > 1 else label, *ends])
  return _table(tables.Table("", (panel.unit or "value", "first", "last", "least", "greatest"), rows))


def _table(table: tables.Table, title: str | None = None) -> str:
  """A table that can be scrolled sideways, by keyboard too."""
  title = table.title if title is None else title
  greatest = {i: max((row[i] for row in table.rows if isinstance(row[i], int | float)), default=0) for i in table.bars}
  cells = ["".join(_cell(value, greatest.get(i)) for i, value in enumerate(row)) for row in table.rows]
  body = "".join(f"<tr>{row}</tr>" for row in cells)
  numbers = {i for i, value in enumerate(table.rows[0]) if _is_number(value)} - set(table.bars) if table.rows else set()
  kinds = [' class="number"' if i in numbers else "" for i in range(len(table.header))]
  head = "".join(f'<th scope="col"{kind}>{escape(str(name))}</th>' for kind, name in zip(kinds, table.header, strict=True))
  caption = f"<caption>{escape(title)}</caption>" if title else ""
  about = f'<p class="about">{escape(table.about)}</p>' if table.about else ""
  return (f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title or "numbers")}"><table>{caption}<thead>'
          f"<tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{about}")


def _is_number(value: object) -> bool:
  return isinstance(value, int | float) or str(value).startswith("$")


def _cell(value: object, greatest: float | None) -> str:
  if not isinstance(value, int | float):
    kind = ' class="long"' if len(str(value)) > 60 else ' class="number"' if _is_number(value) else ""
    return f"<td{kind}>{escape(str(value))}</td>"
  text = tables.cell_text(value)
  if greatest:
    width = round(160 * max(value, 0) / greatest)
    return f'<td class="bars"><b>{text}</b><span class="bar" style="width:{width}px"></span></td>'
  return f'<td class="number">{text}</td>'
