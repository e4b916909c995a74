"""R1's distillation: six students trained on the 800,000 samples that R1 wrote, by SFT alone.

Claim: R1, arXiv 2501.12948v2, Table 15 (pass@1), from supervised training on what R1 wrote.

| entry | student | AIME 2024 | MATH-500 | slice | GiB of a chip |
|---|---|---|---|---|---|
| qwen1p5b | Qwen2.5-Math-1.5B | 28.9 | 83.9 | v5p:4x4x4, 64 chips | 10.3 |
| qwen7b | Qwen2.5-Math-7B | 55.5 | 92.8 | v5p:4x4x4, 64 chips | 14.9 |
| qwen14b | Qwen2.5-14B | 69.7 | 93.9 | v5p:4x4x8, 128 chips | 16.1 |
| qwen32b | Qwen2.5-32B | 72.6 | 94.3 | v5p:8x8x8, 512 chips | 17.6 |
| llama8b | Llama-3.1-8B | 50.4 | 89.1 | v5p:4x4x4, 64 chips | 11.4 |
| llama70b | Llama-3.3-70B-Instruct | 70.0 | 94.5 | v5p:8x8x8, 512 chips | 31.7 |

The last column is what an update takes of a chip's 95.7 GiB, as r1jax plan finds it (experiments/results/plan). All six fit;
their updates do 1.27 to 1.37 times the products that they must.

Command, with an entry behind the file:
  python -m r1jax run experiments/distill.py:qwen7b --set weights=DIR --set stages.distill.documents.path=FILE
  DIR: the student's folder. FILE: rows of `question` and `response`, such as the rejection stage of r1_qwen2p5_32b.py
  leaves (datasets/rejection.jsonl); the paper's own are not published.
The maths bases were trained to 4,096 positions with rotary theta 10,000; distillation at 32,768 goes past that. DeepSeek
kept theta, open-r1 raised it to 300,000. Their config.json says max_position_embeddings 4096: set it to 32768 there.

Slices have several hosts, and r1jax starts on one today: none of the six can be started on its slice yet.
State: not run on a TPU. Checked and lowered from shapes alone, and a smoke variant run, on a CPU in every test run.
Expected: the figures of the claim, from data like the paper's.
"""
from dataclasses import replace

from r1jax.curation.datasets import Rows
from r1jax.data.arithmetic import Corpus
from r1jax.data.templates import R1_ZERO, Template
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.presets import (
  LLAMA_3P1_8B,
  LLAMA_3P3_70B,
  QWEN2P5_14B,
  QWEN2P5_32B,
  QWEN2P5_MATH_1P5B,
  QWEN2P5_MATH_7B,
)
from r1jax.sharding import MeshShape
from r1jax.stages.context import Experiment
from r1jax.stages.sft import SFT
from r1jax.training.optimizer import AdamW


def distillation(name: str, model: ModelConfig, optimizer: AdamW, mesh: MeshShape) -> Experiment:
  """A student's experiment: all that the six have in common."""
  return Experiment(
    name=name, model=model,
    weights="",  # the user names it
    mesh=mesh,
    compute=Compute(dtype="bfloat16", logprob_chunk=1_024),
    stages=(SFT(
      name="distill",
      documents=Rows(path="data/r1_samples.jsonl"),
      optimizer=optimizer,
      epochs=2,  # 2-3: R1, v2, appendix B.4.3
      batch_size=64,  # the same
      max_length=32_768,  # the same
      template=R1_ZERO,  # ours: the release has a chat template of its own
    ),))


def tiny(experiment: Experiment) -> Experiment:
  """A student of two random layers over bytes, and two steps on sums: seconds on a CPU."""
  return replace(
    experiment, name=f"{experiment.name}_smoke", weights=None, tokenizer="bytes", mesh=MeshShape(),
    model=replace(experiment.model, vocab_size=260, d_model=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8,
                  d_ff=64, max_position=256, rope_scaling=None),
    compute=replace(experiment.compute, logprob_chunk=16),
    stages=(replace(experiment.stages[0], documents=Corpus(), epochs=None, steps=2, batch_size=4, max_length=256,
                    template=Template("{question} = ")),))


MATH_1P5B = replace(QWEN2P5_MATH_1P5B, max_position=32_768)  # config.json, stretched as said above
MATH_7B = replace(QWEN2P5_MATH_7B, max_position=32_768)  # the same

qwen1p5b = distillation(
  "distill_qwen1p5b", MATH_1P5B,
  AdamW(lr=1e-4, cosine=True, final_lr=1e-5),  # R1, v2, Table 6: to one tenth, appendix B.4.3
  MeshShape(fsdp=32, tensor=2))
qwen7b = distillation(
  "distill_qwen7b", MATH_7B,
  AdamW(lr=8e-5, cosine=True, final_lr=8e-6),  # R1, v2, Table 6: to one tenth, appendix B.4.3
  MeshShape(fsdp=16, tensor=4))
qwen14b = distillation(
  "distill_qwen14b", QWEN2P5_14B,
  AdamW(lr=7e-5, cosine=True, final_lr=7e-6),  # R1, v2, Table 6: to one tenth, appendix B.4.3
  MeshShape(fsdp=16, tensor=8))
qwen32b = distillation(
  "distill_qwen32b", QWEN2P5_32B,
  AdamW(lr=6e-5, cosine=True, final_lr=6e-6),  # R1, v2, Table 6: to one tenth, appendix B.4.3
  MeshShape(fsdp=64, tensor=8))
llama8b = distillation(
  "distill_llama8b", LLAMA_3P1_8B,
  AdamW(lr=5e-5, cosine=True, final_lr=5e-6),  # R1, v2, Table 6: to one tenth, appendix B.4.3
  MeshShape(fsdp=8, tensor=8))
llama70b = distillation(
  "distill_llama70b", LLAMA_3P3_70B,
  AdamW(lr=2e-5, cosine=True, final_lr=2e-6),  # R1, v2, Table 6: to one tenth, appendix B.4.3
  MeshShape(fsdp=64, tensor=8))

qwen1p5b_smoke = tiny(qwen1p5b)
qwen7b_smoke = tiny(qwen7b)
qwen14b_smoke = tiny(qwen14b)
qwen32b_smoke = tiny(qwen32b)
llama8b_smoke = tiny(llama8b)
llama70b_smoke = tiny(llama70b)
