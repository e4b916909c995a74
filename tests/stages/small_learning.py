"""Two runs that must learn something, for test_learning.py. `experiment`: the format. `collapse`: that guessing pays.

A one-layer base of some hundred steps that guesses or works sums out, with or without tags; then RL.
"""
import dataclasses

from r1jax.config import Schedule
from r1jax.data.arithmetic import ArithmeticSpec, Corpus, vocabulary
from r1jax.data.questions import Generated
from r1jax.data.templates import Template
from r1jax.models.config import ModelConfig
from r1jax.sampling.sampler import Decoding
from r1jax.stages.context import Experiment
from r1jax.stages.evaluate import HeldOut
from r1jax.stages.grpo import GRPO
from r1jax.stages.sft import SFT
from r1jax.training.optimizer import AdamW

WORLD = ArithmeticSpec(fewest_terms=2, most_terms=3, guess=0.8, worked=0.2, checked=0.0, tidy_guess=0.2, tidy_working=0.3)
# Workings go wrong at every other step and lack the tags; a guess is right as often as it can be.
TRAP = dataclasses.replace(WORLD, guess=0.4, worked=0.6, slip=0.7, tidy_guess=0.35, tidy_working=0.2,
                           guess_right=0.5)
PARAMETERS = {"fewest_terms": 2, "most_terms": 3}
PROMPT = Template("{question}")
WORDS = ("<pad>", "<end>", *vocabulary(WORLD))


def learning(name: str, world: ArithmeticSpec, steps: int) -> Experiment:
  return Experiment(
    name=name, tokenizer=WORDS,
    model=ModelConfig(family="llama", vocab_size=len(WORDS), d_model=64, num_layers=1, num_heads=2, num_kv_heads=2,
                      head_dim=32, d_ff=128, max_position=64),
    stages=(
      SFT(name="base", documents=Corpus(world), optimizer=AdamW(lr=3e-3, warmup_steps=20), steps=300, batch_size=8,
          max_length=48, template=PROMPT, train_on_prompt=True),
      GRPO(questions=Generated("chains", count=900, parameters=PARAMETERS), template=PROMPT,
           held_out=HeldOut(questions=32, samples=8), optimizer=AdamW(lr=1e-3, warmup_steps=5), steps=steps,
           questions_per_step=8, group_size=8, minibatches=1, max_prompt_length=6,
           max_length=Schedule({0: 24}), reference_every=20, checkpoint_every=20,
           decoding=Decoding(slots=65, segment=8), microbatch_tokens=640)))


experiment = learning("small_learning", WORLD, 40)
smoke = learning("small_collapse", TRAP, 120)
