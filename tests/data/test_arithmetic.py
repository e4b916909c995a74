"""The world of sums: right answers, styles and error rates as its spec says, no held-out question in the corpus."""
import re
from collections import Counter

import pytest

from r1jax.data.arithmetic import ArithmeticSpec, Corpus, chains, document, generate, vocabulary
from r1jax.data.questions import TRAIN, split_of
from r1jax.errors import InputError
from r1jax.rewards.format import format_reward

SPEC = ArithmeticSpec()
DOCUMENTS = [document(SPEC, 0, i) for i in range(4_000)]


def total(text: str) -> int:
  words = text.split()
  return int(words[0]) + sum(int(n) if sign == "+" else -int(n) for sign, n in zip(words[1::2], words[2::2], strict=True))


def test_answers_and_running_totals_are_right():
  questions = generate(SPEC, 0, 2_000)
  assert len({q.text for q in questions}) == 2_000
  for question in questions:
    words = question.text.split()
    assert int(question.answer) == total(question.text)
    assert all(0 <= total(" ".join(words[:n])) <= SPEC.largest_total for n in range(1, len(words) + 1, 2))
    assert SPEC.fewest_terms <= len(words[::2]) <= SPEC.most_terms and len(set(words[::2])) == len(words[::2])


def test_the_corpus_never_shows_a_held_out_question():
  held_out = {q.text for q in generate(SPEC, 0, 10_000) if split_of(q.text, SPEC.held_out) != TRAIN}
  assert len(held_out) > 800
  assert not held_out & {d.prompt for d in DOCUMENTS}


def test_a_document_depends_on_spec_seed_and_index_alone():
  assert document(SPEC, 0, 17) == DOCUMENTS[17] != document(SPEC, 1, 17)
  assert Corpus(SPEC).document(17) == (DOCUMENTS[17].prompt, DOCUMENTS[17].response)
  assert generate(SPEC, 3, 50) == generate(SPEC, 3, 60)[:50] == chains(3, 50)


def test_styles_come_in_the_shares_of_the_spec():
  counts = Counter(d.style for d in DOCUMENTS)
  for style in ("guess", "worked", "checked"):
    share = getattr(SPEC, style)
    assert abs(counts[style] / len(DOCUMENTS) - share) < 4 * (share * (1 - share) / len(DOCUMENTS)) ** 0.5


def final_answer(response: str) -> str:
  return re.findall(r"\d+", response)[-1]


def test_working_pays_and_guessing_does_not():
  right = {style: [final_answer(d.response) == str(total(d.prompt)) for d in DOCUMENTS if d.style == style]
           for style in ("guess", "worked", "checked")}
  rate = {style: sum(hits) / len(hits) for style, hits in right.items()}
  assert abs(rate["guess"] - SPEC.guess_right) < 0.03
  assert 0.85 < rate["worked"] < 0.99 and rate["checked"] == 1


def test_tidy_documents_earn_the_format_reward_and_untidy_ones_do_not():
  tidy = {style: [bool(format_reward(d.response)) for d in DOCUMENTS if d.style == style] for style in ("guess", "worked")}
  assert abs(sum(tidy["guess"]) / len(tidy["guess"]) - SPEC.tidy_guess) < 0.04
  assert abs(sum(tidy["worked"]) / len(tidy["worked"]) - SPEC.tidy_working) < 0.06


def test_the_token_budget_is_as_documented():
  for d in DOCUMENTS:
    n, length = len(d.prompt.split()[::2]), len(d.response.split()) + 1  # the stop token
    if format_reward(d.response):
      assert length == {"guess": 8, "worked": 4 * n + 3, "checked": 8 * n + 2}[d.style]


def test_every_word_is_in_the_vocabulary():
  words = set(vocabulary(SPEC))
  assert all(set(d.prompt.split()) | set(d.response.split()) <= words for d in DOCUMENTS)


@pytest.mark.parametrize(("fields", "message"), [
  ({"fewest_terms": 1}, "fewest_terms, most_terms"),
  ({"most_terms": 10}, "most_terms: 10"),
  ({"largest_total": 5}, "largest_total: 5"),
  ({"guess": 0.9}, "shares"),
  ({"slip": 1.5}, "slip: 1.5"),
])
def test_an_impossible_world_is_refused(fields, message):
  with pytest.raises(InputError, match=message):
    ArithmeticSpec(**fields)


def test_more_questions_than_there_are_is_refused():
  with pytest.raises(InputError, match="different questions"):
    generate(ArithmeticSpec(fewest_terms=2, most_terms=2, largest_term=3, largest_total=3), 0, 500)


def test_unknown_parameters_are_refused():
  with pytest.raises(InputError, match="chains.terms"):
    chains(0, 1, terms=3)


def test_the_level_of_a_question_is_how_many_numbers_it_has():
  for question in generate(ArithmeticSpec(), 0, 200):
    assert question.level == str(sum(word.isdigit() for word in question.text.split()))
