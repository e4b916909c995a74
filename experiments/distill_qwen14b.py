"""DeepSeek-R1-Distill-Qwen-14B: Qwen2.5-14B on R1's 800,000 samples, SFT alone.

Claim: R1, arXiv 2501.12948v2, Table 15: AIME 2024 69.7, MATH-500 93.9 (pass@1), from supervised training on what R1 wrote.

Command:
  python -m r1jax run experiments/distill_qwen14b.py --set weights=DIR --set stages.distill.documents.path=FILE
  DIR: the hub's folder of Qwen2.5-14B. FILE: rows of `question` and `response`, such as the rejection stage of
  r1_qwen2p5_32b.py leaves (datasets/rejection.jsonl); the paper's own are not published.

Slice: v5p:4x4x8, 128 chips; one host today, so it cannot be started on its slice yet.
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
  family="qwen2", vocab_size=152_064, d_model=5_120, num_layers=48, num_heads=40, num_kv_heads=8, head_dim=128,
  d_ff=13_824, max_position=131_072, rope_theta=1_000_000.0, rms_norm_eps=1e-5, qkv_bias=True)

distill = SFT(
  name="distill",
  documents=Rows(path="data/r1_samples.jsonl"),
  optimizer=AdamW(lr=7e-5, cosine=True, final_lr=7e-6),  # R1, v2, Table 6: to one tenth, appendix B.4.3
  epochs=2,  # 2-3: R1, v2, appendix B.4.3
  batch_size=64,  # the same
  max_length=32_768,  # the same
  template=R1_ZERO,  # ours: the release has a chat template of its own
)
experiment = Experiment(
  name="distill_qwen14b", model=MODEL, stages=(distill,),
  weights="",  # the user names it
  mesh=MeshShape(fsdp=16, tensor=8),
  compute=Compute(dtype="bfloat16", attention_chunk=512, logprob_chunk=128))

smoke = replace(
  experiment, name="distill_qwen14b_smoke", weights=None, tokenizer="bytes", mesh=MeshShape(),
  model=replace(MODEL, vocab_size=260, d_model=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, d_ff=64,
                max_position=256),
  compute=replace(experiment.compute, logprob_chunk=16),
  stages=(replace(distill, documents=Corpus(), epochs=None, steps=2, batch_size=4, max_length=256,
                  template=Template("{question} = ")),))
