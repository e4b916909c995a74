"""From responses to right and wrong, and to the majority's answer."""
import json

import pytest

from r1jax.data.questions import Question
from r1jax.evaluation.outcomes import TRUNCATED, Outcome, outcome, voted_right
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
