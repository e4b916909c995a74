"""Group size: as many samples a step from fewer or more questions.

Claim: none. The question: of 128 samples a step, is it better to have many questions or many samples of each? The paper
has 32 x 16.

    python -m r1jax run experiments/ablate_group_size.py --reuse runs/r1_tiny

Without --reuse (a finished run of r1_tiny.py), its base is trained too. Hardware: two CPU cores, 2 GB of memory.
Time: 4 minutes after r1_tiny on one core. Expected, on seeds 101 to 105 (experiments/results/ablate_group_size/seeds.md):
pass@1 0.979 (0.953 to 0.999) with 64 questions x 2 samples, 0.977 (0.956 to 0.996) with 16 x 8, 0.959 (0.915 to 0.996) with
4 x 32: many questions are no worse, and 4 the worst on four seeds of five.
"""
import dataclasses

from r1_tiny import SMALL, base, evaluation, experiment, r1_zero, smoke

# r1_tiny's own R1-Zero is the arm in between: 16 questions x 8 samples.
group_2 = dataclasses.replace(r1_zero, name="group_2", start="base", group_size=2, questions_per_step=64)
group_32 = dataclasses.replace(group_2, name="group_32", group_size=32, questions_per_step=4)
experiment = dataclasses.replace(
  experiment, name="ablate_group_size", claims=(),
  stages=(base, r1_zero, group_2, group_32, dataclasses.replace(
    evaluation, policies=("base", "r1_zero", "group_2", "group_32"), models=(), benchmarks=evaluation.benchmarks[:1])))

smoke = dataclasses.replace(
  smoke, name="ablate_group_size_smoke",
  stages=(*smoke.stages[:2], *(dataclasses.replace(arm, **SMALL) for arm in (group_2, group_32)), dataclasses.replace(
    smoke.stages[-1], policies=("r1_zero", "group_2", "group_32"))))
