"""R1-Zero in miniature: what Figure 1 of the paper shows, from scratch, on a laptop.

Claim: on a base model that has seen guesses, workings and self-checks, RL with accuracy + format alone makes accuracy
climb and answers grow, because working things out pays; a maximum length that bites holds it back, and when the length
is doubled in mid-run, accuracy jumps.

    python -m r1jax run experiments/r1_zero_tiny.py

Hardware: two CPU cores, 2 GB of memory. Nothing is downloaded. Time: 8 to 10 minutes on one core, beside another run.
Expected, on test questions, on seeds 101 to 105: pass@1 from 0.14-0.15 to 0.98-1.00, mean response length from 11.1-12.2 to
22.2 tokens; on held-out questions a jump from 0.47-0.62 to 0.94-1.00 in the twenty steps after the maximum length doubles.
Summaries, curves and claims are in experiments/results/r1_zero_tiny.

The world: chains of three to six one-digit sums, one token a number (r1jax/data/arithmetic.py). The first stage
pre-trains the base on a corpus of them, mostly short guesses that are mostly wrong; the second is R1-Zero. The paper's
numbers are kept where they do not depend on size; the others are ours.
"""
import dataclasses

from r1jax.config import Schedule
from r1jax.data.arithmetic import ArithmeticSpec, Corpus, vocabulary
from r1jax.data.questions import Generated
from r1jax.data.templates import Template
from r1jax.evaluation.claims import Claim
from r1jax.models.config import ModelConfig
from r1jax.stages.compare import Benchmark, Compare
from r1jax.stages.context import Experiment
from r1jax.stages.evaluate import HeldOut
from r1jax.stages.grpo import GRPO
from r1jax.stages.sft import SFT
from r1jax.training.optimizer import AdamW

WORLD = ArithmeticSpec(guess=0.75, worked=0.17, checked=0.08)
WORDS = ("<pad>", "<end>", *vocabulary(WORLD))
PROMPT = Template("{question}")  # the base has seen nothing else: there is no conversation to set up

QUESTIONS = Generated("chains", count=12_000, held_out=WORLD.held_out)

base = SFT(
  name="base",
  documents=Corpus(WORLD),
  template=PROMPT,
  train_on_prompt=True,  # pre-training: every token counts
  optimizer=AdamW(lr=3e-3, warmup_steps=50, decay_steps=1_500, final_lr=1e-4),
  steps=1_500,
  batch_size=32,  # rows, of about three documents each
  max_length=64,
)
r1_zero = GRPO(
  questions=QUESTIONS,
  template=PROMPT,
  held_out=HeldOut(questions=512, every=20),
  optimizer=AdamW(lr=2e-4, warmup_steps=10),
  steps=160,
  questions_per_step=16,  # the paper's 32, halved for two cores
  group_size=8,  # the paper's 16, halved
  minibatches=1,  # the paper's 16 updates a rollout would make 12 rollouts of this run
  max_prompt_length=11,  # six numbers and five signs
  # Prompt and response. At first a chain of six cannot be worked out (it takes 27 tokens of the 23 that are left), nor
  # any answer checked. The paper doubles from 32,768 to 65,536 at step 8,200 of 10,400.
  max_length=Schedule({0: 34, 60: 68}),
  mask_truncated=True,
  reference_every=50,  # the paper's 400, of 10,400 steps
  checkpoint_every=20,
  # The paper's, and the defaults of GRPO: kl_coef 0.001, clip 10, temperature 1, accuracy + format of equal weight.
)
evaluation = Compare(policies=("base", "r1_zero"), benchmarks=(Benchmark("chains", QUESTIONS, questions=512),),
                     template=PROMPT, max_prompt_length=11, max_length=68)
experiment = Experiment(
  name="r1_zero_tiny",
  model=ModelConfig(family="llama", vocab_size=len(WORDS), d_model=128, num_layers=2, num_heads=4, num_kv_heads=4,
                    head_dim=32, d_ff=384, max_position=128, tie_embeddings=True),
  tokenizer=WORDS,
  stages=(base, r1_zero, evaluation),
  claims=(
    Claim("accuracy climbs", "r1_zero chains/pass_at_1", "base chains/pass_at_1", by=0.7, apart=True),
    Claim("answers grow", "r1_zero chains/length", "base chains/length", by=5),
  ),
)

# Half a minute on a CPU, most of it compilation; it learns nothing.
smoke = dataclasses.replace(
  experiment, name="r1_zero_tiny_smoke", claims=(),
  model=dataclasses.replace(experiment.model, d_model=32, num_heads=2, num_kv_heads=2, head_dim=16, d_ff=64),
  stages=(
    dataclasses.replace(base, steps=8, batch_size=8, optimizer=AdamW(lr=3e-3)),
    dataclasses.replace(r1_zero, steps=4, questions_per_step=8, group_size=2, reference_every=2,
                        max_length=Schedule({0: 34, 2: 40}), held_out=HeldOut(questions=16)),
    dataclasses.replace(evaluation, benchmarks=(Benchmark("chains", QUESTIONS, questions=8),), max_length=40),
  ),
)
