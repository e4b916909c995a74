"""Words, languages and repetition in samples, against counts by hand."""

import itertools

import pytest

from r1jax.reports.words import KINDS, WORDS, count_words, is_repetitive, leaves_language

PAPER = {"wait", "mistake", "however", "but", "retry", "error", "verify", "wrong", "evaluate", "check"}


def test_the_words_are_the_papers_ten_and_each_has_one_kind():
  assert set(WORDS) == PAPER and sum(map(len, KINDS.values())) == 10


def test_no_chinese_counterpart_contains_another():
  phrases = [phrase for of in WORDS.values() for phrase in of]
  assert not [pair for pair in itertools.permutations(phrases, 2) if pair[0] in pair[1]]


@pytest.mark.parametrize(("text", "counts"), [
  ("Wait, wait. WAIT!", {"wait": 3}),
  ("waiting await waits wait2 butter", {}),
  ("<think>wait</think>but\nwrong_check", {"wait": 1, "but": 1, "wrong": 1, "check": 1}),
  ("等等，但是不对。等一下，再检查验证。", {"wait": 2, "but": 1, "wrong": 1, "check": 1, "verify": 1}),
  ("However, there is an error: a mistake. Retry, verify, evaluate.",
   {"however": 1, "error": 1, "mistake": 1, "retry": 1, "verify": 1, "evaluate": 1}),
  ("", {}),
])
def test_counts_agree_with_a_count_by_hand(text, counts):
  assert count_words(text) == counts


@pytest.mark.parametrize(("question", "response", "leaves"), [
  ("seven plus three", "7 加 3 得 10", True),
  ("七加三", "first add seven and three", True),
  ("seven plus three", "first 加 then 减 so", True),
  ("七加三", "先加后减", False),
  ("七加三", "$x + y$ \\frac{1}{2} 先加后减 `", False),
  ("1 + 2", "<think> 1 + 2 = 3 </think> <answer> 3 </answer>", False),
  ("seven plus three", "so ten it is", False),
  ("translate 加 please", "plus 加", False),
])
def test_a_response_that_leaves_the_language_of_its_question(question, response, leaves):
  assert leaves_language(question, response) is leaves


@pytest.mark.parametrize(("text", "repetitive"), [
  ("a good answer !!!!", True),
  ("really!!! no", False),
  ("so it must hold " * 12, True),
  ("我们再看一遍" * 12, True),
  ("the end: " + "x" * 25, True),
  ("-" * 80 + " 1" + "0" * 60, False),
  (" ".join(f"{i} plus {i + 1} is {2 * i + 1}" for i in range(60)), False),
  ("yes yes yes", False),
])
def test_repetition(text, repetitive):
  assert is_repetitive(text) is repetitive
