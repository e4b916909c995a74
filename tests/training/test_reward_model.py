"""A reward model's scores and update: what a score depends on, other meshes, microbatches, and NumPy's loss."""

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
from r1jax.training.reward_model import (
  RewardBatch,
  abstract_reward_params,
  init_reward_params,
  reward_update,
  scores,
)
from r1jax.training.step import init_state, microbatched

N, T = 16, 12
OPTIMIZER = AdamW(lr=0.1, eps=1e-2, weight_decay=0.1)  # eps: as in test_update.py
COMPUTE = Compute(attention_chunk=5)


def random_reward_params(mesh):
  """As init_reward_params makes them, but with a head that is not at zero."""
  params = init_reward_params(random_params(EVERYTHING, mesh), EVERYTHING, mesh)
  rng = np.random.default_rng(5)
  head = {"weight": rng.standard_normal(EVERYTHING.d_model).astype(np.float32) * np.float32(0.3), "bias": np.float32(0.2)}
  return {**params, "head": jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), head, params["head"])}


def rows(shape, slots=T, seed=0):
  """(tokens, positions [*shape, slots], last [*shape]) of ragged sequences of at most T tokens, right-padded."""
  rng = np.random.default_rng(seed)
  lengths = rng.integers(3, T + 1, shape)
  positions = np.where(np.arange(slots) < lengths[..., None], np.arange(slots), -1).astype(np.int32)
  tokens = np.zeros((*shape, slots), np.int32)
  tokens[..., :T] = rng.integers(1, 64, (*shape, T))
  return np.where(positions >= 0, tokens, 0).astype(np.int32), positions, (lengths - 1).astype(np.int32)


def scored(tokens, positions, last, mesh=None):
  mesh = mesh or one_device()
  with jax.set_mesh(mesh):
    return np.asarray(scores(random_reward_params(mesh), *put_batch(mesh, (tokens, positions, last)), config=EVERYTHING,
                             compute=COMPUTE))


def host_batch(kind) -> RewardBatch:
  tokens, positions, last = rows((N, 2 if kind is RewardKind.PAIRWISE else 1))
  safe = None if kind is RewardKind.PAIRWISE else (np.arange(N) % 3 > 0).astype(np.float32)
  return RewardBatch(tokens=tokens, positions=positions, last=last, weights=np.full(N, 1 / N, np.float32), safe=safe)


def run(kind, mesh, microbatches=1):
  """(state after one update, metrics, parameters before)."""
  with jax.set_mesh(mesh):
    before = init_state(random_reward_params(mesh), OPTIMIZER.build())
    start = jax.tree.map(np.array, before.params)
    state, metrics = reward_update(EVERYTHING, COMPUTE, OPTIMIZER, kind)(
      before, put_batch(mesh, microbatched(host_batch(kind), microbatches), axis=1))
  return state, jax.device_get(metrics), start


@pytest.fixture(scope="module")
def plain():
  return {kind: run(kind, one_device()) for kind in RewardKind}


def test_a_score_is_the_head_on_the_last_tokens_hidden_state():
  tokens, positions, last = rows((5,))
  mesh = one_device()
  with jax.set_mesh(mesh):
    params = random_reward_params(mesh)
    hidden = np.asarray(jax.jit(lambda p, t, q: forward(p, EVERYTHING, Compute(), t, q))(
      params["decoder"], *put_batch(mesh, (tokens, positions))), np.float64)
  expected = hidden[np.arange(5), last] @ np.asarray(params["head"]["weight"], np.float64) + float(params["head"]["bias"])
  found = scored(tokens, positions, last)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert found.dtype == np.float32 and np.ptp(found) > 0.1


def test_padding_and_the_other_rows_do_not_change_a_score():
  tokens, positions, last = rows((6,))
  expected = scored(tokens, positions, last)
  garbage = np.where(positions < 0, 63, tokens).astype(np.int32)
  np.testing.assert_array_equal(scored(garbage, positions, last), expected)
  wider = [np.pad(x, ((0, 0), (0, 9)), constant_values=v) for x, v in ((tokens, 0), (positions, -1))]
  np.testing.assert_allclose(scored(*wider, last), expected, atol=1e-5)
  order = np.array([3, 0, 5, 1, 4, 2])
  np.testing.assert_allclose(scored(tokens[order], positions[order], last[order]), expected[order], atol=1e-6)


def test_what_comes_after_the_scored_slot_does_not_change_a_score():
  tokens, positions, last = rows((6,))
  full = np.broadcast_to(np.arange(T, dtype=np.int32), tokens.shape)
  np.testing.assert_allclose(scored(tokens, full, last), scored(tokens, positions, last), atol=1e-5)


def test_a_new_reward_model_scores_nothing_and_keeps_the_policys_parameters():
  mesh = eight_devices()
  with jax.set_mesh(mesh):
    policy = random_params(EVERYTHING, mesh)
    params = init_reward_params(policy, EVERYTHING, mesh)
    found = scores(params, *put_batch(mesh, rows((8,))), config=EVERYTHING, compute=COMPUTE)
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


def test_four_microbatches_give_what_one_gives(plain):
  assert_same_update(run(RewardKind.PAIRWISE, one_device(), microbatches=4), plain[RewardKind.PAIRWISE])


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
  batch = host_batch(kind)
  found = np.stack([scored(batch.tokens[:, r], batch.positions[:, r], batch.last[:, r])
                    for r in range(batch.tokens.shape[1])], axis=1).astype(np.float64)
  if kind is RewardKind.PAIRWISE:
    margin = found[:, 0] - found[:, 1]
  else:
    margin = np.where(batch.safe > 0, found[:, 0], -found[:, 0])
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


def test_the_same_settings_share_one_program():
  pairwise = reward_update(EVERYTHING, COMPUTE, OPTIMIZER, RewardKind.PAIRWISE)
  assert pairwise is reward_update(EVERYTHING, COMPUTE, OPTIMIZER, RewardKind.PAIRWISE)
  assert pairwise is not reward_update(EVERYTHING, COMPUTE, OPTIMIZER, RewardKind.POINTWISE)
