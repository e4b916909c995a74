"""JAX for the tests: CPU only, eight devices, and no silent promotion of types or ranks."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"  # before the import, so that no accelerator is ever looked for

import jax

# By config, not by XLA_FLAGS or another variable: commands that tests start must not inherit it.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
