"""Packed rows hold every sequence once, whole and in order."""

import numpy as np

from r1jax.data.packing import pack

PAD = 99


def sequence(i):
  """Of 1 to 7 tokens, all of them i; one of context, or two."""
  n = 1 + i * 5 % 7
  return [i] * n, min(n, 1 + i % 2)


def test_every_sequence_is_there_once_whole_and_in_order():
  packed, following = pack(sequence, 3, rows=6, length=10, pad_id=PAD)
  found = []
  for tokens, positions, segments, mask in zip(*packed, strict=True):
    real = positions >= 0
    assert np.all(np.diff(real.astype(int)) <= 0), "padding must come last"
    assert np.all(tokens[~real] == PAD) and not mask[~real].any()
    for segment in np.unique(segments[real]):
      here = real & (segments == segment)
      (number,) = np.unique(tokens[here])
      ids, context = sequence(number)
      np.testing.assert_array_equal(tokens[here], ids)
      np.testing.assert_array_equal(positions[here], np.arange(len(ids)))
      np.testing.assert_array_equal(mask[here], np.arange(len(ids)) >= context)
      found.append(number)
    # No sequence that would have fitted was put off to the next row.
    assert real.sum() + len(sequence(found[-1] + 1)[0]) > 10
  assert found == list(range(3, following))


def test_padding_is_a_segment_of_its_own():
  packed, _ = pack(lambda i: ([i] * 4, 1), 0, rows=1, length=10, pad_id=PAD)
  assert packed.segment_ids.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1, 2, 2]]


def test_goes_on_where_it_stopped():
  whole, end = pack(sequence, 0, rows=4, length=12, pad_id=PAD)
  first, middle = pack(sequence, 0, rows=2, length=12, pad_id=PAD)
  second, last = pack(sequence, middle, rows=2, length=12, pad_id=PAD)
  assert last == end
  for a, b, c in zip(whole, first, second, strict=True):
    np.testing.assert_array_equal(a, np.concatenate([b, c]))
