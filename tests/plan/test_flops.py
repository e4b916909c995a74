"""FLOPs counted in a jaxpr: equal to counts by hand, loops, devices, branches and kernels included."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.sharding import PartitionSpec as P
from tiny import FAMILIES, eight_devices, one_device

from r1jax.losses.grpo import KLEstimator
from r1jax.models import splash
from r1jax.models.config import Compute
from r1jax.models.flops import flops, matmul_params
from r1jax.models.params import abstract_params
from r1jax.plan.flops import counted, ideal_decode, ideal_forward, ideal_prefill, ideal_update
from r1jax.plan.shapes import array, packed_rows, token_columns
from r1jax.sharding import BATCH, activation
from r1jax.training.grpo import grpo_step
from r1jax.training.logprobs import logprobs
from r1jax.training.optimizer import AdamW

PRODUCT = 2 * 8 * 16 * 32  # of [8, 16] and [16, 32]


def traced(f, *shapes):
  return jax.make_jaxpr(f)(*(jnp.zeros(shape, jnp.float32) for shape in shapes))


def test_a_scan_counts_its_length_and_a_condition_its_dearest_branch():
  def scanned(a, b):
    return jax.lax.scan(lambda c, _: (c + a @ b, None), jnp.zeros((8, 32)), None, length=7)[0]
  assert counted(traced(scanned, (8, 16), (16, 32))) == 7 * PRODUCT

  def branches(a, b):
    return jax.lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: (a @ b) + (a @ b))
  assert counted(traced(branches, (8, 16), (16, 32))) == 2 * PRODUCT


def test_a_loop_that_the_data_end_counts_the_steps_it_is_said_to_have():
  def loop(a, b):
    return jax.lax.while_loop(lambda c: c[0, 0] < 1, lambda c: c + a @ b, jnp.zeros((8, 32)))
  assert counted(traced(loop, (8, 16), (16, 32)), steps=5) == 5 * PRODUCT


def test_gradients_and_what_is_computed_again_count():
  def loss(a, b):
    return jnp.sum(jnp.sin(a @ b))
  assert counted(traced(jax.grad(loss, (0, 1)), (8, 16), (16, 32))) == 3 * PRODUCT
  again = jax.checkpoint(loss, policy=jax.checkpoint_policies.nothing_saveable)
  assert counted(traced(jax.value_and_grad(again, (0, 1)), (8, 16), (16, 32))) == 4 * PRODUCT
  kept = jax.checkpoint(loss, policy=jax.checkpoint_policies.everything_saveable)
  assert counted(traced(jax.value_and_grad(kept, (0, 1)), (8, 16), (16, 32))) == 3 * PRODUCT


def test_what_a_device_does_in_a_shard_map_counts_for_each():
  mesh = eight_devices()
  with jax.set_mesh(mesh):
    mapped = jax.shard_map(lambda a, b: a @ b, in_specs=(P(BATCH, None), P(None, None)), out_specs=P(BATCH, None))
    shapes = (array(mesh, (32, 16), jnp.float32), jnp.zeros((16, 32)))
    assert counted(jax.jit(mapped).trace(*shapes).jaxpr) == 8 * PRODUCT  # 4 shares, each on two devices


def test_groups_of_rows_count_each_row_once():
  def grouped(rows, matrices):
    return jax.lax.ragged_dot(rows, matrices, jnp.array([3, 5], jnp.int32))
  assert counted(traced(grouped, (8, 16), (2, 16, 32))) == PRODUCT


def test_a_kernel_counts_what_it_says():
  def kernel(x, y):
    y[...] = x[...] * 2
  call = pl.pallas_call(kernel, out_shape=jax.ShapeDtypeStruct((8, 128), jnp.float32), interpret=True,
                        cost_estimate=pl.CostEstimate(flops=1_234, transcendentals=0, bytes_accessed=0))
  assert counted(traced(call, (8, 128))) == 1_234


@pytest.mark.parametrize("family", ["llama", "deepseek_v3"])
def test_the_programs_of_a_model_are_those_of_a_count_by_hand(family):
  """Forward with all pairs of a row and backward with the forward pass computed again: within 1%."""
  config, mesh, rows, T = FAMILIES[family], eight_devices(), 4, 64
  compute = Compute(dtype="float32", remat="nothing", attention_chunk=T, logprob_chunk=16)
  body, head = matmul_params(config)
  if config.mla is None:
    pair = 2 * config.num_layers * config.num_heads * 2 * config.head_dim
    products, scores = rows * T * 2 * body, rows * T * T * pair
    chunks = rows * T * 2 * head
    expected = products + scores + chunks
    with jax.set_mesh(mesh):
      found = counted(logprobs.trace(abstract_params(config, mesh), *token_columns(mesh, rows, T), config=config,
                                     compute=compute, temperature=1.0).jaxpr)
    assert found == pytest.approx(expected, rel=0.01)
    causal = rows * T * (T + 1) / 2 * pair
    assert ideal_forward(config, rows, T) == pytest.approx(products + causal + chunks, rel=1e-9)
    assert ideal_update(config, rows, T) == pytest.approx(3 * (products + causal + chunks), rel=1e-9)
  else:
    # Rows are computed by every expert device; the count is of what is done, at least the ideal.
    with jax.set_mesh(mesh):
      found = counted(logprobs.trace(abstract_params(config, mesh), *token_columns(mesh, rows, T), config=config,
                                     compute=compute, temperature=1.0).jaxpr)
    assert found > 0.9 * ideal_forward(config, rows, T)


def test_ideal_counts_of_sampling_add_up_to_those_of_a_response():
  """A prompt's chunk and then token after token: what models/flops.py counts of a rollout."""
  config, prompt, sampled = FAMILIES["llama"], 32, 16
  tokens = sum(ideal_decode(config, 1, prompt + i) for i in range(sampled))
  whole = ideal_prefill(config, 1, prompt - 1, prompt - 1) + tokens
  assert whole == pytest.approx(flops(config, prompt, np.array([sampled]))["rollout"], rel=1e-9)


def test_recomputation_shows_in_the_count_of_an_update():
  config, mesh, T = FAMILIES["llama"], eight_devices(), 64
  found = {}
  for remat in ("nothing", "dots", "everything"):
    compute = Compute(dtype="float32", remat=remat, attention_chunk=T, logprob_chunk=16)
    step = grpo_step(config, compute, AdamW(lr=1e-3), 1.0, 10.0, 10.0, 0.0, KLEstimator.K3)
    f32 = (jnp.float32, ())
    with jax.set_mesh(mesh):
      rows = packed_rows(mesh, 4, T, advantages=f32, sampler_logprobs=f32)
      params = abstract_params(config, mesh)
      sums = jax.eval_shape(step.zeros, params, rows)
      found[remat] = counted(step.accumulate.trace(params, sums, rows).jaxpr)
  body, _ = matmul_params(config)
  pair = 2 * config.num_layers * config.num_heads * 2 * config.head_dim
  # Of a layer all but its last product, which no gradient needs.
  body -= config.num_layers * config.d_ff * config.d_model
  assert found["nothing"] - found["everything"] == pytest.approx(4 * T * 2 * body + 4 * T * T * pair, rel=0.01)
  assert found["dots"] == found["everything"]


def test_splash_attention_counts_the_blocks_that_it_does_not_skip():
  """Three blocks of 128: six of nine. Forward two products a pair, then four for keys and values, and three for queries."""
  mesh, T, H, h = one_device(), 384, 8, 16
  with jax.set_mesh(mesh):
    heads = jax.NamedSharding(mesh, activation("rows", None, "heads_of_rows", None))
    q, k = (jax.ShapeDtypeStruct((2, T, n, h), jnp.float32, sharding=heads) for n in (H, 4))
    rows = array(mesh, (2, T), jnp.int32)

    def loss(q, k, v, positions, segments):
      return jnp.sum(splash.attend(q, k, v, positions, segments, 1.0))
    pairs = 2 * H * T * T * 6 // 9
    kept = jax.checkpoint(loss, policy=jax.checkpoint_policies.save_only_these_names("attention"))
    assert counted(jax.make_jaxpr(loss)(q, k, k, rows, rows)) == 2 * pairs * 2 * h
    outputs = 2 * H * T * h  # times their gradients, summed: what the softmax's normalisation takes off
    for function in loss, kept:  # a layer that keeps its attention does not compute it again
      assert counted(jax.make_jaxpr(jax.grad(function, (0, 1, 2)))(q, k, k, rows, rows)) == (9 * pairs * h + outputs) * 2
