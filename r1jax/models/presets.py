"""Models that experiments train, as the config.json of their weights has them.

`config_from_folder` reads the same from a folder of weights; a run refuses a folder that says otherwise. Sizes in elements.
"""
from r1jax.models.config import MLA, ModelConfig, MoE, RopeScaling

SMOLLM2_135M = ModelConfig(  # config.json of HuggingFaceTB/SmolLM2-135M-Instruct
  family="llama", vocab_size=49_152, d_model=576, num_layers=30, num_heads=9, num_kv_heads=3, head_dim=64, d_ff=1_536,
  max_position=8_192, rope_theta=100_000.0, rms_norm_eps=1e-5, tie_embeddings=True)

QWEN2P5_MATH_1P5B = ModelConfig(  # config.json of Qwen/Qwen2.5-Math-1.5B
  family="qwen2", vocab_size=151_936, d_model=1_536, num_layers=28, num_heads=12, num_kv_heads=2, head_dim=128, d_ff=8_960,
  max_position=4_096, rope_theta=10_000.0, qkv_bias=True, tie_embeddings=True)

QWEN2P5_MATH_7B = ModelConfig(  # config.json of Qwen/Qwen2.5-Math-7B
  family="qwen2", vocab_size=152_064, d_model=3_584, num_layers=28, num_heads=28, num_kv_heads=4, head_dim=128, d_ff=18_944,
  max_position=4_096, rope_theta=10_000.0, qkv_bias=True)

# Theta and window are not those of the maths bases (from memory: no paper lists them).
QWEN2P5_7B = ModelConfig(  # config.json of Qwen/Qwen2.5-7B
  family="qwen2", vocab_size=152_064, d_model=3_584, num_layers=28, num_heads=28, num_kv_heads=4, head_dim=128, d_ff=18_944,
  max_position=131_072, rope_theta=1_000_000.0, qkv_bias=True)

QWEN2P5_14B = ModelConfig(  # config.json of Qwen/Qwen2.5-14B
  family="qwen2", vocab_size=152_064, d_model=5_120, num_layers=48, num_heads=40, num_kv_heads=8, head_dim=128, d_ff=13_824,
  max_position=131_072, rope_theta=1_000_000.0, rms_norm_eps=1e-5, qkv_bias=True)

QWEN2P5_32B = ModelConfig(  # config.json of Qwen/Qwen2.5-32B
  family="qwen2", vocab_size=152_064, d_model=5_120, num_layers=64, num_heads=40, num_kv_heads=8, head_dim=128, d_ff=27_648,
  max_position=131_072, rope_theta=1_000_000.0, rms_norm_eps=1e-5, qkv_bias=True)

LLAMA_3P1_8B = ModelConfig(  # config.json of meta-llama/Llama-3.1-8B
  family="llama", vocab_size=128_256, d_model=4_096, num_layers=32, num_heads=32, num_kv_heads=8, head_dim=128, d_ff=14_336,
  max_position=131_072, rope_theta=500_000.0, rope_scaling=RopeScaling("llama3", 8.0, 8_192), rms_norm_eps=1e-5)

LLAMA_3P3_70B = ModelConfig(  # config.json of meta-llama/Llama-3.3-70B-Instruct
  family="llama", vocab_size=128_256, d_model=8_192, num_layers=80, num_heads=64, num_kv_heads=8, head_dim=128, d_ff=28_672,
  max_position=131_072, rope_theta=500_000.0, rope_scaling=RopeScaling("llama3", 8.0, 8_192), rms_norm_eps=1e-5)

DEEPSEEK_V3 = ModelConfig(  # arXiv 2412.19437, section 4.2, and the config.json of deepseek-ai/DeepSeek-V3-Base
  family="deepseek_v3", vocab_size=129_280, d_model=7_168, num_layers=61, num_heads=128, num_kv_heads=128, head_dim=192,
  d_ff=18_432, max_position=163_840, rope_theta=10_000.0,
  rope_scaling=RopeScaling("yarn", factor=40.0, original_max_position=4_096, attention_factor=1.0),
  mla=MLA(q_lora=1_536, kv_lora=512, qk_nope=128, qk_rope=64, v_dim=128,
          softmax_factor=1.3688879454113936**2),  # (0.1 ln 40 + 1)^2
  moe=MoE(first_dense=3, experts=256, shared=1, top_k=8, d_ff=2_048, groups=8, kept_groups=4, route_scale=2.5))
