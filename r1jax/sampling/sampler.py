"""The sampler: requests go in, episodes come out as they end. It owns the queue, the slots and the cache.

A fixed number of slots is decoded together, a segment at a time on the device. When sequences have ended, the host fills
their slots from the queue, or, where the queue is empty, goes on with fewer slots; a prompt is prefilled once, for all its
samples. The order of requests, the slots and the cache change a sample by rounding alone, and with the same settings a run
repeats bit for bit.
"""
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.errors import InputError
from r1jax.fields import Count, check_fields
from r1jax.models import paged
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.decode import rollout_weights
from r1jax.models.params import decoded
from r1jax.records import Episode, Piece, Request
from r1jax.sampling import generate
from r1jax.sampling.choice import RowSampling, Sampling
from r1jax.sampling.slots import DenseSlots, PagedSlots, Prefilled, Prefix, bucket
from r1jax.sharding import DATA, batch_parts, platform, put_batch


@dataclass(frozen=True)
class Decoding:
  """How responses are decoded. Only the int8 options change what is sampled beyond rounding. All numbers are ours.

  slots: sequences decoded together. segment: most steps between two returns to the host. prefill_rows: prompts prefilled
  together; prefill_chunk: tokens of each at a time. cache_tokens: None for a dense cache, in which every slot has room for
  the longest sequence in flight; otherwise the budget of a paged cache, in tokens over all slots: a sequence waits until
  there is room for it, and the youngest makes way when pages run out. page: tokens of a page. paged_attention: by "view"
  pages are copied into rows once a segment and written back after it; by "kernel" they are read and written where they
  are, so that memory is the pages alone. None: the kernel on TPUs, for models and caches that it takes (models/paged.py).
  int8_weights, int8_cache: of rollouts alone; their log-probs are then those of the quantised policy.
  """

  slots: Count = 32
  segment: Count = 32
  prefill_rows: Count = 8
  prefill_chunk: Count = 256
  cache_tokens: Count | None = None
  page: Count = 32
  paged_attention: Literal["view", "kernel"] | None = None
  int8_weights: bool = False
  int8_cache: bool = False

  def check(self, where: str, longest: int, devices: int = 1) -> None:
    """InputError for sizes that cannot work. longest: tokens of a prompt and its response; devices: data-parallel ones."""
    check_fields(self, where)
    if self.slots % devices:
      raise InputError(f"{where}.slots", f"{self.slots} for {devices} data-parallel devices",
                       "Make it a multiple of mesh.replica x mesh.fsdp x mesh.sequence.")
    if self.cache_tokens is None and self.paged_attention == "kernel":
      raise InputError(f"{where}.paged_attention", "kernel, for a dense cache", "Give cache_tokens.")
    needed = devices * self.page * -(-(longest + self.segment) // self.page)
    if self.cache_tokens is not None and self.cache_tokens < needed:
      raise InputError(f"{where}.cache_tokens", self.cache_tokens,
                       f"One sequence of {longest} tokens and a segment of {self.segment} take {needed // devices} tokens "
                       f"of pages on each of {devices} devices: give at least {needed}.")


@dataclass(frozen=True)
class Sampler:
  """Samples a policy. stop_ids: the tokens that end a response, which may be none."""

  config: ModelConfig
  compute: Compute
  mesh: Any
  sampling: Sampling
  stop_ids: tuple[int, ...] = ()
  decoding: Decoding = Decoding()
  stats: Counter = field(default_factory=Counter, compare=False)  # of the runs so far, see `occupancy`

  def weights(self, params) -> dict:
    """Parameters laid out for decoding; make them once a rollout, and drop them after it."""
    return _rollout_weights(params, config=self.config, dtype=self.compute.dtype, tensor=self.mesh.shape["tensor"],
                            int8=self.decoding.int8_weights)

  def run(self, weights: dict, key: jax.Array, requests: Iterable[Request]) -> Iterator[list[Episode]]:
    """Yields episodes as they end, some at a time, while the device works on the next ones. Call under jax.set_mesh.

    weights: of `weights()`. Raises InputError for a request that cannot be served, before anything is compiled.
    """
    session = self.session(weights, key, requests)
    ended = ([piece.episode for piece in pieces if piece.episode] for pieces in session.pieces())
    return filter(None, ended)

  def session(self, weights: dict, key: jax.Array, requests: Iterable[Request]) -> "Session":
    """What `run` reads its episodes from: a session of these requests, whose pieces tell how they grow."""
    requests = list(requests)
    for request in requests:
      _check_request(request, self.config.max_position, "The model's context ends at max_position")
    rows, devices = self.decoding.slots, batch_parts(self.mesh, DATA)
    while rows % (2 * devices) == 0 and rows // 2 >= len(requests):
      rows //= 2
    longest = max((len(r.prompt) + r.max_new for r in requests), default=0)
    session = Session(self, weights, key, rows, longest)
    session.add(requests)
    return session

  def open(self, weights: dict, key: jax.Array, longest: int | None = None,
           sampling_of: Callable[[Request], Sampling] | None = None) -> "Session":
    """A session that requests can join while others are being sampled; it starts with an eighth of the slots.

    longest: most tokens of a prompt and its response together, None for what the model can take. sampling_of: a request's
    own temperature and top_p (top_k is not heeded), None for the sampler's; however they differ, one program serves all.
    """
    session = Session(self, weights, key, self.decoding.slots, longest or self.config.max_position, sampling_of)
    session.begin_small()
    return session

  def occupancy(self) -> float:
    """Tokens sampled over steps of slots, 0 to 1; 1 where every slot drew a token in every step."""
    return self.stats["tokens"] / max(1, self.stats["slot_steps"])


@partial(jax.jit, static_argnames=("config", "dtype", "tensor", "int8"))
def _rollout_weights(params, *, config, dtype, tensor, int8):
  return rollout_weights(params, config, jnp.dtype(dtype), tensor, int8)


@dataclass
class _Sequence:
  """A request and what has been sampled for it."""

  request: Request
  number: int  # its place in the queue at the start
  prefix: Prefix  # what is to be in the cache when it starts: all of its tokens but the newest
  pieces: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
  sampled: int = 0

  @property
  def newest(self) -> int:
    return int(self.pieces[-1][0][-1]) if self.pieces else self.request.prompt[-1]

  def back_to_queue(self) -> None:
    """It will start again where it stopped."""
    tokens = (*self.request.prompt, *(int(t) for tokens, _ in self.pieces for t in tokens))
    self.prefix = tokens[:-1]

  def episode(self, stopped: bool) -> Episode:
    tokens, logprobs = (np.concatenate(parts) for parts in zip(*self.pieces, strict=True))
    return Episode(self.request, tokens.astype(np.int32), logprobs.astype(np.float32), stopped)


class Session:
  """Requests that are being sampled together, in one thread: `add` and `cancel` them, and read `pieces`.

  It goes on with half the slots when the sequences left fit into them, down to an eighth of `rows`, and with twice as many
  when others wait for one.
  """

  def __init__(self, sampler: Sampler, weights: dict, key: jax.Array, rows: int, longest: int,
               sampling_of: Callable[[Request], Sampling] | None = None):
    self.sampler, self.weights, self.key, self.decoding = sampler, weights, key, sampler.decoding
    self.config = decoded(sampler.config, sampler.mesh.shape["tensor"])
    self.mesh, self.devices = sampler.mesh, batch_parts(sampler.mesh, DATA)
    self.longest, self.sampling_of, self.most_rows, self.added = longest, sampling_of, rows, 0
    self.decoding.check("decoding", longest, self.devices)
    self.queue: deque[_Sequence] = deque()
    self.stores: list[Prefilled] = []
    self.waiting: Counter = Counter()  # sequences of the queue by what has to be prefilled
    self.sequences: list[_Sequence | None] = [None] * rows
    kind = (self.config, self.mesh, sampler.compute.dtype, self.decoding.int8_cache, rows)
    if self.decoding.cache_tokens is None:
      self.slots = DenseSlots(*kind, most=longest + self.decoding.segment)
    else:
      pages = self.decoding.cache_tokens // self.decoding.page // self.devices * self.devices
      self.slots = PagedSlots(*kind, pages=pages, page=self.decoding.page,
                              kernel=paged.chosen(self.config, self.decoding.int8_cache, self.decoding.paged_attention))

  def add(self, requests: Iterable[Request]) -> None:
    """Puts requests into the queue; InputError for one that is longer than `longest`, and then none of them is added."""
    requests = list(requests)
    for request in requests:
      _check_request(request, self.longest, "The most tokens that this session takes are")
    for request in requests:
      self.queue.append(_Sequence(request, self.added, request.prompt[:-1]))
      self.waiting[request.prompt[:-1]] += 1
      self.added += 1

  def cancel(self, request: Request) -> None:
    """Forgets a request, between two lists of pieces; it has no further pieces. Nothing happens if it has ended."""
    for sequence in [s for s in self.queue if s.request is request]:
      self.queue.remove(sequence)
      self._no_longer_waiting(sequence)
    for slot, sequence in enumerate(self.sequences):
      if sequence is not None and sequence.request is request:
        self.slots.release(slot)
        self.sequences[slot] = None

  def pieces(self) -> Iterator[list[Piece]]:
    """Yields what each segment has added, while the device works on the next one (a CPU waits), until nothing is left to
    sample; after more has been added, call it again. Call under jax.set_mesh."""
    pieces: list[Piece] = []
    while self.queue or any(self.sequences):
      while not self.queue and self._shrink():
        pass
      self._fill()
      segment, cache = self._dispatch()
      self.slots.take(cache)
      if pieces:
        yield pieces
      pieces = self._collect(jax.device_get(segment))
      if pieces and platform() == "cpu":  # a dispatch returns there when its segment is done: sharding.make_mesh
        yield pieces
        pieces = []
    if pieces:
      yield pieces

  def _fewer(self) -> int:
    """Half the slots of now; 0 where the devices cannot share them, or at an eighth of those at the start: each number of
    slots has programs of its own."""
    rows = len(self.sequences)
    return rows // 2 if rows % (2 * self.devices) == 0 and rows > self.most_rows // 8 else 0

  def _lengths(self) -> np.ndarray:
    return np.array([len(s.request.prompt) + s.sampled - 1 if s else 0 for s in self.sequences], np.int32)

  def _live(self) -> np.ndarray:
    return np.array([s is not None for s in self.sequences])

  def _shrink(self) -> bool:
    """Goes on with the next smaller number of slots if the sequences left fit into them on every device."""
    by_device = np.array_split(np.arange(len(self.sequences)), self.devices)
    kept = [[i for i in slots if self.sequences[i]] for slots in by_device]
    rows = self._fewer()
    if not rows or max(map(len, kept)) * self.devices > rows:
      return False
    self._resize(rows, kept)
    return True

  def _grow(self) -> bool:
    """Goes on with twice the slots, if fewer than at most are in use and some sequence would wait for one."""
    rows = 2 * len(self.sequences)
    if rows > self.most_rows or len(self.queue) <= self.sequences.count(None):
      return False
    self._resize(rows, [[i for i in slots if self.sequences[i]]
                        for slots in np.array_split(np.arange(len(self.sequences)), self.devices)])
    return True

  def _resize(self, rows: int, kept: list[list[int]]) -> None:
    """Goes on with `rows` slots and the sequences in the slots `kept` of each device."""
    each, before = rows // self.devices, len(self.sequences) // self.devices
    source = np.concatenate([np.array([i - d * before for i in k] + [0] * (each - len(k)), np.int32)
                             for d, k in enumerate(kept)])
    self.sequences = [s for k in kept for s in [*(self.sequences[i] for i in k), *[None] * (each - len(k))]]
    self.slots.keep(source, self._live())

  def begin_small(self) -> None:
    """Starts with as few slots as `_shrink` would come down to; before anything is added."""
    while self._shrink():
      pass

  def _no_longer_waiting(self, sequence: _Sequence) -> None:
    self.waiting[sequence.prefix] -= 1
    if not self.waiting[sequence.prefix]:
      del self.waiting[sequence.prefix]  # or a session that is open for days would keep every prompt

  def _fill(self) -> None:
    """Gives free slots to sequences of the queue, and makes sure of room for a segment."""
    while self._grow():
      pass
    segment = self.decoding.segment
    for slot in self._free_slots():
      if not self.queue or not self.slots.assign(slot, self.queue[0].prefix, segment):
        break
      self.sequences[slot] = self.queue.popleft()
      self._no_longer_waiting(self.sequences[slot])
    while refused := self.slots.reserve(self._lengths(), self._live(), segment):
      self._make_way(refused[0])
    self.slots.admit(self._prefilled)
    self.stores = [store for store in self.stores if any(self.waiting[prefix] for prefix in store.rows)]

  def _free_slots(self) -> list[int]:
    """Free slots, one device after another, so that all have about the same number of sequences."""
    each = len(self.sequences) // self.devices
    free = [[i for i in range(d * each, (d + 1) * each) if self.sequences[i] is None] for d in range(self.devices)]
    most = max(map(len, free))
    return [slots[-n] for n in range(most, 0, -1) for slots in free if n <= len(slots)]

  def _make_way(self, slot: int) -> None:
    """Puts the youngest sequence on the device of `slot` back into the queue; it goes on later where it stopped."""
    each = len(self.sequences) // self.devices
    device = slot // each
    youngest = max((i for i in range(device * each, (device + 1) * each) if self.sequences[i]),
                   key=lambda i: self.sequences[i].number)
    self.slots.release(youngest)
    self.slots.pending = [entry for entry in self.slots.pending if entry[0] != youngest]
    sequence, self.sequences[youngest] = self.sequences[youngest], None
    sequence.back_to_queue()
    self.queue.appendleft(sequence)
    self.waiting[sequence.prefix] += 1
    self.sampler.stats["preempted"] += 1

  def _prefilled(self, prefix: Prefix) -> Prefilled:
    """The store that has a prefix; a new one is made of it and the prefixes that the queue asks for next."""
    for store in self.stores:
      if prefix in store.rows:
        return store
    known = {p for store in self.stores for p in store.rows}
    wanted = dict.fromkeys([prefix])
    ahead = [p for _, p, *_ in self.slots.pending]
    for other in chain(ahead, (s.prefix for s in self.queue)):
      if len(wanted) == self._prefill_rows():
        break
      if other and other not in known and len(other) <= bucket(len(prefix), 32):
        wanted[other] = None
    self.stores.append(self._prefill(list(wanted)))
    return self.stores[-1]

  def _prefill_rows(self) -> int:
    return -(-self.decoding.prefill_rows // self.devices) * self.devices

  def _prefill_shape(self, longest: int) -> tuple[int, int, int]:
    """(tokens of a chunk, tokens of all chunks, slots of the store) for prefixes of up to `longest` tokens."""
    chunk = min(self.decoding.prefill_chunk, bucket(longest, 32))
    width = -(-longest // chunk) * chunk
    return chunk, width, -(-bucket(width, 32) // self.decoding.page) * self.decoding.page  # whole pages

  def _prefill(self, prefixes: list[Prefix]) -> Prefilled:
    longest, rows = max(map(len, prefixes)), self._prefill_rows()
    chunk, width, slots = self._prefill_shape(longest)
    tokens = np.zeros((rows, width), np.int32)
    for row, prefix in zip(tokens, prefixes, strict=False):
      row[:len(prefix)] = prefix
    layers = generate.empty_cache(config=self.config, slots=(rows, slots), dtype=self.sampler.compute.dtype,
                                  int8=self.decoding.int8_cache)
    for start in range(0, longest, chunk):
      layers = generate.prefill(self.weights, layers, put_batch(self.mesh, tokens[:, start:start + chunk], over=DATA),
                                np.int32(start), config=self.config)
    self.sampler.stats["prefilled"] += sum(map(len, prefixes))
    return Prefilled(layers, {prefix: row for row, prefix in enumerate(prefixes)})

  def _dispatch(self):
    """Starts a segment; it ends early when enough slots can be refilled, or fewer slots would do."""
    live = int(self._live().sum())
    enough = max(1, live // 16 if self.queue else live - self._fewer())
    return generate.decode_segment(
      self.weights, self.slots.cache(), put_batch(self.mesh, self._table(), over=DATA), self.key, np.int32(enough),
      config=self.config, sampling=self.sampler.sampling, steps=self.decoding.segment, stop_ids=self.sampler.stop_ids)

  def _table(self) -> generate.Slots:
    def column(of, dtype=np.int32):
      return np.array([of(s) if s else 0 for s in self.sequences], dtype)
    return generate.Slots(
      token=column(lambda s: s.newest), length=self._lengths(),
      sampled=column(lambda s: s.sampled), limit=column(lambda s: s.request.max_new),
      question=column(lambda s: s.request.question_id, np.uint32), sample=column(lambda s: s.request.sample, np.uint32),
      live=self._live(), sampling=self._sampling(column))

  def _sampling(self, column) -> RowSampling | None:
    if self.sampling_of is None:
      return None
    return RowSampling(*(column(lambda s, name=name: getattr(self.sampling_of(s.request), name), np.float32)
                         for name in RowSampling._fields))

  def _collect(self, segment: generate.Segment) -> list[Piece]:
    """Adds what was sampled to the sequences; their pieces, in the order of the slots."""
    stats, pieces = self.sampler.stats, []
    stats.update(segments=1, slot_steps=int(segment.steps) * len(self.sequences), tokens=int(segment.count.sum()))
    for slot, sequence in enumerate(self.sequences):
      if sequence is None:
        continue
      n = int(segment.count[slot])
      sequence.pieces.append((segment.tokens[:n, slot].copy(), segment.logprobs[:n, slot].copy()))
      sequence.sampled += n
      episode = sequence.episode(bool(segment.stopped[slot])) if segment.done[slot] else None
      pieces.append(Piece(sequence.request, *sequence.pieces[-1], episode))
      if episode:
        self.slots.release(slot)
        self.sequences[slot] = None
    return pieces


def _check_request(request: Request, longest: int, limit: str) -> None:
  where = f"request of question {request.question_id}, sample {request.sample}"
  if not request.prompt:
    raise InputError(where, "its prompt has no tokens", "Give at least one.")
  if request.max_new < 1:
    raise InputError(f"{where}: max_new", request.max_new, "Leave room for at least one token.")
  if len(request.prompt) + request.max_new > longest:
    raise InputError(where, f"{len(request.prompt)} tokens of prompt and {request.max_new} of response",
                     f"{limit} {longest}.")
