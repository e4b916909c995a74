"""R1-Zero on Qwen2.5-Math-1.5B and GSM8K, on one TPU host.

Claim: accuracy + format rewards alone, with R1-Zero's geometry (32 questions x 16 samples a step, 16 steps a
rollout), lift the held-out pass@1 of a 1.5B maths base on grade-school questions and teach it the tags of the
template.

Command:
  python -m r1jax run experiments/r1_zero_qwen2p5_math_1p5b.py --set weights=DIR
  DIR: the hub's folder of Qwen/Qwen2.5-Math-1.5B. The questions: data/gsm8k/train.jsonl below the working
  directory (GSM8K's training file, fields `question` and `answer`), or --set
  stages.r1_zero.questions.path=FILE.
  On a laptop: --smoke, with a random model of the same family; it shows that everything runs, nothing else.

Slice: v6e, one host of 8 chips (2x4), mesh fsdp 8.

State: not run on a TPU. Checked and lowered from shapes alone, and its smoke variant run, on a CPU in every
test run.

Plan (r1jax plan; experiments/results/plan): all programs fit; a chip holds 13.9 of 31.2 GiB at its worst, while
held-out questions are decoded, 7.3 of them cache; 8.9 in the update, whose products are 1.28 times what they must be.
32,768 tokens fit as well, with 128 slots: 24.3 GiB in the update. The smallest v5e slice on which 4,096 fit is 2x4, 13.8 of
15.75 GiB (--suggest).
Time, planned and not measured: 9.8 s a step, 63% of it sampling; 800 steps in 2 hours, 17 chip-hours. Assumed: half
of what each program is bound by, and sequences of a quarter of the longest on average.

Expected: the papers have no run of this size. The base answers 76.8% of GSM8K right with eight worked
examples in the prompt (Qwen2.5-Math technical report, arXiv 2409.12122); here there are none, so the run
starts lower, and has done its work when held-out pass@1 passes that figure without examples.
"""
from dataclasses import replace

from r1jax.config import Schedule
from r1jax.data.questions import Generated, Jsonl
from r1jax.data.templates import R1_ZERO, Template
from r1jax.models.config import Compute
from r1jax.models.presets import QWEN2P5_MATH_1P5B
from r1jax.sampling.choice import Sampling
from r1jax.sampling.sampler import Decoding
from r1jax.sharding import MeshShape
from r1jax.stages.context import Experiment
from r1jax.stages.evaluate import HeldOut
from r1jax.stages.grpo import GRPO
from r1jax.training.optimizer import AdamW

r1_zero = GRPO(
  questions=Jsonl(path="data/gsm8k/train.jsonl", answer_pattern="#### (.+)", remove_commas=True),
  held_out=HeldOut(
    questions=512, samples=4, every=80,  # ours
    sampling=Sampling(temperature=0.6, top_p=0.95)),  # R1, arXiv 2501.12948v2, appendix D.1
  # R1, v2, appendix B.4.1 for Qwen-32B-Zero; R1-Zero's own is 3e-6. Warm-up: ours.
  optimizer=AdamW(lr=2e-6, warmup_steps=16),
  steps=800,  # ours: two lives of the reference, about 3.8 passes over the 6,700 training questions
  template=R1_ZERO,  # R1, v1, Table 1
  questions_per_step=32,  # R1, Nature, Methods, training details
  group_size=16,  # the same
  minibatches=16,  # the same: 8,192 outputs a rollout in 16 minibatches, one inner epoch
  # The Math bases were trained to 4,096 tokens with theta 10,000. R1-Zero's 32,768 would run eight times past
  # that, so prompt and response stay inside it. YaRN would reach further, but it is another model than the
  # hub's folder declares, and GSM8K does not need it.
  max_length=Schedule({0: 4_096}),
  max_prompt_length=512,  # ours: the template takes about 90 tokens, GSM8K's longest question under 300
  sampling=Sampling(temperature=1.0),  # R1, Nature, Methods, training details
  clip_low=10.0, clip_high=10.0,  # R1, v2, section 3.2.1 for R1's first RL stage; inferred for R1-Zero
  kl_coef=0.001,  # R1, Nature, Methods, training details
  reference_every=400,  # the same
  decoding=Decoding(slots=512, segment=128, prefill_rows=32),  # ours: 64 sequences a chip
  verifier_workers=8)  # ours

experiment = Experiment(
  name="r1_zero_qwen2p5_math_1p5b", model=QWEN2P5_MATH_1P5B, stages=(r1_zero,),
  weights="",  # the user names it
  mesh=MeshShape(fsdp=8),
  compute=Compute(dtype="bfloat16", logprob_chunk=1_024))

smoke = replace(
  experiment, name="r1_zero_qwen2p5_math_1p5b_smoke", weights=None, tokenizer="bytes", mesh=MeshShape(),
  model=replace(QWEN2P5_MATH_1P5B, vocab_size=260, d_model=32, num_layers=2, num_heads=4, num_kv_heads=2,
                head_dim=8, d_ff=64, max_position=64),
  compute=replace(experiment.compute, logprob_chunk=16),
  stages=(replace(
    r1_zero, questions=Generated(generator="sums", count=200), template=Template("{question} = "),
    held_out=replace(r1_zero.held_out, questions=8, samples=1), steps=2,
    questions_per_step=4, group_size=4, minibatches=2, max_prompt_length=40,
    max_length=Schedule({0: 48}), reference_every=2, verifier_workers=1),))
