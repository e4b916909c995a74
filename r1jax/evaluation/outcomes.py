"""From a response to a question of a benchmark to what it counts for: right or wrong, how that came about, its answer.

An answer is looked for more generously than in training: in the last `<answer>` block, without one in `\\boxed{}`, of a
choice in the last line "Answer: B", and then where `r1jax.verifiers.rows.candidates` says. R1 reads the box (arXiv V2,
Table 32); a model that was never asked for tags has none. A response that was cut counts as wrong, whatever it says.
"""
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from r1jax.data.questions import Question
from r1jax.evaluation.accuracy import majority_answer
from r1jax.evaluation.measure import accuracy
from r1jax.verifiers.kinds import kind_of
from r1jax.verifiers.maths import Extraction, extract_answer, verify_plain
from r1jax.verifiers.pool import VerifierPool
from r1jax.verifiers.rows import candidates
from r1jax.verifiers.tags import THINK_CLOSE
from r1jax.verifiers.verdict import SCORED, UNPARSABLE

TRUNCATED = "truncated"  # a status beside those of verdicts: cut at the maximum length
VOTING = ("maths", "choice", "logic")  # kinds whose answers can be the same without being right
RIGHT = "right"  # how all right answers of a question vote, whatever their form
_ANSWER_LINE = re.compile(r"^\W*answer\W*:\s*(.+?)\W*$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
  """What one response counts for.

  right: as the benchmark's main metric has it. status: of r1jax.verifiers.verdict, or TRUNCATED. answer: what was judged,
  for the majority vote; None where there is none or nobody votes. parts: of instructions, (strict, loose) for each of them.
  """

  right: bool
  status: str
  answer: str | None = None
  parts: tuple[tuple[bool, bool], ...] = ()


def outcome(question: Question, response: str, truncated: bool, pool: VerifierPool) -> Outcome:
  """The outcome of a whole response, what the template pre-filled included. Blocks until the pool's workers have judged."""
  if truncated:
    return Outcome(False, TRUNCATED, parts=tuple((False, False) for _ in _rules(question)))
  if question.kind == "instructions":
    return _instructions(question, response, pool)
  right, status = False, UNPARSABLE
  for answer in answers(response, question.kind):
    right, status = pool.submit(answer, question.answer, question.kind, question.text).result()
    if status == SCORED and not right and _is_prose(question, response, answer):
      status = UNPARSABLE
    if status != UNPARSABLE:
      return Outcome(right, status, answer if question.kind in VOTING and status == SCORED else None)
  return Outcome(right, status)


def answers(response: str, kind: str) -> list[str]:
  """The places where the answer of a response may stand, the first readable one counts."""
  marked = () if kind_of(kind).whole_response else (Extraction.TAGGED, Extraction.BOXED)
  if kind == "choice" and all(extract_answer(response, how=how) is None for how in marked):
    found = _ANSWER_LINE.findall(response.rpartition(THINK_CLOSE)[2])
    if found:
      return [found[-1]]
  return candidates(response, kind)


def _is_prose(question: Question, response: str, answer: str) -> bool:
  """Whether what was read of a maths response is but text without a digit, and nothing marks it as the answer: "I do not
  know". Marked, or right, it is an answer, for some are words."""
  return question.kind == "maths" and not any(map(str.isdigit, answer)) and all(
    extract_answer(response, how=how) is None for how in (Extraction.TAGGED, Extraction.BOXED))


def _rules(question: Question) -> list[dict]:
  return json.loads(question.answer)["instructions"] if question.kind == "instructions" else []


def _instructions(question: Question, response: str, pool: VerifierPool) -> Outcome:
  """Each rule by itself, strictly and loosely, as IFEval counts them."""
  pending = [[pool.submit(response, json.dumps({"instructions": [rule], "loose": loose}), "instructions")
              for loose in (False, True)] for rule in _rules(question)]
  verdicts = [[future.result() for future in pair] for pair in pending]
  parts = tuple((strict[0], loose[0]) for strict, loose in verdicts)
  statuses = {status for pair in verdicts for _, status in pair}
  return Outcome(all(strict for strict, _ in parts), next((s for s in statuses if s != SCORED), SCORED), parts=parts)


def consensus(questions: Sequence[Question], outcomes: Sequence[Outcome], samples: int,
              pool: VerifierPool) -> dict[str, float]:
  """cons@k with its interval as metrics, from the outcomes of `samples` responses to each question, question by question.
  {} for one sample, or a kind of question whose answers cannot be put together (programs)."""
  if samples < 2 or any(question.kind not in VOTING for question in questions):
    return {}
  votes = [voted_right(question, outcomes[i * samples:(i + 1) * samples], pool) for i, question in enumerate(questions)]
  return {key.replace("pass_at_1", f"cons_at_{samples}"): value for key, value in accuracy(votes, 1).items()}


def voted_right(question: Question, outcomes: Sequence[Outcome], pool: VerifierPool) -> bool:
  """Whether the answer that most of the samples of a question agree on is right: cons@k (R1, V2, appendix D.1). Right ones
  count together, and so do wrong ones that are equal by the rules of the kind; a tie is decided by which came first."""
  found = [(RIGHT, "") if each.right else each.answer and ("", _label(question, each.answer, pool)) for each in outcomes]
  return majority_answer(found, lambda a, b: RIGHT not in (a[0], b[0]) and _equal(question, a[1], b[1], pool)) == (RIGHT, "")


def _equal(question: Question, a: str, b: str, pool: VerifierPool) -> bool:
  if question.kind != "maths":
    return a == b
  plain = verify_plain(a, b)
  return plain if plain is not None else pool.submit(a, b, "maths", question.text).result()[0]


def _label(question: Question, answer: str, pool: VerifierPool) -> str:
  """The label of the option that an answer means; of maths, the answer itself."""
  if question.kind != "choice" or not question.answer.startswith("{"):
    return answer.strip()
  known = json.loads(question.answer)["options"]
  pending = {label: pool.submit(answer, json.dumps({"answer": label, "options": known}), "choice") for label in known}
  return next((label for label, future in pending.items() if future.result()[0]), answer.strip())
