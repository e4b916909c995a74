"""R1's second RL stage with general questions and reward models in all steps: Figure 6 (V2, appendix B.5) in miniature.

Claim: the longer a policy is trained on a reward model, the higher the model's score. Whether the true preference follows is
another matter, which is why R1 has model rewards in the last 400 of 1,700 steps only.

    python -m r1jax run experiments/ablate_model_reward_all_steps.py --reuse runs/r1_tiny

Without --reuse (a finished run of r1_tiny.py), the stages before are run too.
Hardware: two CPU cores, 2 GB of memory. Time: 6 to 13 minutes after r1_tiny, on one core that other jobs shared.
Expected, on seeds 101 to 105 (experiments/results/ablate_model_reward_all_steps/seeds.md): from 40 steps with general
questions to 170 the model's score of held-out responses rises on every seed, 0.73 to 1.02 on average, on four with intervals
apart. The true preference falls on two (0.71 to 0.53, 0.73 to 0.59), stays on two, rises on one (0.63 to 0.76). So two
claims that were made before these seeds were run, that it falls and that reward models in the last 40 steps leave more of
it, hold on two of five (see the table): Figure 6 is not reproduced at this size and length. pass@1 stays: 0.979, 0.975.
"""
import dataclasses

from r1_tiny import SMALL, evaluation, experiment, r1_zero, rl_2, smoke

from r1jax.config import Schedule
from r1jax.evaluation.claims import Claim

# At the rate of R1-Zero, twice that of r1_tiny's second RL stage, so that the score has moved after 170 steps.
last = dataclasses.replace(rl_2, name="last_steps", optimizer=r1_zero.optimizer, steps=170,
                           general=dataclasses.replace(rl_2.general, share=Schedule({0: 0.0, 130: 0.5})))
# The same but for the schedule, measured after as many steps with general questions as `last` has, and at its end.
early = dataclasses.replace(last, name="all_steps_40", steps=40,
                            general=dataclasses.replace(rl_2.general, share=Schedule({0: 0.5})))
whole = dataclasses.replace(early, name="all_steps_170", start="all_steps_40", steps=130)
experiment = dataclasses.replace(
  experiment, name="ablate_model_reward_all_steps", claims=(
    Claim("The longer it trains on it, the higher a reward model's score", "all_steps_170 helpful/model_score",
          "all_steps_40 helpful/model_score"),),
  stages=(*experiment.stages[:experiment.stages.index(rl_2)], last, early, whole, dataclasses.replace(
    evaluation, policies=("sft", "last_steps", "all_steps_40", "all_steps_170"))))

# Without reward models, whose data need a policy that is right at times.
smoke = dataclasses.replace(
  smoke, name="ablate_model_reward_all_steps_smoke",
  stages=(*smoke.stages[:2], dataclasses.replace(early, start="r1_zero", general=None, **SMALL), dataclasses.replace(
    smoke.stages[-1], policies=("r1_zero", "all_steps_40"))))
