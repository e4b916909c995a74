"""R1-Zero in a smaller world, for the notebooks in colab/ and for first looks.

Claim: RL with accuracy + format alone makes a base that mostly guesses work its sums out, and its answers grow.

    python -m r1jax run experiments/r1_zero_quick.py

Hardware: two CPU cores. Nothing is downloaded. Time: two minutes of CPU time, half a minute of it compilation.
Expected: held-out pass@1 (50 questions) from 0.40 to 0.88, mean response length from 11.3 to 17.8 tokens; seed 0, in
colab/01_r1_zero_in_ten_minutes.ipynb.

As r1_zero_tiny, but chains of two to four numbers up to 6, no self-checks, a smaller model and one maximum length. All
numbers are ours.
"""
import dataclasses

from r1_zero_tiny import experiment, smoke

from r1jax.config import Schedule
from r1jax.data.arithmetic import ArithmeticSpec, Corpus, vocabulary
from r1jax.data.questions import Generated
from r1jax.sampling.sampler import Decoding
from r1jax.stages.evaluate import HeldOut
from r1jax.training.optimizer import AdamW

WORLD = ArithmeticSpec(fewest_terms=2, most_terms=4, largest_term=6, largest_total=12, guess=0.62, worked=0.38, checked=0.0)
QUESTIONS = Generated("chains", count=1_200, held_out=WORLD.held_out, parameters={
  "fewest_terms": 2, "most_terms": 4, "largest_term": 6, "largest_total": 12})
WORDS = ("<pad>", "<end>", *vocabulary(WORLD))

base, r1_zero, evaluation = experiment.stages
base = dataclasses.replace(
  base, documents=Corpus(WORLD), optimizer=AdamW(lr=4e-3, warmup_steps=50, decay_steps=700, final_lr=2e-4), steps=700,
  max_length=28)
r1_zero = dataclasses.replace(
  r1_zero, questions=QUESTIONS, held_out=HeldOut(questions=50, every=10), optimizer=AdamW(lr=5e-4, warmup_steps=5),
  steps=40, questions_per_step=8, group_size=8, max_prompt_length=7, max_length=Schedule({0: 28}), reference_every=20,
  decoding=Decoding(slots=65, segment=8), microbatch_tokens=640, logged_samples=4)
experiment = dataclasses.replace(
  experiment, name="r1_zero_quick", claims=(), stages=(base, r1_zero), tokenizer=WORDS,
  model=dataclasses.replace(experiment.model, vocab_size=len(WORDS), d_model=96, num_heads=3, num_kv_heads=3, d_ff=256,
                            max_position=64))

smoke = dataclasses.replace(smoke, name="r1_zero_quick_smoke")
