"""Token sequences into rows of one length: every sequence whole and once, rows full, microbatches of one shape.

`pack` places sequences that are all known (RL: a minibatch of episodes), `fill` reads a stream (supervised stages) so that
the place in the data stays one integer. Both give a `Packed`, which carries values to the slots of the sequences and back.
Nothing here needs a device.
"""
import bisect
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from r1jax.errors import InputError
from r1jax.losses.reductions import Reduction, response_weights
from r1jax.records import PackedRows


class TokenSequence(NamedTuple):
  """One sequence to be packed.

  tokens: [n] ids. context: how many of the first are not trained on, 1 to n (nothing precedes the first); the others are
  the response. trained: False leaves the whole response out of the loss, though it still counts as a response.
  """

  tokens: Any
  context: int
  trained: bool = True


class Place(NamedTuple):
  """Where a sequence lies: slots start .. start + length - 1 of a row of a microbatch. context, trained: as given."""

  microbatch: int
  row: int
  start: int
  length: int
  context: int
  trained: bool

  @property
  def last(self) -> tuple[int, int]:
    """Row and slot of its last token."""
    return self.row, self.start + self.length - 1

  @property
  def response(self) -> tuple[int, slice]:
    """Row and slots of its response."""
    return self.row, slice(self.start + self.context, self.start + self.length)


@dataclasses.dataclass(frozen=True)
class Packed:
  """Sequences in microbatches of one shape, [rows, T] each: host arrays.

  microbatches: with tokens, positions, segment_ids and mask; `replace` adds the rest. places: of each sequence, in the
  order in which they were given.
  """

  microbatches: list[PackedRows]
  places: list[Place]

  @property
  def padding(self) -> float:
    """Share of slots that hold no token."""
    slots = sum(m.tokens.size for m in self.microbatches)
    return 1 - sum(p.length for p in self.places) / slots

  def _empty(self, fill, dtype) -> list[np.ndarray]:
    return [np.full(m.tokens.shape, fill, dtype) for m in self.microbatches]

  def spread(self, values: Sequence, fill: float = 0, dtype=np.float32) -> list[np.ndarray]:
    """Arrays [rows, T], one a microbatch: of each sequence a scalar, or one value a response token, at the slots of its
    response; `fill` elsewhere. InputError for another number of values than sequences or response tokens."""
    self._require("spread", values)
    arrays = self._empty(fill, dtype)
    for number, (place, value) in enumerate(zip(self.places, values, strict=True)):
      value, wanted = np.asarray(value), place.length - place.context
      if value.ndim and value.shape != (wanted,):
        raise InputError(f"spread: sequence {number}", f"values of shape {list(value.shape)}",
                         f"Give a number, or one for each of its {wanted} response tokens.")
      arrays[place.microbatch][place.response] = value
    return arrays

  def gather(self, arrays: Sequence) -> list[np.ndarray]:
    """The values [n_i] at each sequence's response tokens, of arrays [rows, T], one a microbatch: spread backwards."""
    arrays = [np.asarray(a) for a in arrays]
    return [arrays[p.microbatch][p.response].copy() for p in self.places]

  def at_last(self, values: Sequence, fill: float = 0, dtype=np.float32) -> list[np.ndarray]:
    """Arrays [rows, T], one a microbatch: of each sequence one value, at its last token; `fill` elsewhere."""
    self._require("at_last", values)
    arrays = self._empty(fill, dtype)
    for place, value in zip(self.places, values, strict=True):
      arrays[place.microbatch][place.last] = value
    return arrays

  def last(self, arrays: Sequence) -> np.ndarray:
    """[n]: the value at each sequence's last token: at_last backwards."""
    arrays = [np.asarray(a) for a in arrays]
    return np.array([arrays[p.microbatch][p.last] for p in self.places])

  def partners(self) -> list[np.ndarray]:
    """PackedRows.partner of sequences packed in pairs (together = 2), in each pair first the chosen, then the rejected."""
    arrays = self._empty(0, np.int32)
    for chosen, rejected in zip(self.places[::2], self.places[1::2], strict=True):
      arrays[rejected.microbatch][rejected.last] = chosen.last[1]
    return arrays

  def weights(self, reduction: Reduction, constant: float | None = None) -> list[np.ndarray]:
    """token_weights over all sequences, at the slots of the responses: those that unpacked rows would have, exactly."""
    trained = [(p.length - p.context) * p.trained for p in self.places]
    return self.spread(response_weights(trained, reduction, constant))

  def replace(self, **fields: Sequence) -> list[PackedRows]:
    """The microbatches with these fields of PackedRows, each a list of arrays, one a microbatch, or None for none."""
    given = {name: arrays for name, arrays in fields.items() if arrays is not None}
    return [m.replace(**{name: arrays[i] for name, arrays in given.items()}) for i, m in enumerate(self.microbatches)]

  def _require(self, where: str, values: Sequence) -> None:
    if len(values) != len(self.places):
      raise InputError(where, f"{len(values)} values for {len(self.places)} sequences", "Give one for each.")


def best_fit(lengths: Sequence[int], row_length: int) -> list[list[int]]:
  """Rows of indices by best-fit decreasing: the longest first, each into the fullest row that it fits in.

  Equal lengths are taken in the order of their indices. InputError for a length outside 1..row_length.
  """
  for number, length in enumerate(lengths):
    _check_length(number, length, row_length)
  rows: list[list[int]] = []
  free: list[tuple[int, int]] = []  # (free slots, row), sorted
  for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
    at = bisect.bisect_left(free, (lengths[index], -1))
    space, row = free.pop(at) if at < len(free) else (row_length, len(rows))
    if row == len(rows):
      rows.append([])
    rows[row].append(index)
    bisect.insort(free, (space - lengths[index], row))
  return rows


def pack(sequences: Sequence[TokenSequence], row_length: int, rows: int, pad_id: int, parts: int = 1,
         together: int = 1) -> Packed:
  """All sequences in as few microbatches [rows, row_length] as best fit finds; the last rows may be empty.

  Rows are dealt so that the microbatches, and within one the contiguous `parts` of its rows (those of each data-parallel
  device), have about equal sums of tokens and of squared lengths (what attention costs).

  Args:
    rows: of a microbatch, a multiple of parts.
    together: so many consecutive sequences share a row (2: preference pairs).

  Raises:
    InputError: no sequences, rows that do not divide over the parts, sequences that are not a multiple of `together`, one
      that is longer than row_length, or a context outside 1..its length.
  """
  if not sequences or len(sequences) % together:
    raise InputError("pack: sequences", len(sequences), f"Give a positive multiple of {together}.")
  sequences = [TokenSequence(*s) for s in sequences]
  lengths = [len(s.tokens) for s in sequences]
  if together > 1:
    _check_units(lengths, row_length, together)
  units = [sum(lengths[i:i + together]) for i in range(0, len(lengths), together)]
  filled = [[unit * together + k for unit in row for k in range(together)] for row in best_fit(units, row_length)]
  return _placed(sequences, filled, row_length, rows, pad_id, parts)


def fill(sequence: Callable[[int], tuple], first: int, rows: int, row_length: int, pad_id: int, microbatches: int = 1,
         parts: int = 1, together: int = 1) -> tuple[Packed, int]:
  """`rows` rows filled with sequences number first, first + 1, ..., and the number that comes next.

  Each goes to the fullest row that it fits in, until one fits nowhere: none is cut, put off or left out.

  Args:
    sequence: number -> TokenSequence, or (ids, context).
    rows: of all microbatches together.
    microbatches, parts, together: as in pack; each microbatch has rows / microbatches rows.

  Raises:
    InputError: as pack.
  """
  if rows % microbatches:
    raise InputError("fill: microbatches", microbatches, f"It must divide the {rows} rows.")
  read: list[TokenSequence] = []

  def unit(number):
    found = [TokenSequence(*sequence(number + k)) for k in range(together)]
    read.extend(found)
    _check_length(number, sum(len(s.tokens) for s in found), row_length)
    return sum(len(s.tokens) for s in found)

  filled = [[n + k for n in row for k in range(together)]
            for row in _online(lambda n: unit(first + n), rows, row_length, together)]
  count = sum(map(len, filled))
  return _placed(read[:count], filled, row_length, rows // microbatches, pad_id, parts, microbatches), first + count


def batches_for(lengths: Iterable[int], rows: int, row_length: int, together: int = 1) -> int:
  """How many batches of `rows` rows `fill` makes of sequences of these lengths; the last may be partly empty."""
  lengths = list(lengths)
  batches, first = 0, 0
  while first < len(lengths):
    def unit(number, first=first):
      # Beyond the last sequence everything is too long: the batch ends there.
      here = lengths[first + number:first + number + together]
      return sum(here) if here else row_length + 1
    first += together * sum(len(row) for row in _online(unit, rows, row_length, together))
    batches += 1
  return batches


def _online(unit: Callable[[int], int], rows: int, row_length: int, together: int) -> list[list[int]]:
  """Numbers 0, together, 2 together, ... in `rows` rows by online best fit, until one fits nowhere. unit: number -> its
  length."""
  filled: list[list[int]] = [[] for _ in range(rows)]
  free = [row_length] * rows
  number = 0
  while True:
    length = unit(number)
    fits = [(space, row) for row, space in enumerate(free) if space >= length]
    if not fits:
      return filled
    _, row = min(fits)
    filled[row].append(number)
    free[row] -= length
    number += together


def _deal(costs: Sequence[float], groups: int, size: int) -> list[list[int]]:
  """Indices in `groups` groups of at most `size`, the sums of their costs about equal: the dearest first, each to the
  cheapest group that has room."""
  dealt: list[list[int]] = [[] for _ in range(groups)]
  sums = [0.0] * groups
  for index in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
    group = min((g for g in range(groups) if len(dealt[g]) < size), key=lambda g: (sums[g], len(dealt[g]), g))
    dealt[group].append(index)
    sums[group] += costs[index]
  return dealt


def _placed(sequences: list[TokenSequence], filled: list[list[int]], row_length: int, rows: int, pad_id: int, parts: int,
            microbatches: int | None = None) -> Packed:
  """The Packed of rows of sequence numbers, dealt over microbatches (None: as many as they need) and their parts."""
  if rows < 1 or rows % parts:
    raise InputError("pack: rows", f"{rows} rows a microbatch for {parts} data-parallel devices", "Make it a multiple.")
  count = microbatches or -(-len(filled) // rows)
  lengths = [len(s.tokens) for s in sequences]
  tokens = np.array([sum(lengths[i] for i in row) for row in filled], np.float64)
  squares = np.array([sum(lengths[i]**2 for i in row) for row in filled], np.float64)
  costs = (tokens / max(tokens.sum(), 1) + squares / max(squares.sum(), 1)).tolist()
  size = rows // parts
  # First over microbatches, then over the parts of each: a part must balance with those that it runs beside.
  places: list[Any] = [None] * len(sequences)
  made = []
  for m, members in enumerate(_deal(costs, count, rows)):
    slots = [[] for _ in range(rows)]
    for part, rows_of_part in enumerate(_deal([costs[i] for i in members], parts, size)):
      for r, index in enumerate(rows_of_part):
        slots[part * size + r] = filled[members[index]]
    made.append(_rows(sequences, slots, row_length, pad_id, m, places))
  return Packed(microbatches=made, places=places)


def _rows(sequences: list[TokenSequence], filled: list[list[int]], row_length: int, pad_id: int, microbatch: int,
          places: list) -> PackedRows:
  """Microbatch number `microbatch`; notes in `places` where each of its sequences is."""
  shape = (len(filled), row_length)
  made = PackedRows(tokens=np.full(shape, pad_id, np.int32), positions=np.full(shape, -1, np.int32),
                    segment_ids=np.zeros(shape, np.int32), mask=np.zeros(shape, bool))
  for row, numbers in enumerate(filled):
    start = 0
    for segment, number in enumerate(numbers):
      ids, context, trained = sequences[number]
      if not 1 <= context <= len(ids):
        raise InputError(f"pack: sequence {number}", f"{context} tokens of context of {len(ids)}", "Give 1 to its length.")
      place = Place(microbatch, row, start, len(ids), context, trained)
      end = start + len(ids)
      made.tokens[row, start:end] = ids
      made.positions[row, start:end] = np.arange(len(ids))
      made.segment_ids[row, start:end] = segment
      made.mask[place.response] = trained
      places[number] = place
      start = end
    made.segment_ids[row, start:] = len(numbers)
  return made


def _check_length(number: int, length: int, row_length: int) -> None:
  if not 1 <= length <= row_length:
    raise InputError(f"pack: sequence {number}", f"{length} tokens in rows of {row_length}",
                     "Make the rows longer, or leave the sequence out.")


def _check_units(lengths: list[int], row_length: int, together: int) -> None:
  for first in range(0, len(lengths), together):
    if sum(lengths[first:first + together]) > row_length:
      raise InputError(f"pack: sequences {first} to {first + together - 1}, which share a row",
                       f"{lengths[first:first + together]} tokens in rows of {row_length}",
                       "Make the rows longer, or leave them out.")


MICROBATCH_TOKENS = 1_280  # ours


def rows_for(tokens: int, row_length: int, parts: int = 1, of: int | None = None) -> int:
  """Rows of a microbatch of about `tokens` slots, a multiple of the data-parallel `parts`: as many as fit, at least one a
  part. of: they must divide these rows of a batch."""
  rows = max(1, tokens // (row_length * parts)) * parts
  if of is None:
    return rows
  return next((r for r in range(min(rows, of), 0, -1) if of % r == 0 and r % parts == 0), of)
