"""Several token sequences a row, so that a batch of constant shape is full of tokens and not of padding."""
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np


class PackedRows(NamedTuple):
  """Whole sequences one after another in rows, each array [rows, length].

  tokens: int32. positions: int32, from 0 in each sequence, -1 in padding. segment_ids: int32, 0, 1, ... along a row,
  the same throughout a sequence. mask: True where the token is a target.
  """

  tokens: np.ndarray
  positions: np.ndarray
  segment_ids: np.ndarray
  mask: np.ndarray


def pack(sequence: Callable[[int], tuple[list[int], int]], first: int, rows: int, length: int,
         pad_id: int) -> tuple[PackedRows, int]:
  """Fills `rows` rows with sequences number first, first + 1, ... and returns them with the number that comes next.

  A sequence that does not fit into what is left of a row starts the next one; none is cut or left out. So the place
  in the data stays one integer.

  Args:
    sequence: i -> (token ids, at most `length` of them; how many of the first are not targets, at least 1 since
      nothing precedes the first token).
  """
  shape = (rows, length)
  packed = PackedRows(tokens=np.full(shape, pad_id, np.int32), positions=np.full(shape, -1, np.int32),
                      segment_ids=np.zeros(shape, np.int32), mask=np.zeros(shape, bool))
  number = first
  for row in range(rows):
    start, segment = 0, 0
    while True:
      ids, context = sequence(number)
      end = start + len(ids)
      if end > length:
        packed.segment_ids[row, start:] = segment
        break
      packed.tokens[row, start:end] = ids
      packed.positions[row, start:end] = np.arange(len(ids))
      packed.segment_ids[row, start:end] = segment
      packed.mask[row, start + context:end] = True
      start, segment, number = end, segment + 1, number + 1
  return packed, number


def batches_for(lengths: Iterable[int], rows: int, length: int) -> int:
  """How many batches of `rows` rows `pack` fills with sequences of these lengths."""
  filled, end = 0, length
  for size in lengths:
    end += size
    if end > length:
      filled, end = filled + 1, size
  return -(-filled // rows)
