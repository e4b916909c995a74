"""What a rule reward says about one sample."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from r1jax.verifiers.verdict import STATUSES


@dataclass(frozen=True)
class Score:
  """The reward of one sample.

  value: the weighted sum of the parts.
  parts: part name -> its value before weighting, in [0, 1].
  status: one of STATUSES.
  """

  value: float
  parts: Mapping[str, float]
  status: str


def counts(scores: Iterable[Score]) -> dict[str, int]:
  """Status -> number of scores with it; every status is present, with 0 where there is none."""
  result = dict.fromkeys(STATUSES, 0)
  for score in scores:
    result[score.status] += 1
  return result
