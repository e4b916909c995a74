import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from r1jax.errors import InputError
from r1jax.losses.reductions import Reduction, response_weights, token_weights

# Four rows, one of them empty: 4 + 1 + 0 + 2 = 7 trained tokens.
MASK = np.array([[0, 1, 1, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 1]])
CONSTANT = 10.0


@pytest.mark.parametrize(("reduction", "per_row"), [
  (Reduction.PER_RESPONSE, [1 / 16, 1 / 4, 0, 1 / 8]),  # the empty row counts: N = 4
  (Reduction.TOKEN_MEAN, [1 / 7, 1 / 7, 0, 1 / 7]),
  (Reduction.CONSTANT, [1 / 40, 1 / 40, 0, 1 / 40]),
])
@pytest.mark.parametrize("dtype", [bool, np.int32, np.float32])
def test_weights_by_hand(reduction, per_row, dtype):
  weights = token_weights(MASK.astype(dtype), reduction, CONSTANT)
  assert weights.dtype == np.float32
  np.testing.assert_allclose(weights, MASK * np.array(per_row)[:, None], rtol=1e-7, atol=0)


@pytest.mark.parametrize("reduction", Reduction)
def test_all_empty_is_all_zeros(reduction):
  weights = token_weights(np.zeros((3, 4), bool), reduction, CONSTANT)
  np.testing.assert_array_equal(weights, np.zeros((3, 4)))


def pack():
  """MASK's rows in two packed rows of 8 (responses 0 and 1 interleaved with padding; 3, split in two)."""
  source = np.full((2, 8, 2), -1)
  source[0, 1:6] = [(0, t) for t in range(5)]
  source[0, 6] = (3, 3)
  source[1, 0:3] = [(2, 0), (2, 1), (1, 0)]
  source[1, 4:6] = [(3, 0), (3, 4)]
  ids = source[..., 0]
  mask = np.where(ids >= 0, MASK[ids, source[..., 1]], 1)  # padding claims to be trained: its id -1 must win
  return source, ids, mask


@pytest.mark.parametrize("reduction", Reduction)
@pytest.mark.parametrize("jit", [False, True])
def test_packed_weights_are_the_unpacked_ones_exactly(reduction, jit):
  source, ids, mask = pack()
  plain = np.asarray(token_weights(MASK, reduction, CONSTANT))

  def packed_weights(mask, ids):
    return token_weights(mask, reduction, CONSTANT, response_ids=ids, num_responses=4)

  packed = np.asarray((jax.jit(packed_weights) if jit else packed_weights)(mask, ids))
  expected = np.where(ids >= 0, plain[ids, source[..., 1]], 0)
  assert (expected > 0).sum() == 7
  np.testing.assert_array_equal(packed, expected)


@pytest.mark.parametrize("axis_type", [AxisType.Explicit, AxisType.Auto])
@pytest.mark.parametrize("spec", [("fsdp", "sequence"), ("fsdp", None), (None, None)])
def test_packed_weights_over_a_mesh(axis_type, spec):
  ids = np.sort(np.random.default_rng(0).integers(-1, 13, (8, 16)).reshape(-1)).reshape(8, 16)
  mask = np.random.default_rng(1).integers(0, 2, ids.shape)

  def weights(mask, ids):
    return token_weights(mask, Reduction.PER_RESPONSE, response_ids=ids, num_responses=13)

  expected = np.asarray(weights(mask, ids))
  mesh = jax.make_mesh((4, 2), ("fsdp", "sequence"), axis_types=(axis_type,) * 2)
  with jax.set_mesh(mesh):
    arrays = jax.device_put((mask, ids), NamedSharding(mesh, PartitionSpec(*spec)))
    actual = jax.jit(weights)(*arrays)
    if axis_type == AxisType.Explicit:
      assert actual.sharding.spec == PartitionSpec(*spec)
  np.testing.assert_array_equal(actual, expected)


def test_counts_beyond_2_to_the_24_are_exact():
  # 2^24 + 2 tokens: a float32 running sum would stay at 2^24.
  mask = np.ones((2, 2**23 + 1), bool)
  weights = token_weights(mask, Reduction.TOKEN_MEAN)
  assert weights[0, 0] == np.float32(1) / np.float32(2**24 + 2)


@pytest.mark.parametrize("constant", [None, 0, -3.0, float("nan"), float("inf")])
def test_constant_is_required(constant):
  with pytest.raises(InputError, match="constant"):
    token_weights(MASK, Reduction.CONSTANT, constant)


@pytest.mark.parametrize(("arguments", "message"), [
  ({"mask": MASK[0]}, r"mask: shape \[5\]"),
  ({"response_ids": MASK}, "only one of them"),
  ({"num_responses": 3}, "only one of them"),
  ({"response_ids": MASK[:2], "num_responses": 3}, r"response_ids: shape \[2, 5\].*\[4, 5\]"),
  ({"response_ids": MASK, "num_responses": 0}, "num_responses: 0"),
  ({"reduction": "per_response"}, "member of Reduction"),
])
def test_bad_input(arguments, message):
  with pytest.raises(InputError, match=message):
    token_weights(**{"mask": MASK, "reduction": Reduction.PER_RESPONSE, **arguments})


# On the host, by response


@pytest.mark.parametrize("reduction", Reduction)
def test_weights_of_responses_are_those_of_their_tokens(reduction):
  lengths = np.array([3, 0, 1, 977, 12, 4, 7])
  mask = np.arange(977) < lengths[:, None]
  expected = np.asarray(token_weights(mask, reduction, 13.0))
  found = response_weights(lengths, reduction, 13.0)
  np.testing.assert_array_equal(mask * found[:, None], expected)
  assert found.dtype == np.float32 and not np.any(response_weights([0, 0], reduction, 13.0))


def test_weights_of_no_responses_are_refused():
  with pytest.raises(InputError, match=r"trained: shape \[0\]"):
    response_weights([], Reduction.TOKEN_MEAN)
  with pytest.raises(InputError, match="constant"):
    response_weights([3], Reduction.CONSTANT)
