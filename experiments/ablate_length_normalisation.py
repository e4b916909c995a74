"""Every response the same weight (DeepSeekMath, equation 3) against every token the same.

Claim: none yet. The question: does weighting every response alike make answers longer or shorter than weighting every token
alike?

    python -m r1jax run experiments/ablate_length_normalisation.py --reuse runs/r1_tiny

Without --reuse (a finished run of r1_tiny.py), its base is trained too. Hardware: two CPU cores, 2 GB of memory.
Time and Expected: not known; it has not been run on five seeds yet.
"""
import dataclasses

from r1_tiny import SMALL, base, evaluation, experiment, r1_zero, smoke

from r1jax.losses.reductions import Reduction

# r1_tiny's own R1-Zero weights responses.
per_token = dataclasses.replace(r1_zero, name="per_token", start="base", reduction=Reduction.TOKEN_MEAN)
experiment = dataclasses.replace(
  experiment, name="ablate_length_normalisation", claims=(),
  stages=(base, r1_zero, per_token, dataclasses.replace(
    evaluation, policies=("base", "r1_zero", "per_token"), models=(), benchmarks=evaluation.benchmarks[:1])))

smoke = dataclasses.replace(
  smoke, name="ablate_length_normalisation_smoke",
  stages=(*smoke.stages[:2], dataclasses.replace(per_token, **SMALL), dataclasses.replace(
    smoke.stages[-1], policies=("r1_zero", "per_token"))))
