"""Verdicts on instructions beside those of the original's checks, on every prompt of IFEval, and values by hand."""
import collections
import json
import os
import pathlib

import pytest
from ifeval_responses import responses

from r1jax.errors import InputError
from r1jax.verifiers import instructions
from r1jax.verifiers.instructions import check_reference, followed, judge, reference
from r1jax.verifiers.kinds import KINDS
from r1jax.verifiers.verdict import SCORED, UNPARSABLE

DATA = os.environ.get("R1JAX_DATA")
VERDICTS = pathlib.Path(__file__).with_name("ifeval_verdicts.json")
RANDOM_LETTERS = {"#", "!"}  # the original draws another letter


def _comparable():
  """(key, rule, arguments, response, strict verdict, loose verdict) of all that can be checked on this machine."""
  expected = json.loads(VERDICTS.read_text())
  for line in (pathlib.Path(DATA) / "ifeval" / "input_data_en.jsonl").read_text(encoding="utf-8").split("\n"):
    if not line.strip():
      continue
    row = json.loads(line)
    assert len(expected[str(row["key"])]) >= 3
    for response, verdicts in zip(responses(row), expected[str(row["key"])], strict=True):
      strict, loose = verdicts.split("/")
      for i, (name, given) in enumerate(zip(row["instruction_id_list"], row["kwargs"], strict=True)):
        name = name.removeprefix("en:")
        need = instructions._NEEDS.get(name)
        if given.get("letter") not in RANDOM_LETTERS and (need is None or instructions._is_there(need)):
          yield row["key"], name, given, response, bool(int(strict[i])), bool(int(loose[i]))


@pytest.mark.skipif(DATA is None, reason="R1JAX_DATA is not set")
def test_every_prompt_of_ifeval_is_judged_as_the_original_judges_it():
  seen = collections.defaultdict(set)
  for key, name, given, response, strict, loose in _comparable():
    found = followed(response, name, given), followed(response, name, given, loose=True)
    assert found == (strict, loose), (key, name, given, response)
    seen[name].add(strict)
  needs = {name for name, need in instructions._NEEDS.items() if not instructions._is_there(need)}
  assert {name for name, verdicts in seen.items() if verdicts == {True, False}} == instructions._RULES.keys() - needs


@pytest.mark.parametrize(("name", "arguments", "right", "wrong"), [
  ("punctuation:no_comma", {}, "a; b", "a, b"),
  ("length_constraints:number_words", {"relation": "at least", "num_words": 3}, "it is so", "it's"),
  ("length_constraints:number_words", {"relation": "less than", "num_words": 3}, "it's", "it is so"),
  ("keywords:letter_frequency", {"letter": "#", "let_relation": "at least", "let_frequency": 2}, "# #", "# a"),
  ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "**one** *two*", "**one** ** *"),
  ("detectable_format:json_format", {}, "```json\n{}\n```", "{"),
  ("startend:quotation", {}, ' "so" ', '"'),
  ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb\n***", "a\n***\n***\nb"),
])
def test_rules_by_hand(name, arguments, right, wrong):
  text = reference(["en:" + name], [arguments])
  check_reference(text)
  assert judge(right, text) == (True, SCORED)
  assert judge(wrong, text) == (False, SCORED)


def test_the_summary_alone_is_judged():
  text = reference(["punctuation:no_comma"], [{}])
  assert judge("<think> a, b </think> a b", text) == (True, SCORED)
  assert judge("<think> a b </think> a, b", text) == (False, SCORED)
  assert judge("<think> a </think> well, <answer>a b</answer>", text) == (True, SCORED)
  assert judge("<think> it goes on", text) == judge("<think> a </think> \n", text) == (False, UNPARSABLE)


def test_all_rules_have_to_be_followed_and_loosely_a_first_line_is_forgiven():
  ids, arguments = ["punctuation:no_comma", "startend:quotation"], [{}, {"unused": None}]
  response = 'Here, you are:\n"it is so"'
  assert judge(response, reference(ids, arguments)) == (False, SCORED)
  assert judge(response, reference(ids, arguments, loose=True)) == (True, SCORED)
  assert judge('"a, b"', reference(ids, arguments, loose=True)) == (False, SCORED)


@pytest.mark.parametrize(("text", "said"), [
  ("no commas", "instructions: 'no commas'"),
  ('{"instructions": []}', "no instruction"),
  (reference(["punctuation:no_colon"], [{}]), "no_colon"),
  (reference(["length_constraints:number_words"], [{"num_words": 3}]), "argument 'relation': None"),
  (reference(["length_constraints:number_words"], [{"num_words": "3", "relation": "at least"}]), "'num_words': '3'"),
  (reference(["keywords:existence"], [{"keywords": ["(a"]}]), "regular expression"),
])
def test_a_bad_reference_is_refused(text, said):
  with pytest.raises(InputError) as caught:
    KINDS["instructions"].check(text, "data.jsonl:3")
  assert said in str(caught.value) and str(caught.value).startswith("data.jsonl:3")


def test_what_a_rule_needs_is_named(monkeypatch):
  monkeypatch.setattr(instructions, "_is_there", lambda need: need != "punkt_tab")
  text = reference(["length_constraints:number_sentences"], [{"num_sentences": 3, "relation": "at least"}])
  with pytest.raises(InputError, match="number_sentences: needs punkt_tab.*python -m nltk.downloader punkt_tab"):
    check_reference(text)
