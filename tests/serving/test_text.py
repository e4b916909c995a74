"""Text as it streams: whatever the pieces, joined it is what the whole response says."""
import os
from pathlib import Path

import numpy as np
import pytest

from r1jax.data.tokenizer import byte_level_tokenizer, load_tokenizer, word_level_tokenizer
from r1jax.serving.text import TextStream, Thoughts, starts_inside

SMOLLM2 = Path(os.environ.get("R1JAX_SMOLLM2", ""))
TOKENIZERS = {"bytes": byte_level_tokenizer, "words": lambda: word_level_tokenizer([f"w{i}" for i in range(40)]),
              "smollm2": lambda: load_tokenizer(SMOLLM2)}
NAMES = [pytest.param(name, marks=pytest.mark.skipif(name == "smollm2" and not SMOLLM2.joinpath("tokenizer.json").is_file(),
                                                     reason="needs R1JAX_SMOLLM2")) for name in TOKENIZERS]


def streamed(tokenizer, ids, rng):
  stream, said, at = TextStream(tokenizer), [], 0
  while at < len(ids):
    step = int(rng.integers(1, 9))
    said.append(stream.add(ids[at:at + step]))
    at += step
  return [*said, stream.end()], stream.text


@pytest.mark.parametrize("name", NAMES)
def test_pieces_of_any_ids_join_to_the_text_of_all(name):
  tokenizer, rng = TOKENIZERS[name](), np.random.default_rng(0)
  for _ in range(60):
    ids = rng.integers(0, tokenizer.vocab_size + 2, int(rng.integers(0, 40))).tolist()  # two ids stand for no token
    said, text = streamed(tokenizer, ids, rng)
    assert "".join(said) == text == tokenizer.response_text(ids, stopped=False)


@pytest.mark.parametrize("name", ["bytes", pytest.param("smollm2", marks=NAMES[2].marks)])
def test_a_character_comes_whole(name):
  tokenizer, text = TOKENIZERS[name](), "naïve 数学 𝄞 👩‍👩‍👧 end"
  ids = tokenizer.encode(text)
  stream = TextStream(tokenizer)
  said = [stream.add([i]) for i in ids]
  assert "".join(said) == text and stream.end() == "" and not any("�" in part for part in said)
  assert len(ids) > len(text) or name == "smollm2"


def test_half_a_character_at_the_end_is_shown_as_decoding_shows_it():
  tokenizer = byte_level_tokenizer()
  ids = tokenizer.encode("a数")[:-1]
  stream = TextStream(tokenizer)
  assert stream.add(ids) == "a" and stream.end() == tokenizer.decode(ids)[1:] != ""


CASES = [
  ("<think> a </think> b", False, [(True, " a "), (False, " b")]), ("a </think> b", True, [(True, "a "), (False, " b")]),
  ("no tags", False, [(False, "no tags")]), ("<think>cut", False, [(True, "cut")]), ("", True, []),
  ("x<think></think>y", False, [(False, "xy")]), ("1 < 2 <thi", False, [(False, "1 < 2 <thi")]),
  ("<<think>a<think>b</think>c<think>d", False, [(False, "<"), (True, "a<think>b"), (False, "c"), (True, "d")]),
  ("</think>a", False, [(False, "</think>a")]), ("a</thin</think>b", True, [(True, "a</thin"), (False, "b")]),
]


@pytest.mark.parametrize(("text", "inside", "wanted"), CASES)
@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_thoughts_are_told_apart_however_the_text_arrives(text, inside, wanted, step):
  thoughts = Thoughts(inside)
  found = [part for i in range(0, len(text), step) for part in thoughts.add(text[i:i + step])] + thoughts.end()
  joined = []
  for thought, part in found:
    if joined and joined[-1][0] == thought:
      joined[-1] = (thought, joined[-1][1] + part)
    else:
      joined.append((thought, part))
  assert joined == wanted


def test_what_cannot_become_a_tag_is_shown_at_once():
  assert Thoughts().add("3 < 4 <b") == [(False, "3 < 4 <b")] and Thoughts().add("3 <t") == [(False, "3 ")]


def test_a_prompt_may_open_the_thought():
  assert starts_inside("User: 1? Assistant: <think>\n") and not starts_inside("<think> a </think>") and not starts_inside("")
