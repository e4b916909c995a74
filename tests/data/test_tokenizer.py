import json
import os
import pickle

import numpy as np
import pytest
import tokenizers

from r1jax.data.tokenizer import load_tokenizer, word_level_tokenizer
from r1jax.errors import InputError

SPECIAL = ["<|bos|>", "<|eos|>", "<|im_end|>", "<|pad|>", "<think>", "</think>"]


def write_folder(folder, bos_first=False, **files):
  """A byte-level tokenizer as a hub folder has it; each keyword writes NAME.json beside it."""
  backend = tokenizers.Tokenizer(tokenizers.models.BPE())
  backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=300,
    special_tokens=SPECIAL,
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  backend.train_from_iterator(["a small text to train on", "another small text"], trainer)
  if bos_first:
    backend.post_processor = tokenizers.processors.TemplateProcessing(
      single="<|bos|> $A", special_tokens=[("<|bos|>", 0)]
    )
  backend.enable_truncation(4)
  backend.enable_padding(length=8)
  backend.save(str(folder / "tokenizer.json"))
  for name, content in files.items():
    (folder / f"{name}.json").write_text(json.dumps(content))
  return folder


def test_byte_level_round_trip(tmp_path):
  tokenizer = load_tokenizer(write_folder(tmp_path, tokenizer_config={"eos_token": "<|eos|>"}))
  for text in ("  two\n\tlines, 1,234 ", "芳芳买了99页的书 \u2028 é🙂", "<think> a </think> b"):
    assert tokenizer.decode(tokenizer.encode(text)) == text
  assert len(tokenizer.encode("a long text " * 20)) > 8  # neither cut nor padded by what the file says


def test_decode_gives_the_text_of_every_id(tmp_path):
  settings = {"eos_token": "<|eos|>", "bos_token": "<|bos|>", "pad_token": "<|pad|>"}
  tokenizer = load_tokenizer(write_folder(tmp_path, tokenizer_config=settings), stop_tokens=["<|im_end|>"])
  text = "<|bos|><think>a</think><|pad|>b<|im_end|><|eos|><|pad|>"
  ids = tokenizer.encode(text)
  assert tokenizer.decode(ids) == tokenizer.decode(np.array(ids, np.int32)) == text
  assert tokenizer.decode([*ids, tokenizer.vocab_size, 10**6]) == text  # rows of the embedding that stand for no token


def test_a_pad_token_that_is_a_letter_stays_in_the_text(tmp_path):
  """GPT-2's, Qwen's and Llama 3's id 0 is an exclamation mark; whoever pads with 0 must not lose it."""
  tokenizer = load_tokenizer(write_folder(tmp_path, tokenizer_config={"eos_token": "<|eos|>"}), pad_token="!")
  assert tokenizer.decode(tokenizer.encode("5!")) == "5!"


def test_a_responses_last_token_is_no_text_if_it_stopped_there(tmp_path):
  tokenizer = load_tokenizer(write_folder(tmp_path, tokenizer_config={"eos_token": "<|eos|>"}), stop_tokens=["!"])
  eos, mark = tokenizer.stop_ids
  for ids in (tokenizer.encode("<think> 5"), np.array(tokenizer.encode("<think> 5"))):
    assert tokenizer.response_text(ids, False) == "<think> 5"
    assert tokenizer.response_text([*ids, eos], True) == tokenizer.response_text([*ids, mark], True) == "<think> 5"
  assert tokenizer.response_text([eos], True) == tokenizer.response_text([], False) == ""


@pytest.mark.parametrize(
  "files, stop_ids, bos_id, pad_id",
  [
    ({"tokenizer_config": {"eos_token": {"content": "<|eos|>", "special": True}}}, (1,), None, 1),
    ({"special_tokens_map": {"eos_token": "<|eos|>", "pad_token": "<|pad|>"}}, (1,), None, 3),
    ({"config": {"eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 3}}, (2,), 0, 3),
    ({"generation_config": {"eos_token_id": [2, 1]}, "config": {"eos_token_id": 1}}, (2, 1), None, 2),
    (
      {"tokenizer_config": {"eos_token": "<|eos|>", "bos_token": None}, "config": {"bos_token_id": 0}},
      (1,), None, 1,
    ),
    (
      {"tokenizer_config": {"eos_token": "<|eos|>"}, "generation_config": {"eos_token_id": [2, 1]}},
      (1, 2), None, 1,
    ),
    ({"special_tokens_map": {"eos_token": "<|eos|>"}, "config": {"pad_token_id": -1}}, (1,), None, 1),
  ],
)  # fmt: skip
def test_special_tokens_are_resolved(tmp_path, files, stop_ids, bos_id, pad_id):
  tokenizer = load_tokenizer(write_folder(tmp_path, **files))
  assert (tokenizer.stop_ids, tokenizer.bos_id, tokenizer.pad_id) == (stop_ids, bos_id, pad_id)
  assert tokenizer.vocab_size == max(tokenizer.backend.get_vocab().values()) + 1 >= 262


@pytest.mark.parametrize(
  "bos_first, settings, adds_bos",
  [
    (True, {}, True), (False, {}, False), (True, {"add_bos_token": False}, False),
    (False, {"add_bos_token": True}, True),
  ],
)  # fmt: skip
def test_adds_bos(tmp_path, bos_first, settings, adds_bos):
  settings = {"eos_token": "<|eos|>", "bos_token": "<|bos|>", **settings}
  tokenizer = load_tokenizer(write_folder(tmp_path, bos_first, tokenizer_config=settings))
  assert tokenizer.adds_bos is adds_bos
  assert 0 not in tokenizer.encode("a")  # encode itself never adds it


def test_given_tokens_win(tmp_path):
  folder = write_folder(tmp_path, tokenizer_config={"eos_token": "<|eos|>", "pad_token": "<|eos|>"})
  tokenizer = load_tokenizer(folder / "tokenizer.json", stop_tokens=["<|im_end|>"], pad_token="<|pad|>")
  assert (tokenizer.stop_ids, tokenizer.pad_id) == ((1, 2), 3)


def test_save_and_load_give_the_same_tokenizer(tmp_path):
  settings = {"eos_token": "<|eos|>", "bos_token": "<|bos|>", "add_bos_token": True, "tokenizer_class": "X"}
  (tmp_path / "in").mkdir()
  generation = {"eos_token_id": [2, 1]}
  folder = write_folder(tmp_path / "in", tokenizer_config=settings, generation_config=generation)
  (folder / "chat_template.jinja").write_text("{{ messages }}")
  tokenizer = load_tokenizer(folder)
  out = tmp_path / "out"
  out.mkdir()
  (out / "generation_config.json").write_text('{"temperature": 0.6}')
  tokenizer.save(out)
  again = load_tokenizer(out)
  assert again == tokenizer
  assert again.encode("a small <think>") == tokenizer.encode("a small <think>")
  generation = json.loads((out / "generation_config.json").read_text())
  assert generation == {"temperature": 0.6, "eos_token_id": [1, 2]}
  saved = json.loads((out / "tokenizer_config.json").read_text())
  assert saved["chat_template"] == "{{ messages }}" and saved["tokenizer_class"] == "X"


WORDS = ["<think>", "</think>", "<answer>", "</answer>", "3", "+", "8", "="]


def test_word_level():
  tokenizer = word_level_tokenizer(WORDS)
  ids = tokenizer.encode("<think> 3 +  8\n=</think>".replace("=</", "= </"))
  assert ids == [2, 6, 7, 8, 9, 3]
  assert tokenizer.decode(ids) == tokenizer.response_text([*ids, 1], True) == "<think> 3 + 8 = </think>"
  assert tokenizer.decode([0, *ids[:2], 1]) == "<pad> <think> 3 <eos>"
  assert tokenizer.encode("3 <eos>") == [6, 1]
  assert (tokenizer.vocab_size, tokenizer.pad_id, tokenizer.bos_id, tokenizer.stop_ids) == (10, 0, None, (1,))


def test_word_level_survives_files_and_pickle(tmp_path):
  tokenizer = word_level_tokenizer(WORDS, stop_tokens=("<eos>", "<turn>"))
  tokenizer.save(tmp_path)
  for again in (load_tokenizer(tmp_path), pickle.loads(pickle.dumps(tokenizer))):
    assert again == tokenizer
    assert again.decode(again.encode("3 + 8")) == "3 + 8"
    with pytest.raises(InputError, match="'+9'".replace("+", r"\+")):
      again.encode("3 + +9")


def test_half_of_a_surrogate_pair_is_no_text(tmp_path):
  write_folder(tmp_path, tokenizer_config={"eos_token": "<|eos|>"})
  with pytest.raises(InputError, match=r"character 3: '.udcff'"):
    load_tokenizer(tmp_path).encode("a \udcff")


def test_word_level_names_the_unknown_word():
  with pytest.raises(InputError, match="unknown word '12'"):
    word_level_tokenizer(WORDS).encode("3 + 12 = 8 99")


@pytest.mark.parametrize(
  "words, stops, found",
  [(["a", "b", "a"], ["<eos>"], "'a'"), (["<eos>"], ["<eos>"], "<eos>"), (["a b"], ["<eos>"], "'a b'"),
   ([""], ["<eos>"], "''"), (["a"], [], "stop_tokens")],
)  # fmt: skip
def test_word_level_bad_words(words, stops, found):
  with pytest.raises(InputError, match=found):
    word_level_tokenizer(words, stops)


def test_missing_or_broken_tokenizer(tmp_path):
  with pytest.raises(InputError, match="nowhere.*no such file"):
    load_tokenizer(tmp_path / "nowhere")
  with pytest.raises(InputError, match="no tokenizer.json.*save_pretrained"):
    load_tokenizer(tmp_path)
  (tmp_path / "tokenizer.json").write_text('{"model": 3}')
  with pytest.raises(InputError, match="tokenizer.json: not a tokenizer"):
    load_tokenizer(tmp_path)


@pytest.mark.parametrize(
  "files, message",
  [
    ({}, "no token is said to end a text.*stop_tokens"),
    ({"tokenizer_config": {"eos_token": "<nope>"}}, "tokenizer_config.json, eos_token.*'<nope>'"),
    ({"tokenizer_config": {"eos_token": "<|eos|>", "bos_token": "<nope>"}}, "bos_token.*'<nope>'"),
    ({"generation_config": {"eos_token_id": [1, 5000]}}, "generation_config.json, eos_token_id: 5000"),
    ({"config": {"eos_token_id": "<|eos|>"}}, "config.json, eos_token_id: <|eos|>"),
    ({"tokenizer_config": [1]}, "tokenizer_config.json: not a JSON object"),
    ({"tokenizer_config": {"eos_token": 5}}, "tokenizer_config.json, eos_token: 5 is not a token's text"),
    ({"tokenizer_config": {"eos_token": ["<|eos|>"]}}, r"eos_token: \['<|eos|>'\] is not a token's text"),
    ({"tokenizer_config": {"eos_token": "<|eos|>", "pad_token": {"content": 3}}}, "pad_token: 3 is not a token's text"),
    ({"tokenizer_config": {"eos_token": {"content": []}}}, r"eos_token: \[\] is not a token's text"),
    ({"config": {"eos_token_id": True}}, "config.json, eos_token_id: True"),
    ({"config": {"eos_token_id": {"a": 1}}}, "config.json, eos_token_id: .'a': 1"),
    ({"tokenizer_config": {"eos_token": "<|eos|>", "chat_template": 5}}, "chat_template: 5 is no template"),
    ({"tokenizer_config": {"eos_token": "<|eos|>", "chat_template": [{"name": "default"}]}}, "chat_template: .*no template"),
  ],
)
def test_bad_special_tokens(tmp_path, files, message):
  with pytest.raises(InputError, match=message):
    load_tokenizer(write_folder(tmp_path, **files))


@pytest.mark.parametrize(("name", "content", "message"), [
  ("chat_template.jinja", b"{{ 'caf\xe9' }}", r"chat_template.jinja: byte 8 is not UTF-8"),
  ("tokenizer_config.json", b'{"eos_token": "\xe9"}', "tokenizer_config.json: byte 16 is not UTF-8"),
  ("tokenizer_config.json", b"[" * 100_000, "tokenizer_config.json: not JSON"),
  ("tokenizer.json", b"\xff\xfe{}", "tokenizer.json: byte 1 is not UTF-8"),
  ("tokenizer.json", b'{"version": "1.0", "model": {"type": "WordLevel", "vocab": {}, "unk_token": "?"}}',
   "tokenizer.json: the tokenizer has no tokens"),
])
def test_files_that_are_damaged_are_named(tmp_path, name, content, message):
  folder = write_folder(tmp_path, tokenizer_config={"eos_token": "<|eos|>"})
  (folder / name).write_bytes(content)
  with pytest.raises(InputError, match=message):
    load_tokenizer(folder)


def test_a_tokenizer_that_may_not_be_read_is_named(tmp_path, monkeypatch):
  def refuse(self, *arguments, **keywords):
    raise PermissionError(13, "Permission denied", str(self))

  folder = write_folder(tmp_path)
  monkeypatch.setattr(type(folder), "read_text", refuse)
  with pytest.raises(InputError, match="tokenizer.json: cannot be read .Permission denied"):
    load_tokenizer(folder)


def test_given_tokens_must_exist(tmp_path):
  folder = write_folder(tmp_path, tokenizer_config={"eos_token": "<|eos|>"})
  for wrong in ({"stop_tokens": ["<nope>"]}, {"pad_token": "<nope>"}):
    with pytest.raises(InputError, match="<nope>"):
      load_tokenizer(folder, **wrong)


def test_save_names_a_class_that_every_transformers_knows(tmp_path):
  settings = {"eos_token": "<|eos|>", "tokenizer_class": "TokenizersBackend"}
  load_tokenizer(write_folder(tmp_path, tokenizer_config=settings)).save(tmp_path / "out")
  saved = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
  assert saved["tokenizer_class"] == "PreTrainedTokenizerFast"


@pytest.mark.parametrize("kind", ["byte_level", "word_level"])
def test_transformers_reads_what_save_writes(tmp_path, kind):
  transformers = pytest.importorskip("transformers")
  if kind == "byte_level":
    (tmp_path / "in").mkdir()
    tokenizer = load_tokenizer(write_folder(tmp_path / "in", tokenizer_config={"eos_token": "<|eos|>"}))
    text = "a <think> small\n 芳 text"
  else:
    tokenizer = word_level_tokenizer(WORDS)
    text = "<think> 3 + 8 = </think>"
  tokenizer.save(tmp_path / "out")
  theirs = transformers.AutoTokenizer.from_pretrained(os.fspath(tmp_path / "out"))
  ids = theirs(text, add_special_tokens=False)["input_ids"]
  assert ids == tokenizer.encode(text)
  assert theirs.decode(ids) == text
  assert (theirs.eos_token_id, theirs.pad_token_id) == (tokenizer.stop_ids[0], tokenizer.pad_id)
