"""The clip of 10 against the usual 0.2: the remark on "the clip ratio" of V2, section 3.2.1, in miniature.

Claim: none yet. The question: does a clip of 0.2 cost accuracy, because it cuts the gradient of many tokens, as the paper
says of lower values?

    python -m r1jax run experiments/ablate_clip.py --reuse runs/r1_tiny

Without --reuse (a finished run of r1_tiny.py), its base is trained too. Hardware: two CPU cores, 2 GB of memory.
Time and Expected: not known; it has not been run on five seeds yet.
"""
import dataclasses

from r1_tiny import SMALL, base, evaluation, experiment, r1_zero, smoke

# Eight updates a rollout (the paper's are sixteen): with one, every ratio is 1 and no clip ever acts.
clip_10 = dataclasses.replace(r1_zero, name="clip_10", start="base", minibatches=8, checkpoint_every=5)
clip_0p2 = dataclasses.replace(clip_10, name="clip_0p2", clip_low=0.2, clip_high=0.2)
experiment = dataclasses.replace(
  experiment, name="ablate_clip", claims=(),
  stages=(base, clip_10, clip_0p2, dataclasses.replace(
    evaluation, policies=("base", "clip_10", "clip_0p2"), models=(), benchmarks=evaluation.benchmarks[:1])))

smoke = dataclasses.replace(
  smoke, name="ablate_clip_smoke",
  stages=(smoke.stages[0], *(dataclasses.replace(arm, **SMALL) for arm in (clip_10, clip_0p2)), dataclasses.replace(
    smoke.stages[-1], policies=("clip_10", "clip_0p2"))))
