"""The rows of a dense cache: how long they are, and how they are replaced."""
from dataclasses import replace

import jax
import numpy as np
import pytest
from tiny import EVERYTHING, one_device

from r1jax.sampling import generate
from r1jax.sampling.slots import DenseSlots, row_length


def lengths(most: int, needed: int) -> list[int]:
  """What rows grow through until they hold `needed`."""
  found = [row_length(1, most)]
  while found[-1] < needed:
    found.append(row_length(found[-1] + 1, most))
  return found


def test_short_sequences_have_rows_of_their_own_length():
  assert lengths(192, needed=192) == [192]  # 160 tokens and a segment of 32: no token is read at 256


@pytest.mark.parametrize(("most", "found"), [(256, [256]), (300, [320]), (544, [256, 384, 576]),
                                             (2_080, [256, 384, 512, 768, 1_024, 1_536, 2_112])])
def test_rows_grow_through_few_lengths_and_end_at_the_longest(most, found):
  assert lengths(most, needed=most) == found


def test_a_store_of_prompts_may_be_longer_than_the_longest_sequence():
  assert lengths(192, needed=256) == [192, 256]


@pytest.mark.parametrize("change", ["lengthen", "take_rows"])
def test_a_cache_is_replaced_layer_by_layer(monkeypatch, change):
  """A device has room for one cache and a layer, not for two caches."""
  rows, whole = 3, []  # whole: layers of the old cache when each one is replaced

  def counted(layers, **given):
    whole.append(sum(x.shape == layers[0]["k"].shape for x in jax.live_arrays()))
    return found(layers, **given)

  with jax.set_mesh(one_device()):
    slots = DenseSlots(replace(EVERYTHING, num_layers=4), one_device(), "float32", int8=False, rows=rows, most=1_013)
    slots.reserve(np.full(rows, 100), np.ones(rows, bool), segment=5)
    old = np.array(slots.layers[-1]["k"])
    found = getattr(generate, change)
    monkeypatch.setattr(generate, change, counted)
    if change == "lengthen":
      slots.reserve(np.full(rows, 255), np.ones(rows, bool), segment=5)
      np.testing.assert_array_equal(slots.layers[-1]["k"][..., :old.shape[4]], old)
    else:
      slots.keep(np.array([2, 0]), np.ones(2, bool))
      np.testing.assert_array_equal(slots.layers[-1]["k"], old[[2, 0]])
  assert whole == [4, 3, 2, 1]
