"""Keys and values of the sequences that are being decoded: one array per layer, dense or in pages.

A token's slot is its position in its sequence, so a cache needs no positions: a sequence of n tokens fills the slots 0 to
n - 1. New tokens are collected in a small `recent` buffer and attended to there; a cache is only read while the buffer fills
and is written once when it is full. So the decode loop copies no cache. On TPUs pages can also be read by a kernel, which
needs neither a view nor a buffer: paged.py.

Letters: B sequences, K key/value heads, h head_dim, u size of a value, S slots, R recent tokens, M queries of a key/value
head. A layer's entry is a dict of leaves: k [B, K, n, h, w], in n blocks of w slots, and v [B, K, S, u]; of an int8 cache
also their scales, k_scale [B, K, n, 1, w] and v_scale [B, K, S, 1]; of latent attention k alone, whose first kv_lora
elements are the values. Keys lie with their slots last: then scores and values are both sums along contiguous memory. A row
is one block but where `key_block` says otherwise. The recent buffer has no blocks: k [B, K, h, R], v [B, K, R, u].
"""
from platform import machine

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import PartitionSpec as P

from r1jax.models.attention import MASKED
from r1jax.models.config import ModelConfig
from r1jax.sharding import DATA, platform

RECENT_AXIS = {"k": 3, "v": 2}  # that of the tokens in a buffer


@struct.dataclass
class DenseCache:
  """layers: a dict of leaves for each layer, every sequence with its own row of slots."""

  layers: tuple[dict, ...]


@struct.dataclass
class PagedCache:
  """layers: as of a DenseCache, with pages in place of sequences and the slots of a page in place of S; or as in paged.py.

  table: [B, n] int32, the pages that hold a sequence's slots in order, then numbers of no page. A page may serve several
  sequences that begin alike.
  With several data-parallel devices each has pages of its own, and ids count within a device.
  """

  layers: tuple[dict, ...]
  table: jax.Array


def leaf_shapes(config: ModelConfig, int8: bool) -> dict[str, tuple[int, int]]:
  """name -> (heads, size) of the leaves of a layer."""
  if config.mla is not None:
    sizes = {"k": (1, config.mla.kv_lora + config.mla.qk_rope)}
  else:
    sizes = {"k": (config.num_kv_heads, config.head_dim), "v": (config.num_kv_heads, config.head_dim)}
  return sizes | {f"{name}_scale": (heads, 1) for name, (heads, _) in sizes.items() if int8}


def leaf_spec(config: ModelConfig) -> P:
  """Sequences (or pages) over the axes of data, heads over tensor; latents are whole over tensor."""
  return P(DATA, None if config.mla is not None else "tensor", None, None)


def _blocked(head_dim: int, latent: bool) -> bool:
  """Whether a row's keys lie in blocks of 64 slots, or of a page's: on x86 only, as nothing else was measured.

  There a block is read from one end to the other, while a product with a whole row touches as many places at a time as a key
  has elements. On two cores attention takes 6 to 17% less time so from 500 slots on; shorter heads gain nothing.
  """
  return platform() == "cpu" and machine() in ("x86_64", "AMD64") and head_dim >= 64 and not latent


def key_block(head_dim: int, latent: bool, slots: int) -> int:
  """Slots of a block of keys in a row of so many."""
  return 64 if _blocked(head_dim, latent) and slots % 64 == 0 else slots


def empty_layers(config: ModelConfig, rows: int, slots: int, dtype, int8: bool = False) -> tuple[dict, ...]:
  """Leaves of zeros for every layer: `rows` sequences or pages of `slots` slots."""
  block = key_block(config.head_dim, config.mla is not None, slots)

  def leaf(name, heads, size):
    shape = (rows, heads, slots // block, size, block) if name.startswith("k") else (rows, heads, slots, size)
    kind = jnp.float32 if name.endswith("scale") else jnp.int8 if int8 else dtype
    return jnp.zeros(shape, kind, out_sharding=leaf_spec(config))

  shapes = leaf_shapes(config, int8)
  return tuple({name: leaf(name, *shapes[name]) for name in shapes} for _ in range(config.num_layers))


def empty_recent(config: ModelConfig, rows: int, size: int, dtype) -> tuple[dict, ...]:
  """Buffers of zeros for `size` new tokens of `rows` sequences, for every layer."""
  def buffer(name, heads, elements):
    shape = (rows, heads, elements, size) if name == "k" else (rows, heads, size, elements)
    return jnp.zeros(shape, dtype, out_sharding=leaf_spec(config))

  shapes = leaf_shapes(config, int8=False)
  return tuple({name: buffer(name, *shapes[name]) for name in shapes} for _ in range(config.num_layers))


def slots_of(layers: tuple[dict, ...]) -> int:
  """Slots of a row, or of a page."""
  n, _, w = layers[0]["k"].shape[2:]
  return n * w


def in_blocks(k, w: int, slots: int | None = None) -> jax.Array:
  """Keys [..., n, h, .] in blocks of w slots, with zeros behind up to `slots`, or to whole blocks."""
  n, h, old = k.shape[-3:]
  slots = slots or -(-n * old // w) * w
  if old == w:
    return jnp.pad(k, [(0, 0)] * (k.ndim - 3) + [(0, slots // w - n), (0, 0), (0, 0)])
  row = jnp.swapaxes(k, -3, -2).reshape(*k.shape[:-3], h, n * old)
  row = jnp.pad(row, [(0, 0)] * (row.ndim - 1) + [(0, slots - n * old)])
  return jnp.swapaxes(row.reshape(*row.shape[:-1], slots // w, w), -3, -2)


def _axis(name: str, layer: dict) -> int:
  """The axis that pages of a leaf are joined along: that of blocks for keys in blocks, else that of slots."""
  return 4 if name.startswith("k") and not _blocked(layer["k"].shape[3], "v" not in layer) else 2


def _in_pages(x, pages, axis: int) -> jax.Array:
  """A leaf [B, ...] of dense layers as pages [B, n, ...] like those of `pages`, which are joined along axis."""
  shape = (*x.shape[:axis], -1, pages.shape[axis], *x.shape[axis + 1:])
  return jnp.moveaxis(x.reshape(shape), axis, 1)


def per_device(f, config: ModelConfig, in_rows: tuple, *args):
  """f, which returns layers, on each device's own rows. in_rows: for each argument whether its leading axis is split over
  the axes of data; what is not is whole on every device. Leaves and buffers are split over tensor, too."""
  def spec(x, rows):
    first = DATA if rows else None
    return P(first, *leaf_spec(config)[1:]) if x.ndim >= 4 else P(first, *[None] * (x.ndim - 1))

  specs = tuple(jax.tree.map(lambda x, r=rows: spec(x, r), a) for a, rows in zip(args, in_rows, strict=True))
  args = jax.tree.map(jax.sharding.reshard, args, specs)
  return jax.shard_map(f, in_specs=specs, out_specs=leaf_spec(config), check_vma=False)(*args)


def _quantized(recent: dict) -> dict:
  """A buffer in int8, with a scale for each token and head."""
  found = {}
  for name, x in recent.items():
    axis = 5 - RECENT_AXIS[name]  # of the elements
    scale = jnp.max(jnp.abs(x.astype(jnp.float32)), axis=axis, keepdims=True) / 127
    found[name] = jnp.round(x.astype(jnp.float32) / jnp.maximum(scale, 1e-30)).astype(jnp.int8)
    found[f"{name}_scale"] = scale
  return found


def _put_rows(leaf, new, at):
  """leaf with new [B, ...] of a buffer written into each row from slot at [B] on."""
  def values(row, new, at):
    return jax.lax.dynamic_update_slice_in_dim(row, new, at, axis=1)

  def keys(row, new, at):  # in the blocks that it falls into
    n, _, w = row.shape[1:]
    if n == 1:
      return jax.lax.dynamic_update_slice_in_dim(row, new[:, None], at, axis=3)
    count = min(n, -(-new.shape[2] // w) + 1)
    first = jnp.clip(at // w, 0, n - count)
    blocks = in_blocks(jax.lax.dynamic_slice_in_dim(row, first, count, axis=1), count * w)[:, 0]
    blocks = jax.lax.dynamic_update_slice_in_dim(blocks, new, at - first * w, axis=2)
    return jax.lax.dynamic_update_slice_in_dim(row, in_blocks(blocks[:, None], w), first, axis=1)

  return jax.vmap(keys if leaf.ndim == 5 else values)(leaf, new.astype(leaf.dtype), at)


def view(cache: DenseCache | PagedCache, config: ModelConfig) -> tuple[dict, ...]:
  """The layers as a dense cache has them; of pages, copies in the order of the slots."""
  if isinstance(cache, DenseCache):
    return cache.layers

  def local(layers, table):
    def leaf(pages, axis):
      x = pages.at[table].get(mode="clip")  # [B, pages, ...]; the number of a page goes in front of its slots
      x = jnp.moveaxis(x, 1, axis)
      return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2:])
    return tuple({name: leaf(x, _axis(name, layer)) for name, x in layer.items()} for layer in layers)

  return per_device(local, config, (True, True), cache.layers, cache.table)


def write(cache: DenseCache | PagedCache, config: ModelConfig, layers: tuple[dict, ...], recent: tuple[dict, ...],
          lengths) -> DenseCache | PagedCache:
  """The cache with recent tokens of every sequence in the slots from lengths [B] on; layers: its view.

  A sequence needs lengths + R slots; what is written beyond its newest token is overwritten before anybody reads it.
  """
  int8 = "k_scale" in layers[0]

  def dense(layers, recent, lengths):
    new = tuple(_quantized(r) if int8 else r for r in recent)
    return tuple({name: _put_rows(x, n[name], lengths) for name, x in layer.items()}
                 for layer, n in zip(layers, new, strict=True))

  if isinstance(cache, DenseCache):
    return DenseCache(per_device(dense, config, (True, True, True), layers, recent, lengths))
  page, R = slots_of(cache.layers), recent[0]["k"].shape[3]

  def paged(pages, table, layers, recent, lengths):
    # Only the pages that hold new tokens are written: those before may be shared.
    first = lengths // page
    number = first[:, None] + jnp.arange(-(-R // page) + 1, dtype=jnp.int32)[None]  # [B, pages touched]
    last = table.shape[1] - 1
    target = jnp.where(number <= last, jnp.take_along_axis(table, jnp.minimum(number, last), axis=1), pages[0]["k"].shape[0])

    def leaf(pages, dense, axis):
      rows = jnp.arange(dense.shape[0], dtype=jnp.int32)[:, None]
      return pages.at[target].set(_in_pages(dense, pages, axis)[rows, jnp.minimum(number, last)], mode="drop")

    return tuple({name: leaf(x, d[name], _axis(name, layer)) for name, x in layer.items()}
                 for layer, d in zip(pages, dense(layers, recent, lengths), strict=True))

  rows = (True,) * 5
  return cache.replace(layers=per_device(paged, config, rows, cache.layers, cache.table, layers, recent, lengths))


def copy_rows(layers: tuple[dict, ...], config: ModelConfig, store: tuple[dict, ...], source) -> tuple[dict, ...]:
  """Dense layers in which sequence b begins with the slots of row source[b] of `store`; -1 leaves it as it is."""
  def local(layers, store, source):
    B = source.shape[0]
    row = jnp.where(source >= 0, jnp.arange(B, dtype=jnp.int32), B)  # B: dropped

    def leaf(x, s):
      if s.ndim == 5:  # as one block of a row of one block, or as some of its blocks
        s = in_blocks(s, s.shape[2] * s.shape[4] if x.shape[2] == 1 else x.shape[4])
      s = s[jnp.maximum(source, 0)]
      return x.at[(row, slice(None), *map(slice, s.shape[2:]))].set(s, mode="drop")
    return jax.tree.map(leaf, layers, store)

  return per_device(local, config, (True, False, True), layers, store, source)


def copy_pages(layers: tuple[dict, ...], config: ModelConfig, store: tuple[dict, ...], row, block,
               page) -> tuple[dict, ...]:
  """Pages, of which number page[i] holds the slots of block[i] of row[i] of `store`. The lists [n] are each device's own,
  one after another; page -1 is left out."""
  def local(layers, store, row, block, page):
    page = jnp.where(page >= 0, page, layers[0]["k"].shape[0])  # a number beyond the pages: dropped

    def leaf(x, s, axis):
      if s.ndim == 5:
        s = in_blocks(s, x.shape[4] if axis == 2 else s.shape[2] * s.shape[4])
      return x.at[page].set(_in_pages(s, x, axis)[row, block], mode="drop")
    return tuple({name: leaf(x, s[name], _axis(name, layer)) for name, x in layer.items()}
                 for layer, s in zip(layers, store, strict=True))

  return per_device(local, config, (True, False, True, True, True), layers, store, row, block, page)


def take_rows(layers: tuple[dict, ...], config: ModelConfig, source) -> tuple[dict, ...]:
  """Dense layers whose sequence b is the one in row source[b] [B'] of its device before."""
  return per_device(lambda layers, source: jax.tree.map(lambda x: x[source], layers), config, (True, True), layers, source)


def lengthened(layers: tuple[dict, ...], slots: int) -> tuple[dict, ...]:
  """Dense layers with `slots` slots, the new ones behind."""
  block = key_block(layers[0]["k"].shape[3], "v" not in layers[0], slots)

  def leaf(x):
    return in_blocks(x, block, slots) if x.ndim == 5 else jnp.pad(x, ((0, 0), (0, 0), (0, slots - x.shape[2]), (0, 0)))
  return jax.tree.map(leaf, layers)


def _product(a, b, parts: int = 1) -> jax.Array:
  """[B, K, M, o] float32 of a [B, K, M, n] and b [B, K, n, o], as the sum of `parts` products over n / parts each."""
  if parts == 1:
    return jnp.einsum("bkmn,bkno->bkmo", a, b, preferred_element_type=jnp.float32)
  B, K, M, n = a.shape
  a = jnp.swapaxes(a.reshape(B, K, M, parts, n // parts), 2, 3)
  b = b.reshape(B, K, parts, n // parts, b.shape[3])
  return jnp.sum(jnp.einsum("bkpmn,bkpno->bkpmo", a, b, preferred_element_type=jnp.float32), axis=2)


def _scores(q, k) -> jax.Array:
  """q k^T, [B, K, n, M, w] float32 of q [B, K, M, h] and keys k [B, K, n, h, w]; of many queries with n = 1."""
  n, _, w = k.shape[2:]
  if n == 1 or q.shape[2] > 16:
    return _product(q, in_blocks(k, n * w)[:, :, 0].astype(q.dtype))[:, :, None]
  q, k = q.astype(jnp.float32), k.astype(jnp.float32)
  return jnp.sum(q[:, :, None, :, :, None] * k[:, :, :, None], axis=4)  # as a sum it is on all threads of a CPU


def _weighted(weights, layer: dict, values: int) -> jax.Array:
  """[B, K, M, values] float32 of weights [B, K, M, S], of a layer or a buffer."""
  if "v" not in layer:
    k = layer["k"].reshape(*layer["k"].shape[:2], *layer["k"].shape[-2:])  # a row of latents is one block
    return jnp.einsum("bkms,bkus->bkmu", weights, k[:, :, :values].astype(weights.dtype), preferred_element_type=jnp.float32)
  # On a CPU XLA (jaxlib 0.10) runs many small products on one thread, a product and the sum after it on all. Fewer than 64
  # products, or values of less than 64 elements, gain nothing.
  B, K, M, S = weights.shape
  in_parts = platform() == "cpu" and B * K >= 64 and M <= 16 and values >= 64 and S >= 64 and S % 4 == 0
  return _product(weights, layer["v"].astype(weights.dtype), 4 if in_parts else 1)


def attend(q, past: dict, recent: dict, lengths, newest, scale: float, values: int) -> jax.Array:
  """softmax(scale q k^T) v over a sequence's cached and recent tokens: [B, K, M, values] of q [B, K, M, h].

  past: a layer of `view`, of which the first lengths [B] slots are seen, by all queries. recent: {k [B, K, h, R],
  v [B, K, R, u]}; query m sees its first newest[m] [M] tokens. values: size of a value; where there is no v, the first so
  many elements of k. Scores and softmax are float32.
  """
  B, K, M, _ = q.shape
  old, new = _scores(q, past["k"]), _product(q, recent["k"].astype(q.dtype)) * scale
  n, w = old.shape[2], old.shape[4]
  old = old * (scale * in_blocks(past["k_scale"], w) if "k_scale" in past else scale)
  in_past = (jnp.arange(n * w, dtype=jnp.int32)[None] < lengths[:, None]).reshape(B, 1, n, 1, w)
  # A sum becomes one operation with the product in blocks, on a CPU; a choice with that in rows, on a TPU.
  old = jnp.where(in_past, old, MASKED) if n == 1 else old + jnp.where(in_past, 0, MASKED)
  in_recent = (jnp.arange(new.shape[3], dtype=jnp.int32)[None] < newest[:, None])[None, None]
  new = jnp.where(in_recent, new, MASKED)
  top = jnp.maximum(jnp.max(old, axis=(2, 4)), jnp.max(new, axis=-1))
  old, new = jnp.exp(old - top[:, :, None, :, None]), jnp.exp(new - top[..., None])
  total = jnp.sum(old, axis=(2, 4)) + jnp.sum(new, axis=-1)
  old = jnp.swapaxes(old, 2, 3).reshape(B, K, M, n * w)
  if "k_scale" in past:
    old = old * (jnp.swapaxes(past["v_scale"], 2, 3) if "v" in past else past["k_scale"][:, :, 0])
  out = _weighted(old.astype(q.dtype), past, values) + _weighted(new.astype(q.dtype), recent, values)
  return (out / total[..., None]).astype(q.dtype)


def slot_bytes(config: ModelConfig, dtype, int8: bool = False) -> int:
  """Bytes that one token takes in the cache, over all layers."""
  sizes = leaf_shapes(config, int8)
  item = {name: 4 if name.endswith("scale") else 1 if int8 else np.dtype(dtype).itemsize for name in sizes}
  return config.num_layers * sum(heads * size * item[name] for name, (heads, size) in sizes.items())
