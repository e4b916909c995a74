"""From responses to right and wrong, and to the majority's answer."""
import json

import numpy as np
import pytest

from r1jax.data.questions import Question
from r1jax.evaluation.outcomes import TRUNCATED, Outcome, consensus, outcome, voted_right
from r1jax.verifiers import instructions
from r1jax.verifiers.pool import VerifierPool

MATHS = Question("a:1", "How many?", "12")
OPTIONS = json.dumps({"answer": "B", "options": {"A": "4 m", "B": "5 m"}})
CHOICE = Question("a:2", "Which?\n\nA) 4 m\nB) 5 m", OPTIONS, "choice")
BOTH = instructions.reference(["punctuation:no_comma", "startend:quotation"], [{}, {}])
RULES = Question("a:3", "Write.", BOTH, "instructions")


@pytest.fixture(scope="module")
def pool():
  with VerifierPool() as pool:
    yield pool


@pytest.mark.parametrize(("question", "response", "right", "status"), [
  (MATHS, "<think> 3 </think> <answer>12</answer>", True, "scored"),
  (MATHS, "<answer> 13 </answer> \\boxed{12}", False, "scored"),
  (MATHS, "so 3 * 4, \\boxed{12}", True, "scored"),
  (MATHS, "Three times four.\nThe answer is 12.", True, "scored"),
  (MATHS, "I do not know", False, "unparsable"),
  (CHOICE, "A is 4 m and too short, while B is 5 m.\n\nAnswer: B", True, "scored"),
  (CHOICE, "It could be B.\n**Answer: A**", False, "scored"),
  (CHOICE, "Answer: A\nNo, wait.\nanswer: (B)", True, "scored"),
  (CHOICE, "\\boxed{B}", True, "scored"),
  (CHOICE, "Answer: none", False, "unparsable"),
])
def test_an_answer_is_found_wherever_a_model_puts_it(question, response, right, status, pool):
  found = outcome(question, response, False, pool)
  assert (found.right, found.status) == (right, status)


def test_a_response_that_was_cut_is_wrong_whatever_it_says(pool):
  assert outcome(MATHS, "\\boxed{12}", True, pool) == Outcome(False, TRUNCATED)
  assert outcome(RULES, '"so"', True, pool) == Outcome(False, TRUNCATED, parts=((False, False),) * 2)


def test_each_instruction_is_judged_strictly_and_loosely(pool):
  assert outcome(RULES, '"so"', False, pool) == Outcome(True, "scored", parts=((True, True), (True, True)))
  assert outcome(RULES, 'Well, then:\n"so"', False, pool) == Outcome(False, "scored", parts=((False, True), (False, True)))
  assert outcome(RULES, "<think> so", False, pool).status == "unparsable"


@pytest.mark.parametrize(("question", "responses", "right"), [
  (MATHS, ["\\boxed{12}", "\\boxed{12.0}", "\\boxed{13}", "\\boxed{13}", "\\boxed{\\frac{24}{2}}"], True),
  (MATHS, ["\\boxed{13}", "\\boxed{12}", "\\boxed{13}"], False),
  (MATHS, ["\\boxed{13}", "\\boxed{12}"], False),  # a tie: the first
  (MATHS, ["who knows", "who knows", "\\boxed{12}"], True),  # nobody votes for nothing
  (MATHS, ["who knows"], False),
  (CHOICE, ["Answer: B", "\\boxed{5 m}", "Answer: A", "Answer: (A)", "<answer>B. 5 m</answer>"], True),
])
def test_the_majority_counts_equal_answers_together(question, responses, right, pool):
  assert voted_right(question, [outcome(question, each, False, pool) for each in responses], pool) is right


def asked(gold: str, *answers: tuple[str | None, bool]) -> tuple[Question, list[Outcome]]:
  return Question("q", "?", gold), [Outcome(right, "scored", answer) for answer, right in answers]


def test_cons_at_k_by_hand(pool):
  questions, outcomes = zip(
    asked("0.5", ("1/2", True), ("0.50", True), ("7", False)),  # right in two forms
    asked("9", ("8", False), ("8.0", False), ("9", True)),  # wrong in two forms of one number
    asked("12", ("x", False), ("y", False), ("12", True)),  # three voices: the first
    asked("3", (None, False), (None, False), ("3", True)),  # nobody else votes
    strict=True)
  found = consensus(questions, sum(outcomes, []), 3, pool)
  assert found["cons_at_3"] == 0.5 and found["cons_at_3_low"] < 0.5 < found["cons_at_3_high"]
  assert consensus([questions[3]], [Outcome(False, "scored")] * 2, 2, pool)["cons_at_2"] == 0.0


def test_cons_at_k_against_counting_in_numpy(pool):
  rng = np.random.default_rng(0)
  answers = rng.integers(0, 4, (200, 9))
  votes = np.array([np.bincount(row, minlength=4) for row in answers])
  first = np.array([[list(row).index(value) if value in row else 9 for value in range(4)] for row in answers])
  winners = np.lexsort((first, -votes), axis=1)[:, 0]  # most votes, then whoever came first
  outcomes = [Outcome(bool(a == 2), "scored", str(a)) for a in answers.ravel()]
  assert consensus([Question("q", "?", "2")] * 200, outcomes, 9, pool)["cons_at_9"] == np.mean(winners == 2)


def test_one_sample_has_no_majority_and_programs_have_none(pool):
  assert consensus([MATHS], [Outcome(True, "scored", "12")], 1, pool) == {}
  assert consensus([Question("q", "?", "{}", kind="code")], [Outcome(True, "scored")] * 2, 2, pool) == {}
