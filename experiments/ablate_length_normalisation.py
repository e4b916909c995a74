"""Every response the same weight (DeepSeekMath, equation 3) against every token the same.

Claim: weighting every token alike costs no accuracy at this size. (Written after the five seeds, and its margin too.)

    python -m r1jax run experiments/ablate_length_normalisation.py --reuse runs/r1_tiny

Without --reuse (a finished run of r1_tiny.py), its base is trained too. Hardware: two CPU cores, 2 GB of memory.
Time: a minute on one core with AVX-512, after the base and R1-Zero. Expected, on test questions, on seeds 101 to 105
(means; experiments/results/ablate_length_normalisation/seeds.md): pass@1 0.977 by response and 0.978 by token, 20.96 and
20.95 tokens: answers here have one length that works, and neither makes them longer or shorter.
"""
import dataclasses

from r1_tiny import SMALL, base, evaluation, experiment, r1_zero, smoke

from r1jax.evaluation.claims import Claim
from r1jax.losses.reductions import Reduction

# r1_tiny's own R1-Zero weights responses.
per_token = dataclasses.replace(r1_zero, name="per_token", start="base", reduction=Reduction.TOKEN_MEAN)
experiment = dataclasses.replace(
  experiment, name="ablate_length_normalisation", claims=(
    Claim("Tokens of equal weight cost no accuracy", "per_token sums/pass_at_1", "r1_zero sums/pass_at_1", by=-0.02),),
  stages=(base, r1_zero, per_token, dataclasses.replace(
    evaluation, policies=("base", "r1_zero", "per_token"), models=(), benchmarks=evaluation.benchmarks[:1])))

smoke = dataclasses.replace(
  smoke, name="ablate_length_normalisation_smoke",
  stages=(*smoke.stages[:2], dataclasses.replace(per_token, **SMALL), dataclasses.replace(
    smoke.stages[-1], policies=("r1_zero", "per_token"))))
