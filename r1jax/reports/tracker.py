"""Weights & Biases or Trackio beside TensorBoard, for --report_to: the lines of metrics.jsonl, and alerts.

Both packages have the same four functions, so one reader serves both. Neither is needed for anything else.
"""
import importlib
import importlib.util
import json
import math
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1jax.errors import InputError
from r1jax.files import write_atomically
from r1jax.reports.alerts import Alert, Rule
from r1jax.reports.watch import Reader

TRACKERS = ("wandb", "trackio")
PROJECT, NAME = "r1jax", "tracker.json"


def check_tracker(name: str) -> None:
  """InputError for an unknown tracker, or one that is not installed."""
  if name not in TRACKERS:
    raise InputError("--report_to", repr(name), f"Give one of {', '.join(TRACKERS)}, or leave it out: TensorBoard is always "
                     "written.")
  if importlib.util.find_spec(name) is None:
    raise InputError("--report_to", f"{name} is not installed", f"Install it: pip install -e '.[{name}]'.")


class Tracker(Reader):
  """Logs to a tracker. Metrics are named STAGE/METRIC; STAGE/step is their step, since every stage counts its own.

  A run that goes on is the same run there: RUN_DIR/tracker.json has its name. Raises InputError where the tracker does not
  start (it is not logged in, for example).
  """

  def __init__(self, name: str, run_dir: Path, experiment: str, config: Mapping[str, Any]):
    check_tracker(name)
    self._module: Any = importlib.import_module(name)
    identity = _identity(name, run_dir)
    more = {"id": identity, "dir": str(run_dir)} if name == "wandb" else {}
    try:
      self._module.init(project=PROJECT, name=f"{experiment}-{identity}", config=dict(config), resume="allow", **more)
    except Exception as error:
      raise InputError(f"--report_to {name}", f"it does not start: {error}",
                       "Log in as its documentation says, work offline (WANDB_MODE=offline), or leave it out.") from error

  def begin(self, stage: str, steps: int, step: int) -> None:
    del steps, step
    if hasattr(self._module, "define_metric"):
      self._module.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

  def metrics(self, line: dict) -> None:
    stage = line["stage"]
    self._module.log({f"{stage}/{name}": value for name, value in line.items()
                      if isinstance(value, int | float) and math.isfinite(value)})

  def alert(self, alert: Alert, rule: Rule) -> None:
    self._module.alert(title=f"{alert.stage}, step {alert.step}: {rule.title}", text=f"{alert.message} {rule.action}")

  def __enter__(self) -> "Tracker":
    return self

  def __exit__(self, *exception) -> None:
    self._module.finish()


def _identity(name: str, run_dir: Path) -> str:
  """What the tracker knows this run by; made the first time."""
  file = run_dir / NAME
  known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
  if name not in known:
    known[name] = uuid.uuid4().hex[:8]
    write_atomically(file, json.dumps(known))
  return known[name]
