"""The smallest run that trains a policy by both ways, in seconds once it is compiled. Not an experiment of the project."""
import dataclasses

from small_run import WORDS, base, experiment, rl

from r1jax.config import Schedule
from r1jax.data.questions import Generated
from r1jax.stages.context import Experiment
from r1jax.stages.evaluate import HeldOut

CHAINS = {"fewest_terms": 2, "most_terms": 2, "largest_total": 9}
base = dataclasses.replace(base, steps=6, checkpoint_every=2, log_every=1)
rl = dataclasses.replace(
  rl, questions=Generated("chains", count=40, held_out=0.2, parameters=CHAINS), held_out=HeldOut(questions=2), steps=3,
  minibatches=1, questions_per_step=2, group_size=2, max_length=Schedule({0: 12}), reference_every=2)
experiment = Experiment(name="tiny_run", tokenizer=WORDS, stages=(base, rl), model=dataclasses.replace(
  experiment.model, d_model=16, num_layers=1, num_heads=1, head_dim=16, d_ff=16))
