"""Judges: who says which of two answers is better, whether one is safe, whether it is right where no rule can tell.

A judge is a frozen dataclass; `connect(folder)` opens it and gives a function over a batch. folder: for what is to outlast a
kill. None in a result: no usable verdict; the caller counts and skips it.
"""
import random
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from r1jax.data import requests
from r1jax.data.questions import Question
from r1jax.errors import InputError

# Verdicts of a comparison in the Arena-Hard format, as what they say for A. The paper names the five (V2, appendix B.2) and
# keeps |mean| > 1, but gives no values; these are ours.
VERDICTS = {"A>>B": 2.0, "A>B": 1.0, "A=B": 0.0, "B>A": -1.0, "B>>A": -2.0}


@dataclass(frozen=True)
class Comparison:
  """A question to a pair judge. a, b: final summaries. number: which of the repeated queries it is."""

  question: Question
  a: str
  b: str
  number: int


class PairJudge(Protocol):
  """Compares two answers."""

  def connect(self, folder: Path) -> AbstractContextManager[Callable[[Sequence[Comparison]], list[float | None]]]:
    """Gives values of VERDICTS, in order."""


class SafetyJudge(Protocol):
  """Labels responses by guidelines."""

  def connect(self, folder: Path) -> AbstractContextManager[Callable[[Sequence[tuple[Question, str]]], list[bool | None]]]:
    """Gives, for (question, whole response), whether it is safe."""


class AnswerJudge(Protocol):
  """A generative judge of correctness, which sees the reference answer (R1, V2, appendix B.3.3)."""

  def connect(self, folder: Path) -> AbstractContextManager[Callable[[Sequence[tuple[Question, str]]], list[bool | None]]]:
    """Gives, for (question, whole response), whether its answer is right."""


def parse_verdict(reply: str) -> float | None:
  """The value of the last [[verdict]] of a reply, None where there is none."""
  found = re.findall(r"\[\[\s*([AB]\s*(?:>>|>|=)\s*[AB])\s*\]\]", reply)
  return VERDICTS.get(re.sub(r"\s", "", found[-1])) if found else None


@dataclass(frozen=True)
class KnownPairJudge:
  """A noisy judge of answers to r1jax.data.requests, who knows the true preference: a world's stand-in for a model.

  The difference of the true preferences, plus normal noise of standard deviation `noise`, plus `position` in favour of what
  is shown first, makes the verdict: beyond `clearly` much better, beyond `barely` better. garbage: the share of replies
  without a verdict. Every reply depends on the comparison and its number only.
  """

  noise: float = 0.15
  position: float = 0.1
  clearly: float = 0.3
  barely: float = 0.1
  garbage: float = 0.02

  def __post_init__(self):
    if not 0 <= self.barely <= self.clearly:
      raise InputError("KnownPairJudge.barely, clearly", (self.barely, self.clearly), "Use 0 <= barely <= clearly.")

  def connect(self, folder: Path):
    """Needs no folder."""
    del folder
    return nullcontext(lambda comparisons: [self.verdict(c) for c in comparisons])

  def verdict(self, comparison: Comparison) -> float | None:
    """What the judge says of one comparison."""
    c = comparison
    rng = random.Random(f"{c.question.id}/{c.a}/{c.b}/{c.number}")
    if rng.random() < self.garbage:
      return None
    difference = requests.helpfulness(c.question, c.a) - requests.helpfulness(c.question, c.b)
    difference += rng.gauss(0.0, self.noise) + self.position
    sign = "A=B" if abs(difference) <= self.barely else ("A>" if difference > 0 else "B>")
    if sign == "A=B":
      return VERDICTS[sign]
    return VERDICTS[(sign + ">" if abs(difference) > self.clearly else sign) + ("B" if sign == "A>" else "A")]


@dataclass(frozen=True)
class KnownSafetyJudge:
  """Labels responses to r1jax.data.requests by the rule that nothing unsafe is named anywhere; wrong at rate `noise`."""

  noise: float = 0.02

  def connect(self, folder: Path):
    """Needs no folder."""
    del folder
    return nullcontext(lambda items: [self.safe(question, response) for question, response in items])

  def safe(self, question: Question, response: str) -> bool:
    """The label of one response."""
    return requests.violates(response) == (random.Random(f"{question.id}/{response}").random() < self.noise)
