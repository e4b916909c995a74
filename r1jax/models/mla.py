"""Multi-head latent attention (DeepSeek-V3, section 2.1.1): what is cached is one latent a token, for all heads.

Letters: B, T, S, H, D as in transformer.py; Q, C the sizes of the latents of queries and of keys and values; n, r, u the
sizes of a head's part without position, of its rotated part and of its values.
"""
import jax
import jax.numpy as jnp

from r1jax.models.config import ModelConfig
from r1jax.models.norm import rms_norm
from r1jax.models.rope import rotate


def softmax_scale(config: ModelConfig) -> float:
  """The factor on q k^T."""
  return config.head_dim**-0.5 * config.mla.softmax_factor


def project(config: ModelConfig, y, w: dict, cos, sin) -> tuple[jax.Array, jax.Array, jax.Array]:
  """(queries [B, T, H, n], their rotated part [B, T, H, r], latent [B, T, 1, C + r]) of normed inputs y [B, T, D].

  The latent is what a cache holds: the normed latent of keys and values, then the rotated part of the keys.
  """
  mla, eps = config.mla, config.rms_norm_eps
  q = rms_norm(jnp.einsum("btd,dq->btq", y, w["q_down"]), w["q_latent_norm"], eps)
  q = jnp.einsum("btq,qnh->btnh", q, w["q_up"])
  down = jnp.einsum("btd,dc->btc", y, w["kv_down"])
  latent = rms_norm(down[..., :mla.kv_lora], w["kv_latent_norm"], eps)
  k_rope = rotate(down[:, :, None, mla.kv_lora:], cos, sin)
  return (q[..., :mla.qk_nope], rotate(q[..., mla.qk_nope:], cos, sin),
          jnp.concatenate([latent[:, :, None], k_rope], axis=-1))


def expanded(config: ModelConfig, q_nope, q_rope, latent, kv_up) -> tuple[jax.Array, jax.Array, jax.Array]:
  """q, k [B, T, H, n + r] and v [B, T, H, u] of every head: fewer operations where T queries meet T keys."""
  mla = config.mla
  kv = jnp.einsum("btc,cnh->btnh", latent[:, :, 0, :mla.kv_lora], kv_up)
  k_nope = kv[..., :mla.qk_nope]
  shape = (*k_nope.shape[:3], mla.qk_rope)
  k_rope = jax.lax.broadcast_in_dim(latent[:, :, 0, mla.kv_lora:], shape, (0, 1, 3),
                                    out_sharding=jax.typeof(q_rope).sharding)
  return (jnp.concatenate([q_nope, q_rope], axis=-1), jnp.concatenate([k_nope, k_rope], axis=-1), kv[..., mla.qk_nope:])


def absorbed(config: ModelConfig, q_nope, q_rope, kv_up) -> jax.Array:
  """Queries [B, T, H, C + r] that meet cached latents directly: the keys' expansion is moved to the query's side."""
  return jnp.concatenate([jnp.einsum("btnh,cnh->btnc", q_nope, kv_up[..., :config.mla.qk_nope]), q_rope], axis=-1)


def values_of(config: ModelConfig, attended, kv_up) -> jax.Array:
  """[B, T, H, u] of attended latents [B, T, H, C]: the values' expansion, after the sum over keys."""
  return jnp.einsum("btnc,cnh->btnh", attended, kv_up[..., config.mla.qk_nope:])
