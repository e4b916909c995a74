"""The text of a choice: a reference by str.find, whatever pieces it comes in."""
import random

import numpy as np
import pytest

from r1jax.data.tokenizer import byte_level_tokenizer
from r1jax.records import Episode, Piece, Request
from r1jax.server.choices import Choice

BYTES = byte_level_tokenizer()
STOP = BYTES.stop_ids[0]


def pieces(ids, stopped, sizes):
  """The Pieces of a response, of these sizes."""
  request, some = Request(0, 0, (1,), len(ids)), np.array(ids, np.int32)
  edges = np.cumsum(sizes)
  for first, last in zip([0, *edges], [*edges, len(ids)], strict=True):
    if last > first:
      ended = Episode(request, some, np.zeros(len(ids), np.float32), stopped) if last == len(ids) else None
      yield Piece(request, some[first:last], np.zeros(last - first, np.float32), ended)


@pytest.mark.parametrize("stops", [(), ("abc",), ("b", "abc"), ("é",), ("aab", "ab"), ("no such text",)], ids=str)
@pytest.mark.parametrize("stopped", [True, False])
def test_a_choice_ends_where_the_first_stop_text_begins(stops, stopped):
  rng = random.Random(str(stops))
  for _ in range(60):
    whole = "".join(rng.choices("aabcé日", k=rng.randint(1, 12)))
    ids = BYTES.encode(whole) + [STOP] * stopped
    choice, said, sampled = Choice(BYTES, stops), "", 0
    for piece in pieces(ids, stopped, [rng.randint(1, 4) for _ in range(2)] if len(ids) > 8 else []):
      new = choice.add(piece)
      said += new
      assert whole.startswith(said)
      if choice.finish:
        break
    at = min((place for stop in stops if (place := whole.find(stop)) >= 0), default=None)
    # Of several stop texts the one that is complete first counts, as the rest is never sampled.
    ends = min((whole.find(stop) + len(stop) for stop in stops if stop in whole), default=None)
    if at is None:
      assert (said, choice.finish) == (whole, "stop" if stopped else "length")
      assert (choice.tokens, choice.sampled) == (BYTES.encode(whole), len(ids))
    else:
      expected = min(whole[:ends].find(stop) for stop in stops if stop in whole[:ends])
      sampled = len(whole[:ends].encode())
      assert (said, choice.finish, choice.sampled) == (whole[:expected], "stop", sampled)
      assert BYTES.decode(choice.tokens) == whole[:expected]
    assert choice.text == said and len(choice.offsets) == len(choice.tokens)


def test_bytes_that_are_no_character_come_at_the_end():
  choice = Choice(BYTES)
  ids = BYTES.encode("é")[:1]
  assert "".join(choice.add(piece) for piece in pieces(ids, False, [])) == BYTES.decode(ids) == "\ufffd"
