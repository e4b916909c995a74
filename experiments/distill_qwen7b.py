"""DeepSeek-R1-Distill-Qwen-7B: Qwen2.5-Math-7B on R1's 800,000 samples, SFT alone.

Claim: R1, arXiv 2501.12948v2, Table 15: AIME 2024 55.5, MATH-500 92.8 (pass@1), from supervised training on what R1 wrote.

Command:
  python -m r1jax run experiments/distill_qwen7b.py --set weights=DIR --set stages.distill.documents.path=FILE
  DIR: the hub's folder of Qwen2.5-Math-7B. FILE: rows of `question` and `response`, such as the rejection stage of
  r1_qwen2p5_32b.py leaves (datasets/rejection.jsonl); the paper's own are not published.
The base was trained to 4,096 positions with rotary theta 10,000; distillation at 32,768 runs past that. DeepSeek kept
theta, open-r1 raised it to 300,000. The folder's config.json says max_position_embeddings 4096: set it to 32768 there.

Slice: v5p:4x4x4, 64 chips; one host today, so it cannot be started on its slice yet.
State: not run on a TPU. Checked and lowered from shapes alone, and its smoke variant run, on a CPU in every test run.
Expected: the figures of the claim, from data like the paper's.
"""
from dataclasses import replace

from r1jax.curation.datasets import Rows
from r1jax.data.arithmetic import Corpus
from r1jax.data.templates import R1_ZERO, Template
from r1jax.models.config import Compute, ModelConfig
from r1jax.sharding import MeshShape
from r1jax.stages.context import Experiment
from r1jax.stages.sft import SFT
from r1jax.training.optimizer import AdamW

MODEL = ModelConfig(
  family="qwen2", vocab_size=152_064, d_model=3_584, num_layers=28, num_heads=28, num_kv_heads=4, head_dim=128,
  d_ff=18_944, max_position=32_768, rope_theta=10_000.0, qkv_bias=True)

distill = SFT(
  name="distill",
  documents=Rows(path="data/r1_samples.jsonl"),
  optimizer=AdamW(lr=8e-5, cosine=True, final_lr=8e-6),  # R1, v2, Table 6: to one tenth, appendix B.4.3
  epochs=2,  # 2-3: R1, v2, appendix B.4.3
  batch_size=64,  # the same
  max_length=32_768,  # the same
  template=R1_ZERO,  # ours: the release has a chat template of its own
)
experiment = Experiment(
  name="distill_qwen7b", model=MODEL, stages=(distill,),
  weights="",  # the user names it
  mesh=MeshShape(fsdp=16, tensor=4),
  compute=Compute(dtype="bfloat16", attention_chunk=512, logprob_chunk=128))

smoke = replace(
  experiment, name="distill_qwen7b_smoke", weights=None, tokenizer="bytes", mesh=MeshShape(),
  model=replace(MODEL, vocab_size=260, d_model=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, d_ff=64,
                max_position=256),
  compute=replace(experiment.compute, logprob_chunk=16),
  stages=(replace(distill, documents=Corpus(), epochs=None, steps=2, batch_size=4, max_length=256,
                  template=Template("{question} = ")),))
