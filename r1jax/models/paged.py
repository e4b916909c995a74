"""Decoding over pages by the ragged paged attention kernel of jax.experimental.pallas, for TPUs: pages are written in place,
and a new token reads the pages of its own sequence and nothing else.

Letters as in cache.py. A layer's entry in a PagedCache is then {"kv": [pages, page, 2K, h]}, a head's keys and values next
to one another: an array for each layer, as of one array for all layers the TPU compiler makes a second copy.
"""
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.sharding import reshard

from r1jax.errors import InputError
from r1jax.models.cache import in_blocks, slots_of
from r1jax.models.config import ModelConfig
from r1jax.sharding import DATA, platform

FASTEST = {"tpu": "kernel"}  # of Decoding.paged_attention, by platform
PAGES = P(DATA, None, "tensor", None)
BY_HEAD = P(DATA, "tensor", None, None)
BLOCK = 512  # slots that the kernel reads at a time
QUERIES = 16  # sequences of a block of queries
VMEM = 64 << 20  # bytes of the chip's memory that the kernel may use


def chosen(config: ModelConfig, int8: bool, choice: str | None) -> bool:
  """Whether the kernel reads the pages of this model (as decoded) on the mesh in use. choice: Decoding.paged_attention;
  InputError for "kernel" where the kernel does not take the cache."""
  heads = config.num_kv_heads // jax.sharding.get_abstract_mesh().shape["tensor"]
  can = (config.mla is None and not int8 and config.head_dim % 128 == 0) and (heads in (1, 2, 4) or heads % 8 == 0)
  if choice == "kernel" and not can:
    kind = "latent attention" if config.mla else f"{heads} key/value heads of {config.head_dim} a device"
    raise InputError("decoding.paged_attention", f"kernel, for {kind}{', int8' if int8 else ''}",
                     "It takes 1, 2, 4 or a multiple of 8 heads of a multiple of 128, not int8. Leave the choice to r1jax.")
  return can and (choice or FASTEST.get(platform(), "view")) == "kernel"


def empty_pages(config: ModelConfig, pages: int, page: int, dtype) -> tuple[dict, ...]:
  """Zeros for every layer: `pages` pages of `page` slots."""
  shape = (pages, page, 2 * config.num_kv_heads, config.head_dim)
  return tuple({"kv": jnp.zeros(shape, dtype, out_sharding=PAGES)} for _ in range(config.num_layers))


def _per_device(f, in_specs: tuple, out_specs, *args):
  args = jax.tree.map(reshard, args, in_specs)
  return jax.shard_map(f, in_specs=in_specs, out_specs=out_specs, check_vma=False)(*args)


def _side_by_side(k, v):
  """[..., K, h] of keys and of values -> [..., 2K, h]."""
  return jnp.stack([k, v], axis=-2).reshape(*k.shape[:-2], -1, k.shape[-1])


def attend(q, k, v, pages, table, at, scale: float) -> tuple[jax.Array, jax.Array]:
  """(softmax(scale q k^T) v over the slots up to `at` [B]: [B, K, G, h], pages with the new token in that slot).

  q [B, K, G, h] and k, v [B, 1, K, h] of the new token of each sequence; table [B, n]: its pages, then numbers of no page.
  A sequence without pages writes nothing and reads anything.
  """
  # Here, as Pallas takes a third of a second of every command.
  from jax.experimental.pallas.ops.tpu.ragged_paged_attention import ragged_paged_attention

  def local(q, k, v, pages, table, at):
    B, K, G, h = q.shape
    (rows, page), n = pages.shape[:2], table.shape[1]
    own = jnp.take_along_axis(table, jnp.minimum(at // page, n - 1)[:, None], axis=1)[:, 0]
    pages = pages.at[own, at % page].set(_side_by_side(k, v)[:, 0].astype(pages.dtype), mode="drop")
    out = ragged_paged_attention(
      q.reshape(B, K * G, h), pages, at + 1, jnp.minimum(table, rows - 1), jnp.arange(B + 1, dtype=jnp.int32),
      jnp.full(1, B, jnp.int32), sm_scale=scale, num_kv_pages_per_block=min(n, max(1, BLOCK // page)),
      num_queries_per_block=min(B, QUERIES), vmem_limit_bytes=VMEM)
    return out.reshape(B, K, G, h), pages

  in_specs = (BY_HEAD, PAGES, PAGES, PAGES, P(DATA, None), P(DATA))
  return _per_device(local, in_specs, (BY_HEAD, PAGES), q, k, v, pages, table, at)


def copy_pages(layers: tuple[dict, ...], store: tuple[dict, ...], row, block, page) -> tuple[dict, ...]:
  """cache.copy_pages for pages of this kind."""
  def local(pages, k, v, row, block, page):
    size = pages.shape[1]

    def blocks(x):  # [Q, S, K, h] -> [n, size, K, h]
      return x.reshape(x.shape[0], -1, size, *x.shape[2:])[row, block]
    page = jnp.where(page >= 0, page, pages.shape[0])  # a number beyond the pages: dropped
    k, v = blocks(jnp.transpose(k, (0, 3, 1, 2))), blocks(jnp.swapaxes(v, 1, 2))
    return pages.at[page].set(_side_by_side(k, v), mode="drop")

  whole, lists = P(None, "tensor", None, None), P(DATA)
  specs, slots = (PAGES, whole, whole, lists, lists, lists), slots_of(store)
  return tuple({"kv": _per_device(local, specs, PAGES, layer["kv"], in_blocks(s["k"], slots)[:, :, 0], s["v"], row, block,
                                  page)} for layer, s in zip(layers, store, strict=True))
