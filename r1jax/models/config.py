"""What a decoder is (ModelConfig) and how it is computed (Compute): frozen, hashable, jit-static."""
from dataclasses import dataclass, fields

from r1jax.errors import InputError

FAMILIES = ("qwen2", "qwen3", "llama", "deepseek_v3")
REMAT = ("nothing", "attention", "dots", "everything")
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
class MLA:
  """Multi-head latent attention (DeepSeek-V3, section 2.1.1). Sizes in elements.

  q_lora, kv_lora: of the latents of queries and of keys and values. A head's queries and keys have qk_nope dimensions
  without position and qk_rope rotated ones, which all heads' keys share; its values have v_dim. softmax_factor: on the
  scale (qk_nope + qk_rope)^-1/2; with YaRN (0.1 mscale ln(factor) + 1)^2.
  """

  q_lora: int
  kv_lora: int
  qk_nope: int
  qk_rope: int
  v_dim: int
  softmax_factor: float = 1.0


@dataclass(frozen=True)
class MoE:
  """Mixture of experts in place of the FFN (DeepSeek-V3, section 2.1.2), but for the first `first_dense` layers.

  Of `experts` routed experts of width d_ff each token takes top_k, out of the kept_groups best of `groups` groups of
  experts; `shared` experts of the same width take every token. route_scale: on the normalised gate weights.
  """

  first_dense: int
  experts: int
  shared: int
  top_k: int
  d_ff: int
  groups: int = 1
  kept_groups: int = 1
  route_scale: float = 1.0


@dataclass(frozen=True)
class ModelConfig:
  """A decoder: RMSNorm, rotary grouped-query attention or MLA, SwiGLU or a mixture of experts. Sizes in elements.

  With mla, head_dim is qk_nope + qk_rope and num_kv_heads is num_heads.
  """

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
  # Ids from num_tokens on have no token in the tokenizer (padded rows of the vocabulary): their probability is 0 in sampler,
  # scorer, teacher and update. None: every id has one.
  num_tokens: int | None = None
  mla: MLA | None = None  # DeepSeek-V3
  moe: MoE | None = None  # DeepSeek-V3

  @property
  def rope_dim(self) -> int:
    """Dimensions of a head that are rotated."""
    return self.mla.qk_rope if self.mla else self.head_dim

  def __post_init__(self):
    if self.family not in FAMILIES:
      raise InputError("model.family", repr(self.family), f"Use one of {', '.join(FAMILIES)}.")
    for field in fields(self):
      value = getattr(self, field.name)
      if field.type is int and (not isinstance(value, int) or value < 1):
        raise InputError(f"model.{field.name}", repr(value), "It must be a positive integer.")
    if self.num_tokens is not None and not 1 <= self.num_tokens <= self.vocab_size:
      raise InputError("model.num_tokens", self.num_tokens, f"Give 1 to vocab_size ({self.vocab_size}), or None.")
    if self.num_heads % self.num_kv_heads:
      raise InputError(
        "model.num_kv_heads", self.num_kv_heads,
        f"It must divide num_heads ({self.num_heads}): each key/value head serves a whole group of query heads.")
    if self.rope_dim % 2:
      raise InputError("model.mla.qk_rope" if self.mla else "model.head_dim", self.rope_dim,
                       "Rotary embedding pairs dimensions: it must be even.")
    if self.mla is not None and (self.head_dim, self.num_kv_heads) != (self.mla.qk_nope + self.mla.qk_rope, self.num_heads):
      raise InputError("model.head_dim, num_kv_heads", (self.head_dim, self.num_kv_heads),
                       f"With mla: qk_nope + qk_rope = {self.mla.qk_nope + self.mla.qk_rope}, and num_heads.")
    if self.moe is not None:
      _check_experts(self.moe, self.num_layers)


def _check_experts(moe: MoE, num_layers: int) -> None:
  if not 0 <= moe.first_dense < num_layers:
    raise InputError("model.moe.first_dense", moe.first_dense, f"Give 0 to num_layers - 1 ({num_layers - 1}).")
  if moe.experts % moe.groups or not 1 <= moe.kept_groups <= moe.groups:
    raise InputError("model.moe.groups, kept_groups", (moe.groups, moe.kept_groups),
                     f"groups must divide experts ({moe.experts}), and kept_groups be 1 to groups.")
  if not 1 <= moe.top_k <= moe.kept_groups * (moe.experts // moe.groups):
    raise InputError("model.moe.top_k", moe.top_k, "Give at least 1, and no more than the kept groups hold.")
  if moe.groups > 1 and moe.experts // moe.groups < 2:
    raise InputError("model.moe.groups", moe.groups, "A group is scored by its two best experts: give it two or more.")


@dataclass(frozen=True)
class Compute:
  """How a model is computed; no field changes what is computed beyond rounding.

  dtype: of activations and of the weights at use; parameters and optimizer stay float32.
  remat: what a layer keeps for the backward pass beside its input, and does not compute again: "nothing", "attention" (its
    output), "dots" (that and products with weights), "everything". None: the fastest on the platform, see transformer.py.
  attention_chunk: queries a block of training attention: scores are [.., chunk, T], never [.., T, T].
  logprob_chunk: tokens a device whose logits exist at one time when log-probs are computed.
  """

  dtype: str = "float32"
  remat: str | None = None
  attention_chunk: int = 48  # the fastest on a CPU at 160 to 4,096 tokens a row; TPUs want hundreds
  logprob_chunk: int = 512

  def __post_init__(self):
    if self.dtype not in DTYPES:
      raise InputError("compute.dtype", repr(self.dtype), f"Use one of {', '.join(DTYPES)}.")
    if self.remat not in (None, *REMAT):
      raise InputError("compute.remat", repr(self.remat), f"Use one of {', '.join(REMAT)}, or None.")
    for name in ("attention_chunk", "logprob_chunk"):
      value = getattr(self, name)
      if not isinstance(value, int) or value < 1:
        raise InputError(f"compute.{name}", value, "It must be a positive number of positions.")
