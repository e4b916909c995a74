"""The sampler's cache on the host's side: which sequence holds which slots of a dense cache, or which pages.

Both kinds answer the same calls: give a slot to a sequence if there is room (`assign`), let it begin with its prefilled
prompt (`admit`), make room for the next segment (`reserve`), keep some sequences only (`keep`), and the cache (`cache`).
"""
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np

from r1jax.models.cache import DenseCache, PagedCache, slots_of
from r1jax.models.config import ModelConfig
from r1jax.sampling import generate
from r1jax.sharding import DATA, batch_parts, platform, put_batch

Prefix = tuple[int, ...]  # the tokens of a sequence that are in the cache when it starts


def bucket(size: int, smallest: int = 256) -> int:
  """The smallest of 256, 384, 512, 768, 1024, ... that is at least `size`: few shapes, each a compilation, and for
  long sequences a third too much at most. smallest: what it starts with instead of 256."""
  power = smallest
  while power < size:
    if power >= 256 and power * 3 // 2 >= size:
      return power * 3 // 2
    power *= 2
  return power


def row_length(needed: int, most: int) -> int:
  """Slots of a row that has to hold `needed`: a bucket, or the most at once where it is little more, for decoding is
  compiled for each length. A CPU keeps long rows in whole blocks of 64 slots."""
  if platform() == "cpu" and most > 256:
    most = -(-most // 64) * 64
  size = bucket(needed)
  return most if needed <= most and 4 * most <= 5 * size else size


@dataclass
class Prefilled:
  """Prompts with their keys and values: layers of a dense cache of Q rows. rows: cached prefix -> its row."""

  layers: tuple[dict, ...]
  rows: dict[Prefix, int]


@dataclass
class DenseSlots:
  """A row of slots for each of `rows` sequences, as long as a bucket of the longest. most: slots of the longest sequence
  that will come, and of a segment; rows are longer only if a store of prompts is."""

  config: ModelConfig
  mesh: Any
  dtype: str
  int8: bool
  rows: int
  most: int
  slots: int = 0
  layers: tuple[dict, ...] = ()
  pending: list[tuple[int, Prefix]] = field(default_factory=list)

  def assign(self, slot: int, prefix: Prefix, segment: int) -> bool:
    """Always: a row grows with its sequence."""
    if prefix:
      self.pending.append((slot, prefix))
    return True

  def reserve(self, lengths: np.ndarray, live: np.ndarray, segment: int) -> list[int]:
    """Makes the rows long enough for a segment of every live sequence; none has to make way."""
    self._make_room(int(lengths.max(where=live, initial=0)) + segment)
    return []

  def _make_room(self, needed: int) -> None:
    if not self.layers:
      self.slots = row_length(needed, self.most)
      self.layers = generate.empty_cache(config=self.config, slots=(self.rows, self.slots), dtype=self.dtype, int8=self.int8)
    while self.slots < needed:  # from bucket to bucket, so that few programs are compiled
      self.slots = row_length(self.slots + 1, self.most)
      self._replace_layers(partial(generate.lengthen, slots=self.slots))

  def _replace_layers(self, successor: Callable) -> None:
    """Layer by layer: a cache is most of what a device holds, and there is no room for two."""
    layers, self.layers = list(self.layers), ()
    for i in range(len(layers)):
      layers[i], = jax.block_until_ready(successor((layers[i],)))  # only then is the memory of the old one free
    self.layers = tuple(layers)

  def admit(self, prefilled: Callable[[Prefix], Prefilled]) -> None:
    """Copies the prefilled prompts of newly assigned sequences to the beginning of their rows."""
    by_store: dict[int, tuple[Prefilled, np.ndarray]] = {}
    for slot, prefix in self.pending:
      store = prefilled(prefix)
      _, source = by_store.setdefault(id(store), (store, np.full(self.rows, -1, np.int32)))
      source[slot] = store.rows[prefix]
    self.pending = []
    for store, source in by_store.values():
      self._make_room(slots_of(store.layers))
      source = put_batch(self.mesh, source, over=DATA)
      self.layers = generate.admit_rows(self.layers, store.layers, source, config=self.config)

  def keep(self, source: np.ndarray, live: np.ndarray) -> None:
    """Rows source [B'] (counted within their device) of now, in this order; live: which of them hold a sequence."""
    self.rows = len(source)
    source = put_batch(self.mesh, source, over=DATA)
    self._replace_layers(partial(generate.take_rows, source=source, config=self.config))

  def release(self, slot: int) -> None:
    """A row is free as soon as its sequence has ended."""

  def cache(self) -> DenseCache:
    """What the decode loop gets and donates: give its result to `take`."""
    return DenseCache(self.layers)

  def take(self, cache: DenseCache) -> None:
    self.layers = cache.layers


@dataclass
class PagedSlots:
  """`pages` pages of `page` slots for `rows` sequences; each data-parallel device has a pool of its own. The full pages of a
  prompt are shared by its samples, and go back when the last of them has ended."""

  config: ModelConfig
  mesh: Any
  dtype: str
  int8: bool
  rows: int
  pages: int
  page: int
  kernel: bool = False  # pages as paged.py has them
  layers: tuple[dict, ...] = ()
  pending: list[tuple[int, Prefix, list[tuple[int, int]]]] = field(default_factory=list)  # (block, page) to be filled

  def __post_init__(self):
    devices = batch_parts(self.mesh, DATA)
    self._free = [list(range(self.pages // devices))[::-1] for _ in range(devices)]
    self._tables: list[list[int]] = [[] for _ in range(self.rows)]
    self._users: dict[tuple[int, int], int] = {}  # (device, page) -> sequences
    self._shared: dict[tuple[int, Prefix], list[int]] = {}
    self.layers = generate.empty_cache(config=self.config, slots=(self.pages, self.page), dtype=self.dtype, int8=self.int8,
                                       kernel=self.kernel)

  def _device(self, slot: int) -> int:
    return slot * len(self._free) // self.rows

  def _new_page(self, device: int) -> int:
    page = self._free[device].pop()
    self._users[device, page] = 1
    return page

  def assign(self, slot: int, prefix: Prefix, segment: int) -> bool:
    """Gives a sequence the pages of its prefix, if its device has these and a segment's."""
    device = self._device(slot)
    known = self._shared.get((device, prefix), [])
    if len(self._free[device]) < -(-(len(prefix) + segment) // self.page) - len(known):
      return False
    for page in known:
      self._users[device, page] += 1
    table = self._tables[slot] = list(known)
    filled = []
    while len(table) * self.page < len(prefix):
      table.append(self._new_page(device))
      filled.append((len(table) - 1, table[-1]))
    full = table[:len(prefix) // self.page]
    if full:
      self._shared[device, prefix] = full
    if filled:
      self.pending.append((slot, prefix, filled))
    return True

  def reserve(self, lengths: np.ndarray, live: np.ndarray, segment: int) -> list[int]:
    """Gives every live sequence pages for a segment; the slots of those for whom there are none."""
    refused = []
    for slot in np.flatnonzero(live).tolist():
      device, table = self._device(slot), self._tables[slot]
      needed = -(-(int(lengths[slot]) + segment) // self.page)
      while len(table) < needed and self._free[device]:
        table.append(self._new_page(device))
      if len(table) < needed:
        refused.append(slot)
    return refused

  def admit(self, prefilled: Callable[[Prefix], Prefilled]) -> None:
    """Copies the prefilled prompts of newly assigned sequences into their pages."""
    by_store: dict[int, tuple[Prefilled, list[list[tuple[int, int, int]]]]] = {}
    for slot, prefix, filled in self.pending:
      store = prefilled(prefix)
      _, lists = by_store.setdefault(id(store), (store, [[] for _ in self._free]))
      lists[self._device(slot)] += [(store.rows[prefix], block, page) for block, page in filled]
    self.pending = []
    for store, lists in by_store.values():
      size = bucket(max(map(len, lists)), 8)
      padded = np.array([entries + [(0, 0, -1)] * (size - len(entries)) for entries in lists], np.int32)
      columns = put_batch(self.mesh, tuple(padded.reshape(-1, 3).T.copy()), over=DATA)
      self.layers = generate.admit_pages(self.layers, store.layers, *columns, config=self.config)

  def keep(self, source: np.ndarray, live: np.ndarray) -> None:
    """As of DenseSlots; nothing is copied."""
    before, each = self.rows // len(self._free), len(source) // len(self._free)
    self._tables = [self._tables[i // each * before + row] if live[i] else [] for i, row in enumerate(source.tolist())]
    self.rows = len(source)

  def release(self, slot: int) -> None:
    """Takes back the pages of a sequence that has ended or makes way."""
    device = self._device(slot)
    gone = set()
    for page in self._tables[slot]:
      self._users[device, page] -= 1
      if not self._users[device, page]:
        del self._users[device, page]
        self._free[device].append(page)
        gone.add(page)
    self._tables[slot] = []
    self._shared = {key: pages for key, pages in self._shared.items() if key[0] != device or not gone & set(pages)}

  def cache(self) -> PagedCache:
    """What the decode loop gets and donates: give its result to `take`."""
    table = np.full((self.rows, bucket(max(map(len, self._tables)), 2)), self.pages, np.int32)
    for row, pages in zip(table, self._tables, strict=True):
      row[:len(pages)] = pages
    return PagedCache(self.layers, put_batch(self.mesh, table, over=DATA))

  def take(self, cache: PagedCache) -> None:
    self.layers = cache.layers
