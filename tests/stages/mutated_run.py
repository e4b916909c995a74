"""tiny_run, one field of which holds something else, chosen by the seed in R1JAX_MUTATION. Not one of the project."""
import os

from mutations import mutated
from tiny_run import experiment

experiment = mutated(experiment, int(os.environ["R1JAX_MUTATION"]))
