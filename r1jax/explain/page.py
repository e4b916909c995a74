"""An experiment explained: as JSON, and as text for a terminal."""
import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from r1jax.explain.geometry import TAKEN, Account, Change, account, starts_from
from r1jax.explain.sources import LEGEND, OURS, fields_of
from r1jax.models.params import count_params
from r1jax.stages.context import Experiment

HINT = {"weights": "DIR"}  # what stands for a folder that the user is still to name


def explain(experiment: Experiment, file: Path, name: str, settings: list[str]) -> dict[str, Any]:
  """The whole explanation of an experiment, as JSON. InputError for what cannot work, except weights that are not named yet.

  file, name: where the experiment is defined. settings: the fields that --set has changed.
  """
  missing = {field: text for field, text in HINT.items() if getattr(experiment, field) == ""}
  dataclasses.replace(experiment, **missing).check()
  fields = [dataclasses.asdict(field) for field in fields_of(experiment, file, name, settings)]
  own = [field for field in fields if not field["path"].startswith("stages.")]
  return {
    "experiment": experiment.name, "parameters": count_params(experiment.model), "legend": LEGEND, "fields": own,
    "stages": [_stage(stage, experiment, [f for f in fields if f["path"].startswith(f"stages.{stage.name}.")])
               for stage in experiment.stages]}


def _stage(stage, experiment: Experiment, fields: list[dict]) -> dict[str, Any]:
  said: Account = account(stage, experiment)
  return {"name": stage.name, "type": type(stage).__name__, "leaves": stage.kind,
          "starts_from": starts_from(stage, experiment), "reads": list(stage.inputs()), "geometry": said.geometry,
          "changes": [dataclasses.asdict(c) for c in said.changes], "cost_at_most": said.cost, "fields": fields}


def show(explained: dict[str, Any], console: Console, all_fields: bool = True) -> None:
  """Prints it, a table of geometry, changes and cost for each stage, and then its fields with their sources."""
  console.print(f"[bold]{explained['experiment']}[/]  {explained['parameters']:,} parameters", highlight=False)
  if all_fields:
    _fields("The experiment", explained["fields"], console)
  for stage in explained["stages"]:
    reads = f", reads {', '.join(stage['reads'])}" if stage["reads"] else ""
    console.print(f"\n[bold]{stage['name']}[/]  {stage['type']}: starts from {stage['starts_from']}{reads}, leaves a "
                  f"{stage['leaves'].replace('_', ' ')}", highlight=False)
    table = Table(show_header=False, box=None, padding=(0, 2))
    for key, value in stage["geometry"].items():
      table.add_row(key, _number(value))
    for change in stage["changes"]:
      table.add_row(*_change(Change(**change)))
    for key, value in stage["cost_at_most"].items():
      table.add_row(f"{key}, {'per update' if 'updates' in stage['geometry'] else 'in all'}, at most"
                    if key != TAKEN else key, _number(value))
    console.print(table, highlight=False)
    if all_fields:
      _fields(f"Fields of {stage['name']}", stage["fields"], console)
  if all_fields:
    console.print(f"\n{LEGEND} A number without a source is r1jax's own.", highlight=False, markup=False)


def _change(change: Change) -> tuple[str, str]:
  values = f"{_number(change.before)} -> {_number(change.after)}" if change.before != change.after else _number(change.after)
  if change.acts_at is None:
    return change.field, f"{values}, declared at step {change.step:,}: never, the stage ends before"
  waits = "" if change.acts_at == change.step else f", where a rollout starts (declared at {change.step:,})"
  return change.field, f"{values} from update {change.acts_at:,} on{waits}"


def _fields(title: str, fields: list[dict], console: Console) -> None:
  table = Table(title=title, title_justify="left", box=None, padding=(0, 1), title_style="italic")
  for column, options in (("field", {"no_wrap": True}), ("value", {"overflow": "fold", "max_width": 40}), ("source", {}),
                          ("why, as the code says", {"overflow": "fold"}), ("set in", {"style": "dim"})):
    table.add_column(column, **options)
  for field in fields:
    path = field["path"].split(".", 2)[-1] if field["path"].startswith("stages.") else field["path"]
    style = None if field["source"] == OURS else "green"
    # Text, not markup: [N] and [V2] are no styles.
    table.add_row(*map(Text, (path, _short(field["value"]), field["source"], field["why"], field["where"])), style=style)
  console.print(table, highlight=False)


def _short(value: Any, longest: int = 120) -> str:
  text = value if isinstance(value, str) else _number(value) if isinstance(value, int | float) else str(value)
  return text if len(text) <= longest else text[:longest - 4] + " ..."


def _number(value: Any) -> str:
  if isinstance(value, bool) or not isinstance(value, int | float):
    return str(value)
  if isinstance(value, int):
    return f"{value:,}" if abs(value) < 10**12 else f"{value:.2e}"
  return f"{value:.3e}" if abs(value) >= 1e6 else f"{value:g}"
