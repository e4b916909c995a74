"""Which responses are kept for training, what overlaps with evaluation sets, and what is a duplicate."""
import json
import os
from pathlib import Path

import pytest

from r1jax.curation.filters import Filters, repetition, words
from r1jax.curation.overlap import NGrams, deduplicate
from r1jax.errors import InputError

GOOD = "<think> 7 plus 3 is 10 </think> <answer> 10 </answer>"


def test_words_are_runs_of_letters_and_single_characters():
  assert words("Let x_1 = 3.5, 我们 think!") == ["let", "x", "1", "3", "5", "我", "们", "think"]


@pytest.mark.parametrize(("filters", "response", "reason"), [
  (Filters(), "anything", None),
  (Filters(format=True), GOOD, None),
  (Filters(format=True), "<think> 1 </think> 10", "format"),
  (Filters(language=0.99), GOOD, None),
  (Filters(language=0.99), "<think> 7 plus 3 得 10 </think> <answer> 10 </answer>", "language"),
  (Filters(language=0.3), "<think> 7 plus 3 得 10 </think> <answer> 10 </answer>", None),
  (Filters(language=0.99), "<think> 7 + 3 = 10 </think> <answer> 10 </answer>", None),
  (Filters(repetition=0.3), "<think> " + "so it is 9 " * 5 + "</think> <answer> 9 </answer>", "repetition"),
  (Filters(repetition=0.3), GOOD, None),
  (Filters(fewest_words=12), GOOD, "fewest_words"),
  (Filters(most_words=5), GOOD, "most_words"),
  (Filters(paragraph_words=4), "<think>one two three\n\nfour five</think> <answer>six seven eight nine ten</answer>", None),
  (Filters(paragraph_words=4), "<think>one two three four five\n\nsix</think> <answer>7</answer>", "paragraph_words"),
  (Filters(code_blocks=False), "<think>```print(1)```</think> <answer>1</answer>", "code_blocks"),
  (Filters(code_blocks=False), "<think>one</think> <answer>```print(1)```</answer>", None),
])
def test_the_first_filter_that_drops_a_response_is_named(filters, response, reason):
  assert filters.reason("What is 7 plus 3?", response, "en") == reason


def test_without_a_filter():
  both = Filters(format=True, language=0.9)
  assert both.without("language") == Filters(format=True)
  assert both.without("format") == Filters(language=0.9)


@pytest.mark.parametrize(("field", "value"), [("language", 1.5), ("repetition", -0.1), ("most_words", 0)])
def test_refuses_impossible_filters(field, value):
  with pytest.raises(InputError, match=f"Filters.{field}"):
    Filters(**{field: value})


def test_repetition_is_the_share_of_runs_seen_before():
  assert repetition(list("abcd")) == 0.0
  assert repetition(list("abc")) == 0.0
  # Runs of a b a b a b a b: abab baba abab baba abab.
  assert repetition(list("abababab")) == pytest.approx(3 / 5)


def test_ten_words_in_a_row_overlap_and_nine_do_not():
  question = "one two three four five six seven eight nine ten eleven twelve"
  measured = NGrams([question])
  assert measured.overlaps("Well: TWO three, four five six seven eight nine ten eleven!")
  assert not measured.overlaps("two three four five six seven eight nine ten and more of other words")
  assert not measured.overlaps("one three two five four seven six nine eight eleven ten twelve")


def test_a_short_text_is_matched_as_a_whole_only():
  measured = NGrams(["What is 2 + 2?"])
  assert measured.overlaps("what is 2+2")
  assert not measured.overlaps("And what is 2 + 2 + 2, if 2 is two and two is more than one?")
  assert not measured.overlaps("4")
  assert not NGrams([""]).overlaps("")


def test_duplicates_are_the_same_words():
  rows = [{"q": "1 plus 1", "r": "It is 2."}, {"q": "1 plus 1", "r": "it is  2"}, {"q": "1 plus 2", "r": "It is 2."}]
  assert deduplicate(rows, lambda row: (row["q"], row["r"])) == ([rows[0], rows[2]], 1)


@pytest.mark.skipif("R1JAX_DATA" not in os.environ, reason="needs R1JAX_DATA, a folder with gsm8k")
def test_real_questions_overlap_little_and_a_copy_is_caught():
  def questions(name):
    text = (Path(os.environ["R1JAX_DATA"]) / "gsm8k" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line)["question"] for line in text.split("\n") if line]
  train, test = questions("train"), questions("test")
  measured = NGrams(test)
  found = sum(map(measured.overlaps, train))
  assert 0 < found < 0.02 * len(train)  # phrases such as "how much money did she have left at the end"
  assert measured.overlaps("Solve this: " + test[7] + " Think well.")
