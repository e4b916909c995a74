"""R1's second RL stage with general questions and reward models in all steps: Figure 6 (V2, appendix B.5) in miniature.

Claim: the longer a policy is trained on a reward model, the higher the model's score, while the true preference, or
reasoning, falls. That is why R1 has model rewards in the last 400 of 1,700 steps only.

    python -m r1jax run experiments/ablate_model_reward_all_steps.py --reuse runs/r1_tiny

Without --reuse (a finished run of r1_tiny.py), the stages before are run too.
Hardware: two CPU cores, 2 GB of memory. Time: 10 minutes after r1_tiny, the sum of its stages on cores that ran other jobs.
Expected (experiments/results/ablate_model_reward_all_steps): after 40 steps with general questions the model's score of
held-out responses is 0.89 (0.81 to 0.97) where they are the last of 170 steps, 0.91 (0.83 to 0.99) where they are the first;
the true preference 0.73 (0.70 to 0.76) and 0.71 (0.68 to 0.74). After 170 the score has risen to 1.16 (1.09 to 1.22), the
true preference fallen to 0.62 (0.59 to 0.66). pass@1 is about equal, 0.989 (0.977 to 0.995) and 0.979 (0.965 to 0.988):
in this world it is the preference that is lost.
The rate matters: it is twice that of r1_tiny's second RL stage. At that one (half_rate_*.md) the score rises as well, from
0.69 to 1.05 and after 510 steps 1.29, but the true preference has not fallen after 170 steps, 0.68 (0.65 to 0.71) and 0.69
(0.66 to 0.72), and hardly after 510, 0.65 (0.61 to 0.70).
"""
import dataclasses

from r1_tiny import SMALL, evaluation, experiment, r1_zero, rl_2, smoke

from r1jax.config import Schedule
from r1jax.evaluation.claims import Claim

# At the rate of R1-Zero, twice that of r1_tiny's second RL stage, so that 170 steps are enough for the figure.
last = dataclasses.replace(rl_2, name="last_steps", optimizer=r1_zero.optimizer, steps=170,
                           general=dataclasses.replace(rl_2.general, share=Schedule({0: 0.0, 130: 0.5})))
# The same but for the schedule, measured after as many steps with general questions as `last` has, and at its end.
early = dataclasses.replace(last, name="all_steps_40", steps=40,
                            general=dataclasses.replace(rl_2.general, share=Schedule({0: 0.5})))
whole = dataclasses.replace(early, name="all_steps_170", start="all_steps_40", steps=130)
experiment = dataclasses.replace(
  experiment, name="ablate_model_reward_all_steps", claims=(
    Claim("The longer it trains on it, the higher a reward model's score", "all_steps_170 helpful/model_score",
          "all_steps_40 helpful/model_score", apart=True),
    Claim("while the true preference falls", "all_steps_40 helpful/helpfulness", "all_steps_170 helpful/helpfulness"),
    Claim("and reward models in the last 40 steps alone leave more of it", "last_steps helpful/helpfulness",
          "all_steps_170 helpful/helpfulness")),
  stages=(*experiment.stages[:experiment.stages.index(rl_2)], last, early, whole, dataclasses.replace(
    evaluation, policies=("sft", "last_steps", "all_steps_40", "all_steps_170"))))

# Without reward models, whose data need a policy that is right at times.
smoke = dataclasses.replace(
  smoke, name="ablate_model_reward_all_steps_smoke",
  stages=(*smoke.stages[:2], dataclasses.replace(early, start="r1_zero", general=None, **SMALL), dataclasses.replace(
    smoke.stages[-1], policies=("r1_zero", "all_steps_40"))))
