"""R1's second RL stage with general questions and reward models in all steps: Figure 6 (V2, appendix B.5) in miniature.

Claim: the longer a policy is trained on a reward model, the higher the model's score, while the true preference, or
reasoning, falls. That is why R1 has model rewards in the last 400 of 1,700 steps only.

    python -m r1jax run experiments/ablate_model_reward_all_steps.py --reuse runs/r1_tiny

Without --reuse (a finished run of r1_tiny.py), the stages before are run too.
Hardware: two CPU cores, 2 GB of memory. Time: TIME
Expected: EXPECTED
"""
import dataclasses

from r1_tiny import SMALL, evaluation, experiment, rl_2, smoke

from r1jax.config import Schedule

# The same stage as r1_tiny's but for the schedule, measured after as many steps with general questions, and at its end.
early = dataclasses.replace(rl_2, name="all_steps_40", steps=40,
                              general=dataclasses.replace(rl_2.general, share=Schedule({0: 0.5})))
whole = dataclasses.replace(early, name="all_steps_170", start="all_steps_40", steps=130)
experiment = dataclasses.replace(
  experiment, name="ablate_model_reward_all_steps",
  stages=(*experiment.stages[:experiment.stages.index(rl_2) + 1], early, whole, dataclasses.replace(
    evaluation, policies=("sft", "rl_2", "all_steps_40", "all_steps_170"))))

# Without reward models, whose data need a policy that is right at times.
smoke = dataclasses.replace(
  smoke, name="ablate_model_reward_all_steps_smoke",
  stages=(*smoke.stages[:2], dataclasses.replace(early, start="r1_zero", general=None, **SMALL), dataclasses.replace(
    smoke.stages[-1], policies=("r1_zero", "all_steps_40"))))
