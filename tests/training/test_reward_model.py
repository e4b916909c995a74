"""A reward model's scores and update on packed rows: what a score depends on, other meshes, splits, and NumPy's loss."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from tiny import EVERYTHING, eight_devices, one_device, random_params

from r1jax.errors import InputError
from r1jax.losses.reward_model import RewardKind
from r1jax.models.config import Compute
from r1jax.models.transformer import forward
from r1jax.sharding import MeshShape, make_mesh, put_batch
from r1jax.training.optimizer import AdamW
from r1jax.training.pack import TokenSequence, pack
from r1jax.training.reward_model import abstract_reward_params, init_reward_params, reward_step, scores
from r1jax.training.step import init_state

N, T = 32, 24
OPTIMIZER = AdamW(lr=0.1, eps=1e-2, weight_decay=0.1)  # eps: as in test_update.py
COMPUTE = Compute(attention_chunk=13)


def random_reward_params(mesh):
  """As init_reward_params makes them, but with a head that is not at zero."""
  params = init_reward_params(random_params(EVERYTHING, mesh), EVERYTHING, mesh)
  rng = np.random.default_rng(5)
  head = {"weight": rng.standard_normal(EVERYTHING.d_model).astype(np.float32) * np.float32(0.3), "bias": np.float32(0.2)}
  return {**params, "head": jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), head, params["head"])}


def sequences():
  rng = np.random.default_rng(0)
  return [TokenSequence(rng.integers(1, 64, n), 1) for n in rng.integers(3, 13, N)]


SAFE = (np.arange(N) % 3 > 0).astype(np.float32)


def packed_rows(kind, rows=8):
  """(Packed, its microbatches): N / 2 pairs, or N labelled responses."""
  pairs = kind is RewardKind.PAIRWISE
  packed = pack(sequences(), T, rows, 0, together=2 if pairs else 1)
  count = N // 2 if pairs else N
  weights = packed.at_last([(i % 2 if pairs else 1) / count for i in range(N)])
  return packed, packed.replace(weights=weights, partner=packed.partners() if pairs else None,
                                safe=None if pairs else packed.at_last(SAFE))


def scored(packed, mesh=None):
  """[N] scores of a Packed."""
  mesh = mesh or one_device()
  with jax.set_mesh(mesh):
    params = random_reward_params(mesh)
    return packed.last([scores(params, *put_batch(mesh, (m.tokens, m.positions, m.segment_ids)), config=EVERYTHING,
                               compute=COMPUTE) for m in packed.microbatches])


def run(kind, mesh, rows=8):
  """(state after one update, metrics, parameters before)."""
  with jax.set_mesh(mesh):
    before = init_state(random_reward_params(mesh), OPTIMIZER.build())
    start = jax.tree.map(np.array, before.params)
    state, metrics = reward_step(EVERYTHING, COMPUTE, OPTIMIZER, kind).update(before, packed_rows(kind, rows)[1])
  return state, jax.device_get(metrics), start


@pytest.fixture(scope="module")
def plain():
  return {kind: run(kind, one_device()) for kind in RewardKind}


def test_a_score_is_the_head_on_the_last_tokens_hidden_state():
  """Of the sequence alone in its row: packing does not matter, nor does what stands beside it or in the padding."""
  found = scored(packed_rows(RewardKind.POINTWISE)[0])
  mesh = one_device()
  tokens, positions = np.full((N, 12), 63, np.int32), np.full((N, 12), -1, np.int32)
  for i, s in enumerate(sequences()):
    tokens[i, :len(s.tokens)], positions[i, :len(s.tokens)] = s.tokens, np.arange(len(s.tokens))
  with jax.set_mesh(mesh):
    params = random_reward_params(mesh)
    hidden = np.asarray(jax.jit(lambda p, t, q: forward(p, EVERYTHING, Compute(), t, q))(
      params["decoder"], *put_batch(mesh, (tokens, positions))), np.float64)
  last = positions.max(axis=1)
  expected = hidden[np.arange(N), last] @ np.asarray(params["head"]["weight"], np.float64) + float(params["head"]["bias"])
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert found.dtype == np.float32 and np.ptp(found) > 0.1


def test_a_new_reward_model_scores_nothing_and_keeps_the_policys_parameters():
  mesh = eight_devices()
  rows = packed_rows(RewardKind.POINTWISE)[1][0]
  with jax.set_mesh(mesh):
    policy = random_params(EVERYTHING, mesh)
    params = init_reward_params(policy, EVERYTHING, mesh)
    found = scores(params, *put_batch(mesh, (rows.tokens, rows.positions, rows.segment_ids)), config=EVERYTHING,
                   compute=COMPUTE)
  assert np.all(np.asarray(found) == 0)
  assert all(a is b for a, b in zip(jax.tree.leaves(params["decoder"]), jax.tree.leaves(policy), strict=True))

  def same(like, array):
    assert like.shape == array.shape and like.dtype == array.dtype
    assert like.sharding.is_equivalent_to(array.sharding, array.ndim)
  jax.tree.map(same, abstract_reward_params(EVERYTHING, mesh), params)
  assert params["head"]["weight"].sharding.spec == jax.P("fsdp")


def test_a_head_that_the_mesh_cannot_share_is_refused():
  with pytest.raises(InputError, match="head.weight"):
    abstract_reward_params(replace(EVERYTHING, d_model=36), make_mesh(MeshShape(fsdp=8), jax.devices()[:8]))


def assert_same_update(found, expected):
  assert found[1].keys() == expected[1].keys()
  for name in expected[1]:
    np.testing.assert_allclose(found[1][name], expected[1][name], rtol=1e-5, atol=1e-5, err_msg=name)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found[0].params, expected[0].params)


@pytest.mark.parametrize("kind", RewardKind)
def test_another_split_gives_the_same(plain, kind):
  assert len(packed_rows(kind, rows=2)[1]) > len(packed_rows(kind)[1])
  assert_same_update(run(kind, one_device(), rows=2), plain[kind])


@pytest.mark.parametrize("kind", RewardKind)
def test_eight_devices_give_what_one_gives(plain, kind):
  mesh = eight_devices()
  found = run(kind, mesh)
  assert_same_update(found, plain[kind])
  for array, like in zip(jax.tree.leaves(found[0].params), jax.tree.leaves(abstract_reward_params(EVERYTHING, mesh)),
                         strict=True):
    assert array.sharding.is_equivalent_to(like.sharding, array.ndim)


@pytest.mark.parametrize("kind", RewardKind)
def test_the_loss_is_numpys_from_the_scores(plain, kind):
  found = scored(packed_rows(kind)[0]).astype(np.float64)
  margin = found[::2] - found[1::2] if kind is RewardKind.PAIRWISE else np.where(SAFE > 0, found, -found)
  metrics = plain[kind][1]
  np.testing.assert_allclose(metrics["loss"], np.mean(np.log1p(np.exp(-margin))), atol=1e-5)
  np.testing.assert_allclose(metrics["accuracy"], np.mean(margin > 0), atol=1e-6)
  np.testing.assert_allclose(metrics["margin"], margin.mean(), atol=1e-5)


@pytest.mark.parametrize("kind", RewardKind)
def test_everything_that_the_score_reads_is_trained(plain, kind):
  state, _, start = plain[kind]
  moved = {jax.tree_util.keystr(path): float(np.abs(a - b).max()) for (path, a), b in zip(
    jax.tree_util.tree_leaves_with_path(state.params), jax.tree.leaves(start), strict=True)}
  # Nothing reads the output head, and a pair's difference does not see the bias: weight decay alone moves them, by
  # lr * decay = 1% of themselves.
  still = {"['decoder']['head']"} | ({"['head']['bias']"} if kind is RewardKind.PAIRWISE else set())
  for name, distance in moved.items():
    assert (distance < 0.011 * np.abs(_at(start, name)).max()) == (name in still), name
  assert min(distance for name, distance in moved.items() if name not in still) > 1e-3


def _at(tree, name):
  for key in name.strip("[]'").split("']['"):
    tree = tree[key]
  return tree


def test_the_same_settings_share_one_step():
  pairwise = reward_step(EVERYTHING, COMPUTE, OPTIMIZER, RewardKind.PAIRWISE)
  assert pairwise is reward_step(EVERYTHING, COMPUTE, OPTIMIZER, RewardKind.PAIRWISE)
  assert pairwise is not reward_step(EVERYTHING, COMPUTE, OPTIMIZER, RewardKind.POINTWISE)
