"""What a decoder is (ModelConfig) and how it is computed (Compute): frozen, hashable, jit-static."""
from dataclasses import dataclass, fields

from r1jax.errors import InputError

FAMILIES = ("qwen2", "qwen3", "llama")
REMAT = ("none", "dots", "full")
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class RopeScaling:
  """Stretching of rotary frequencies beyond the pre-training window; field names as in the hub's configs.

  kind "llama3" uses low_freq_factor and high_freq_factor; kind "yarn" (arXiv 2309.00071) uses beta_fast,
  beta_slow and attention_factor (None: 0.1 ln(factor) + 1).
  """

  kind: str
  factor: float
  original_max_position: int
  low_freq_factor: float = 1.0
  high_freq_factor: float = 4.0
  beta_fast: float = 32.0
  beta_slow: float = 1.0
  attention_factor: float | None = None

  def __post_init__(self):
    if self.kind not in ("llama3", "yarn"):
      raise InputError("rope_scaling.kind", repr(self.kind), "Use 'llama3' or 'yarn'.")


@dataclass(frozen=True)
class ModelConfig:
  """A dense decoder: RMSNorm, rotary grouped-query attention, SwiGLU. Sizes in elements."""

  family: str  # one of FAMILIES; decides the hub's names on import and export, nothing else
  vocab_size: int
  d_model: int
  num_layers: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  d_ff: int
  max_position: int
  rope_theta: float = 10_000.0
  rope_scaling: RopeScaling | None = None
  rms_norm_eps: float = 1e-6
  qkv_bias: bool = False  # Qwen2/2.5
  qk_norm: bool = False  # Qwen3: RMSNorm over head_dim of queries and keys, before the rotation
  tie_embeddings: bool = False

  def __post_init__(self):
    if self.family not in FAMILIES:
      raise InputError("model.family", repr(self.family), f"Use one of {', '.join(FAMILIES)}.")
    for field in fields(self):
      value = getattr(self, field.name)
      if field.type is int and (not isinstance(value, int) or value < 1):
        raise InputError(f"model.{field.name}", repr(value), "It must be a positive integer.")
    if self.num_heads % self.num_kv_heads:
      raise InputError(
        "model.num_kv_heads", self.num_kv_heads,
        f"It must divide num_heads ({self.num_heads}): each key/value head serves a whole group of query heads.")
    if self.head_dim % 2:
      raise InputError("model.head_dim", self.head_dim, "Rotary embedding pairs dimensions: it must be even.")


@dataclass(frozen=True)
class Compute:
  """How a model is computed; no field changes what is computed beyond rounding.

  dtype: of activations and of the weights at use; parameters and optimizer stay float32.
  remat: what the backward pass recomputes: "none", "dots" (all but matrix products), "full" (whole layers).
  attention_chunk: queries a block of training attention, so that scores are [.., chunk, T], never [.., T, T];
    None computes them at once.
  logprob_chunk: positions whose logits exist at one time when log-probs are computed.
  """

  dtype: str = "float32"
  remat: str = "none"
  attention_chunk: int | None = None
  logprob_chunk: int = 128

  def __post_init__(self):
    if self.dtype not in DTYPES:
      raise InputError("compute.dtype", repr(self.dtype), f"Use one of {', '.join(DTYPES)}.")
    if self.remat not in REMAT:
      raise InputError("compute.remat", repr(self.remat), f"Use one of {', '.join(REMAT)}.")
    for name in ("attention_chunk", "logprob_chunk"):
      value = getattr(self, name)
      if value is not None and value < 1:
        raise InputError(f"compute.{name}", value, "It must be a positive number of positions.")
