"""Training sets of reward models: preference pairs from a judge, and safety labels (R1, Nature, "Reward design")."""
import random
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from r1jax.curation.datasets import Row
from r1jax.curation.filters import words
from r1jax.curation.judges import Comparison, PairJudge, SafetyJudge
from r1jax.data.questions import Question
from r1jax.data.requests import KnownPreference
from r1jax.data.tokenizer import Tokenizer
from r1jax.errors import InputError
from r1jax.fields import Count, Name, NonNegative
from r1jax.stages.context import DATA, Base, Context, Experiment
from r1jax.stages.draws import Draws, about_rows, check_keys, connected
from r1jax.stages.model_rewards import SUMMARY, text_to_score
from r1jax.stages.rollout import Rollout


@dataclass(frozen=True)
class Preferences:
  """One stage that makes preference pairs out of samples of a policy.

  Of the samples of a question, `pairs` pairs with different summaries are judged `queries` times each, A and B swapped at
  random; a pair is kept where the mean of the verdicts is beyond `margin` either way, the better one as `chosen`. Then pairs
  are left out, the most unequal first, until the mean lengths of chosen and rejected summaries differ by no more than
  length_tolerance of their mean. known: the true preference, where a world knows it: kept with the rows, as a yardstick.
  Four queries and |difference| > 1: V2, appendix B.2; "comparable length" there has no number, the tolerance is ours.
  """

  draws: Draws
  judge: PairJudge
  name: Name = "pairs"
  start: str | Base | None = None
  pairs: Count = 2  # of a question
  queries: Count = 4  # [V2] B.2
  margin: NonNegative = 1.0  # the same
  length_tolerance: NonNegative = 0.02  # ours: the paper asks for comparable lengths and gives no number
  known: KnownPreference | None = None
  kind = DATA

  def inputs(self) -> tuple[str, ...]:
    """None: it reads the stage that it starts from alone."""
    return ()

  def check(self, experiment: Experiment) -> None:
    """InputError for an impossible geometry or source."""
    where = f"stages.{self.name}"
    self.draws.check(f"{where}.draws", experiment.model_of(self))
    if self.draws.samples < 2:
      raise InputError(f"{where}.draws.samples", self.draws.samples, "A pair takes at least 2.")

  def check_mesh(self, mesh) -> None:
    """InputError if a batch cannot be split over the mesh."""
    self.draws.check_mesh(f"stages.{self.name}.draws", mesh)

  def check_data(self, tokenizer: Tokenizer) -> None:
    """InputError for bad questions, or a key that is missing."""
    check_keys(self.judge)
    self.draws.check_data(tokenizer)

  def run(self, context: Context) -> dict:
    """Makes the data set, or goes on; what summary.json says of it."""
    with connected(self.judge, context.run_dir) as judge:
      units = self.draws.collect(self.name, context, lambda *batch: self._unit(judge, *batch))
    rows, dropped = balanced(units.rows, self.length_tolerance)
    counts = units.counts + Counter(dropped_for_length=dropped)
    about = about_rows(self.name, len(rows), counts)
    for side in ("chosen", "rejected"):
      about[f"length_{side}"] = round(fmean(_length(row[side]) for row in rows), 2)
    units.finish(self.name, rows, about)
    return {"steps": self.draws.count, **about, "before": {}, "after": {}}

  def _unit(self, judge, first: int, questions: list[Question], rollout: Rollout) -> tuple[list[Row], Counter]:
    """The pairs of one unit that the judge is sure of."""
    k, counts = self.draws.samples, Counter()
    pairs, comparisons = [], []
    for q, question in enumerate(questions):
      rng = random.Random(f"{self.name}/{first + q}")
      whole = [self.draws.whole(r.text) for r in rollout.responses[q * k:(q + 1) * k] if r.episode.stopped]
      different = list({text_to_score(response, SUMMARY): response for response in whole}.items())
      possible = list(combinations(different, 2))
      for (a, response_a), (b, response_b) in rng.sample(possible, min(self.pairs, len(possible))):
        swapped = [rng.random() < 0.5 for _ in range(self.queries)]
        pairs.append((question, response_a, response_b, swapped))
        comparisons += [Comparison(question, *((b, a) if swap else (a, b)), number) for number, swap in enumerate(swapped)]
    verdicts, rows = judge(comparisons), []
    for n, (question, a, b, swapped) in enumerate(pairs):
      given = [(-value if swap else value) for value, swap in
               zip(verdicts[n * self.queries:(n + 1) * self.queries], swapped, strict=True) if value is not None]
      counts["pairs"] += 1
      counts["verdicts_missing"] += self.queries - len(given)
      counts["judge_changed_its_mind"] += bool(given) and min(given) < 0 < max(given)
      if len(given) * 2 < self.queries or abs(fmean(given)) <= self.margin:
        counts["undecided"] += 1
        continue
      chosen, rejected = (a, b) if fmean(given) > 0 else (b, a)
      known = {} if self.known is None else {
        f"preference_{side}": self.known.helpfulness(question, text_to_score(text, SUMMARY))
        for side, text in (("chosen", chosen), ("rejected", rejected))}
      rows.append({"question": question.text, "chosen": chosen, "rejected": rejected, "verdicts": given, **known,
                   "provenance": {"stage": self.name, "policy": self.start, "question_id": question.id,
                                  "judged_by": type(self.judge).__name__}})
    return rows, counts


def balanced(rows: list[Row], tolerance: float) -> tuple[list[Row], int]:
  """(rows, how many were left out) such that the mean lengths of chosen and rejected summaries, in words, differ by no more
  than `tolerance` of their mean. On the side of the surplus, the most unequal pairs go first, of those the later ones."""
  differences = [_length(row["chosen"]) - _length(row["rejected"]) for row in rows]
  total = sum(_length(row[side]) for row in rows for side in ("chosen", "rejected"))
  surplus, left_out = sum(differences), set()
  sign = 1 if surplus > 0 else -1
  for i in sorted(range(len(rows)), key=lambda i: (-sign * differences[i], -i)):
    remaining = len(rows) - len(left_out)
    if not remaining or sign * surplus <= tolerance * total / 2:
      break
    left_out.add(i)
    surplus -= differences[i]
    total -= _length(rows[i]["chosen"]) + _length(rows[i]["rejected"])
  return [row for i, row in enumerate(rows) if i not in left_out], len(left_out)


def _length(response: str) -> int:
  return len(words(text_to_score(response, SUMMARY)))


@dataclass(frozen=True)
class SafetyLabels:
  """One stage that has samples of a policy labelled safe or unsafe by guidelines (R1, Nature: 106,000 of them)."""

  draws: Draws
  judge: SafetyJudge
  name: Name = "safety_labels"
  start: str | Base | None = None
  kind = DATA

  def inputs(self) -> tuple[str, ...]:
    """None: it reads the stage that it starts from alone."""
    return ()

  def check(self, experiment: Experiment) -> None:
    """InputError for an impossible geometry or source."""
    self.draws.check(f"stages.{self.name}.draws", experiment.model_of(self))

  def check_mesh(self, mesh) -> None:
    """InputError if a batch cannot be split over the mesh."""
    self.draws.check_mesh(f"stages.{self.name}.draws", mesh)

  def check_data(self, tokenizer: Tokenizer) -> None:
    """InputError for bad questions, or a key that is missing."""
    check_keys(self.judge)
    self.draws.check_data(tokenizer)

  def run(self, context: Context) -> dict:
    """Makes the data set, or goes on; what summary.json says of it."""
    with connected(self.judge, context.run_dir) as judge:
      units = self.draws.collect(self.name, context, lambda *batch: self._unit(judge, *batch))
    about = about_rows(self.name, len(units.rows), units.counts)
    units.finish(self.name, units.rows, about)
    return {"steps": self.draws.count, **about, "before": {}, "after": {}}

  def _unit(self, judge, first: int, questions: list[Question], rollout: Rollout) -> tuple[list[Row], Counter]:
    """The labelled responses of one unit; those that were cut are left out."""
    k, counts = self.draws.samples, Counter()
    whole = [i for i, r in enumerate(rollout.responses) if r.episode.stopped]
    counts["truncated"] += len(rollout.responses) - len(whole)
    items = [(questions[i // k], self.draws.whole(rollout.responses[i].text)) for i in whole]
    rows = []
    for i, (question, response), safe in zip(whole, items, judge(items), strict=True):
      counts["unlabelled" if safe is None else "safe" if safe else "unsafe"] += 1
      if safe is not None:
        rows.append({"question": question.text, "response": response, "safe": safe, "provenance": {
          "stage": self.name, "policy": self.start, "question_id": question.id, "draw": first + i // k, "sample": i % k,
          "judged_by": type(self.judge).__name__}})
    return rows, counts
