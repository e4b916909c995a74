"""Keys and values of the sequences that are being decoded: one array per layer, dense or in pages.

A token's slot is its position in its sequence, so a cache needs no positions: a sequence of n tokens fills the slots 0 to
n - 1. New tokens are collected in a small `recent` buffer and attended to there; a cache is only read while the buffer fills
and is written once when it is full. So the decode loop copies no cache. On TPUs pages can also be read by a kernel, which
needs neither a view nor a buffer: paged.py.

Letters: B sequences, K key/value heads, h head_dim, u size of a value, S slots, R recent tokens, M queries of a key/value
head. A layer's entry is a dict of leaves: k [B, K, h, S] and v [B, K, S, u]; of an int8 cache also their scales, k_scale
[B, K, 1, S] and v_scale [B, K, S, 1]; of latent attention k alone, whose first kv_lora elements are the values. Keys lie
with their slots last: then scores and values are both sums along contiguous memory.
"""
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import PartitionSpec as P

from r1jax.models.attention import MASKED
from r1jax.models.config import ModelConfig
from r1jax.sharding import DATA, platform

SLOT_AXIS = {"k": 3, "v": 2, "k_scale": 3, "v_scale": 2}


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


def empty_layers(config: ModelConfig, rows: int, slots: int, dtype, int8: bool = False) -> tuple[dict, ...]:
  """Leaves of zeros for every layer: `rows` sequences or pages of `slots` slots."""
  def leaf(name, heads, size):
    shape = (rows, heads, size, slots) if SLOT_AXIS[name] == 3 else (rows, heads, slots, size)
    kind = jnp.float32 if name.endswith("scale") else jnp.int8 if int8 else dtype
    return jnp.zeros(shape, kind, out_sharding=leaf_spec(config))

  shapes = leaf_shapes(config, int8)
  return tuple({name: leaf(name, *shapes[name]) for name in shapes} for _ in range(config.num_layers))


def per_device(f, config: ModelConfig, in_rows: tuple, *args):
  """f, which returns layers, on each device's own rows. in_rows: for each argument whether its leading axis is split over
  the axes of data; what is not is whole on every device. Arrays of four axes are split over tensor as leaves are."""
  def spec(x, rows):
    first = DATA if rows else None
    return P(first, *leaf_spec(config)[1:]) if x.ndim == 4 else P(first, *[None] * (x.ndim - 1))

  specs = tuple(jax.tree.map(lambda x, r=rows: spec(x, r), a) for a, rows in zip(args, in_rows, strict=True))
  args = jax.tree.map(jax.sharding.reshard, args, specs)
  return jax.shard_map(f, in_specs=specs, out_specs=leaf_spec(config), check_vma=False)(*args)


def _quantized(leaves: dict) -> dict:
  """int8 leaves with a scale for each token and head, of float leaves."""
  found = {}
  for name, x in leaves.items():
    axis = 2 if SLOT_AXIS[name] == 3 else 3
    scale = jnp.max(jnp.abs(x.astype(jnp.float32)), axis=axis, keepdims=True) / 127
    found[name] = jnp.round(x.astype(jnp.float32) / jnp.maximum(scale, 1e-30)).astype(jnp.int8)
    found[f"{name}_scale"] = scale
  return found


def _put_rows(leaf, new, at, axis: int):
  """leaf with new [B, ...] written into each row from slot at [B] on."""
  def one(row, new, at):
    start = [jnp.int32(0)] * row.ndim
    start[axis - 1] = at
    return jax.lax.dynamic_update_slice(row, new.astype(row.dtype), start)
  return jax.vmap(one)(leaf, new, at)


def view(cache: DenseCache | PagedCache, config: ModelConfig) -> tuple[dict, ...]:
  """The layers as a dense cache has them; of pages, copies in the order of the slots."""
  if isinstance(cache, DenseCache):
    return cache.layers

  def local(layers, table):
    def leaf(name, pages):
      x = pages.at[table].get(mode="clip")  # [B, n, ...]; the number of a page goes in front of its slots
      x = jnp.moveaxis(x, 1, SLOT_AXIS[name])
      shape = list(x.shape)
      shape[SLOT_AXIS[name]:SLOT_AXIS[name] + 2] = [-1]
      return x.reshape(shape)
    return tuple({name: leaf(name, x) for name, x in layer.items()} for layer in layers)

  return per_device(local, config, (True, True), cache.layers, cache.table)


def write(cache: DenseCache | PagedCache, config: ModelConfig, layers: tuple[dict, ...], recent: tuple[dict, ...],
          lengths) -> DenseCache | PagedCache:
  """The cache with recent tokens of every sequence in the slots from lengths [B] on; layers: its view.

  A sequence needs lengths + R slots; what is written beyond its newest token is overwritten before anybody reads it.
  """
  int8 = "k_scale" in layers[0]

  def dense(layers, recent, lengths):
    new = tuple(_quantized(r) if int8 else r for r in recent)
    return tuple({name: _put_rows(x, n[name], lengths, SLOT_AXIS[name]) for name, x in layer.items()}
                 for layer, n in zip(layers, new, strict=True))

  if isinstance(cache, DenseCache):
    return DenseCache(per_device(dense, config, (True, True, True), layers, recent, lengths))
  page, R = cache.layers[0]["k"].shape[3], recent[0]["k"].shape[3]

  def paged(pages, table, layers, recent, lengths):
    # Only the pages that hold new tokens are written: those before may be shared.
    first = lengths // page
    number = first[:, None] + jnp.arange(-(-R // page) + 1, dtype=jnp.int32)[None]  # [B, pages touched]
    last = table.shape[1] - 1
    target = jnp.where(number <= last, jnp.take_along_axis(table, jnp.minimum(number, last), axis=1), pages[0]["k"].shape[0])

    def leaf(name, pages, dense):
      axis = SLOT_AXIS[name]
      shape = list(dense.shape)
      shape[axis:axis + 1] = [-1, page]
      blocks = jnp.moveaxis(dense.reshape(shape), axis, 1)  # [B, n, ...]
      rows = jnp.arange(dense.shape[0], dtype=jnp.int32)[:, None]
      return pages.at[target].set(blocks[rows, jnp.minimum(number, last)], mode="drop")

    return tuple({name: leaf(name, x, d[name]) for name, x in layer.items()}
                 for layer, d in zip(pages, dense(layers, recent, lengths), strict=True))

  rows = (True,) * 5
  return cache.replace(layers=per_device(paged, config, rows, cache.layers, cache.table, layers, recent, lengths))


def copy_rows(layers: tuple[dict, ...], config: ModelConfig, store: tuple[dict, ...], source) -> tuple[dict, ...]:
  """Dense layers in which sequence b begins with the slots of row source[b] of `store`; -1 leaves it as it is."""
  def local(layers, store, source):
    B = source.shape[0]
    row = jnp.where(source >= 0, jnp.arange(B, dtype=jnp.int32), B)  # B: dropped

    def leaf(name, x, s):
      s = s[jnp.maximum(source, 0)]
      at = (row, slice(None), slice(None), slice(s.shape[3])) if SLOT_AXIS[name] == 3 else (row, slice(None),
                                                                                       slice(s.shape[2]))
      return x.at[at].set(s, mode="drop")
    return tuple({name: leaf(name, x, s[name]) for name, x in layer.items()}
                 for layer, s in zip(layers, store, strict=True))

  return per_device(local, config, (True, False, True), layers, store, source)


def copy_pages(layers: tuple[dict, ...], config: ModelConfig, store: tuple[dict, ...], row, block,
               page) -> tuple[dict, ...]:
  """Pages, of which number page[i] holds the slots of block[i] of row[i] of `store`. The lists [n] are each device's own,
  one after another; page -1 is left out."""
  size = layers[0]["k"].shape[3]

  def local(layers, store, row, block, page):
    page = jnp.where(page >= 0, page, layers[0]["k"].shape[0])  # a number beyond the pages: dropped

    def leaf(name, x, s):
      axis = SLOT_AXIS[name]
      shape = list(s.shape)
      shape[axis:axis + 1] = [-1, size]
      blocks = jnp.moveaxis(s.reshape(shape), axis, 1)
      return x.at[page].set(blocks[row, block], mode="drop")
    return tuple({name: leaf(name, x, s[name]) for name, x in layer.items()}
                 for layer, s in zip(layers, store, strict=True))

  return per_device(local, config, (True, False, True, True, True), layers, store, row, block, page)


def take_rows(layers: tuple[dict, ...], config: ModelConfig, source) -> tuple[dict, ...]:
  """Dense layers whose sequence b is the one in row source[b] [B'] of its device before."""
  return per_device(lambda layers, source: jax.tree.map(lambda x: x[source], layers), config, (True, True), layers, source)


def lengthened(layers: tuple[dict, ...], slots: int) -> tuple[dict, ...]:
  """Dense layers with `slots` slots, the new ones behind."""
  def leaf(name, x):
    return jnp.pad(x, [(0, slots - size if axis == SLOT_AXIS[name] else 0) for axis, size in enumerate(x.shape)])
  return tuple({name: leaf(name, x) for name, x in layer.items()} for layer in layers)


def _parts(q, slots: int) -> tuple[int, int]:
  """Of how many products those of queries [B, K, M, h] with keys and those with values of so many slots are made.

  On a CPU XLA (jaxlib 0.10) runs the many small products of decoding on one thread, and more only for columns beyond the
  first 1,024; a product and the sum after it run on all. On two cores a step of 32 sequences with two heads takes 5 to 20%
  less time so, at every length. Half as many products, or heads of 32 elements, gain nothing.
  """
  B, K, M, h = q.shape
  if platform() != "cpu" or B * K < 64 or M > 16 or h < 64:
    return 1, 1
  return 2 if slots < 2048 and h % 2 == 0 else 1, 4 if slots % 4 == 0 else 1


def _product(a, b, parts: int) -> jax.Array:
  """[B, K, M, o] float32 of a [B, K, M, n] and b [B, K, n, o], as the sum of `parts` products over n / parts each."""
  if parts == 1:
    return jnp.einsum("bkmn,bkno->bkmo", a, b, preferred_element_type=jnp.float32)
  B, K, M, n = a.shape
  a = jnp.swapaxes(a.reshape(B, K, M, parts, n // parts), 2, 3)
  b = b.reshape(B, K, parts, n // parts, b.shape[3])
  return jnp.sum(jnp.einsum("bkpmn,bkpno->bkpmo", a, b, preferred_element_type=jnp.float32), axis=2)


def attend(q, past: dict, recent: dict, lengths, newest, scale: float, values: int) -> jax.Array:
  """softmax(scale q k^T) v over a sequence's cached and recent tokens: [B, K, M, values] of q [B, K, M, h].

  past: a layer of `view`, of which the first lengths [B] slots are seen, by all queries. recent: {k [B, K, h, R],
  v [B, K, R, u]}; query m sees its first newest[m] [M] tokens. values: size of a value; where there is no v, the first so
  many elements of k. Scores and softmax are float32.
  """
  S, R = past["k"].shape[3], recent["k"].shape[3]
  of_keys, of_values = _parts(q, S)

  def scores(leaves, seen):
    found = _product(q, leaves["k"].astype(q.dtype), of_keys) * scale
    return jnp.where(seen, found * leaves["k_scale"] if "k_scale" in leaves else found, MASKED)

  def weighted(weights, leaves, parts):
    if "k_scale" in leaves:
      weights = weights * (jnp.swapaxes(leaves["v_scale"], 2, 3) if "v" in leaves else leaves["k_scale"])
    weights = weights.astype(q.dtype)
    if "v" in leaves:
      return _product(weights, leaves["v"].astype(q.dtype), parts)
    return jnp.einsum("bkms,bkus->bkmu", weights, leaves["k"][:, :, :values].astype(q.dtype),
                      preferred_element_type=jnp.float32)

  in_past = (jnp.arange(S, dtype=jnp.int32)[None] < lengths[:, None])[:, None, None]
  in_recent = (jnp.arange(R, dtype=jnp.int32)[None] < newest[:, None])[None, None]
  old, new = scores(past, in_past), scores(recent, in_recent)
  top = jnp.maximum(jnp.max(old, axis=-1, keepdims=True), jnp.max(new, axis=-1, keepdims=True))
  old, new = jnp.exp(old - top), jnp.exp(new - top)
  total = jnp.sum(old, axis=-1, keepdims=True) + jnp.sum(new, axis=-1, keepdims=True)
  return ((weighted(old, past, of_values) + weighted(new, recent, 1)) / total).astype(q.dtype)


def slot_bytes(config: ModelConfig, dtype, int8: bool = False) -> int:
  """Bytes that one token takes in the cache, over all layers."""
  sizes = leaf_shapes(config, int8)
  item = {name: 4 if name.endswith("scale") else 1 if int8 else np.dtype(dtype).itemsize for name in sizes}
  return config.num_layers * sum(heads * size * item[name] for name, (heads, size) in sizes.items())
