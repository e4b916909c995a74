"""R1-Zero on Qwen2.5-7B (the general base) and competition maths, with the context doubled in mid-run.

Claim: R1-Zero's recipe works on a 7B base inside the lengths that such a base can use. R1 reports both sides:
its early RL on a 7B dense model "consistently failed" on AIME, repeating itself as answers grew, and its
Qwen2-Math-7B-Zero reached 22.3 on AIME 2024 in about 10,000 updates (arXiv 2501.12948v2, appendices G.1 and
F.1). This run asks which of the two a general base follows.

Command:
  python -m r1jax run experiments/r1_zero_qwen2p5_7b.py --set weights=DIR
  DIR: the hub's folder of Qwen/Qwen2.5-7B. The questions: data/maths/train.jsonl below the working
  directory, one JSON object a line with `problem` and `answer` (R1's 26K maths questions were not
  published; the user brings a set of that kind), or --set stages.r1_zero.questions.path=FILE.
  On a laptop: --smoke, with a random model of the same family; it shows that everything runs, nothing else.

Slice: v5p:4x4x4, 64 chips on 16 hosts, mesh fsdp 32 x tensor 2.
r1jax runs on one host today, so this file cannot be started on its slice yet.

State: not run on a TPU. Checked and lowered from shapes alone, and its smoke variant run, on a CPU in every
test run.

Plan (r1jax plan; experiments/results/plan): all programs fit, at 8,192 and 16,384 tokens; a chip holds 24.0 of 95.7
GiB at its worst, while slots are halved at 16,384, 14.4 of them cache; 15.3 in the update, whose products are
1.28 times what they must be. 32,768 tokens fit as well (38.3 GiB; on v5e:16x16 12.3 of 15.75), and 65,536 with
mesh.fsdp=16 and mesh.sequence=2 (68.8 GiB).
Time, planned and not measured: 43 s a step at 16,384 tokens, 65% of it sampling; 10,000 steps in 5 days, 7,700
chip-hours. Assumed: half of what each program is bound by, and sequences of a quarter of the longest on average.

Expected: no figure for this base in the papers. Nearest: AIME 2024 22.3 for Qwen2-Math-7B-Zero (above), and
MATH-500 52.4 -> 77.2 for zero RL of Qwen2.5-Math-7B on 8K questions (the authors' page of simpleRL-reason).
Both are maths bases: a general one may end lower.
"""
from dataclasses import replace

from r1jax.config import Schedule
from r1jax.data.questions import Generated, Jsonl
from r1jax.data.templates import R1_ZERO, Template
from r1jax.models.config import Compute
from r1jax.models.presets import QWEN2P5_7B
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
  # R1, v2, appendix B.4.1 for Qwen-32B-Zero; R1-Zero's own is 3e-6. Warm-up: ours.
  optimizer=AdamW(lr=2e-6, warmup_steps=16),
  steps=10_000,  # R1, v2, appendix F.1: "approximately 10,000" updates of Qwen2-Math-7B-Zero
  template=R1_ZERO,  # R1, v1, Table 1
  questions_per_step=32,  # R1, Nature, Methods, training details
  group_size=16,  # the same
  minibatches=16,  # the same: 8,192 outputs a rollout in 16 minibatches, one inner epoch
  # A quarter of R1-Zero's 32,768 -> 65,536 (ours: R1 gives no length for 7B, and saw repetition as answers
  # grew), doubled at R1-Zero's step 8,200 (R1, Nature, Methods, training details).
  max_length=Schedule({0: 8_192, 8_200: 16_384}),
  max_prompt_length=1_024,  # ours
  sampling=Sampling(temperature=1.0),  # R1, Nature, Methods, training details
  clip_low=10.0, clip_high=10.0,  # R1, v2, section 3.2.1 for R1's first RL stage; inferred for R1-Zero
  kl_coef=0.001,  # R1, Nature, Methods, training details
  reference_every=400,  # the same
  decoding=Decoding(slots=1_024, segment=128, prefill_rows=64),  # ours: 32 sequences a data-parallel device
  verifier_workers=16)  # ours

experiment = Experiment(
  name="r1_zero_qwen2p5_7b", model=QWEN2P5_7B, stages=(r1_zero,),
  weights="",  # the user names it
  mesh=MeshShape(fsdp=32, tensor=2),
  compute=Compute(dtype="bfloat16", logprob_chunk=1_024))

smoke = replace(
  experiment, name="r1_zero_qwen2p5_7b_smoke", weights=None, tokenizer="bytes", mesh=MeshShape(),
  model=replace(QWEN2P5_7B, vocab_size=260, d_model=32, num_layers=2, num_heads=4, num_kv_heads=2,
                head_dim=8, d_ff=64, max_position=64),
  compute=replace(experiment.compute, logprob_chunk=16),
  stages=(replace(
    r1_zero, questions=Generated(generator="sums", count=200), template=Template("{question} = "),
    held_out=replace(r1_zero.held_out, questions=8, samples=1), steps=4,
    questions_per_step=4, group_size=4, minibatches=2, max_prompt_length=40,
    max_length=Schedule({0: 48, 2: 56}), reference_every=2, verifier_workers=1),))
