"""DeepSeek-V3's decoder: against transformers, the router's rules, experts over their own axis, the paper's size."""
import dataclasses
import importlib.util
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import FAMILIES, one_device, random_params

from r1jax.errors import InputError
from r1jax.models.cache import empty_layers
from r1jax.models.config import MLA, Compute, ModelConfig, MoE, RopeScaling
from r1jax.models.moe import route
from r1jax.models.params import count_params, shardings
from r1jax.models.transformer import forward, head_weight, logits
from r1jax.sharding import TRAIN_RULES, MeshShape, make_mesh, put_batch

TINY = FAMILIES["deepseek_v3"]
LIVE = importlib.util.find_spec("transformers") is not None and importlib.util.find_spec("torch") is not None


def all_logits(config, params, tokens, positions, mesh):
  with jax.set_mesh(mesh):
    compute = Compute()
    run = jax.jit(lambda p, t, s: logits(forward(p, config, compute, t, s), head_weight(p, config, compute)))
    return np.asarray(run(params, *put_batch(mesh, (tokens, positions))))


def test_the_papers_model_has_671_billion_parameters():
  v3 = ModelConfig(
    family="deepseek_v3", vocab_size=129_280, d_model=7_168, num_layers=61, num_heads=128, num_kv_heads=128, head_dim=192,
    d_ff=18_432, max_position=163_840, mla=MLA(1_536, 512, 128, 64, 128),
    moe=MoE(first_dense=3, experts=256, shared=1, top_k=8, d_ff=2_048, groups=8, kept_groups=4, route_scale=2.5))
  assert count_params(v3) == pytest.approx(671.03e9, rel=1e-5)


def test_a_token_is_cached_as_one_latent():
  with jax.set_mesh(one_device()):
    layers = empty_layers(TINY, 2, 5, jnp.float32)
  assert [{name: x.shape for name, x in layer.items()} for layer in layers] == [{"k": (2, 1, 1, 16 + 4, 5)}] * 3


def routed(moe: MoE, scores: np.ndarray, bias: np.ndarray):
  """The rules of the paper, one token at a time, in NumPy."""
  ids, weights = [], []
  for s in scores:
    choice = s + bias
    grouped = choice.reshape(moe.groups, -1)
    best = np.argsort(-np.sort(grouped, axis=1)[:, -2:].sum(axis=1), kind="stable")[:moe.kept_groups]
    allowed = np.repeat(np.isin(np.arange(moe.groups), best), moe.experts // moe.groups)
    chosen = np.argsort(-np.where(allowed, choice, -np.inf), kind="stable")[:moe.top_k]
    ids.append(chosen)
    weights.append(s[chosen] / s[chosen].sum() * moe.route_scale)
  return np.array(ids), np.array(weights)


def test_the_bias_selects_and_does_not_weigh():
  moe, rng = TINY.moe, np.random.default_rng(0)
  x, router = rng.standard_normal((50, 8)).astype(np.float32), rng.standard_normal((8, 8)).astype(np.float32)
  bias = rng.standard_normal(8).astype(np.float32)
  weights, ids = route(moe, jnp.asarray(x), jnp.asarray(router), jnp.asarray(bias))
  expected_ids, expected = routed(moe, 1 / (1 + np.exp(-(x @ router).astype(np.float64))), bias)
  np.testing.assert_array_equal(ids, expected_ids)
  np.testing.assert_allclose(weights, expected, rtol=1e-5)
  unbiased, _ = routed(moe, 1 / (1 + np.exp(-(x @ router).astype(np.float64))), 0 * bias)
  assert (unbiased != expected_ids).any()


def test_the_bias_has_no_gradient_and_the_router_has():
  config, mesh = TINY, one_device()
  params = random_params(config, mesh)
  tokens = np.arange(12, dtype=np.int32).reshape(1, 12)
  with jax.set_mesh(mesh):
    def loss(params):
      return forward(params, config, Compute(), jnp.asarray(tokens), jnp.asarray(tokens)).astype(jnp.float32).sum()
    grads = jax.jit(jax.grad(loss))(params)["layers"]
  assert float(jnp.abs(grads["router_bias"]).max()) == 0.0
  for name in ("router", "expert_gate", "expert_up", "expert_down", "kv_up", "q_down"):
    assert float(jnp.abs(grads[name]).max()) > 0.0, name


@pytest.mark.parametrize("shape", [MeshShape(expert=4), MeshShape(fsdp=2, tensor=2, expert=2)], ids=str)
def test_experts_over_their_own_axis_give_the_same(shape):
  rng = np.random.default_rng(1)
  tokens = rng.integers(0, 64, (4, 9)).astype(np.int32)
  positions = np.tile(np.arange(9, dtype=np.int32), (4, 1))
  alone = all_logits(TINY, random_params(TINY, one_device()), tokens, positions, one_device())
  mesh = make_mesh(shape, jax.devices()[:math.prod(abs(n) for n in dataclasses.astuple(shape))])
  params = random_params(TINY, mesh)
  assert params["layers"]["expert_gate"].sharding.spec[1] == "expert"
  np.testing.assert_allclose(all_logits(TINY, params, tokens, positions, mesh), alone, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("changes", "said"), [
  ({"head_dim": 10}, "qk_nope"),
  ({"moe": dataclasses.replace(TINY.moe, groups=3)}, "model.moe.groups"),
  ({"moe": dataclasses.replace(TINY.moe, top_k=5)}, "model.moe.top_k"),
  ({"moe": dataclasses.replace(TINY.moe, first_dense=3)}, "model.moe.first_dense"),
  ({"moe": dataclasses.replace(TINY.moe, groups=8, kept_groups=4)}, "two best experts"),
], ids=lambda x: x if isinstance(x, str) else "")
def test_refuses_what_cannot_be(changes, said):
  with pytest.raises(InputError, match=said):
    dataclasses.replace(TINY, **changes)


def from_transformers(state: dict, config: ModelConfig) -> dict:
  """Weights of transformers' DeepseekV3ForCausalLM as this project's parameters."""
  mla, moe, H = config.mla, config.moe, config.num_heads
  halves = np.r_[0:mla.qk_rope:2, 1:mla.qk_rope:2]  # the hub rotates neighbours, this project the two halves

  def layer(i):
    def get(name):
      return state[f"model.layers.{i}.{name}"]
    q_up = get("self_attn.q_b_proj.weight").T.reshape(mla.q_lora, H, config.head_dim)
    q_up = np.concatenate([q_up[..., :mla.qk_nope], q_up[..., mla.qk_nope:][..., halves]], -1)
    kv_down = get("self_attn.kv_a_proj_with_mqa.weight").T
    kv_down = np.concatenate([kv_down[:, :mla.kv_lora], kv_down[:, mla.kv_lora:][:, halves]], -1)
    w = {"attn_norm": get("input_layernorm.weight"), "mlp_norm": get("post_attention_layernorm.weight"),
         "q_down": get("self_attn.q_a_proj.weight").T, "q_latent_norm": get("self_attn.q_a_layernorm.weight"), "q_up": q_up,
         "kv_down": kv_down, "kv_latent_norm": get("self_attn.kv_a_layernorm.weight"),
         "kv_up": get("self_attn.kv_b_proj.weight").T.reshape(mla.kv_lora, H, mla.qk_nope + mla.v_dim),
         "o": get("self_attn.o_proj.weight").T.reshape(H, mla.v_dim, config.d_model)}
    of = "mlp" if i < moe.first_dense else "mlp.shared_experts"
    w |= {name: get(f"{of}.{name}_proj.weight").T for name in ("gate", "up", "down")}
    if i >= moe.first_dense:
      w |= {"router": get("mlp.gate.weight").T, "router_bias": get("mlp.gate.e_score_correction_bias")}
      both = get("mlp.experts.gate_up_proj")  # [E, 2 F, D]
      w |= {"expert_gate": both[:, :moe.d_ff].transpose(0, 2, 1), "expert_up": both[:, moe.d_ff:].transpose(0, 2, 1),
            "expert_down": get("mlp.experts.down_proj").transpose(0, 2, 1)}
    return w

  def stacked(numbers):
    each = [layer(i) for i in numbers]
    return {name: np.stack([w[name] for w in each]) for name in each[0]}

  return {"embed": state["model.embed_tokens.weight"], "final_norm": state["model.norm.weight"],
          "head": state["lm_head.weight"].T, "dense_layers": stacked(range(moe.first_dense)),
          "layers": stacked(range(moe.first_dense, config.num_layers))}


@pytest.mark.skipif(not LIVE, reason="the live comparison needs torch and transformers: pip install -e '.[reference]'")
@pytest.mark.parametrize("yarn", [False, True], ids=["plain", "yarn"])
def test_logits_are_those_of_transformers(yarn):
  import torch
  import transformers
  factor = 4.0
  rope = {"rope_type": "yarn", "rope_theta": 50.0, "factor": factor, "original_max_position_embeddings": 16, "mscale": 1.0,
          "mscale_all_dim": 1.0, "beta_fast": 32, "beta_slow": 1} if yarn else {"rope_type": "default", "rope_theta": 50.0}
  hub = transformers.DeepseekV3Config(
    vocab_size=80, hidden_size=32, intermediate_size=48, moe_intermediate_size=12, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=4, n_shared_experts=1, n_routed_experts=8, routed_scaling_factor=2.5,
    kv_lora_rank=16, q_lora_rank=24, qk_rope_head_dim=8, v_head_dim=6, qk_nope_head_dim=8, n_group=4, topk_group=2,
    num_experts_per_tok=3, first_k_dense_replace=1, norm_topk_prob=True, max_position_embeddings=64, rope_parameters=rope,
    tie_word_embeddings=False)
  torch.manual_seed(0)
  model = transformers.DeepseekV3ForCausalLM(hub).eval()
  with torch.no_grad():
    for name, p in [*model.named_parameters(), *model.named_buffers()]:
      if "correction_bias" in name:
        p.uniform_(0.0, 0.4)
      elif p.dtype == torch.float32 and "inv_freq" not in name:
        p.copy_(torch.randn_like(p) * (0.3 if p.dim() > 1 else 0.1) + (1.0 if "norm" in name else 0.0))
  tokens = np.random.default_rng(0).integers(0, 80, (2, 40)).astype(np.int32)
  with torch.no_grad():
    theirs = model(torch.tensor(tokens.astype(np.int64))).logits.numpy()
  config = ModelConfig(
    family="deepseek_v3", vocab_size=80, d_model=32, num_layers=3, num_heads=4, num_kv_heads=4, head_dim=16, d_ff=48,
    max_position=64, rope_theta=50.0, rope_scaling=RopeScaling("yarn", factor, 16, attention_factor=1.0) if yarn else None,
    mla=MLA(24, 16, 8, 8, 6, softmax_factor=(0.1 * math.log(factor) + 1) ** 2 if yarn else 1.0),
    moe=MoE(first_dense=1, experts=8, shared=1, top_k=3, d_ff=12, groups=4, kept_groups=2, route_scale=2.5))
  state = {k: v.float().numpy() for k, v in model.state_dict().items()}
  mesh = one_device()
  params = jax.tree.map(lambda x, s: jax.device_put(np.ascontiguousarray(x), s), from_transformers(state, config),
                        shardings(config, mesh, TRAIN_RULES))
  positions = np.tile(np.arange(40, dtype=np.int32), (2, 1))
  ours = all_logits(config, params, tokens, positions, mesh)
  assert np.abs(theirs).max() > 1.0
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)
