"""Responses on a terminal: thoughts dimmed or folded, one response after another although all are sampled together."""
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console

from r1jax.data.tokenizer import Tokenizer
from r1jax.serving.responses import Growth, Response
from r1jax.serving.text import Thoughts

THINKING = ("dim", "fold", "raw")  # dimmed; replaced by their length; everything as it is, with the tags
# What a model writes must not steer the terminal: control characters are shown, but for the tab and the end of a line.
VISIBLE = {**{c: 0x2400 + c for c in range(32) if chr(c) not in "\t\n"}, 0x7F: 0x2421,
           **dict.fromkeys(range(0x80, 0xA0), 0xFFFD)}


@dataclass
class Printer:
  """Prints one response as it grows. inside: whether it starts within a thought."""

  console: Console
  thinking: str = "dim"
  inside: bool = False
  _thoughts: Thoughts = field(init=False)
  _folded: str = ""  # the thought that is going on, where thoughts are folded

  def __post_init__(self):
    self._thoughts = Thoughts(self.inside)

  def add(self, text: str) -> None:
    """Prints what is certain of a further stretch of the response."""
    if self.thinking == "raw":
      self._out(text)
    else:
      self._show(self._thoughts.add(text))

  def end(self, stopped: bool, length: int) -> None:
    """Prints the rest, and whether the response was cut after `length` tokens."""
    self._show(self._thoughts.end())
    self._unfold()
    self._out("\n" if stopped else f" [cut after {length} tokens]\n", None if stopped else "yellow")

  def _show(self, parts: list[tuple[bool, str]]) -> None:
    for thought, text in parts:
      if thought and self.thinking == "fold":
        self._folded += text
        continue
      self._unfold()
      self._out(text, "dim" if thought else None)

  def _unfold(self) -> None:
    if self._folded:
      self._out(f"[thought of {len(self._folded.split())} words]", "dim")
    self._folded = ""

  def _out(self, text: str, style: str | None = None) -> None:
    if text:
      self.console.out(text.translate(VISIBLE), style=style, end="", highlight=False)
      self.console.file.flush()


def print_responses(growths: Iterable[Growth], order: list[tuple[int, int]], questions: list[str], console: Console,
                    thinking: str, inside: bool, tokenizer: Tokenizer | None = None) -> list[Response]:
  """Prints responses (question, sample) in this order: the first that has not ended as it grows, what others have said
  meanwhile when it is their turn. tokenizer: print the log-prob of each token too. Returns the responses."""
  waiting: dict[tuple[int, int], list[Growth]] = {key: [] for key in order}
  responses, turn, printer = [], 0, None
  for growth in growths:
    waiting[growth.number, growth.sample].append(growth)
    while turn < len(order) and waiting[order[turn]]:
      if printer is None:
        if len(order) > 1:
          number, sample = order[turn]
          console.out(f"{number + 1}.{sample + 1} {questions[number]}".translate(VISIBLE), style="bold", highlight=False)
        printer = Printer(console, thinking, inside)
      said = waiting[order[turn]]
      waiting[order[turn]] = []
      for part in said:
        printer.add(part.text)
      response = said[-1].response
      if response is None:
        break
      printer.end(response.stopped, len(response.tokens))
      if tokenizer is not None:
        print_logprobs(response, tokenizer, console)
      responses.append(response)
      printer, turn = None, turn + 1
  return responses


def print_logprobs(response: Response, tokenizer: Tokenizer, console: Console) -> None:
  """A line for each token: its log-prob, its probability and its text; then their sum."""
  for token, logprob in zip(response.tokens, response.logprobs, strict=True):
    console.out(f"{logprob:9.4f} {np.exp(logprob):7.4f}  {tokenizer.decode([token])!r}", style="dim", highlight=False)
  console.out(f"{response.logprobs.sum():9.4f}  in all, {len(response.tokens)} tokens", style="dim", highlight=False)
