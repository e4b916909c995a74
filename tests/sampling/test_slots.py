"""How long the rows of a dense cache are."""
import pytest

from r1jax.sampling.slots import row_length


def lengths(most: int, needed: int) -> list[int]:
  """What rows grow through until they hold `needed`."""
  found = [row_length(1, most)]
  while found[-1] < needed:
    found.append(row_length(found[-1] + 1, most))
  return found


def test_short_sequences_have_rows_of_their_own_length():
  assert lengths(192, needed=192) == [192]  # 160 tokens and a segment of 32: no token is read at 256


@pytest.mark.parametrize(("most", "found"), [(256, [256]), (300, [300]), (544, [256, 384, 544]),
                                             (2_080, [256, 384, 512, 768, 1_024, 1_536, 2_080])])
def test_rows_grow_through_few_lengths_and_end_at_the_longest(most, found):
  assert lengths(most, needed=most) == found


def test_a_store_of_prompts_may_be_longer_than_the_longest_sequence():
  assert lengths(192, needed=256) == [192, 256]
