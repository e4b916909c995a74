"""r1jax: DeepSeek-R1 and R1-Zero in JAX."""
