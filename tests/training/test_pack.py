"""Packing: every sequence once, whole; rows full and evenly dealt; values to the slots and back; weights as unpacked."""

import numpy as np
import pytest

from r1jax.errors import InputError
from r1jax.losses.reductions import Reduction, token_weights
from r1jax.training.pack import TokenSequence, batches_for, best_fit, fill, pack

PAD = 99


def sequence(i):
  """Of 1 to 7 tokens, all of them i; one of context, or two."""
  n = 1 + i * 5 % 7
  return [i] * n, min(n, 1 + i % 2)


def long_tailed(count, longest, seed=2):
  """Lengths of a log-normal whose median is an eighth of the longest."""
  lengths = np.exp(np.random.default_rng(seed).normal(np.log(longest / 8), 1.0, count))
  return np.clip(lengths.astype(int), 2, longest).tolist()


def made_of(lengths, trained=True):
  """Sequence i is all i, a third of it context."""
  return [TokenSequence([i] * n, max(1, n // 3), trained) for i, n in enumerate(lengths)]


def check_rows(packed, sequences, segments_per_unit=1):
  """Every sequence (number -> (ids, context)) is where its place says, and nothing else is in the rows."""
  rebuilt = [np.full_like(m.tokens, PAD) for m in packed.microbatches]
  for number, place in enumerate(packed.places):
    rows = packed.microbatches[place.microbatch]
    slots = slice(place.start, place.start + place.length)
    ids, context = sequences(number)
    np.testing.assert_array_equal(rows.tokens[place.row, slots], ids)
    np.testing.assert_array_equal(rows.positions[place.row, slots], np.arange(len(ids)))
    np.testing.assert_array_equal(rows.mask[place.row, slots], np.arange(len(ids)) >= context)
    assert len(set(rows.segment_ids[place.row, slots])) == 1
    rebuilt[place.microbatch][place.row, slots] = ids
  for rows, tokens in zip(packed.microbatches, rebuilt, strict=True):
    np.testing.assert_array_equal(rows.tokens, tokens)
    padding = rows.positions < 0
    assert np.all(rows.tokens[padding] == PAD) and not rows.mask[padding].any()
    assert np.all(np.diff(padding.astype(int)) >= 0), "padding must come last"
    # Segments count up along a row, one a sequence, and padding has one of its own.
    starts = rows.positions == 0
    np.testing.assert_array_equal(rows.segment_ids, np.cumsum(starts, axis=1) - 1 + padding)


# All sequences known


def test_every_sequence_is_there_once_whole():
  lengths = long_tailed(60, 64)
  sequences = made_of(lengths)
  packed = pack(sequences, 64, 4, PAD, parts=2)
  assert {m.tokens.shape for m in packed.microbatches} == {(4, 64)}
  check_rows(packed, lambda i: sequences[i][:2])


def test_rows_are_nearly_full():
  lengths = long_tailed(512, 2_048)
  packed = pack(made_of(lengths), 2_048, 8, PAD)
  assert packed.padding < 0.05
  assert packed.padding == 1 - sum(lengths) / sum(m.tokens.size for m in packed.microbatches)
  # Beyond the rows that round up to whole microbatches nothing is lost.
  assert len(best_fit(lengths, 2_048)) <= 1.02 * sum(lengths) / 2_048


def test_rows_do_not_depend_on_the_order_of_the_sequences():
  lengths = long_tailed(100, 128)
  order = np.random.default_rng(0).permutation(100)
  rows, shuffled = best_fit(lengths, 128), best_fit([lengths[i] for i in order], 128)
  assert [[lengths[i] for i in row] for row in rows] == [[lengths[order[i]] for i in row] for row in shuffled]
  assert rows == best_fit(lengths, 128)


def test_microbatches_and_the_parts_of_a_microbatch_cost_about_the_same():
  packed = pack(made_of(long_tailed(800, 512)), 512, 32, PAD, parts=4)
  tokens, squares = np.zeros((2, len(packed.microbatches), 4))
  for p in packed.places:
    tokens[p.microbatch, p.row // 8] += p.length
    squares[p.microbatch, p.row // 8] += p.length**2
  # The last rows are empty, and nobody can share out one row.
  assert np.ptp(tokens) <= 2 * 512 and np.ptp(tokens.sum(axis=1)) <= 512 * 2
  assert squares.max() < 1.15 * squares.mean() and squares.sum(axis=1).max() < 1.02 * squares.sum(axis=1).mean()


def test_few_sequences_leave_rows_empty():
  packed = pack([([5, 6], 1)], 4, 3, PAD)
  assert packed.microbatches[0].positions.tolist() == [[0, 1, -1, -1], [-1] * 4, [-1] * 4]
  assert packed.padding == 1 - 2 / 12


def test_pairs_share_a_row():
  lengths = [n % 9 + 1 for n in range(40)]
  packed = pack(made_of(lengths), 24, 4, PAD, together=2)
  check_rows(packed, lambda i: made_of(lengths)[i][:2])
  partners = packed.partners()
  for chosen, rejected in zip(packed.places[::2], packed.places[1::2], strict=True):
    assert (chosen.microbatch, chosen.row) == (rejected.microbatch, rejected.row)
    assert partners[rejected.microbatch][rejected.last] == chosen.start + chosen.length - 1


# Values to the slots and back


def test_values_go_to_the_slots_of_the_responses_and_back():
  sequences = made_of(long_tailed(30, 32))
  packed = pack(sequences, 32, 4, PAD)
  rng = np.random.default_rng(0)
  values = [rng.standard_normal(len(s.tokens) - s.context).astype(np.float32) for s in sequences]
  arrays = packed.spread(values, fill=7)
  for found, value in zip(packed.gather(arrays), values, strict=True):
    np.testing.assert_array_equal(found, value)
  for rows, array in zip(packed.microbatches, arrays, strict=True):
    assert np.all(array[~rows.mask] == 7) and array.dtype == np.float32
  for number, found in enumerate(packed.gather(packed.spread(range(30)))):
    assert np.all(found == number) and len(found) == len(values[number])
  rows = packed.replace(advantages=arrays, ref_logprobs=None)
  assert rows[1].advantages is arrays[1] and rows[1].ref_logprobs is None


def test_values_at_the_last_tokens():
  packed = pack(made_of([3, 5, 2, 4]), 6, 1, PAD)
  arrays = packed.at_last([1, 2, 3, 4])
  np.testing.assert_array_equal(packed.last(arrays), [1, 2, 3, 4])
  assert sum(np.count_nonzero(a) for a in arrays) == 4
  assert packed.last([m.positions for m in packed.microbatches]).tolist() == [2, 4, 1, 3]


@pytest.mark.parametrize("reduction", Reduction)
def test_weights_are_those_of_unpacked_rows(reduction):
  lengths = long_tailed(30, 32)
  sequences = [s._replace(trained=i % 5 > 0, context=len(s.tokens) if i == 7 else s.context)
               for i, s in enumerate(made_of(lengths))]
  mask = np.array([(np.arange(32) >= s.context) & (np.arange(32) < len(s.tokens)) & s.trained for s in sequences])
  expected = np.asarray(token_weights(mask, reduction, 12.0))
  packed = pack(sequences, 32, 4, PAD)
  found = packed.weights(reduction, 12.0)
  for value, row, s in zip(packed.gather(found), expected, sequences, strict=True):
    np.testing.assert_array_equal(value, row[s.context:len(s.tokens)])
  assert all(np.all((array != 0) == m.mask) for array, m in zip(found, packed.microbatches, strict=True))


# A stream


def test_a_stream_is_read_in_order_whole_and_without_gaps():
  packed, following = fill(sequence, 3, 6, 10, PAD, microbatches=2)
  assert [m.tokens.shape for m in packed.microbatches] == [(3, 10)] * 2
  assert len(packed.places) == following - 3
  check_rows(packed, lambda i: sequence(3 + i))
  # The next one fits nowhere.
  ends = np.array([(m.positions >= 0).sum(axis=1) for m in packed.microbatches])
  assert np.all(ends + len(sequence(following)[0]) > 10)


def test_a_stream_goes_to_the_fullest_row_that_it_fits_in():
  packed, following = fill(lambda i: ([i + 1] * [6, 7, 3, 1, 3, 9][i], 1), 0, 2, 10, PAD)
  assert sorted(m.tolist() for m in packed.microbatches[0].tokens) == [[1] * 6 + [4] + [5] * 3, [2] * 7 + [3] * 3]
  assert following == 5


def test_a_stream_wastes_little():
  lengths = long_tailed(2_000, 512)
  packed, following = fill(lambda i: ([1] * lengths[i], 1), 0, 64, 512, PAD)
  assert packed.padding < 0.02


@pytest.mark.parametrize("together", [1, 2])
def test_batches_are_counted_as_they_are_filled(together):
  lengths = long_tailed(200, 64)
  expected, number = 0, 0
  while number < 200:
    _, number = fill(lambda i: ([1] * lengths[i % 200], 1), number, 4, 128, PAD, together=together)
    expected += 1
  assert batches_for(lengths, 4, 128, together) == expected >= 5
  assert batches_for([], 4, 128) == 0


def test_a_stream_of_pairs():
  packed, following = fill(sequence, 4, 3, 16, PAD, together=2)
  assert following % 2 == 0
  for chosen, rejected in zip(packed.places[::2], packed.places[1::2], strict=True):
    assert (chosen.row, chosen.start + chosen.length) == (rejected.row, rejected.start)


# Errors


@pytest.mark.parametrize(("call", "message"), [
  (lambda: pack([([1] * 3, 1), ([1] * 9, 1)], 8, 2, PAD), "sequence 1: 9 tokens in rows of 8. Make the rows longer"),
  (lambda: pack([([], 1)], 8, 2, PAD), "sequence 0: 0 tokens"),
  (lambda: pack([([1] * 5, 1)] * 4, 8, 2, PAD, together=2), r"0 to 1, which share a row: \[5, 5\] tokens in rows of 8"),
  (lambda: pack([([1] * 5, 0)], 8, 2, PAD), "sequence 0: 0 tokens of context of 5"),
  (lambda: pack([([1] * 5, 6)], 8, 2, PAD), "sequence 0: 6 tokens of context of 5"),
  (lambda: pack([([1] * 5, 1)], 8, 3, PAD, parts=2), "rows: 3 rows a microbatch for 2 data-parallel devices"),
  (lambda: pack([([1] * 5, 1)], 8, 2, PAD, together=2), "sequences: 1. Give a positive multiple of 2"),
  (lambda: pack([], 8, 2, PAD), "sequences: 0"),
  (lambda: fill(lambda i: ([1] * (6 + i), 1), 0, 4, 8, PAD), "sequence 3: 9 tokens in rows of 8"),
  (lambda: fill(sequence, 0, 4, 8, PAD, microbatches=3), "microbatches: 3. It must divide the 4 rows"),
  (lambda: pack([([1] * 5, 1)], 8, 2, PAD).spread([1, 2]), "2 values for 1 sequences"),
  (lambda: pack([([1] * 5, 1)], 8, 2, PAD).spread([[1.0, 2.0]]), r"sequence 0: values of shape \[2\].*4 response tokens"),
])
def test_bad_input(call, message):
  with pytest.raises(InputError, match=message):
    call()
