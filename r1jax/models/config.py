"""What a decoder is (ModelConfig) and how it is computed (Compute): frozen, hashable, jit-static."""
from dataclasses import dataclass
from typing import Literal

from r1jax.errors import InputError
from r1jax.fields import Count, Natural, Positive, check_fields

Family = Literal["qwen2", "qwen3", "llama", "deepseek_v3"]
Remat = Literal["nothing", "attention", "dots", "everything"]
DType = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class RopeScaling:
  """Stretching of rotary frequencies beyond the pre-training window; field names as in the hub's configs.

  kind "llama3" uses low_freq_factor and high_freq_factor; kind "yarn" (arXiv 2309.00071) uses beta_fast,
  beta_slow and attention_factor (None: 0.1 ln(factor) + 1).
  """

  kind: Literal["llama3", "yarn"]
  factor: Positive
  original_max_position: Count
  low_freq_factor: Positive = 1.0
  high_freq_factor: Positive = 4.0
  beta_fast: Positive = 32.0
  beta_slow: Positive = 1.0
  attention_factor: Positive | None = None

  def __post_init__(self):
    check_fields(self, "rope_scaling")


@dataclass(frozen=True)
class MLA:
  """Multi-head latent attention (DeepSeek-V3, section 2.1.1). Sizes in elements.

  q_lora, kv_lora: of the latents of queries and of keys and values. A head's queries and keys have qk_nope dimensions
  without position and qk_rope rotated ones, which all heads' keys share; its values have v_dim. softmax_factor: on the
  scale (qk_nope + qk_rope)^-1/2; with YaRN (0.1 mscale ln(factor) + 1)^2.
  """

  q_lora: Count
  kv_lora: Count
  qk_nope: Count
  qk_rope: Count
  v_dim: Count
  softmax_factor: Positive = 1.0


@dataclass(frozen=True)
class MoE:
  """Mixture of experts in place of the FFN (DeepSeek-V3, section 2.1.2), but for the first `first_dense` layers.

  Of `experts` routed experts of width d_ff each token takes top_k, out of the kept_groups best of `groups` groups of
  experts; `shared` experts of the same width take every token. route_scale: on the normalised gate weights.
  """

  first_dense: Natural
  experts: Count
  shared: Natural
  top_k: Count
  d_ff: Count
  groups: Count = 1
  kept_groups: Count = 1
  route_scale: Positive = 1.0


@dataclass(frozen=True)
class ModelConfig:
  """A decoder: RMSNorm, rotary grouped-query attention or MLA, SwiGLU or a mixture of experts. Sizes in elements.

  With mla, head_dim is qk_nope + qk_rope and num_kv_heads is num_heads.
  """

  family: Family  # one of FAMILIES; decides the hub's names on import and export, nothing else
  vocab_size: Count
  d_model: Count
  num_layers: Count
  num_heads: Count
  num_kv_heads: Count
  head_dim: Count
  d_ff: Count
  max_position: Count
  rope_theta: Positive = 10_000.0
  rope_scaling: RopeScaling | None = None
  rms_norm_eps: Positive = 1e-6
  qkv_bias: bool = False  # Qwen2/2.5
  qk_norm: bool = False  # Qwen3: RMSNorm over head_dim of queries and keys, before the rotation
  tie_embeddings: bool = False
  # Ids from num_tokens on have no token in the tokenizer (padded rows of the vocabulary): their probability is 0 in sampler,
  # log-probs, teacher and update. None: every id has one.
  num_tokens: Count | None = None
  mla: MLA | None = None  # DeepSeek-V3
  moe: MoE | None = None  # DeepSeek-V3

  @property
  def rope_dim(self) -> int:
    """Dimensions of a head that are rotated."""
    return self.mla.qk_rope if self.mla else self.head_dim

  def __post_init__(self):
    check_fields(self, "model")
    if self.num_tokens is not None and self.num_tokens > self.vocab_size:
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
  if moe.first_dense >= num_layers:
    raise InputError("model.moe.first_dense", moe.first_dense, f"Give 0 to num_layers - 1 ({num_layers - 1}).")
  if moe.experts % moe.groups or moe.kept_groups > moe.groups:
    raise InputError("model.moe.groups, kept_groups", (moe.groups, moe.kept_groups),
                     f"groups must divide experts ({moe.experts}), and kept_groups be 1 to groups.")
  if moe.top_k > moe.kept_groups * (moe.experts // moe.groups):
    raise InputError("model.moe.top_k", moe.top_k, "Give at least 1, and no more than the kept groups hold.")
  if moe.groups > 1 and moe.experts // moe.groups < 2:
    raise InputError("model.moe.groups", moe.groups, "A group is scored by its two best experts: give it two or more.")


@dataclass(frozen=True)
class Compute:
  """How a model is computed; no field changes what is computed beyond rounding.

  dtype: of activations and of the weights at use; parameters and optimizer stay float32.
  remat: what a layer keeps for the backward pass beside its input, and does not compute again: "nothing", "attention" (its
    queries, keys, values and output), "dots" (its output and products with weights), "everything". None: the fastest on the
    platform, see transformer.py.
  attention_chunk: queries of a block where attention is "chunks": scores are [.., chunk, T], never [.., T, T].
  logprob_chunk: tokens a device whose logits exist at one time when log-probs are computed.
  attention: "chunks" is XLA's own operations on blocks of attention_chunk queries, "splash" a kernel for TPUs on blocks of
    up to 1,024. None: the fastest on the platform, see attention.py.
  offload: the inputs of layers, which the backward pass starts from, wait for it in the host's memory.
  """

  dtype: DType = "float32"
  remat: Remat | None = None
  attention_chunk: Count = 48  # the fastest on a CPU at 160 to 4,096 tokens a row
  logprob_chunk: Count = 512
  attention: Literal["chunks", "splash"] | None = None
  offload: bool = False

  def __post_init__(self):
    check_fields(self, "compute")
    if self.offload and self.remat == "everything":
      raise InputError("compute.offload", 'True, with remat "everything"',
                       "A layer that keeps everything does not start again from its input: choose another remat.")
