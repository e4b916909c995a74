"""An experiment of seconds that goes through everything a run can go through. Not an experiment of the project.

Supervised training, then RL in which the maximum length changes at step 6 and the reference is replaced every 4 steps;
two updates a rollout, checkpoints at every one. A rollout has fewer slots than sequences, refills them, and outgrows its
cache once the length has changed. `smoke`: sampling the next rollout while one trains, but not across a checkpoint.
"""
import dataclasses

from r1jax.config import Schedule
from r1jax.data.arithmetic import ArithmeticSpec, Corpus, vocabulary
from r1jax.data.questions import Generated
from r1jax.data.templates import Template
from r1jax.losses.correction import SamplerCorrection
from r1jax.models.config import ModelConfig
from r1jax.sampling.sampler import Decoding
from r1jax.stages.context import Experiment
from r1jax.stages.evaluate import HeldOut
from r1jax.stages.grpo import GRPO
from r1jax.stages.sft import SFT
from r1jax.training.optimizer import AdamW

WORLD = ArithmeticSpec(fewest_terms=2, most_terms=3, guess=0.8, worked=0.2, checked=0.0)
WORDS = ("<pad>", "<end>", *vocabulary(WORLD))
PROMPT = Template("{question}")

base = SFT(
  name="base", documents=Corpus(WORLD), optimizer=AdamW(lr=1e-2, warmup_steps=10), steps=100, batch_size=8, max_length=48,
  template=PROMPT, train_on_prompt=True, checkpoint_every=25, log_every=5)
rl = GRPO(
  questions=Generated("chains", count=400, parameters={"fewest_terms": 2, "most_terms": 3}), template=PROMPT,
  held_out=HeldOut(questions=8, samples=2, every=2), optimizer=AdamW(lr=1e-3), steps=12, questions_per_step=4,
  group_size=4, minibatches=2, max_prompt_length=6, max_length=Schedule({0: 14, 6: 24}),
  reference_every=4, kl_coef=0.01, checkpoint_every=1, decoding=Decoding(slots=9, segment=16), microbatch_tokens=128)
experiment = Experiment(
  name="small_run", tokenizer=WORDS, stages=(base, rl),
  model=ModelConfig(family="qwen3", qk_norm=True, vocab_size=len(WORDS), d_model=32, num_layers=1, num_heads=2,
                    num_kv_heads=1, head_dim=16, d_ff=64, max_position=64))
smoke = dataclasses.replace(experiment, name="small_ahead", stages=(base, dataclasses.replace(
  rl, ahead=True, checkpoint_every=3, correction=SamplerCorrection.PER_SEQUENCE)))
