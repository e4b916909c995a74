"""The clip of 10 against the usual 0.2: the remark on "the clip ratio" of V2, section 3.2.1, in miniature.

Claim: a clip of 0.2 costs no accuracy at this size. The paper warns that a low clip truncates the gradients of many tokens.

    python -m r1jax run experiments/ablate_clip.py --reuse runs/r1_tiny

Without --reuse (a finished run of r1_tiny.py), its base is trained too.
Hardware: two CPU cores, 2 GB of memory. Time: 6 minutes after the base on one core (seed 101).
Expected, on seeds 101 to 105 (experiments/results/ablate_clip/seeds.md; the question was open before they were run, and the
claim and its margin were set after): pass@1 0.978 (0.951 to 0.998) with the clip of 10, which never acts, and 0.980 (0.957
to 0.998) with that of 0.2, which cuts 1.2% of the tokens below and 0.2% above. Lengths are equal; the share of the
question's language is 0.66 and 0.64.
"""
import dataclasses

from r1_tiny import SMALL, base, evaluation, experiment, r1_zero, smoke

from r1jax.evaluation.claims import Claim

# Eight updates a rollout (the paper's are sixteen): with one, every ratio is 1 and no clip ever acts.
clip_10 = dataclasses.replace(r1_zero, name="clip_10", start="base", minibatches=8, checkpoint_every=5)
clip_0p2 = dataclasses.replace(clip_10, name="clip_0p2", clip_low=0.2, clip_high=0.2)
experiment = dataclasses.replace(
  experiment, name="ablate_clip", claims=(
    Claim("A clip of 0.2 costs no accuracy at this size", "clip_0p2 sums/pass_at_1", "clip_10 sums/pass_at_1", by=-0.02),),
  stages=(base, clip_10, clip_0p2, dataclasses.replace(
    evaluation, policies=("base", "clip_10", "clip_0p2"), models=(), benchmarks=evaluation.benchmarks[:1])))

smoke = dataclasses.replace(
  smoke, name="ablate_clip_smoke",
  stages=(smoke.stages[0], *(dataclasses.replace(arm, **SMALL) for arm in (clip_10, clip_0p2)), dataclasses.replace(
    smoke.stages[-1], policies=("clip_10", "clip_0p2"))))
