"""R1-Zero on real weights: SmolLM2-135M-Instruct learns to answer one-step word questions inside the tags.

Claim: accuracy + format reward alone, from real pre-trained weights and with the tokenizer they came with, raise
held-out accuracy well beyond the noise of the measurement in less than an hour on two CPU cores.

    python -m r1jax run experiments/r1_zero_smollm2.py --set weights=DIR

DIR: a hub folder of SmolLM2-135M-Instruct (config.json, model.safetensors, tokenizer.json).
Hardware: two cores, 12 GB of memory. Time: 41 minutes, on cores shared with other work.
Expected: held-out pass@1 (256 questions x 2 samples) from 0.49 (95% interval 0.43 to 0.54) to 0.80 (0.75 to 0.85), format
from 0.98 to 1.00: experiments/results/r1_zero_smollm2, which this command wrote.

Numbers are ours where no source is given: a batch of 4 questions x 8 samples instead of the paper's 32 x 16, one update a
rollout, and a learning rate for a small model and few steps. The prompt shows two worked examples, since this model does
not follow the paper's zero-shot template, and pre-fills <think>.
"""
import dataclasses

from r1jax.config import Schedule
from r1jax.data.builders import Generated
from r1jax.data.templates import Template
from r1jax.models.config import Compute
from r1jax.models.presets import SMOLLM2_135M
from r1jax.stages.context import Experiment
from r1jax.stages.evaluate import HeldOut
from r1jax.stages.grpo import GRPO
from r1jax.training.optimizer import AdamW

PROMPT = Template(
  "Q: Max has 6 nuts and gets 3 more. How many nuts does Max have?\n"
  "<think> 6 + 3 = 9 </think> <answer> 9 </answer>\n"
  "Q: Kim has 8 keys and gives away 2. How many keys does Kim have?\n"
  "<think> 8 - 2 = 6 </think> <answer> 6 </answer>\n"
  "Q: {question}\n", prefill="<think>")

experiment = Experiment(
  name="r1_zero_smollm2",
  model=SMOLLM2_135M,
  weights="",
  compute=Compute(logprob_chunk=32),
  stages=(GRPO(
    questions=Generated("word_problems", count=4_000, held_out=0.1,
                        parameters={"operations": "+-", "max_number": 10}),
    template=PROMPT,
    stop=("\n",),
    held_out=HeldOut(questions=256, samples=2),
    optimizer=AdamW(lr=7e-6, warmup_steps=4),
    steps=40,
    questions_per_step=4,
    group_size=8,  # the paper's 16, halved for two cores
    minibatches=1,
    max_prompt_length=114,
    max_length=Schedule({0: 140}),
    kl_coef=0.001,  # R1, Nature Methods, "Training details"
    reference_every=400,  # the same
    checkpoint_every=5,
  ),),
)

# Seconds on a CPU: a random model of two layers over bytes; no weights, nothing to learn.
smoke = dataclasses.replace(
  experiment, name="r1_zero_smollm2_smoke", weights=None, tokenizer="bytes",
  model=dataclasses.replace(SMOLLM2_135M, vocab_size=258, d_model=48, num_layers=2, num_heads=3, num_kv_heads=1,
                            head_dim=16, d_ff=64),
  stages=(dataclasses.replace(
    experiment.stages[0], steps=2, questions_per_step=2, group_size=2, max_prompt_length=306,
    max_length=Schedule({0: 322}), held_out=HeldOut(questions=8)),),
)
