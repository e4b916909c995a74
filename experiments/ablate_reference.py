"""The reference replaced by the policy every 30 steps against one that stays: R1, Nature, "Training details".

Claim: a reference that stays holds the policy nearer to the base: it mixes languages less. (Written after the five seeds.)

    python -m r1jax run experiments/ablate_reference.py --reuse runs/r1_tiny

Without --reuse (a finished run of r1_tiny.py), its base is trained too. Hardware: two CPU cores, 2 GB of memory.
Time: one to two minutes on one core with AVX-512, after the base. Expected, on test questions, on seeds 101 to 105 (means;
experiments/results/ablate_reference/seeds.md): 54% of the thoughts in one language with a refreshed reference, 69% with one
that stays, 84% at the base; pass@1 0.976 and 0.983, which is no difference.
"""
import dataclasses

from r1_tiny import SMALL, base, evaluation, experiment, r1_zero, smoke

from r1jax.evaluation.claims import Claim

# A hundred times the paper's coefficient, which in a hundred steps holds nothing back, refreshed or not.
refreshed = dataclasses.replace(r1_zero, name="refreshed", start="base", kl_coef=0.1, reference_every=30)
fixed = dataclasses.replace(refreshed, name="fixed", reference_every=refreshed.steps)
experiment = dataclasses.replace(
  experiment, name="ablate_reference", claims=(
    Claim("A reference that stays mixes languages less", "fixed sums/one_language", "refreshed sums/one_language"),),
  stages=(base, refreshed, fixed, dataclasses.replace(
    evaluation, policies=("base", "refreshed", "fixed"), models=(), benchmarks=evaluation.benchmarks[:1])))

smoke = dataclasses.replace(
  smoke, name="ablate_reference_smoke",
  stages=(smoke.stages[0], *(dataclasses.replace(arm, **SMALL) for arm in (refreshed, fixed)), dataclasses.replace(
    smoke.stages[-1], policies=("refreshed", "fixed"))))
