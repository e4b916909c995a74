"""What the terminal shows: one response after another, thoughts dimmed or folded, nothing that could steer it."""
import io

import numpy as np
import pytest
from rich.console import Console

from r1jax.data.tokenizer import word_level_tokenizer
from r1jax.serving.responses import Growth, Response
from r1jax.serving.terminal import Printer, print_responses

DIM, BOLD, END = "\x1b[2m", "\x1b[1m", "\x1b[0m"


def terminal():
  return Console(file=io.StringIO(), force_terminal=True, color_system="standard", soft_wrap=True)


def growth(number, sample, text, last=None, stopped=True):
  tokens, logprobs = np.array([1, 2], np.int32), np.array([-0.5, -0.25], np.float32)
  response = None if last is None else Response(number, sample, last, tokens, logprobs, stopped)
  return Growth(number, sample, text, tokens, logprobs, response)


def printed(parts, thinking="dim", inside=False, stopped=True):
  console = terminal()
  printer = Printer(console, thinking, inside)
  for part in parts:
    printer.add(part)
  printer.end(stopped, 9)
  return console.file.getvalue()


@pytest.mark.parametrize(("thinking", "shown"), [
  ("dim", f"{DIM} so{END}{DIM} it is {END} 9\n"), ("fold", f"{DIM}[thought of 3 words]{END} 9\n"),
  ("raw", "<think> so it is </think> 9\n")])
def test_thoughts_are_dimmed_folded_or_left(thinking, shown):
  assert printed(["<th", "ink> so", " it is </think", "> 9"], thinking) == shown


def test_a_thought_that_the_prompt_has_opened_and_nobody_closed():
  assert printed(["so it"], inside=True, stopped=False).startswith(f"{DIM}so it{END}")
  assert "cut after 9 tokens" in printed(["so it"], "fold", inside=True, stopped=False)
  assert "[thought of 2 words]" in printed(["so it"], "fold", inside=True)


def test_a_response_cannot_steer_the_terminal():
  shown = printed(["a\x1b[2Jb\x07\r\x9bc\n\td"])
  assert shown == f"a␛[2Jb␇␍�c\n{' ' * 8}d\n"  # rich writes tabs out


def test_markup_is_text():
  assert printed(["[bold]x[/] :smile:"]) == "[bold]x[/] :smile:\n"


def test_responses_come_in_order_and_the_first_as_it_grows():
  console = terminal()
  order = [(0, 0), (0, 1), (1, 0)]
  seen = []

  def growths():
    for part in (growth(0, 1, "b1"), growth(1, 0, "c", "c"), growth(0, 0, "a1"), growth(0, 1, "b2", "b1b2"),
                 growth(0, 0, "a2", "a1a2")):
      yield part
      seen.append(console.file.getvalue())
  responses = print_responses(growths(), order, ["one?", "two?"], console, "dim", False)
  assert [(r.number, r.sample) for r in responses] == order
  assert seen[0] == seen[1] == "" and seen[2].endswith("a1") and "b1" not in seen[3]
  assert console.file.getvalue() == (
    f"{BOLD}1.1 one?{END}\na1a2\n{BOLD}1.2 one?{END}\nb1b2\n{BOLD}2.1 two?{END}\nc\n")


def test_logprobs_are_listed_token_by_token():
  console = Console(file=io.StringIO())
  print_responses([growth(0, 0, "a", "a")], [(0, 0)], ["?"], console, "dim", False, word_level_tokenizer(["a"]))
  assert console.file.getvalue().splitlines() == [
    "a", "  -0.5000  0.6065  '<eos>'", "  -0.2500  0.7788  'a'", "  -0.7500  in all, 2 tokens"]
