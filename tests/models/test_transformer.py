"""The decoder against itself: causality, padding, packing, memory options, meshes and the cache; and its weights."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import (
  EVERYTHING,
  FAMILIES,
  LONG,
  WIDE,
  eight_devices,
  one_device,
  quick_compiles,
  random_params,
  random_tokens,
)

from r1jax.errors import InputError
from r1jax.models import params as params_module
from r1jax.models.cache import DenseCache, empty_layers, empty_recent, write
from r1jax.models.config import Compute, ModelConfig, RopeScaling
from r1jax.models.decode import extend, recent_tables, rollout_weights
from r1jax.models.params import abstract_params, count_params, init_params, shardings, weight_table
from r1jax.models.transformer import check_rows, forward
from r1jax.sharding import DATA, MeshShape, make_mesh, put_batch

TOLERANCE = 1e-5
compile_quickly = pytest.fixture(scope="module", autouse=True)(quick_compiles)


def assert_close(a, b):
  np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE)


# Who sees whom


@partial(jax.jit, static_argnames=("compute",))
def embedding_gradient(embed, params, tokens, positions, segments, chosen, compute):
  """[V, D]: how the hidden state of the chosen slot (a one in [B, T] zeros) depends on each token's embedding."""
  def f(embed):
    hidden = forward({**params, "embed": embed}, EVERYTHING, compute, tokens, positions, segments)
    return jnp.sum(hidden * chosen[:, :, None] * jnp.arange(1.0, 1.0 + hidden.shape[-1])[None, None])
  return jax.grad(f)(embed)


@pytest.mark.parametrize("packed", [False, True])
def test_a_token_depends_on_itself_and_its_past_alone(packed):
  """Every slot holds another token, so the rows of the embedding's gradient are the slots'."""
  slots = 9
  tokens = np.arange(2 * slots, dtype=np.int32).reshape(2, slots)
  _, positions = random_tokens(2, slots, [9, 7])
  segments = None
  compute = Compute(attention_chunk=4 if packed else 256)
  if packed:
    positions = np.array([[0, 1, 2, 3, 0, 1, 2, 3, 4], [-1, 0, 1, 2, 3, 4, 0, 1, -1]], np.int32)
    segments = np.array([[0, 0, 0, 0, 1, 1, 1, 1, 1], [7, 7, 7, 7, 7, 7, 9, 9, 9]], np.int32)
  mesh = one_device()
  params = random_params(EVERYTHING, mesh)
  with jax.set_mesh(mesh):
    batch = put_batch(mesh, (tokens, positions, segments))
    for row in range(2):
      for slot in np.flatnonzero(positions[row] >= 0):
        chosen = np.zeros((2, slots), np.float32)
        chosen[row, slot] = 1
        gradient = np.asarray(embedding_gradient(params["embed"], params, *batch, put_batch(mesh, chosen), compute))
        seen = np.zeros((2, slots), bool)
        seen[row] = (positions[row] >= 0) & (np.arange(slots) <= slot)
        if packed:
          seen[row] &= segments[row] == segments[row, slot]
        touched = np.any(gradient != 0, axis=1)[:2 * slots].reshape(2, slots)
        np.testing.assert_array_equal(touched, seen, err_msg=f"row {row}, slot {slot}")


@partial(jax.jit, static_argnames=("config", "compute"))
def hidden_states(params, tokens, positions, *, config, compute):
  return forward(params, config, compute, tokens, positions)


def test_more_padding_does_not_matter():
  mesh = one_device()
  params = random_params(EVERYTHING, mesh)
  tokens, positions = random_tokens(2, 8, [8, 5])
  wider = np.pad(tokens, ((0, 0), (5, 0)), constant_values=63)  # another pad token, too
  wider_positions = np.pad(positions, ((0, 0), (5, 0)), constant_values=-1)
  with jax.set_mesh(mesh):
    run = partial(hidden_states, params, config=EVERYTHING, compute=Compute())
    narrow = np.asarray(run(*put_batch(mesh, (tokens, positions))))
    wide = np.asarray(run(*put_batch(mesh, (wider, wider_positions))))
  real = positions >= 0
  assert np.isfinite(wide).all()
  assert_close(wide[:, 5:][real], narrow[real])


# One result, however it is computed


@partial(jax.jit, static_argnames=("compute",))
def hidden_and_gradients(params, tokens, positions, compute):
  def loss(params):
    hidden = forward(params, EVERYTHING, compute, tokens, positions)
    probe = jnp.cos(jnp.arange(hidden.shape[1] * hidden.shape[2], dtype=jnp.float32)).reshape(hidden.shape[1:])
    real = (positions >= 0)[:, :, None]
    return jnp.mean(jnp.where(real, hidden * probe[None], 0.0)), hidden
  (_, hidden), gradients = jax.value_and_grad(loss, has_aux=True)(params)
  return hidden, gradients


def computed(mesh, compute):
  tokens, positions = random_tokens(8, 16, [11, 3, 16, 7, 1, 11, 5, 8])
  params = random_params(EVERYTHING, mesh)
  with jax.set_mesh(mesh):
    hidden, gradients = hidden_and_gradients(params, *put_batch(mesh, (tokens, positions)), compute)
  return np.where(positions[:, :, None] >= 0, hidden, 0), gradients


@pytest.fixture(scope="module")
def plain():
  return computed(one_device(), Compute(remat="everything"))


@pytest.mark.parametrize("compute", [Compute(remat="nothing", attention_chunk=4), Compute(remat="attention"),
                                     Compute(remat="dots", attention_chunk=1), Compute(remat="nothing", offload=True),
                                     Compute(remat="dots", offload=True)],
                         ids=lambda c: c.remat + " offloaded" * c.offload)
def test_remat_matches_no_remat(plain, compute):
  hidden, gradients = computed(one_device(), compute)
  assert_close(hidden, plain[0])
  jax.tree.map(assert_close, gradients, plain[1])


@pytest.mark.parametrize("shape", [MeshShape(replica=2, tensor=2), WIDE, LONG], ids=["batch and heads", "wide", "long"])
def test_eight_devices_give_what_one_gives(plain, shape):
  mesh = eight_devices(shape)
  hidden, gradients = computed(mesh, Compute(remat="nothing", attention_chunk=6))
  assert_close(hidden, plain[0])
  jax.tree.map(assert_close, gradients, plain[1])
  for found, wanted in zip(jax.tree.leaves(gradients), jax.tree.leaves(shardings(EVERYTHING, mesh)), strict=True):
    assert found.sharding.is_equivalent_to(wanted, found.ndim), (found.sharding, wanted)


@partial(jax.jit, static_argnames=("config", "prompt"))
def in_one_pass_and_by_cache(params, tokens, positions, config, prompt):
  """Hidden states [B, T, D] of forward, and of a prefill of `prompt` tokens, cached, followed by single tokens."""
  B, T = tokens.shape
  weights = rollout_weights(params, config, jnp.float32)
  lengths = jnp.zeros((B,), jnp.int32, out_sharding=jax.P(DATA))
  layers = empty_layers(config, B, T + 2, jnp.float32)  # and two slots that stay empty
  tables, recent = recent_tables(config, lengths, prompt), empty_recent(config, B, prompt, jnp.float32)
  first, recent = extend(weights, config, tokens[:, :prompt], tables, layers, recent, lengths, jnp.int32(0))
  layers = write(DenseCache(layers), config, layers, recent, lengths).layers

  tables = recent_tables(config, lengths + prompt, T - prompt)

  def step(recent, i):
    token = jax.lax.dynamic_slice_in_dim(tokens, prompt + i, 1, axis=1)
    hidden, recent = extend(weights, config, token, tables, layers, recent, lengths + prompt, i)
    return recent, hidden.T

  rest = jnp.arange(T - prompt, dtype=jnp.int32)
  _, rest = jax.lax.scan(step, empty_recent(config, B, T - prompt, jnp.float32), rest)
  first = first.T.reshape(B, prompt, -1, out_sharding=jax.P(DATA, None, None))
  whole = forward(params, config, Compute(), tokens, positions)
  return whole, jnp.concatenate([first, jnp.moveaxis(rest, 0, 1)], axis=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_prefill_and_decoding_are_one_pass(family):
  config, mesh = FAMILIES[family], one_device()
  tokens, positions = random_tokens(3, 12)
  with jax.set_mesh(mesh):
    whole, stepwise = in_one_pass_and_by_cache(
      random_params(config, mesh), *put_batch(mesh, (tokens, positions)), config, 6)
  assert_close(stepwise, whole)


# Weights


def test_initial_weights_do_not_depend_on_the_mesh(monkeypatch):
  table = weight_table(EVERYTHING)
  few = {"embed": table["embed"], "layers": {name: table["layers"][name] for name in ("attn_norm", "q_bias", "up")}}
  monkeypatch.setattr(params_module, "weight_table", lambda config: few)  # all of them compile for half a minute
  one, eight = (init_params(jax.random.key(3), EVERYTHING, mesh) for mesh in (one_device(), eight_devices()))
  jax.tree.map(np.testing.assert_array_equal, one, eight)
  assert eight["layers"]["up"].addressable_shards[0].data.shape == (2, 16, 24)
  assert not np.any(one["layers"]["q_bias"]) and np.all(np.asarray(one["layers"]["attn_norm"]) == 1)
  np.testing.assert_allclose(np.std(one["layers"]["up"]), 32**-0.5, rtol=0.05)
  assert not np.array_equal(one["layers"]["up"][0], one["layers"]["up"][1])


def test_abstract_weights_are_the_real_ones_without_values():
  mesh = eight_devices()
  real, abstract = random_params(EVERYTHING, mesh), abstract_params(EVERYTHING, mesh)

  def check(a, b):
    assert (a.shape, a.dtype, a.sharding) == (b.shape, b.dtype, b.sharding)
  jax.tree.map(check, real, abstract)
  assert count_params(EVERYTHING) == sum(x.size for x in jax.tree.leaves(real))


def test_weights_that_do_not_divide_over_the_mesh_are_refused():
  mesh = make_mesh(MeshShape(tensor=8, fsdp=1))
  with pytest.raises(InputError, match=r"mesh\.tensor: 8 devices cannot share weight layers\.o with shape"):
    shardings(EVERYTHING, mesh)  # 4 query heads
  with pytest.raises(InputError, match=r"mesh\.fsdp: 8 devices cannot share weight embed .*Choose a size that divides 60"):
    shardings(replace(EVERYTHING, d_model=60), make_mesh(MeshShape(fsdp=8)))


@pytest.mark.parametrize(("shape", "length", "said"), [
  (MeshShape(fsdp=2, sequence=4), 30, r"stages\.a\.max_length: 30\. Make it a multiple of mesh\.sequence \(4\)"),
  (MeshShape(sequence=4, tensor=2), 32, r"mesh\.sequence x mesh\.tensor: 8\. Attention splits 4 heads"),
])
def test_rows_that_do_not_divide_over_the_mesh_are_refused(shape, length, said):
  with pytest.raises(InputError, match=said):
    check_rows("stages.a.max_length", EVERYTHING, Compute(), eight_devices(shape), length)


# Configurations


@pytest.mark.parametrize("change, message", [
  ({"family": "gpt"}, r"model\.family: 'gpt'\. Use 'qwen2', "),
  ({"num_layers": 0}, r"model\.num_layers: 0\. It must be at least 1"),
  ({"d_model": 32.0}, r"model\.d_model: 32\.0\. It must be a whole number"),
  ({"num_kv_heads": 3}, r"model\.num_kv_heads: 3\. It must divide num_heads \(4\)"),
  ({"head_dim": 7}, r"model\.head_dim: 7\. .*even"),
  ({"num_tokens": 65}, r"model\.num_tokens: 65\. Give 1 to vocab_size \(64\)"),
])
def test_a_wrong_model_is_refused(change, message):
  with pytest.raises(InputError, match=message):
    replace(EVERYTHING, **change)


@pytest.mark.parametrize("make, message", [
  (lambda: Compute(dtype="float16"), r"compute\.dtype: 'float16'\. Use 'float32' or 'bfloat16'"),
  (lambda: Compute(remat="everything", offload=True), r"compute\.offload: True, with remat .*another remat"),
  (lambda: Compute(remat="some"), r"compute\.remat: 'some'\. Use 'nothing', 'attention', 'dots' or 'everything'"),
  (lambda: Compute(attention_chunk=0), r"compute\.attention_chunk: 0\. "),
  (lambda: Compute(attention_chunk=None), r"compute\.attention_chunk: None\. "),
  (lambda: Compute(logprob_chunk=-1), r"compute\.logprob_chunk: -1\. "),
  (lambda: RopeScaling("linear", 2.0, 64), r"rope_scaling\.kind: 'linear'\. Use 'llama3' or 'yarn'"),
])
def test_a_wrong_way_to_compute_is_refused(make, message):
  with pytest.raises(InputError, match=message):
    make()


def test_configs_are_hashable():
  assert hash(replace(EVERYTHING)) == hash(EVERYTHING) and isinstance(EVERYTHING, ModelConfig)
