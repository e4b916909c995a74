"""Training attention by the splash kernel of jax.experimental.pallas: blocks that are masked as a whole are skipped, and no
score leaves the chip's memory.

Letters as in attention.py. Where there is no TPU the kernel is interpreted, for tests: correct and slow.
"""
import jax
import jax.numpy as jnp

from r1jax.errors import InputError
from r1jax.sharding import platform

BLOCKS = (1_024, 512, 256, 128)  # queries and keys of a block: the largest that divides the row
COMPUTED = 512  # keys of a block whose scores exist at one time


def block(length: int) -> int:
  """Positions of a block for rows of `length`; InputError where none divides it."""
  for size in BLOCKS:
    if length % size == 0:
      return size
  raise InputError("compute.attention", f"splash on rows of {length} slots",
                   f'Make max_length a multiple of {BLOCKS[-1]}, or choose attention "chunks".')


def _kernel(length: int, heads: int, interpret: bool):
  """The kernel for rows of `length`, and the type of its segment ids."""
  # Here, as Pallas takes a third of a second of every command.
  from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel
  from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

  size = block(length)
  inner = min(size, COMPUTED)
  sizes = kernel.BlockSizes(  # the fused backward pass takes ten times the memory of the two kernels
    block_q=size, block_kv=size, block_kv_compute=inner, block_q_dkv=size, block_kv_dkv=size, block_kv_dkv_compute=inner,
    block_q_dq=size, block_kv_dq=size)
  made = kernel.make_splash_mha(masks.MultiHeadMask([masks.CausalMask((length, length))] * heads), head_shards=1,
                                q_seq_shards=1, block_sizes=sizes, residual_checkpoint_name="attention", interpret=interpret)
  return made, kernel.SegmentIds


def attend(q, k, v, positions, segments, scale: float) -> jax.Array:
  """attention.attend_causally by the kernel: q [B, T, H, h], k [B, T, K, h], v [B, T, K, u] -> [B, T, H, u]; positions and
  segments [B, T]. InputError for a length that no block divides."""
  spec = jax.typeof(q).sharding.spec
  rows = jax.P(spec[0], None)
  seen = positions >= 0
  interpret = platform() != "tpu"

  def local(q, k, v, segments):
    attention, ids = _kernel(q.shape[1], q.shape[2], interpret)
    q = (q.astype(jnp.float32) * scale).astype(q.dtype)

    def row(q, k, v, segments):
      out = attention(*(x.swapaxes(0, 1) for x in (q, k, v)), segment_ids=ids(segments, segments))
      return out.swapaxes(0, 1)
    return jax.vmap(row)(q, k, v, segments)

  # Padding sees padding alone, and what it finds there is dropped.
  out = jax.shard_map(local, in_specs=(spec, spec, spec, rows), out_specs=spec, check_vma=False)(
    q, k, v, jnp.where(seen, segments, -1))
  return jnp.where(seen[:, :, None, None], out, 0)
