"""Cold start and rejection sampling: a training set out of what a policy got right.

    sample -> right? -> readable? -> refine and verify again -> duplicates, contamination -> mix with other data -> rows

R1's cold start (V2, appendix B.3.2) samples R1-Zero and refines; its 800,000 samples (appendix B.3.3) come from the first RL
stage, unrefined, beside non-reasoning data.
"""
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from r1jax.curation.datasets import Row, Rows
from r1jax.curation.filters import LANGUAGE, Filters
from r1jax.curation.judges import AnswerJudge
from r1jax.curation.overlap import NGrams, deduplicate
from r1jax.curation.refine import Refiner
from r1jax.data.prompts import Source, check_source, load_questions, read_all
from r1jax.data.questions import Question
from r1jax.data.tokenizer import Tokenizer
from r1jax.errors import InputError
from r1jax.fields import Count, Name, Seconds, Workers
from r1jax.rewards.rules import GENERAL, RuleRewards, Sample
from r1jax.stages.context import DATA, Base, Context, Experiment
from r1jax.stages.draws import Draws, about_rows, check_keys, connected
from r1jax.stages.rollout import Rollout
from r1jax.stages.sft import Documents
from r1jax.verifiers.kinds import check_references

_TRIES = 10  # documents of an endless source that are looked at for each one that is wanted


@dataclass(frozen=True)
class Others:
  """Data that is mixed in beside what the policy got right: an endless source of documents, or rows.

  per_reasoning: (rows of these, reasoning rows) that make the proportion; R1 has 177,812 to 626,933 (V2, Table 5).
  """

  documents: Documents | Rows
  per_reasoning: tuple[Count, Count] = (177_812, 626_933)  # [V2] Table 5


@dataclass(frozen=True)
class Curate:
  """One stage that makes a training set for SFT: RUN_DIR/datasets/NAME.jsonl, rows with their provenance.

  start: the policy that is sampled. judge: who says whether an answer is right; None: the rules of the question's kind.
  filters: what each row has to pass. refiner: translates and tidies what is right but drops out only for its language, and
  all other rows too where refine_all; what comes back has to be right and pass all filters, or the row is left out.
  per_question: most rows of one question. evaluation: sets that are measured on, besides the held-out questions of `draws`;
  a row, of `others` too, that shares ten words in a row with one of their questions or answers is left out (V2, appendix
  D.1).
  """

  draws: Draws
  filters: Filters
  name: Name = "rejection"
  start: str | Base | None = None
  judge: AnswerJudge | None = None
  refiner: Refiner | None = None
  refine_all: bool = False
  per_question: Count | None = None
  evaluation: tuple[Source, ...] = ()
  others: Others | None = None
  verifier_workers: Workers = 1
  verifier_seconds: Seconds = 5.0
  kind = DATA

  def inputs(self) -> tuple[str, ...]:
    """The stage whose rows are mixed in."""
    documents = self.others.documents if self.others else None
    return (documents.stage,) if isinstance(documents, Rows) and documents.stage else ()

  def check(self, experiment: Experiment) -> None:
    """InputError for an impossible geometry or source."""
    where = f"stages.{self.name}"
    self.draws.check(f"{where}.draws", experiment.model_of(self))
    for source in self.evaluation:
      check_source(source)

  def check_mesh(self, mesh) -> None:
    """InputError if a batch cannot be split over the mesh."""
    self.draws.check_mesh(f"stages.{self.name}.draws", mesh)

  def check_data(self, tokenizer: Tokenizer) -> None:
    """InputError for bad questions, questions that nobody can judge, or a key that is missing."""
    check_keys(self.judge, self.refiner)
    questions = self.draws.check_data(tokenizer)
    for source in self.evaluation:
      read_all(source)
    if self.judge is None:
      unruled = next((q for q in questions if q.kind in GENERAL), None)
      if unruled:
        raise InputError(f"stages.{self.name}.draws.questions", f"{unruled.id} is of kind {unruled.kind!r}, which no rule "
                         "judges", "Give a judge, or leave those questions out.")
      check_references((q.id, q.kind, q.answer) for q in questions)

  def run(self, context: Context) -> dict:
    """Makes the data set, or goes on; what summary.json says of it."""
    with (RuleRewards({"accuracy": 1.0}, workers=self.verifier_workers, timeout_seconds=self.verifier_seconds) as rules,
          connected(self.judge, context.run_dir) as judge, connected(self.refiner, context.run_dir) as refine):
      units = self.draws.collect(self.name, context, lambda *batch: self._unit(rules, judge, refine, *batch))
    measured = self._measured(context)
    rows, counts = self._chosen(measured, units.rows, units.counts)
    about = about_rows(self.name, len(rows), counts)
    if self.others is not None:
      share, of = self.others.per_reasoning
      others = self._others(context, measured, round(len(rows) * share / of))
      about |= {"rows": len(rows) + len(others), "rows_reasoning": len(rows), "rows_other": len(others)}
      rows += others
    units.finish(self.name, rows, about)
    return {"steps": self.draws.count, **about, "before": {}, "after": {}}

  def _unit(self, rules: RuleRewards, judge, refine, first: int, questions: list[Question],
            rollout: Rollout) -> tuple[list[Row], Counter]:
    """The rows of one unit: right, readable, refined."""
    k, counts = self.draws.samples, Counter()
    samples = [r.sample(self.draws.template.prefill) for r in rollout.responses]
    candidates = []
    for i, right in enumerate(_right(rules, judge, questions, samples, k)):
      if right is None:
        counts["unjudged"] += 1
      elif not right:
        counts["truncated" if samples[i].truncated else "wrong"] += 1
      else:
        candidates.append((i, self.draws.whole(samples[i].response)))
    kept, to_refine = [], []
    for i, response in candidates:
      question = questions[i // k]
      filters = self.filters.without(LANGUAGE) if refine else self.filters
      reason = filters.reason(question.text, response, question.language)
      if reason:
        counts[f"filter_{reason}"] += 1
      elif refine and (self.refine_all or self.filters.reason(question.text, response, question.language)):
        to_refine.append((i, response))
      else:
        kept.append((i, response, None))
    kept += self._refined(rules, judge, refine, questions, samples, to_refine, counts) if to_refine else []
    taken: Counter[int] = Counter()
    rows = []
    for i, response, original in sorted(kept, key=lambda item: item[0]):
      taken[i // k] += 1
      if self.per_question is not None and taken[i // k] > self.per_question:
        counts["beyond_per_question"] += 1
        continue
      question = questions[i // k]
      provenance = {"stage": self.name, "policy": self.start, "question_id": question.id, "draw": first + i // k,
                    "sample": i % k, "judged_by": type(self.judge).__name__ if self.judge else "rule"}
      if original is not None:
        provenance |= {"refined_by": type(self.refiner).__name__, "sampled": original}
      rows.append({"question": question.text, "response": response, "answer": question.answer, "kind": question.kind,
                   "language": question.language, "provenance": provenance})
    return rows, counts

  def _refined(self, rules, judge, refine, questions, samples, to_refine, counts: Counter) -> list[tuple[int, str, str]]:
    """(sample, refined response, original) of those that are still right and pass all filters."""
    k, kept = self.draws.samples, []
    refined = refine([(questions[i // k], response) for i, response in to_refine])
    done = [(i, new, old) for (i, old), new in zip(to_refine, refined, strict=True) if new is not None]
    counts["refiner_failed"] += len(to_refine) - len(done)
    again = [Sample(**{**vars(samples[i]), "response": new, "prefill": ""}) for i, new, _ in done]
    asked = [questions[i // k] for i, _, _ in done]
    for (i, new, old), question, right in zip(done, asked, _right(rules, judge, asked, again, 1), strict=True):
      reason = self.filters.reason(question.text, new, question.language) if right else "no longer right"
      if reason:
        counts["refined_" + reason.replace(" ", "_")] += 1
      else:
        counts["refined"] += 1
        kept.append((i, new, old))
    return kept

  def _measured(self, context: Context) -> NGrams:
    """What the rows must not share: questions and answers that are measured on."""
    data_dir = context.run_dir / "data"
    questions = list(load_questions(self.draws.questions, "held_out", data_dir))
    for source in self.evaluation:
      questions += load_questions(source, "all", data_dir)
    return NGrams(text for q in questions for text in (q.text, q.answer))

  def _chosen(self, measured: NGrams, rows: list[Row], counts: Counter) -> tuple[list[Row], Counter]:
    """The rows without duplicates and without what evaluation sets share."""
    rows, duplicates = deduplicate(rows, lambda row: (row["question"], row["response"]))
    clean = [row for row in rows if not _contaminated(measured, row)]
    return clean, counts + Counter(duplicates=duplicates, contaminated=len(rows) - len(clean))

  def _others(self, context: Context, measured: NGrams, count: int) -> list[Row]:
    """The first `count` of the other data that evaluation sets do not share, as rows with provenance."""
    documents, found = self.others.documents, []
    if isinstance(documents, Rows):
      rows = list(documents.examples(context.run_dir))
      for i, row in enumerate(rows):
        if len(found) < count and not _contaminated(measured, row):
          found.append({**row, "provenance": {"stage": self.name, "other": i}})
      if len(found) < count:
        raise InputError(f"stages.{self.name}.others", f"{len(found)} of {len(rows)} rows share nothing with what is "
                         f"measured on, and the proportion asks for {count}", "Give more rows, or another per_reasoning.")
      return found
    number = 0
    while len(found) < count:
      if number > _TRIES * (count + 1):
        raise InputError(f"stages.{self.name}.others", f"{len(found)} of {number} documents share nothing with what is "
                         "measured on", "Give documents that are not measured on.")
      question, response = documents.document(number)
      row = {"question": question, "response": response,
             "provenance": {"stage": self.name, "source": type(documents).__name__, "document": number}}
      number += 1
      if not _contaminated(measured, row):
        found.append(row)
    return found


def _contaminated(measured: NGrams, row: Row) -> bool:
  return measured.overlaps(row["question"]) or measured.overlaps(row["response"])


def _right(rules: RuleRewards, judge: Callable | None, questions: list[Question], samples: list[Sample],
           per_question: int) -> list[bool | None]:
  """Whether each sample is right, None where the judge gave no verdict; a truncated one is not."""
  if judge is None:
    return [score.parts["accuracy"] == 1.0 for score in rules.submit(samples).result()]
  whole = [i for i, sample in enumerate(samples) if not sample.truncated]
  verdicts = judge([(questions[i // per_question], samples[i].prefill + samples[i].response) for i in whole])
  found: list[bool | None] = [False] * len(samples)
  for i, verdict in zip(whole, verdicts, strict=True):
    found[i] = verdict
  return found

