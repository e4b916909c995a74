"""The run on a terminal: a display that is redrawn every second, or plain lines where there is no terminal.

Both only keep what they are told; the display is drawn by a thread of its own, once a second, so the loop does not wait for
it. The cursor stays visible throughout: a terminal is sane after Ctrl-C, and after a kill that leaves no time to tidy up.
"""
import abc
import sys
import threading
import time
from collections import deque
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from r1jax.reports.alerts import Alert, Rule
from r1jax.reports.tables import seconds_text
from r1jax.reports.watch import Reader

PROGRESS_SECONDS = 10.0  # between plain lines
PROGRESS = ("policy/loss", "reward/mean", "reward/accuracy", "reward/format", "length/mean", "eval/pass_at_1", "eval/format",
            "eval/length", "data/questions", "data/rows")
FIRST = ("eval/pass_at_1", "reward/mean", "reward/accuracy", "reward/format", "reward/language", "length/mean",
         "policy/entropy", "policy/kl", "policy/loss", "eval/length", "data/rows")  # rows of the display, in this order
MOST_ROWS, CURVE, TEXT_LINES = 10, 32, 4  # metrics, columns of a curve, lines of a sample
BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=*#"


@dataclass
class Pace:
  """How fast a stage goes: by the last steps of this process, but for its first, which compiles."""

  marks: deque = field(default_factory=lambda: deque(maxlen=20))  # (seconds, step)

  def mark(self, now: float, step: int) -> None:
    """A step is done. Lines of one rollout come at once and are one mark."""
    if self.marks and now - self.marks[-1][0] < 0.05:
      self.marks[-1] = self.marks[-1][0], max(step, self.marks[-1][1])
    elif not self.marks or step > self.marks[-1][1]:
      self.marks.append((now, step))

  def left(self, now: float, steps: int) -> float | None:
    """Seconds to the end of the stage, None while it cannot be estimated."""
    if len(self.marks) < 3:
      return None
    (begun, first), (last, step) = self.marks[0], self.marks[-1]
    return max(0.0, (steps - step) * (last - begun) / max(step - first, 1) - (now - last))


@dataclass
class Shown:
  """What is known of the stage under way. history: metric -> its values in this process."""

  stage: str = ""
  number: int = 0
  of: int = 0
  steps: int = 0
  step: int = 0
  began: float = 0.0  # on the monotonic clock
  pace: Pace = field(default_factory=Pace)
  history: dict[str, list[float]] = field(default_factory=dict)
  seconds: dict[str, float] = field(default_factory=dict)  # by phase, of the last step that logged some
  sample: dict | None = None
  alerts: int = 0

  def take(self, line: dict, now: float) -> None:
    """Keeps a line of metrics.jsonl."""
    self.step = max(self.step, line["step"])
    self.pace.mark(now, line["step"])
    numbers = {k: np.nan if v is None else float(v) for k, v in line.items()
               if k not in ("stage", "step") and (v is None or isinstance(v, int | float))}
    phases = {k.removeprefix("time/"): v for k, v in numbers.items() if k.startswith("time/") and not k.endswith("_hidden")}
    self.seconds = phases or self.seconds
    for name, value in numbers.items():
      if not name.startswith("time/"):
        self.history.setdefault(name, []).append(value)


class View(Reader, abc.ABC):
  """What the display and plain lines have in common: the stage under way, and a line for each beginning, end and alert."""

  def __init__(self):
    self.shown = Shown()

  @abc.abstractmethod
  def say(self, text: str) -> None:
    """Writes a line."""

  def enter(self, stage: str, number: int, of: int) -> None:
    self.shown = Shown(stage, number, of, began=time.monotonic())
    self.say(f"{stage}: begins, stage {number} of {of}")

  def begin(self, stage: str, steps: int, step: int) -> None:
    self.shown.stage, self.shown.steps, self.shown.step = stage, steps, step
    if step:
      self.say(f"{stage}: goes on at step {step:,} of {steps:,}")

  def metrics(self, line: dict) -> None:
    self.shown.take(line, time.monotonic())

  def sample(self, line: dict) -> None:
    self.shown.sample = line

  def alert(self, alert: Alert, rule: Rule) -> None:
    self.shown.alerts += 1
    self.say(f"{alert.stage}: ALERT at step {alert.step:,}: {rule.title}: {alert.message} What to do: {rule.action}")

  def leave(self, stage: str, seconds: float) -> None:
    self.say(f"{stage}: done in {seconds_text(seconds)}")


class Lines(View):
  """Plain lines on stderr: of evaluations always, otherwise not more often than PROGRESS_SECONDS."""

  def __init__(self):
    super().__init__()
    self._told = -np.inf

  def say(self, text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)

  def metrics(self, line: dict) -> None:
    super().metrics(line)
    values = [f"{name.split('/')[1]} {_number(line[name])}" for name in PROGRESS if name in line]
    now, held_out = time.monotonic(), "eval/pass_at_1" in line
    if values and (held_out or now - self._told >= PROGRESS_SECONDS):
      self._told = now
      left = self.shown.pace.left(now, self.shown.steps)
      self.say(f"{line['stage']} {line['step']}/{self.shown.steps}  {'held out: ' * held_out}{', '.join(values)}"
               + (f"  ({seconds_text(left)} left)" if left and not held_out else ""))


class Screen(View):
  """The display. Enter it to have it drawn; what others print while it is open appears above it."""

  def __init__(self, console: Console):
    super().__init__()
    self._console, self._lock = console, threading.Lock()
    self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=1, transient=True,
                      redirect_stdout=sys.stdout.isatty(), vertical_overflow="crop")

  def __enter__(self) -> "Screen":
    self._live.start()
    self._console.show_cursor(True)
    return self

  def __exit__(self, *exception) -> None:
    self._live.stop()

  def say(self, text: str) -> None:
    self._console.print(Text(printable(text)))

  def metrics(self, line: dict) -> None:
    with self._lock:
      super().metrics(line)

  def _draw(self):
    try:
      with self._lock:
        return frame(self.shown, time.monotonic(), self._console.encoding.lower().startswith("utf"))
    except Exception as error:  # drawn in a thread: one that fails must not end it
      return Text(f"nothing to show: {error!r}")


def frame(shown: Shown, now: float, unicode: bool = True) -> Group:
  """The display as it stands `now` (of the monotonic clock)."""
  if not shown.stage:
    return Group(Text("starting"))
  left = shown.pace.left(now, shown.steps)
  head = Table.grid(padding=(0, 2))
  head.add_row(Text(f"{shown.stage} ({shown.number} of {shown.of})", style="bold"),
               ProgressBar(total=max(shown.steps, 1), completed=shown.step, width=CURVE),
               Text(f"step {shown.step:,} of {shown.steps:,}" if shown.steps else "preparing"))
  parts: list = [head, Text(f"{seconds_text(now - shown.began)} so far" + (
    f", about {seconds_text(left)} left" if left is not None else ""))]
  names = _rows(shown.history)
  if names:
    table = Table.grid(padding=(0, 2))
    for name in names:
      values = shown.history[name]
      table.add_row(Text(name, style="cyan"), Text(_number(values[-1]), justify="right"), Text(curve(values, unicode)))
    parts.append(table)
  if shown.seconds:
    parts.append(Text("seconds: " + ", ".join(f"{k} {v:.3g}" for k, v in shown.seconds.items() if v >= 0.0005), style="dim"))
  if shown.sample is not None:
    parts += _sample(shown.sample)
  if shown.alerts:
    parts.append(Text(f"alerts in this stage: {shown.alerts}", style="bold red"))
  return Group(*parts)


def _rows(history: dict[str, list[float]]) -> list[str]:
  """The metrics that are shown: FIRST, other rewards, the true preference; of a stage with none of these its first ones."""
  names = [name for name in FIRST if name in history]
  more = [n for n in history if n.startswith(("reward/", "true/")) and n not in (*FIRST, "reward/equal_groups")]
  return (names + more or list(history))[:MOST_ROWS]


def _sample(sample: dict) -> list[Text]:
  """A question and the response to it, TEXT_LINES of a usual terminal at most."""
  most = TEXT_LINES * 80
  response = printable(str(sample.get("response", "")))
  response = response if len(response) <= most else f"{response[:most // 2]} ... {response[-most // 2:]}"
  return [Text(f"sample of step {sample.get('step')}: {printable(str(sample.get('question', '')))[:160]}", style="dim"),
          Text(f"  {response}"), Text(f"  reward {_number(sample.get('reward'))}, gold answer "
                                      f"{printable(str(sample.get('answer', '')))[:80]}", style="dim")]


def printable(text: str) -> str:
  """The text on one line and without what steers a terminal: a sample may hold any character."""
  return "".join(letter if letter.isprintable() else " " for letter in text)


def curve(values: list[float], unicode: bool = True) -> str:
  """The values as a line of at most CURVE blocks between their least and greatest; a gap where there is no number."""
  means = [np.nanmean(part) if not np.isnan(part).all() else np.nan
           for part in np.array_split(np.asarray(values, float), min(CURVE, max(len(values), 1)))]
  known = [m for m in means if np.isfinite(m)]
  if not known:
    return ""
  blocks, low, high = BLOCKS if unicode else ASCII_BLOCKS, min(known), max(known)
  height = (len(blocks) - 1) / (high - low) if high > low else 0.0
  return "".join(blocks[round((m - low) * height)] if np.isfinite(m) else " " for m in means)


def _number(value: object) -> str:
  """Three digits, thousands whole; what is no number says so."""
  if not isinstance(value, int | float) or not np.isfinite(value):
    return "not a number"
  return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


@contextmanager
def _lines():
  yield Lines()


def terminal() -> AbstractContextManager[View]:
  """The display where stderr is a terminal that can draw one, plain lines elsewhere; to be entered."""
  console = Console(stderr=True)
  return Screen(console) if sys.stderr.isatty() and not console.is_dumb_terminal else _lines()
