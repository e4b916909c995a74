"""Which alerts may end a run: settings of a training stage. The rules themselves are in r1jax.reports.alerts."""
import enum
from dataclasses import dataclass

from r1jax.fields import Positive


class WatchdogPolicy(enum.Enum):
  """What follows when a watchdog finds something."""

  WARN = "warn"  # it is said, logged, and in summary.json
  STOP = "stop"  # that too, and the run ends with status 3 before its checkpoint is replaced


@dataclass(frozen=True)
class Watchdog:
  """The threshold of a rule, as its definition in r1jax.reports.alerts has it, and what follows."""

  threshold: Positive
  policy: WatchdogPolicy = WatchdogPolicy.WARN


@dataclass(frozen=True)
class Watchdogs:
  """What watches a training stage. All thresholds are ours. not_a_number has no threshold and always stops."""

  outlier: Watchdog = Watchdog(5.0)  # times the largest of the points before it
  dead_groups: Watchdog = Watchdog(0.9)  # share of groups without an advantage
  verifier: Watchdog = Watchdog(0.05)  # share of verdicts that timed out or crashed
  slow: Watchdog = Watchdog(10.0)  # times the median seconds of a step

  def stops(self, rule: str) -> bool:
    """Whether an alert of a rule ends the run."""
    return rule == "not_a_number" or getattr(getattr(self, rule, None), "policy", None) is WatchdogPolicy.STOP
