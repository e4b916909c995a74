"""Group-relative advantages: how much better a response is than the others to the same question."""

import enum

import jax.numpy as jnp

from r1jax.errors import InputError
from r1jax.losses.shapes import require_rank_2

# Ours. Rewards of a group that differ by less than this share of the largest |reward| are taken as equal:
# eight units of float32 rounding, i.e. what adding the parts of a reward in another order can do. Without it
# the division by the std would blow such noise up to advantages of size one.
EQUAL_REWARDS = 8 * float(jnp.finfo(jnp.float32).eps)


class AdvantageKind(enum.Enum):
  """What a reward is compared with."""

  STANDARDIZED = "standardized"  # (r_i - mean) / std: DeepSeekMath 4.1.2, R1 (Nature) eq. 3
  CENTERED = "centered"  # r_i - mean: Dr. GRPO, no bias by the question's difficulty
  LEAVE_ONE_OUT = "leave_one_out"  # r_i - mean of the others: RLOO, an unbiased baseline


def group_advantages(rewards, kind: AdvantageKind = AdvantageKind.STANDARDIZED):
  """Advantages [Q, G] float32 of rewards [Q, G] (Q questions, G responses to each).

  The std is the population's (divided by G, not G - 1), with no epsilon in the denominator. A group of equal
  rewards (see EQUAL_REWARDS) gives exact zeros instead, for every kind; so does G = 1, but for
  LEAVE_ONE_OUT, which has no others to compare with. A NaN reward makes its own group NaN.

  Raises:
    InputError: rewards without two axes or with G = 0, or LEAVE_ONE_OUT with G = 1.
  """
  _, group_size = require_rank_2("group_advantages", "rewards", rewards, "[questions, group_size]")
  if group_size == 0:
    raise InputError("group_advantages: rewards", "a group size of 0",
                     "Sample at least one response a question.")
  rewards = jnp.asarray(rewards).astype(jnp.float32)

  # Measured from the group's smallest reward in units of its spread, so rewards that lie close together, far
  # from zero, or are very small lose no digits, and equal ones are exact zeros before any mean is taken.
  lowest = jnp.min(rewards, axis=1, keepdims=True)
  spread = jnp.max(rewards, axis=1, keepdims=True) - lowest
  equal = spread <= EQUAL_REWARDS * jnp.max(jnp.abs(rewards), axis=1, keepdims=True)
  spread = jnp.where(equal, jnp.float32(1), spread)
  relative = jnp.where(equal, jnp.float32(0), (rewards - lowest) / spread)
  centered = relative - jnp.mean(relative, axis=1, keepdims=True)

  match kind:
    case AdvantageKind.STANDARDIZED:
      variance = jnp.mean(jnp.square(centered), axis=1, keepdims=True)
      return centered / jnp.sqrt(jnp.where(equal, jnp.float32(1), variance))
    case AdvantageKind.CENTERED:
      return centered * spread
    case AdvantageKind.LEAVE_ONE_OUT:
      if group_size == 1:
        raise InputError("group_advantages: rewards", "a group size of 1 with leave_one_out",
                         "Sample at least 2 responses a question, or choose another kind of advantage.")
      return centered * spread * (group_size / (group_size - 1))
    case _:
      raise InputError("group_advantages: kind", repr(kind), "Give a member of AdvantageKind.")
