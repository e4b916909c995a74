"""DeepSeek-R1: the whole pipeline at the paper's numbers on DeepSeek-V3-Base, 671 billion parameters.

Claim: R1-Zero reaches AIME 2024 77.9, R1 79.8 and MATH-500 97.3, AlpacaEval 2.0 87.6 (Nature 645, 633-638, Table 2).

Command:
  python -m r1jax run experiments/r1_deepseek_v3.py --set weights=DIR [--stage NAME]
  Data and judges: as r1_qwen2p5_32b.py, whose stages these are but for what is set here.
  On a laptop: --smoke, with a random DeepSeek-V3 of a few thousand parameters.

Slice: v5p:8x8x8, 512 chips, mesh fsdp 8 x tensor 8 x expert 8 (the paper had 512 H800).
Plan of R1-Zero (r1jax plan; experiments/results/plan): it does not fit yet. At 32,768 tokens sampling does, with 91.8 of a
chip's 95.7 GiB (30.1 of state and reference, 26.4 of rollout weights, 34.5 of cache); the update needs 98.0, and 81.4 with
mesh.fsdp=4 and mesh.tensor=16. At 65,536 sampling needs 126.1 GiB, 91.7 with 64 slots, the update 139.4. The plan counts 10
times the products that an update must do: each device gives its experts the tokens of the others' as well (models/moe.py),
and whether the compiler leaves those out is not seen.
State: not run. Checked and lowered from shapes alone on a CPU in every test run. What is missing before it can start:
reading the hub's FP8 weights (models/huggingface.py does not know the family yet) and more than one host.
Time: the paper's 198 h for R1-Zero and 80 h for R1 on 512 H800 (V2, appendix B.4.4); here nobody knows.
Expected: the figures of the claim, from questions like the paper's.
"""
from dataclasses import replace

from r1_qwen2p5_32b import (
  cold_start,
  cold_start_data,
  evaluation,
  experiment,
  helpful,
  pairs,
  r1_zero,
  rejection,
  rl_1,
  rl_2,
  safety,
  safety_labels,
  sft,
  smoke,
)

from r1jax.config import Schedule
from r1jax.models.config import MLA, MoE
from r1jax.models.presets import DEEPSEEK_V3
from r1jax.sampling.sampler import Decoding
from r1jax.sharding import MeshShape

DECODING = Decoding(slots=128, segment=128, prefill_rows=8)  # ours: 16 sequences for the 64 chips of a data-parallel part


def fitted(stage):
  """A stage that samples, with so many slots."""
  if hasattr(stage, "draws"):
    return replace(stage, draws=replace(stage.draws, decoding=DECODING))
  return replace(stage, decoding=DECODING)


r1_zero = replace(
  r1_zero,
  optimizer=replace(r1_zero.optimizer, lr=3e-6),  # Nature, Methods, "Training details"
  max_length=Schedule({0: 32_768, 8_200: 65_536}))  # the same
stages = (
  fitted(r1_zero), fitted(cold_start_data), cold_start, fitted(rl_1), fitted(rejection), sft, fitted(pairs), helpful,
  fitted(safety_labels), safety, fitted(rl_2), fitted(evaluation))
experiment = replace(
  experiment, name="r1_deepseek_v3", model=DEEPSEEK_V3, stages=stages, mesh=MeshShape(fsdp=8, tensor=8, expert=8))

smoke = replace(
  smoke, name="r1_deepseek_v3_smoke",
  model=replace(DEEPSEEK_V3, vocab_size=260, d_model=32, num_layers=2, num_heads=4, num_kv_heads=4, head_dim=12, d_ff=64,
                max_position=128, rope_scaling=None, mla=MLA(24, 16, 8, 4, 8),
                moe=MoE(first_dense=1, experts=8, shared=1, top_k=3, d_ff=16, groups=4, kept_groups=2, route_scale=2.5)))
