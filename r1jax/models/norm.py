"""RMSNorm."""
import jax
import jax.numpy as jnp


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
  """x / sqrt(mean(x^2) + eps) * scale over the last axis, in float32."""
  x32 = x.astype(jnp.float32)
  x32 = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + eps)
  scale = jax.lax.broadcast_in_dim(scale.astype(jnp.float32), x.shape, (x.ndim - 1,), out_sharding=jax.typeof(x).sharding)
  return (x32 * scale).astype(x.dtype)
