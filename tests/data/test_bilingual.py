"""The world in two languages: sums and requests."""
import random

import pytest

from r1jax.data.bilingual import LEXICON, BilingualSpec, Corpus, bilingual_chains, translate, vocabulary
from r1jax.data.questions import TRAIN, split_of
from r1jax.data.requests import Answers, Quality, helpfulness, requests, violates
from r1jax.errors import InputError
from r1jax.rewards.format import format_reward
from r1jax.rewards.language import language_reward

SPEC = BilingualSpec()


def test_documents_have_known_words_and_no_held_out_question():
  known, corpus = set(vocabulary(SPEC)), Corpus(SPEC)
  assert len(known) == len(vocabulary(SPEC))
  for i in range(2_000):
    question, response = corpus.document(i)
    assert split_of(question, SPEC.sums.held_out) == TRAIN
    assert set(question.split()) | set(response.split()) <= known
  assert corpus.document(7) == corpus.document(7) != corpus.document(8)


def test_questions_have_known_words_and_are_half_chinese():
  known = set(vocabulary(SPEC))
  for made in (bilingual_chains(0, 400), requests(0, 400), requests(0, 300, "safety")):
    assert len({q.text for q in made}) == len(made)
    assert all(set(q.text.split()) <= known for q in made)
    assert 0.4 < sum(q.language == "zh" for q in made) / len(made) < 0.6
    assert all(language_reward("", f"<think> {q.text} </think>", "", q.language) == 1.0 for q in made)


def test_answers_are_right():
  for question in bilingual_chains(0, 100):
    symbols = question.text
    for symbol, pair in LEXICON.items():
      for word in pair:
        symbols = symbols.replace(f" {word} ", f" {symbol} ")
    assert eval(symbols) == int(question.answer)


def test_the_level_of_a_question_is_how_many_numbers_it_has():
  levels = {q.level for q in bilingual_chains(0, 300) if q.level == str(sum(word.isdigit() for word in q.text.split()))}
  assert levels == {"3", "4", "5", "6"}


def test_translation_goes_both_ways():
  assert translate("7 + 3 = 10 wait check", "en") == "7 plus 3 is 10 wait check"
  assert translate("7 + 3 = 10 wait check", "zh") == "7 加 3 得 10 等 验"


def test_steps_in_english_are_wrong_more_often():
  spec = BilingualSpec(request_share=0.0, guess=0.0, worked=1.0, checked=0.0, mixed=0.0, tidy_working=1.0)
  right = {"en": [], "zh": []}
  for i in range(1_500):
    question, response = Corpus(spec).document(i)
    language = "zh" if any(word in question for word in "加减") else "en"
    symbols = question.replace("加", "+").replace("减", "-").replace("plus", "+").replace("minus", "-")
    right[language].append(f"<answer> {eval(symbols)} </answer>" in response)
  share = {language: sum(found) / len(found) for language, found in right.items()}
  assert 0.6 < share["en"] < 0.82 < 0.9 < share["zh"] < 0.97  # about 0.92 ** 3.5 and 0.98 ** 3.5


@pytest.mark.parametrize(("text", "summary", "value"), [
  ("name 3 fruit", "apple pear plum", 1.0),
  ("name 3 fruit", "<answer> apple pear plum </answer>", 1.0),
  ("name 3 fruit", "apple pear", 2 / 3),
  ("name 3 fruit", "apple pear pear", 2 / 3),
  ("name 3 fruit", "apple pear cat", 1 / 3),
  ("name 3 fruit", "apple pear 桃", 1 / 3),
  ("name 3 fruit", "apple pear plum kiwi", 1.0),
  ("name 3 fruit", "", 0.0),
  ("name 3 fruit", "cat dog cow", 0.0),
])
def test_helpfulness(text, summary, value):
  question = next(q for q in requests(0, 600) if q.text == text)
  assert helpfulness(question, summary) == pytest.approx(value)


def test_what_was_to_be_among_them_costs_when_it_is_missing():
  question = next(q for q in requests(0, 600) if q.text.startswith("name 2 fruit with ") and len(q.text.split()) == 5)
  (included,) = question.text.split()[4:]
  first, second = [thing for thing in ("apple", "pear", "plum") if thing != included][:2]
  assert helpfulness(question, f"{included} {first}") == 1.0
  assert helpfulness(question, f"{first} {second}") == 0.5


def test_a_violation_is_anything_unsafe_anywhere():
  assert violates("<think> gun </think> <answer> sorry no </answer>") and violates("毒 砒")
  assert not violates("<think> need 2 weapon </think> <answer> sorry no </answer>")


def test_good_answers_are_good():
  perfect = Quality(wrong=0, repeated=0, foreign=0, count_off=0, refuses=1, leaks=0, mixed=0, tidy=1)
  by_text = {q.text: q for q in (*requests(0, 600), *requests(0, 380, "safety"))}
  seen = 0
  for i in range(300):
    text, response = Answers(perfect).document(i)
    assert format_reward(response) == 1.0 and not violates(response)
    if text in by_text and by_text[text].kind == "helpful":
      seen += 1
      assert helpfulness(by_text[text], response.split("</think>")[1]) == 1.0
  assert seen > 50


@pytest.mark.parametrize("make", [
  lambda: Quality(wrong=2), lambda: BilingualSpec(guess=0.9), lambda: requests(0, 10_000), lambda: requests(0, 1, "rude"),
  lambda: bilingual_chains(0, 10_000, fewest_terms=2, most_terms=2)])
def test_refuses_what_cannot_be(make):
  random.seed(0)
  with pytest.raises(InputError):
    make()
