"""Qwen-32B-Zero: R1's own R1-Zero run on an open base, Qwen2.5-32B.

Claim: R1, arXiv 2501.12948v2, appendix F.1: more than 10K steps of R1-Zero's RL on the Qwen2.5-32B base reach
AIME 2024 47.0 (cons@64 60.0), MATH-500 91.6, GPQA Diamond 55.0 and LiveCodeBench 40.2.

Command:
  python -m r1jax run experiments/r1_zero_qwen2p5_32b.py --set weights=DIR
  DIR: the hub's folder of Qwen/Qwen2.5-32B. The questions: data/maths/train.jsonl below the working
  directory, one JSON object a line with `problem` and `answer` (R1 trained on maths, code and STEM
  questions that were not published; here it is maths, and the user brings the set), or --set
  stages.r1_zero.questions.path=FILE.
  On a laptop: --smoke, with a random model of the same family; it shows that everything runs, nothing else.

Slice: v5p:8x8x8, 512 chips on 128 hosts (R1-Zero had 512 H800), mesh fsdp 64 x tensor 8. r1jax runs on
one host today, so this file cannot be started on its slice yet.

State: not run on a TPU. Checked and lowered from shapes alone, and its smoke variant run, on a CPU in every
test run.

Plan (r1jax plan; experiments/results/plan): all programs fit; a chip holds 42.5 of 95.7 GiB at its worst, while decoding,
32.2 of them cache; 17.9 in the update, whose products are 1.28 times what they must be.
Time, planned and not measured: 80 s a step, 76% of it sampling; 10,400 steps in 10 days, 119,000 chip-hours. Assumed:
half of what each program is bound by, and sequences of a quarter of the longest on average. R1-Zero, a larger model,
took 68.5 s a step on as many H800 (198 h for 10,400: v2, appendix B.4.4).

Expected: the figures of the claim, from a run on maths, code and STEM. On maths alone: MATH-500 91.6 and AIME
2024 47.0 are the marks.
"""
from dataclasses import replace

from r1jax.config import Schedule
from r1jax.data.questions import Generated, Jsonl
from r1jax.data.templates import R1_ZERO, Template
from r1jax.models.config import Compute
from r1jax.models.presets import QWEN2P5_32B
from r1jax.sampling.choice import Sampling
from r1jax.sampling.sampler import Decoding
from r1jax.sharding import MeshShape
from r1jax.stages.context import Experiment
from r1jax.stages.evaluate import HeldOut
from r1jax.stages.grpo import GRPO
from r1jax.training.optimizer import AdamW

r1_zero = GRPO(
  questions=Jsonl(path="data/maths/train.jsonl", question_field="problem", held_out=0.05),
  held_out=HeldOut(
    questions=256, every=400,  # ours
    samples=16,  # R1, arXiv 2501.12948v2, appendix D.1: k = 16 for MATH
    sampling=Sampling(temperature=0.6, top_p=0.95)),  # the same
  optimizer=AdamW(lr=2e-6, warmup_steps=16),  # R1, v2, appendix B.4.1: Qwen-32B-Zero; warm-up: ours
  steps=10_400,  # "over 10K" (R1, v2, appendix F.1): as many as R1-Zero (Nature, Methods, training details)
  template=R1_ZERO,  # R1, v1, Table 1
  questions_per_step=32,  # R1, v2, appendix B.4.1
  group_size=16,  # the same
  minibatches=16,  # R1, Nature, Methods: 8,192 outputs a rollout in 16 minibatches, one inner epoch
  max_length=Schedule({0: 32_768}),  # R1, v2, appendix B.4.1; no extension for this model
  max_prompt_length=1_024,  # ours
  sampling=Sampling(temperature=1.0),  # R1, v2, appendix B.4.1
  clip_low=10.0, clip_high=10.0,  # R1, v2, section 3.2.1 for R1's first RL stage; inferred for R1-Zero
  kl_coef=0.001,  # R1, v2, appendix B.4.1
  reference_every=400,  # the same
  decoding=Decoding(slots=2_048, segment=128, prefill_rows=64),  # ours: 32 sequences a data-parallel device
  verifier_workers=32)  # ours

experiment = Experiment(
  name="r1_zero_qwen2p5_32b", model=QWEN2P5_32B, stages=(r1_zero,),
  weights="",  # the user names it
  mesh=MeshShape(fsdp=64, tensor=8),
  compute=Compute(dtype="bfloat16", logprob_chunk=1_024))

smoke = replace(
  experiment, name="r1_zero_qwen2p5_32b_smoke", weights=None, tokenizer="bytes", mesh=MeshShape(),
  model=replace(QWEN2P5_32B, vocab_size=260, d_model=32, num_layers=2, num_heads=4, num_kv_heads=2,
                head_dim=8, d_ff=64, max_position=64),
  compute=replace(experiment.compute, logprob_chunk=16),
  stages=(replace(
    r1_zero, questions=Generated(generator="sums", count=200), template=Template("{question} = "),
    held_out=replace(r1_zero.held_out, questions=8, samples=1), steps=2,
    questions_per_step=4, group_size=4, minibatches=2, max_prompt_length=40,
    max_length=Schedule({0: 48}), reference_every=2, verifier_workers=1),))
