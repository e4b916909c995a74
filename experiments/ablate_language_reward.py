"""RL with and without the language reward: Figure 7 of the paper (V2, appendix B.6) in miniature.

Claim: from the same policy, RL without the language-consistency reward loses the question's language from its chains of
thought, with it the language is kept, and accuracy is about equal.

    python -m r1jax run experiments/ablate_language_reward.py --reuse runs/r1_tiny

Without --reuse (a finished run of r1_tiny.py), the stages before are run too.
Both arms start from the base, whose thoughts are mixed: from a cold start, which has one language only, eighty steps
without the reward lost nothing (one-language share 1.000 with and without, measured once). The paper starts from a
cold-started Distill-Qwen-7B and trains for longer.
Hardware: two CPU cores, 2 GB of memory. Time: 3 minutes after r1_tiny, on one core.
Expected, on test questions, means over seeds 101 to 105 with the range (experiments/results/ablate_language_reward): share
of the question's language 0.87 (0.85 to 0.89) at the base, 0.65 (0.57 to 0.72) without the reward, 1.00 (1.00 to 1.00) with
it; pass@1 0.978 (0.955 to 0.997) without, 0.979 (0.955 to 0.999) with.
"""
import dataclasses

from r1_tiny import SMALL, base, evaluation, experiment, r1_zero, rl_1, smoke

from r1jax.evaluation.claims import Claim

with_reward = dataclasses.replace(r1_zero, name="with_reward", start="base", rewards=rl_1.rewards)
experiment = dataclasses.replace(
  experiment, name="ablate_language_reward", claims=(
    Claim("Without the reward the question's language is lost", "base sums/language", "r1_zero sums/language", apart=True),
    Claim("with it, it is kept", "with_reward sums/language", 0.98),
    Claim("and accuracy is about equal", "with_reward sums/pass_at_1", "r1_zero sums/pass_at_1", by=-0.05)),
  stages=(base, r1_zero, with_reward, dataclasses.replace(
    evaluation, policies=("base", "r1_zero", "with_reward"), models=(), benchmarks=evaluation.benchmarks[:1])))

smoke = dataclasses.replace(
  smoke, name="ablate_language_reward_smoke",
  stages=(*smoke.stages[:2], dataclasses.replace(with_reward, **SMALL), dataclasses.replace(
    smoke.stages[-1], policies=("r1_zero", "with_reward"))))
