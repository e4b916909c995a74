"""Mixture of experts without dropping (DeepSeek-V3, section 2.1.2).

Every device of the expert axis has all tokens of its batch part and some of the experts; the tensor axis splits the experts'
width. Each adds up what its share gives, and the sum runs over both axes: tokens are not moved.
"""
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from r1jax.models.config import MoE


def route(moe: MoE, x, router, bias) -> tuple[jax.Array, jax.Array]:
  """(gate weights [N, top_k] float32, ids of experts [N, top_k]) of tokens x [N, D].

  s = sigmoid(x router). The bias selects and does not weigh: experts are chosen by s + bias, out of the kept_groups groups
  whose two best have the largest sum; the weights are the chosen ones' s, normalised, times route_scale. In float32. The
  bias has no gradient: DeepSeek-V3 moves it by rule, and whether during RL is not stated (here: not).
  """
  N, E = x.shape[0], moe.experts
  scores = jax.nn.sigmoid(x.astype(jnp.float32) @ router.astype(jnp.float32))
  choice = jax.lax.stop_gradient(scores + bias.astype(jnp.float32)[None])
  if moe.groups > 1:
    grouped = choice.reshape(N, moe.groups, E // moe.groups)
    best, _ = jax.lax.top_k(grouped, 2)
    _, kept = jax.lax.top_k(best.sum(axis=-1), moe.kept_groups)
    allowed = jnp.any(kept[:, :, None] == jnp.arange(moe.groups)[None, None], axis=1)
    choice = jnp.where(allowed[:, :, None], grouped, -jnp.inf).reshape(N, E)
  _, ids = jax.lax.top_k(choice, moe.top_k)
  weights = jnp.take_along_axis(scores, ids, axis=-1)
  return weights / (weights.sum(axis=-1, keepdims=True) + 1e-20) * moe.route_scale, ids


def mixture(moe: MoE, x, w: dict) -> jax.Array:
  """What the routed experts add to x [B, T, D]. w: the layer's weights in the compute dtype, gathered over fsdp."""
  split, tokens = P("expert", None, "tensor"), P(*jax.typeof(x).sharding.spec)

  def share(x, router, bias, gate, up, down):
    B, T, D = x.shape
    x = x.reshape(B * T, D)
    weights, ids = route(moe, x, router, bias)
    held = gate.shape[0]
    local = ids.reshape(-1) - jax.lax.axis_index("expert") * held
    mine = (local >= 0) & (local < held)
    # Tokens in the order of their expert; those of other devices' experts come last and belong to no group.
    local = jnp.where(mine, local, held)
    order = jnp.argsort(local)
    sizes = jnp.bincount(local, length=held + 1)[:held].astype(jnp.int32)
    rows = x[order // moe.top_k]
    hidden = jax.nn.silu(jax.lax.ragged_dot(rows, gate, sizes)) * jax.lax.ragged_dot(rows, up, sizes)
    out = jax.lax.ragged_dot(hidden, down, sizes) * weights.reshape(-1)[order].astype(x.dtype)[:, None]
    out = jnp.where(mine[order][:, None], out, jnp.zeros((), x.dtype))
    total = jnp.zeros_like(x).at[order // moe.top_k].add(out)
    return jax.lax.psum(total, ("tensor", "expert")).reshape(B, T, D)

  return jax.shard_map(
    share, in_specs=(tokens, P(None, None), P(None), split, split, P("expert", "tensor", None)),
    out_specs=tokens)(x, *(w[name] for name in (
      "router", "router_bias", "expert_gate", "expert_up", "expert_down")))
