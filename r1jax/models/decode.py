"""The decoder over a cache, for sampling: the layers unrolled, every weight laid out once for the whole rollout.

Activations are columns, [features, N] of N = B x T tokens, and weights [out, in]: a few tokens then meet a large matrix from
the right, which is the fast side of a matrix product on a CPU (measured at N = 32: 95 GFLOP/s against 45) and as good as
the other on a TPU. Letters as in transformer.py and cache.py; t devices of the tensor axis.
"""
import jax
import jax.numpy as jnp
from jax.lax import optimization_barrier
from jax.sharding import PartitionSpec as P
from jax.sharding import reshard

from r1jax.models import cache as kv
from r1jax.models import mla, paged
from r1jax.models.config import ModelConfig
from r1jax.models.moe import mixture
from r1jax.models.norm import rms_norm
from r1jax.models.params import KV_HEADED, kv_heads, repeated_heads, stacks, weight_table
from r1jax.models.rope import rope_tables, rotate
from r1jax.sharding import DATA, ROLLOUT_RULES, partition_spec

COLUMNS = P(None, DATA)
INT8 = ("qkv", "o", "gate_up", "down")  # what int8 weights are made of


def rollout_weights(params: dict, config: ModelConfig, dtype, tensor: int = 1, int8: bool = False) -> dict:
  """The weights as decoding uses them, in `dtype`, gathered over fsdp: once a rollout, not once a token. Jit it.

  {"embed" [V, D], "head" [V, D], "final_norm" [D], "layers": (a dict for each layer)}. A layer has qkv [t, O, D],
  o [t, D, I], gate_up [t, 2F / t, D], down [t, D, F / t], norms and biases; latent attention and experts keep the training
  layout.
  tensor: devices of the tensor axis. int8: the matrices of INT8 as (int8 values, float32 scale of each output).
  """
  axes = {stack: {name: w.axes[1:] for name, w in table.items()}
          for stack, table in weight_table(config).items() if isinstance(table, dict)}

  def used(w, axes, router=False):
    return reshard(w.astype(jnp.float32 if router else dtype), partition_spec(axes, ROLLOUT_RULES))

  def repeated(name, x):
    if name not in KV_HEADED:
      return x
    return repeated_heads(x, 0 if name.endswith("bias") else 1, kv_heads(config, tensor))

  layers = []
  for stack in stacks(config):
    for i in range(next(iter(params[stack].values())).shape[0]):
      w = {name: used(repeated(name, x[i]), axes[stack][name], name.startswith("router"))
           for name, x in params[stack].items()}
      layers.append(_laid_out(config, w, tensor, int8))
  embed = used(params["embed"], ("vocab_in", "embed"))
  head = embed if config.tie_embeddings else used(params["head"], ("embed", "vocab")).T
  return {"embed": embed, "head": reshard(head, P("tensor", None)), "final_norm": used(params["final_norm"], ("embed",)),
          "layers": tuple(layers)}


def _laid_out(config: ModelConfig, w: dict, t: int, int8: bool) -> dict:
  """One layer's weights, those of one product side by side; the heads and the width of each tensor device together."""
  def outputs(*parts):  # [D, ...] each -> [t, O, D]
    flat = [x.reshape(x.shape[0], t, -1, out_sharding=P(None, "tensor", None)) for x in parts]
    return jnp.transpose(jnp.concatenate(flat, axis=2), (1, 2, 0))

  def inputs(x):  # [..., D] -> [t, D, I]
    x = x.reshape(t, -1, x.shape[-1], out_sharding=P("tensor", None, None))
    return jnp.swapaxes(x, 1, 2)

  out = dict(w)
  if config.mla is None:
    out["qkv"], out["o"] = outputs(*(out.pop(name) for name in "qkv")), inputs(w["o"])
    if config.qkv_bias:
      bias = [out.pop(f"{name}_bias").reshape(t, -1, out_sharding=P("tensor", None)) for name in "qkv"]
      out["qkv_bias"] = jnp.concatenate(bias, axis=1)
  if "gate" in w:
    out["gate_up"], out["down"] = outputs(out.pop("gate"), out.pop("up")), inputs(w["down"])
  if int8:
    out |= {name: _int8(out[name]) for name in INT8 if name in out and out[name].ndim == 3}
  return out


def _int8(w) -> tuple[jax.Array, jax.Array]:
  scale = jnp.maximum(jnp.max(jnp.abs(w.astype(jnp.float32)), axis=2, keepdims=True) / 127, 1e-30)
  return jnp.round(w.astype(jnp.float32) / scale).astype(jnp.int8), scale


def _spread(w, x) -> jax.Array:
  """[t, O, N] of w [t, O, D] and columns x [D, N]; pinned, or a transposition after it would turn the product round and
  make it several times slower."""
  w, scale = w if isinstance(w, tuple) else (w, None)
  out = jnp.einsum("tod,dn->ton", w.astype(x.dtype), x, out_sharding=P("tensor", None, DATA))
  return optimization_barrier(out if scale is None else (out * scale).astype(x.dtype))


def _joined(w, y) -> jax.Array:
  """Columns [D, N] of w [t, D, I] and y [t, I, N], summed over the tensor axis."""
  if isinstance(w, tuple):
    w = (w[0].astype(jnp.float32) * w[1]).astype(y.dtype)
  return jnp.einsum("tdi,tin->dn", w, optimization_barrier(y), out_sharding=COLUMNS)


def _norm(x, scale, eps: float) -> jax.Array:
  """RMSNorm of columns."""
  x32 = x.astype(jnp.float32)
  x32 = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=0, keepdims=True) + eps)
  return (x32 * scale.astype(jnp.float32)[:, None]).astype(x.dtype)


def _rows(x, B: int, T: int) -> jax.Array:
  """Columns [D, B * T] as [B, T, D]."""
  return x.T.reshape(B, T, x.shape[0], out_sharding=P(DATA, None, None))


def _columns(x) -> jax.Array:
  """[B, T, D] as columns [D, B * T]."""
  return x.reshape(-1, x.shape[2], out_sharding=P(DATA, None)).T


def _heads(x, B: int, T: int, heads: int, size: int) -> jax.Array:
  """[B, T, heads, size] of [t, heads / t * size, B * T]."""
  t = x.shape[0]
  x = x.reshape(t, heads // t, size, B, T, out_sharding=P("tensor", None, None, DATA, None))
  return jnp.transpose(x, (3, 4, 0, 1, 2)).reshape(B, T, heads, size, out_sharding=P(DATA, None, "tensor", None))


def _append(recent: dict, new: dict, at) -> dict:
  """The buffer with new tokens from slot `at` on; of as many as it holds, they themselves."""
  def one(name, buffer):
    if buffer.shape == new[name].shape:
      return new[name].astype(buffer.dtype)
    start = [jnp.int32(0)] * 4
    start[kv.RECENT_AXIS[name]] = at
    return jax.lax.dynamic_update_slice(buffer, new[name].astype(buffer.dtype), start)
  return {name: one(name, buffer) for name, buffer in recent.items()}


def _grouped_query(config: ModelConfig, w: dict, y, tables, place) -> tuple[jax.Array, dict]:
  """(columns that attention adds, recent buffer) of normed columns y."""
  (B, T), past, recent, lengths, filled, newest = place
  H, K, h = config.num_heads, config.num_kv_heads, config.head_dim
  qkv = _spread(w["qkv"], y)
  if config.qkv_bias:
    qkv = qkv + w["qkv_bias"][:, :, None]
  t = qkv.shape[0]
  ends = (H // t * h, (H + K) // t * h)
  q, k, v = (_heads(x, B, T, heads, h) for x, heads in zip(jnp.split(qkv, ends, axis=1), (H, K, K), strict=True))
  if config.qk_norm:
    q, k = rms_norm(q, w["q_norm"], config.rms_norm_eps), rms_norm(k, w["k_norm"], config.rms_norm_eps)
  q, k = rotate(q, *tables), rotate(k, *tables)
  heads = P(DATA, "tensor", None, None)
  q = jnp.swapaxes(q, 1, 2).reshape(B, K, H // K * T, h, out_sharding=heads)  # query head g, then token
  if "kv" in recent:
    out, pages = paged.attend(q, k, v, recent["kv"], past, lengths + filled, h**-0.5)
    recent = {"kv": pages}
  else:
    recent = _append(recent, {"k": jnp.transpose(k, (0, 2, 3, 1)), "v": jnp.swapaxes(v, 1, 2)}, filled)
    out = kv.attend(q, past, recent, lengths, newest, h**-0.5, h)
  out = jnp.transpose(out.reshape(B, t, H // t, T, h, out_sharding=P(DATA, "tensor", None, None, None)), (1, 2, 4, 0, 3))
  return _joined(w["o"], out.reshape(t, -1, B * T, out_sharding=P("tensor", None, DATA))), recent


def _latent(config: ModelConfig, w: dict, y, tables, place) -> tuple[jax.Array, dict]:
  """As _grouped_query, over cached latents (DeepSeek-V3, section 2.1.1)."""
  (B, T), past, recent, lengths, filled, newest = place
  H, C = config.num_heads, config.mla.kv_lora
  q_nope, q_rope, latent = mla.project(config, _rows(y, B, T), w, *tables)
  recent = _append(recent, {"k": jnp.transpose(latent, (0, 2, 3, 1))}, filled)
  q = jnp.swapaxes(mla.absorbed(config, q_nope, q_rope, w["kv_up"]), 1, 2)
  q = q.reshape(B, 1, H * T, q.shape[3], out_sharding=P(DATA, None, "tensor", None))
  out = kv.attend(q, past, recent, lengths, newest, mla.softmax_scale(config), C)
  out = jnp.swapaxes(out.reshape(B, H, T, C, out_sharding=P(DATA, "tensor", None, None)), 1, 2)
  out = mla.values_of(config, out, w["kv_up"])
  return _columns(jnp.einsum("btnh,nhd->btd", out, w["o"], out_sharding=P(DATA, None, None))), recent


def _feed_forward(config: ModelConfig, w: dict, y, B: int, T: int) -> jax.Array:
  """Columns that the SwiGLU and the experts add."""
  out = None
  if "gate_up" in w:
    gate, up = jnp.split(_spread(w["gate_up"], y), 2, axis=1)
    out = _joined(w["down"], jax.nn.silu(gate) * up)
  if "router" not in w:
    return out
  routed = _columns(mixture(config.moe, _rows(y, B, T), w))
  return routed if out is None else out + routed


def recent_tables(config: ModelConfig, lengths, size: int) -> tuple[jax.Array, jax.Array]:
  """rope_tables of the `size` positions after lengths [B]. Taken once for a buffer of recent tokens: in the decode loop XLA
  would fuse the sines into every layer's rotation and take them once for each head."""
  return rope_tables(config, lengths[:, None] + jnp.arange(size, dtype=jnp.int32)[None])


def extend(weights: dict, config: ModelConfig, tokens, tables, past: tuple[dict, ...], recent: tuple[dict, ...], lengths,
           filled) -> tuple[jax.Array, tuple[dict, ...]]:
  """(final hidden states as columns [D, B * T], the recent buffers with the new tokens in them).

  tokens [B, T] follow the lengths [B] cached tokens and the `filled` (int32 scalar) recent ones of their sequence. tables:
  recent_tables of the R positions after lengths. past: a view of the cache; recent: buffers of R slots, T = R or T = 1. Of
  pages that a kernel reads (paged.py): past is the table for every layer, recent the pages themselves, T = 1.
  """
  B, T = tokens.shape
  offset = jnp.arange(T, dtype=jnp.int32)
  tables = tuple(jax.lax.dynamic_slice_in_dim(x, filled, T, axis=1) for x in tables)
  per_head = config.num_heads if config.mla is not None else config.num_heads // config.num_kv_heads
  newest = jnp.tile(filled + offset + 1, per_head)
  x = _columns(weights["embed"].at[tokens].get(out_sharding=P(DATA, None, None)))
  attention = _grouped_query if config.mla is None else _latent
  buffers = []
  for i, (w, cached, buffer) in enumerate(zip(weights["layers"], past, recent, strict=True)):
    with jax.named_scope(f"layer_{i}"):
      place = ((B, T), cached, buffer, lengths, filled, newest)
      out, buffer = attention(config, w, _norm(x, w["attn_norm"], config.rms_norm_eps), tables, place)
      x = x + out
      x = x + _feed_forward(config, w, _norm(x, w["mlp_norm"], config.rms_norm_eps), B, T)
      buffers.append(buffer)
  return _norm(x, weights["final_norm"], config.rms_norm_eps), tuple(buffers)


def next_logits(weights: dict, config: ModelConfig, hidden) -> jax.Array:
  """Logits [N, V] float32 of hidden columns [D, N], a row's whole vocabulary on one device; -inf for ids without a token."""
  out = jnp.einsum("vd,dn->vn", weights["head"], hidden, preferred_element_type=jnp.float32,
                   out_sharding=P("tensor", DATA))
  out = reshard(optimization_barrier(out).T, P(DATA, None))
  if config.num_tokens is None:
    return out
  return jnp.where(jnp.arange(out.shape[1], dtype=jnp.int32)[None] < config.num_tokens, out, -jnp.inf)
