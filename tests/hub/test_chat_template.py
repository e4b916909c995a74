"""Chat templates: what a run's template becomes, and the ids that transformers makes of the same conversation."""
import os
from dataclasses import replace
from pathlib import Path

import pytest

from r1jax.data.prompts import prompt_ids
from r1jax.data.templates import R1_ZERO, R1_ZERO_THINK, Template, render
from r1jax.data.tokenizer import byte_level_tokenizer, load_tokenizer, word_level_tokenizer
from r1jax.errors import InputError
from r1jax.hub import chat_template as chat

BYTES = byte_level_tokenizer()
SMOLLM2 = Path(os.environ.get("R1JAX_SMOLLM2", ""))
ODD = ["What is 2 + 3?", "{{ 7 * 7 }} {% if x %} {# c #}", "\"quotes\" and \\backslash \\n", "  spaces \n\nand lines\n",
       "数学 𝄞", "", "\x1b\t\r\n", "{question}"]
TEMPLATES = [Template("{question}"), R1_ZERO, R1_ZERO_THINK, Template("{question}\n\n", prefill=" <think>\n"),
             Template("{% raw %}\"{question}\" \\ {question} {{ }}\n{#", prefill="𝄞'")]


def user(text):
  return {"role": "user", "content": text}


@pytest.mark.parametrize("template", TEMPLATES, ids=range(len(TEMPLATES)))
def test_one_question_is_written_as_the_run_writes_it(template):
  source = chat.of_template(template, BYTES)
  for question in ODD:
    assert chat.render(source, [user(question)], BYTES) == render(template, question)


def test_the_first_token_of_a_text_comes_once():
  words = replace(BYTES, adds_bos=True, bos_id=0)
  template = Template("Q: {question}")
  ids = words.encode(chat.render(chat.of_template(template, words), [user("1")], words))
  assert ids == prompt_ids("1", template, words) and ids.count(0) == 1


def test_several_turns_follow_one_another_without_thoughts():
  source = chat.of_template(Template("Q: {question}\nA:", prefill=" <think>"), BYTES)
  messages = [{"role": "system", "content": "Be brief."}, user("1?"),
              {"role": "assistant", "content": "so <think> hm </think> one"}, user("2?")]
  assert chat.render(source, messages, BYTES) == "Q: Be brief.\n\n1?\nA: one<eos>Q: 2?\nA: <think>"
  assert chat.render(source, messages[:2], BYTES, generate=False) == "Q: Be brief.\n\n1?\nA:"


def test_words_of_several_turns_stay_apart():
  words = word_level_tokenizer(["a", "b", "c"])
  source = chat.of_template(Template("{question}"), words)
  text = chat.render(source, [user("a b"), {"role": "assistant", "content": "c"}, user("b")], words)
  assert words.decode(words.encode(text)) == "a b c <eos> b"
  assert chat.render(source, [user("a b")], words) == "a b"


def test_a_template_is_found_in_a_chat_template_again():
  for template in (R1_ZERO, Template("<user>{question}<model>", prefill="<think>\n"), Template("{question}\n")):
    assert chat.to_template(chat.of_template(template, BYTES), BYTES) == template


@pytest.mark.parametrize(("source", "says"), [
  ("{{ messages[0]['content'] }}{{ messages[0]['content'] }}", "2 times"), ("hello", "0 times"),
  ("{% if %}", "cannot write"),
  ("{{ raise_exception('never') }}", "never"), ("{{ messages[3]['content'] }}", "cannot write"),
  ("{{ ''.__class__.__mro__ }}", "unsafe"), ("{{ 1 + 'a' }}", "cannot write")])
def test_a_chat_template_that_cannot_be_used_is_refused(source, says):
  with pytest.raises(InputError, match=says):
    chat.to_template(source, BYTES)


def test_an_unknown_role_is_refused():
  with pytest.raises(InputError, match="of the system, the user or the assistant"):
    chat.render(chat.of_template(R1_ZERO, BYTES), [{"role": "tool", "content": "x"}], BYTES)


# What hub folders' templates make use of beyond the plainest: loop controls, generation marks, dates, tojson, namespaces.
USES = """{%- set ns = namespace(n=0) -%}
{% for m in messages %}
  {% if m.role == 'system' %}{% continue %}{% endif %}
  {% generation %}{{ m.content | trim | tojson }}{% endgeneration %}
  {% set ns.n = ns.n + 1 %}
{% endfor %}
{{ ns.n }} {{ bos_token }}{{ eos_token }} {{ strftime_now('%Y') }} {{ tools is none }}
{%- if add_generation_prompt %} <think>
{% endif %}"""


@pytest.mark.parametrize("source", [USES, None, chat.of_template(R1_ZERO_THINK, BYTES)], ids=["uses", "smollm2", "r1_zero"])
@pytest.mark.skipif(not SMOLLM2.joinpath("tokenizer.json").is_file(), reason="needs R1JAX_SMOLLM2")
def test_transformers_makes_the_same_ids(source):
  transformers = pytest.importorskip("transformers")
  theirs, ours = transformers.AutoTokenizer.from_pretrained(SMOLLM2), load_tokenizer(SMOLLM2)
  source = source or SMOLLM2.joinpath("chat_template.jinja").read_text()
  for question in ODD:
    turns = [{"role": "system", "content": "S"}, user(question), {"role": "assistant", "content": "<think> é </think> a"},
             user("b")]
    for messages in (turns[1:2], turns):
      wanted = theirs.apply_chat_template(messages, chat_template=source, add_generation_prompt=True, tokenize=True,
                                          return_dict=False)
      assert ours.encode(chat.render(source, messages, ours)) == wanted
