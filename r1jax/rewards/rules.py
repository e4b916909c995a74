"""Rule rewards of R1-Zero: accuracy + format, "with the same weight" (R1, Nature, equation 4)."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from r1jax.errors import InputError
from r1jax.rewards.format import format_reward
from r1jax.rewards.language import language_reward
from r1jax.rewards.score import Score, counts
from r1jax.verifiers.kinds import kind_of
from r1jax.verifiers.maths import extract_answer, verify_plain
from r1jax.verifiers.pool import VerifierPool
from r1jax.verifiers.verdict import SCORED, UNPARSABLE, Verdict

__all__ = ["PARTS", "RuleRewards", "Sample", "Score", "Scoring", "counts"]

PARTS = ("accuracy", "format", "language")
GENERAL = ("helpful", "safety")  # kinds of questions without a rule: reward models score them (R1, Nature, "Reward design")


@dataclass(frozen=True)
class Sample:
  """A response to be scored.

  response: the sampled text, without the prompt. prefill: what the template had already written of the
  answer. gold: the reference answer, as `r1jax.verifiers.kinds` has it for the kind. truncated: the response was cut at
  the maximum length. question: its text, for programs that continue it. language: the one to think in (ISO 639-1).
  """

  response: str
  gold: str
  truncated: bool
  prefill: str = ""
  kind: str = "maths"
  question: str = ""
  language: str = "en"


class Scoring:
  """Scores that are still being computed, as `RuleRewards.submit` returns them."""

  def __init__(self, weights: Mapping[str, float], pending: Sequence[tuple[dict, Verdict | Future]]):
    self._weights, self._pending = weights, pending
    self.began = self.ended = time.perf_counter()  # of submit() and of the last verdict so far
    for verdict in {id(v): v for _, v in pending if isinstance(v, Future)}.values():
      verdict.add_done_callback(self._note)

  def _note(self, _: Future) -> None:
    self.ended = max(self.ended, time.perf_counter())

  def done(self) -> bool:
    """Whether result() would return at once."""
    return all(verdict.done() for _, verdict in self._pending if isinstance(verdict, Future))

  def result(self) -> list[Score]:
    """Blocks until every sample is scored; the scores in the order of the samples."""
    return [self._score(parts, verdict) for parts, verdict in self._pending]

  def _score(self, parts: dict[str, float], verdict: Verdict | Future) -> Score:
    equal, status = verdict.result() if isinstance(verdict, Future) else verdict
    parts = {name: float(equal) if name == "accuracy" else part for name, part in parts.items()}
    value = sum(self._weights[name] * part for name, part in parts.items())
    return Score(value=value, parts=parts, status=status)


class RuleRewards:
  """Scores samples by rule. value = sum over parts of weight * part, each part in [0, 1].

  accuracy: the content of the last `<answer>` block (of kind code: the program in it) is right by the rules of the
  question's kind (`r1jax.verifiers.kinds`). format: `r1jax.rewards.format`. language: the share of the chain of thought in
  the sample's language (`r1jax.rewards.language`, R1, Nature, equation 7). A truncated response counts as wrong: all
  parts 0, status "scored". No answer block, or nothing readable in it: accuracy 0, status "unparsable". A verifier
  that hangs or dies: accuracy 0, "timed_out" or "crashed"; format is still scored. A general question, of a kind without
  a rule, has no part accuracy. Plain numbers are compared here;
  other answers go to the pool's worker processes and are scored in the background. An answer that occurs several
  times for the same gold answer in one call is checked once.

  weights: part -> weight; {"accuracy": 1.0, "format": 1.0} is the paper's. pool: one to share, which stays
  open at close(); by default one of `workers` processes and `timeout_seconds` an answer is made and owned.
  Raises InputError for an unknown part or a weight that is no finite number of at least 0.
  """

  def __init__(
    self,
    weights: Mapping[str, float],
    pool: VerifierPool | None = None,
    workers: int = 1,
    timeout_seconds: float = 5.0,
  ):
    _check_weights(weights)
    self.weights = dict(weights)
    self.pool = VerifierPool(workers, timeout_seconds) if pool is None else pool
    self._owns_pool = pool is None

  def submit(self, samples: Iterable[Sample]) -> Scoring:
    """Starts scoring; the work that needs a worker process goes on while the caller does something else."""
    shared: dict[tuple[str, ...], Future] = {}
    pending = []
    for sample in samples:
      ruled = sample.kind not in GENERAL
      parts = {name: 0.0 for name in self.weights if ruled or name != "accuracy"}
      if "format" in parts and not sample.truncated:
        parts["format"] = format_reward(sample.response, sample.prefill)
      if "language" in parts and not sample.truncated:
        parts["language"] = language_reward(sample.question, sample.response, sample.prefill, sample.language)
      pending.append((parts, self._accuracy(sample, shared)))
    return Scoring(self.weights, pending)

  def close(self) -> None:
    """Ends the worker processes, unless the pool was given."""
    if self._owns_pool:
      self.pool.close()

  def __enter__(self) -> "RuleRewards":
    return self

  def __exit__(self, *exception) -> None:
    self.close()

  def _accuracy(self, sample: Sample, shared: dict[tuple[str, ...], Future]) -> Verdict | Future:
    if sample.truncated or "accuracy" not in self.weights or sample.kind in GENERAL:
      return False, SCORED
    if kind_of(sample.kind).whole_response:
      answer = sample.prefill + sample.response
    else:
      answer = extract_answer(sample.response, sample.prefill)
    if answer is None:
      return False, UNPARSABLE
    equal = verify_plain(answer, sample.gold) if sample.kind == "maths" else None
    if equal is not None:
      return equal, SCORED
    key = (sample.kind, answer, sample.gold, sample.question)
    if key not in shared:
      shared[key] = self.pool.submit(answer, sample.gold, sample.kind, sample.question)
    return shared[key]


def _check_weights(weights: Mapping[str, float]) -> None:
  known = ", ".join(PARTS)
  if not weights:
    raise InputError("RuleRewards.weights", "it is empty", f"Give at least one of: {known}.")
  for name, weight in weights.items():
    if name not in PARTS:
      raise InputError("RuleRewards.weights", f"unknown part {name!r}", f"Known parts: {known}.")
    if not (math.isfinite(weight) and weight >= 0):
      raise InputError(f"RuleRewards.weights[{name!r}]", f"{weight!r}", "Give a finite number of at least 0.")
