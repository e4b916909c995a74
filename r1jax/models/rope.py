"""Rotary position embedding (RoFormer, arXiv 2104.09864) in the half-split layout, with llama3 and YaRN scaling."""
import math

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.models.config import ModelConfig, RopeScaling


def inverse_frequencies(config: ModelConfig) -> tuple[np.ndarray, float]:
  """(angular frequency of each pair [rope_dim / 2] in radians a position, factor on cos and sin)."""
  freqs = 1.0 / config.rope_theta ** (np.arange(0, config.rope_dim, 2, dtype=np.float64) / config.rope_dim)
  scaling = config.rope_scaling
  if scaling is None:
    return freqs, 1.0
  if scaling.kind == "llama3":
    return _llama3(freqs, scaling), 1.0
  factor = scaling.attention_factor
  if factor is None:
    factor = 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0
  return _yarn(freqs, scaling, config.rope_theta, config.rope_dim), factor


def _llama3(freqs: np.ndarray, s: RopeScaling) -> np.ndarray:
  """Long wavelengths are divided by the factor, short ones kept, those between interpolated (Llama 3.1)."""
  turns = s.original_max_position * freqs / (2 * math.pi)  # of each pair over the original window
  smooth = np.clip((turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor), 0.0, 1.0)
  return (1 - smooth) * freqs / s.factor + smooth * freqs


def _yarn(freqs: np.ndarray, s: RopeScaling, theta: float, head_dim: int) -> np.ndarray:
  """YaRN's ramp: pairs that turn more than beta_fast times are kept, fewer than beta_slow times interpolated."""
  def pair_with(turns: float) -> float:
    return head_dim * math.log(s.original_max_position / (turns * 2 * math.pi)) / (2 * math.log(theta))
  low = max(math.floor(pair_with(s.beta_fast)), 0)
  high = min(math.ceil(pair_with(s.beta_slow)), head_dim - 1)
  ramp = np.clip((np.arange(head_dim // 2) - low) / max(high - low, 1e-3), 0.0, 1.0)
  return ramp * freqs / s.factor + (1 - ramp) * freqs


def rope_tables(config: ModelConfig, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
  """cos and sin [B, T, rope_dim / 2] in float32: bfloat16 would round position 257 to 256."""
  freqs, factor = inverse_frequencies(config)
  angles = positions.astype(jnp.float32)[:, :, None] * jnp.asarray(freqs, jnp.float32)[None, None, :]
  return jnp.cos(angles) * factor, jnp.sin(angles) * factor


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
  """Rotates x [B, T, heads, head_dim], dimension i paired with i + head_dim / 2."""
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  cos, sin = cos[:, :, None, :], sin[:, :, None, :]
  return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
