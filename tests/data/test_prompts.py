import json
import os

import numpy as np
import pytest

from r1jax.data.prompts import (
  Generated,
  Jsonl,
  check_source,
  draw,
  encode_prompts,
  load_questions,
  prompt_ids,
  question_stream,
  response_ids,
  sequence_ids,
  whole_response,
)
from r1jax.data.questions import Question, Tfds
from r1jax.data.templates import R1_ZERO, R1_ZERO_THINK, Template
from r1jax.data.tokenizer import byte_level_tokenizer, load_tokenizer, word_level_tokenizer
from r1jax.errors import InputError

QUESTIONS = [Question(f"q:{i}", f"{i} + {i}", str(2 * i)) for i in range(13)]


# The stream.


def test_every_epoch_is_another_permutation():
  stream = question_stream(QUESTIONS, 0)
  epochs = [draw(stream, 13 * epoch, 13)[0] for epoch in range(4)]
  for epoch in epochs:
    assert sorted(epoch, key=str) == sorted(QUESTIONS, key=str)
  assert len({tuple(epoch) for epoch in epochs}) == 4


def test_position_alone_decides(tmp_path):
  """A rebuilt stream, over records from the disk too, gives the same question at the same place."""
  source = Generated(count=40)
  first = question_stream(load_questions(source, "train", tmp_path), 7)
  expected = [first[i] for i in range(100)]
  again = question_stream(load_questions(source, "train", tmp_path), 7)
  assert [again[i] for i in reversed(range(100))] == expected[::-1]
  assert again[10**9] == question_stream(list(load_questions(source, "train", tmp_path)), 7)[10**9]


def test_draw_resumes_from_a_cursor():
  whole, end = draw(question_stream(QUESTIONS, 1), 0, 40)
  first, cursor = draw(question_stream(QUESTIONS, 1), 0, 9)
  rest, last = draw(question_stream(QUESTIONS, 1), np.int64(cursor), 31)
  assert first + rest == whole
  assert cursor == 9 and last == end == 40 and type(last) is int


def test_seeds_differ_in_every_epoch():
  """grain itself adds the epoch to the seed, which would make seed 0's second epoch seed 1's first."""
  orders = {
    tuple(question.id for question in draw(question_stream(QUESTIONS, seed), 13 * epoch, 13)[0])
    for seed in (0, 1, 2, -1, 2**40)
    for epoch in range(3)
  }
  assert len(orders) == 15


def test_stream_is_pinned():
  """A run that is resumed under another version of grain must go on in the same order."""
  assert [int(question.answer) // 2 for question in draw(question_stream(QUESTIONS, 0), 0, 26)[0]] == PINNED


PINNED = [0, 1, 7, 12, 11, 6, 3, 8, 2, 4, 9, 5, 10] + [8, 3, 1, 0, 9, 12, 6, 5, 7, 11, 2, 10, 4]


def test_a_stream_of_numbers_orders_rows_on_disk():
  order = question_stream(range(13), 5)
  assert sorted(order[i] for i in range(13)) == sorted(order[i] for i in range(13, 26)) == list(range(13))
  assert [order[i] for i in range(26)] == [int(q.answer) // 2 for q in draw(question_stream(QUESTIONS, 5), 0, 26)[0]]


def test_stream_bad_input():
  with pytest.raises(InputError, match="no questions"):
    question_stream([], 0)
  for cursor, n in ((-1, 1), (0, 0)):
    with pytest.raises(InputError, match=f"cursor={cursor}, n={n}"):
      draw(question_stream(QUESTIONS, 0), cursor, n)


# Prompts as tokens.

TOKENIZER = word_level_tokenizer([*map(str, range(30)), "+", "!", "Q:", "<think>"])
TEMPLATE = Template("Q: {question}", prefill=" <think>")


def test_ragged_prompts_give_what_each_gives_alone():
  questions = [Question("a", "1 + 2", "3"), Question("b", "1 + 2 + 3", "6")]
  question, think = TOKENIZER.encode("Q:")[0], TOKENIZER.encode("<think>")[0]
  one, two, three, plus = TOKENIZER.encode("1 2 3 +")
  rows = encode_prompts(questions, TEMPLATE, TOKENIZER, 7)
  assert rows == [(question, one, plus, two, think), (question, one, plus, two, plus, three, think)]
  assert rows == [tuple(prompt_ids(q.text, TEMPLATE, TOKENIZER)) for q in questions]


def test_too_long_prompts_make_one_error():
  questions = [*QUESTIONS, Question("long", "1 + 2 + 3 + 4", "10"), Question("longish", "1 + 2 + 3", "6")]
  message = "question long: its prompt has 9 tokens, max_prompt_length is 6 .2 of these 15.*at least 9"
  with pytest.raises(InputError, match=message):
    encode_prompts(questions, TEMPLATE, TOKENIZER, 6)


def test_unknown_word_names_the_question():
  with pytest.raises(InputError, match="question odd, tokenizer: unknown word '77'"):
    encode_prompts([*QUESTIONS, Question("odd", "1 + 77", "78")], TEMPLATE, TOKENIZER, 6)


def test_beginning_of_text_comes_first_and_once(tmp_path):
  word_level_tokenizer(["<bos>", "a", "b"]).save(tmp_path)
  settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
  for adds_bos in (True, False):
    settings |= {"bos_token": "<bos>", "add_bos_token": adds_bos}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(tmp_path)
    bos, a, b = tokenizer.encode("<bos> a b")
    prompt = [bos, a, b] if adds_bos else [a, b]
    assert prompt_ids("a b", Template("{question}"), tokenizer) == prompt
    assert prompt_ids("a b", Template("<bos> {question}"), tokenizer) == [bos, a, b]
    assert encode_prompts([Question("q", "a b", "")], Template("{question}"), tokenizer, 3) == [tuple(prompt)]
    # A response follows a prompt, so it has no beginning of its own.
    assert sequence_ids("a b", "b", Template("{question}"), tokenizer) == ([*prompt, b, 1], len(prompt))


def test_a_prompt_without_tokens():
  with pytest.raises(InputError, match="question q, prompt: question ' ' makes no tokens"):
    encode_prompts([Question("q", " ", "")], Template("{question}"), TOKENIZER, 4)


# Responses as tokens.

SMOLLM2 = os.path.join(os.environ.get("R1JAX_DATA", "/nonexistent"), "smollm2_tokenizer")
WORDS = word_level_tokenizer(["<think>", "</think>", "<answer>", "</answer>", "foo", "5", "+", "=", "!"])
TEXTS = ("", "foo", " foo", "foo ", "\nfoo\n", "\n\n foo", "foo </think> <answer>5!</answer>", "</think>", " \n ", "\t5 + 5",
         "<think> foo", "<think>\nfoo", "\n<think>\nfoo", "芳 🙂\u2028é", "foo\u3000", "foo\r\n")
WORD_TEXTS = ("", "foo", " foo", "foo \n", "5 + 5 = foo </think> <answer> 5 ! </answer>", "</think>", " ", "<think> foo")
TEMPLATES = (R1_ZERO, R1_ZERO_THINK, Template("{question}"), Template("Q: {question}\n", prefill="<think>"),
             *(Template("{question}", prefill) for prefill in ("<think>\n", " <think>", "\n", "Well,\n<think>\n")))


@pytest.fixture(params=["bytes", "words", "SmolLM2"])
def tokenizer(request):
  if request.param == "SmolLM2":
    if not os.path.isdir(SMOLLM2):
      pytest.skip("set R1JAX_DATA to a folder with smollm2_tokenizer")
    return load_tokenizer(SMOLLM2)
  return byte_level_tokenizer() if request.param == "bytes" else WORDS


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: repr(t.prefill))
def test_a_sampled_text_is_trained_on_as_it_was_sampled(template, tokenizer):
  words = tokenizer is WORDS
  for text in WORD_TEXTS if words else TEXTS:
    ids = tokenizer.encode(text) + [tokenizer.stop_ids[0]]
    assert response_ids(whole_response(template, text), template, tokenizer) == ids, text
    sampled = tokenizer.response_text(ids, True)
    assert sampled == (" ".join(text.split()) if words else text)
    assert response_ids(whole_response(template, sampled), template, tokenizer) == ids, text


@pytest.mark.parametrize(
  "prefill, rows, text",
  [
    ("<think>\n", ("<think>\nfoo", "<think>foo", "\n<think>\nfoo", " <think>foo", "<think> \n foo", "foo", "\nfoo"), "foo"),
    ("<think>\n", ("<think>\n\nfoo",), "\nfoo"),  # to the letter: the second newline was sampled
    (" <think>", (" <think>foo", "<think>foo", "\n<think>foo", "foo"), "foo"),
    (" <think>", (" <think> foo", "<think> foo", " foo"), " foo"),
    ("<think>", ("<think>foo", " <think>foo", "\n<think>foo", "foo"), "foo"),
    ("<think>", ("<think>\nfoo", " <think>\nfoo", "\nfoo"), "\nfoo"),
    ("\n", ("\nfoo", "foo", "  foo"), "foo"),
    ("Well,\n<think>\n", ("Well,\n<think>\nfoo", " Well, <think> foo", "Well,\n\n<think>foo", "foo"), "foo"),
    ("", ("foo",), "foo"),
    ("", (" <think>\nfoo ",), " <think>\nfoo "),
  ],
)  # fmt: skip
@pytest.mark.parametrize("question", ["{question}", "Q: {question}\n"])
def test_the_prefill_is_not_trained_a_second_time(prefill, rows, text, question, tokenizer):
  if tokenizer is WORDS and "Well" in prefill:
    pytest.skip("not among its words")
  template = Template(question, prefill)
  for row in rows:
    assert response_ids(row, template, tokenizer) == tokenizer.encode(text) + [tokenizer.stop_ids[0]], row


def test_a_response_ends_in_one_stop_token(tokenizer):
  eos, template = tokenizer.stop_ids[0], Template("{question}", "<think>")
  stop, foo, mark = tokenizer.decode([eos]), tokenizer.encode("foo"), tokenizer.encode("!")
  rows = ("foo", f"foo{stop}", f"foo{stop}{stop}", f"foo{stop} 5 + 5", f"<think>foo{stop}5")
  for row in (row.replace(stop, f" {stop} ") if tokenizer is WORDS else row for row in rows):
    assert response_ids(row, template, tokenizer) == [*foo, eos], row
  assert response_ids(stop, template, tokenizer) == response_ids("", template, tokenizer) == [eos]
  row = f"foo{' ' if tokenizer is WORDS else ''}! 5"
  assert response_ids(row, template, tokenizer, (eos, *mark)) == [*foo, *mark]
  assert response_ids("foo", template, tokenizer, (eos, *mark)) == [*foo, eos]
  assert len(response_ids(row, template, tokenizer)) > len([*foo, *mark, eos])


def test_a_sequence_is_the_prompt_then_the_response():
  ids, context = sequence_ids("1 + 2", " <think> 3 ! 3", TEMPLATE, TOKENIZER, tuple(TOKENIZER.encode("!")))
  assert ids == TOKENIZER.encode("Q: 1 + 2 <think> 3 !") and context == 5
  assert ids[:context] == prompt_ids("1 + 2", TEMPLATE, TOKENIZER)
  with pytest.raises(InputError, match="unknown word '77'"):
    sequence_ids("1 + 2", "77", TEMPLATE, TOKENIZER)


# Checking sources.


def test_good_sources_pass_without_a_file():
  check_source(Jsonl("nowhere.jsonl", answer_pattern="#### (.+)", max_rows=1))
  check_source(Generated("countdown", count=1, seed=-5, held_out=0.5, parameters={"max_target": 9}))


@pytest.mark.parametrize(
  "source, message",
  [
    (Jsonl(""), r"Jsonl\.path: ''"),
    (Jsonl(3), r"Jsonl\.path: 3"),
    (Jsonl("a", question_field=""), r"Jsonl\.question_field: ''"),
    (Jsonl("a", answer_field=None), r"Jsonl\.answer_field: None"),
    (Jsonl("a", language=""), r"Jsonl\.language: ''"),
    (Jsonl("a", level_field=""), r"Jsonl\.level_field: ''"),
    (Jsonl("a", answer_pattern="#### .+"), r"Jsonl\.answer_pattern: '#### \.\+'.*one group"),
    (Jsonl("a", answer_pattern="(a)(b)"), r"Jsonl\.answer_pattern: .*one group"),
    (Jsonl("a", answer_pattern="(a"), r"Jsonl\.answer_pattern: '\(a' \(.*unterminated"),
    (Jsonl("a", answer_pattern=5), r"Jsonl\.answer_pattern: 5"),
    (Jsonl("a", max_rows=0), r"Jsonl\.max_rows: 0\. Give at least 1"),
    (Jsonl("a", max_rows=True), r"Jsonl\.max_rows: True"),
    (Jsonl("a", remove_commas="yes"), r"Jsonl\.remove_commas: 'yes'"),
    (Jsonl("a", held_out=0), r"Jsonl\.held_out: 0\."),
    (Jsonl("a", held_out=1.0), r"Jsonl\.held_out: 1\.0"),
    (Jsonl("a", held_out=float("nan")), r"Jsonl\.held_out: nan"),
    (Jsonl("a", held_out="0.1"), r"Jsonl\.held_out: '0\.1'"),
    (Tfds("huggingface:gsm8k"), r"Tfds\.name: 'huggingface:gsm8k'"),
    (Tfds("../sums"), r"Tfds\.name"), (Tfds(""), r"Tfds\.name: ''"), (Tfds(None), r"Tfds\.name: None"),
    (Tfds("sums", split=""), r"Tfds\.split: ''"), (Tfds("sums", data_dir=5), r"Tfds\.data_dir: 5"),
    (Tfds("sums", held_out=2), r"Tfds\.held_out: 2"), (Tfds("sums", answer_pattern="a"), r"Tfds\.answer_pattern: 'a'"),
    (Generated("poems"), r"Generated\.generator: 'poems'.*\[.*'countdown', .*'sums'.*\]"),
    (Generated(count=0), r"Generated\.count: 0"),
    (Generated(count=1.5), r"Generated\.count: 1\.5"),
    (Generated(seed="a"), r"Generated\.seed: 'a'"),
    (Generated(held_out=-0.1), r"Generated\.held_out: -0\.1"),
    (Generated(parameters={"depth": 3}), r"Generated\.parameters: .*'depth'.*min_terms"),
    (Generated(parameters={"count": 3}), r"Generated\.parameters: .*'count'"),
    (Generated(parameters="operators"), r"Generated\.parameters: 'operators'"),
    (Generated(parameters={"operators": {"+"}}), r"Generated\.parameters: .*JSON"),
    (Generated(parameters={"max_terms": "9"}), r"Generated\.parameters: .*docstring of sums"),
    (Generated(parameters={"min_terms": 0}), r"sums\.min_terms: 0"),
    ("train.jsonl", r"source of questions: 'train\.jsonl'"),
  ],
)  # fmt: skip
def test_bad_sources(source, message, tmp_path):
  with pytest.raises(InputError, match=message):
    check_source(source)
  with pytest.raises(InputError, match=message):
    load_questions(source, "train", tmp_path)
  assert list(tmp_path.iterdir()) == []


def test_unknown_split(tmp_path):
  with pytest.raises(InputError, match="split: 'dev'"):
    load_questions(Generated(count=5), "dev", tmp_path)
