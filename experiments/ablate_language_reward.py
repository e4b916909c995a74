"""R1's first RL stage without the language reward: Figure 7 of the paper (V2, appendix B.6) in miniature.

Claim: from the same cold start, RL without the language-consistency reward loses the question's language from its chains of
thought, with it the language stays, and accuracy is about equal.

    python -m r1jax run experiments/ablate_language_reward.py --reuse runs/r1_tiny

Without --reuse (a finished run of r1_tiny.py), the stages before are run too.
Hardware: two CPU cores, 2 GB of memory. Time: TIME
Expected: EXPECTED
"""
import dataclasses

from r1_tiny import SMALL, base, cold_start, cold_start_data, evaluation, experiment, r1_zero, rl_1, smoke

without_reward = dataclasses.replace(rl_1, name="without_reward", start="cold_start", rewards=r1_zero.rewards)
experiment = dataclasses.replace(
  experiment, name="ablate_language_reward",
  stages=(base, r1_zero, cold_start_data, cold_start, rl_1, without_reward, dataclasses.replace(
    evaluation, policies=("cold_start", "rl_1", "without_reward"), models=(), benchmarks=evaluation.benchmarks[:1])))

smoke = dataclasses.replace(
  smoke, name="ablate_language_reward_smoke",
  stages=(*smoke.stages[:2], dataclasses.replace(without_reward, start="r1_zero", **SMALL), dataclasses.replace(
    smoke.stages[-1], policies=("r1_zero", "without_reward"))))
