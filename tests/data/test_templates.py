import pytest

from r1jax.data.templates import R1_ZERO, R1_ZERO_THINK, Template, render
from r1jax.errors import InputError

# arXiv 2501.12948v1, Table 1, typed a second time and in one piece.
PAPER = (
  "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. "
  "The assistant first thinks about the reasoning process in the mind and then provides the user with "
  "the answer. The reasoning process and answer are enclosed within <think> </think> and <answer> "
  "</answer> tags, respectively, i.e., <think> reasoning process here </think> <answer> answer here "
  "</answer>. User: prompt. Assistant:"
)


def test_r1_zero_is_the_papers_text():
  assert render(R1_ZERO, "prompt") == PAPER


def test_think_variant_differs_by_its_prefill_only():
  assert render(R1_ZERO_THINK, "prompt") == PAPER + " <think>"


def test_braces_are_literal():
  template = Template("{x} {} %s \\1 User: {question} {", prefill="{question}")
  question = "Solve \\frac{1}{2} {x} {question} {0} %d \\g<0>"
  assert render(template, question) == "{x} {} %s \\1 User: " + question + " {" + "{question}"


def test_a_template_needs_a_place_for_the_question():
  with pytest.raises(InputError, match=r"Template\.text.*User: \{q\}.*\{question\}"):
    Template("User: {q}")
