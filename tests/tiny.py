"""What tests of models, sampling and training share: a decoder of two layers, its weights, and meshes."""

import jax
import numpy as np

from r1jax.models.config import MLA, ModelConfig, MoE, RopeScaling
from r1jax.models.params import is_weight, shardings, weight_table
from r1jax.sharding import TRAIN_RULES, MeshShape, make_mesh

SIZES = {"vocab_size": 64, "d_model": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8,
         "d_ff": 48, "max_position": 256}
FAMILIES = {
  "qwen2": ModelConfig(family="qwen2", qkv_bias=True, tie_embeddings=True, **SIZES),
  "qwen3": ModelConfig(family="qwen3", qk_norm=True, **SIZES),
  "llama": ModelConfig(family="llama", rope_scaling=RopeScaling("llama3", 8.0, 64), **SIZES),
  "deepseek_v3": ModelConfig(
    family="deepseek_v3", mla=MLA(q_lora=24, kv_lora=16, qk_nope=8, qk_rope=4, v_dim=6, softmax_factor=1.3),
    moe=MoE(first_dense=1, experts=8, shared=1, top_k=3, d_ff=12, groups=4, kept_groups=2, route_scale=2.5),
    **{**SIZES, "num_kv_heads": 4, "head_dim": 12, "num_layers": 3}),
}
# Every option at once, for tests that need one model only.
EVERYTHING = ModelConfig(family="qwen3", qkv_bias=True, qk_norm=True, rope_scaling=RopeScaling("yarn", 4.0, 64), **SIZES)


def one_device():
  return make_mesh(MeshShape(), jax.devices()[:1])


def eight_devices(shape: MeshShape | None = None):
  return make_mesh(shape or MeshShape(replica=2, fsdp=2, tensor=2), jax.devices()[:8])


# Two key/value heads on four devices along tensor, where they are repeated; rows split along their positions.
WIDE, LONG = MeshShape(tensor=4), MeshShape(sequence=2, tensor=2)


def random_params(config: ModelConfig, mesh, rules=TRAIN_RULES, seed: int = 0) -> dict:
  """Weights from NumPy, the same on every mesh. Biases and norms are random too: at 0 and 1 they would hide errors.

  Not init_params: compiling its random numbers takes longer than all that a test does with them.
  """
  rng = np.random.default_rng(seed)

  def make(weight):
    x = rng.standard_normal(weight.shape, np.float32)
    if weight.init == "ones":
      return 1 + np.float32(0.3) * x
    return x * np.float32(0.3 if weight.init == "zeros" else weight.init**-0.5)

  values = jax.tree.map(make, weight_table(config), is_leaf=is_weight)
  return jax.device_put(values, shardings(config, mesh, rules))


def random_tokens(batch: int, slots: int, lengths=None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """(tokens, positions) [batch, slots], left-padded with token 0; lengths [batch] (default: no padding)."""
  tokens = np.random.default_rng(seed).integers(1, SIZES["vocab_size"], (batch, slots), dtype=np.int32)
  lengths = np.full(batch, slots) if lengths is None else np.asarray(lengths)
  positions = np.maximum(np.arange(slots)[None] - (slots - lengths)[:, None], -1).astype(np.int32)
  return np.where(positions >= 0, tokens, 0).astype(np.int32), positions


def quick_compiles():
  """A fixture's body: least optimisation while it is open, as these tests compile for longer than they compute."""
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)
