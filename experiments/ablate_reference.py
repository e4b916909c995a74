"""The reference replaced by the policy every 50 steps against one that stays: R1, Nature, "Training details".

Claim: none yet. The question: does a reference that stays hold the policy back, which is why the paper replaces it?

    python -m r1jax run experiments/ablate_reference.py --reuse runs/r1_tiny

Without --reuse (a finished run of r1_tiny.py), its base is trained too. Hardware: two CPU cores, 2 GB of memory.
Time and Expected: not known; it has not been run on five seeds yet.
"""
import dataclasses

from r1_tiny import SMALL, base, evaluation, experiment, r1_zero, smoke

# A hundred times the paper's coefficient, which in a hundred steps holds nothing back, refreshed or not.
refreshed = dataclasses.replace(r1_zero, name="refreshed", start="base", kl_coef=0.1, reference_every=30)
fixed = dataclasses.replace(refreshed, name="fixed", reference_every=refreshed.steps)
experiment = dataclasses.replace(
  experiment, name="ablate_reference", claims=(),
  stages=(base, refreshed, fixed, dataclasses.replace(
    evaluation, policies=("base", "refreshed", "fixed"), models=(), benchmarks=evaluation.benchmarks[:1])))

smoke = dataclasses.replace(
  smoke, name="ablate_reference_smoke",
  stages=(smoke.stages[0], *(dataclasses.replace(arm, **SMALL) for arm in (refreshed, fixed)), dataclasses.replace(
    smoke.stages[-1], policies=("refreshed", "fixed"))))
