"""Hugging Face folders: config.json, loading, exporting. Agreement of the logits is in test_reference.py."""

import dataclasses
import json
import math
import pathlib
import tracemalloc

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from r1jax.data.tokenizer import load_tokenizer, word_level_tokenizer
from r1jax.errors import InputError
from r1jax.models import huggingface
from r1jax.models.config import ModelConfig, RopeScaling
from r1jax.models.huggingface import config_from_folder, export, load
from r1jax.models.params import count_params, is_weight, shardings, weight_table
from r1jax.sharding import ROLLOUT_RULES, MeshShape, make_mesh

REFERENCE = pathlib.Path(__file__).parent / "reference"
SIZES = {"vocab_size": 24, "d_model": 16, "num_layers": 3, "num_heads": 4, "num_kv_heads": 2, "head_dim": 6,
         "d_ff": 20, "max_position": 64}
QWEN2 = ModelConfig(family="qwen2", qkv_bias=True, tie_embeddings=True, **SIZES)
QWEN3 = ModelConfig(family="qwen3", qk_norm=True, **SIZES)
LLAMA = ModelConfig(family="llama", rms_norm_eps=1e-5, **SIZES)
CONFIGS = {"qwen2": QWEN2, "qwen3": QWEN3, "llama": LLAMA}

# As the hub has them, written by transformers 4.
HUB_QWEN2 = {
  "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
  "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 1536, "intermediate_size": 8960,
  "max_position_embeddings": 4096, "max_window_layers": 21, "model_type": "qwen2", "num_attention_heads": 12,
  "num_hidden_layers": 28, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 10000,
  "sliding_window": 4096, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_sliding_window": False,
  "vocab_size": 151936}
HUB_LLAMA = {
  "architectures": ["LlamaForCausalLM"], "attention_bias": False, "hidden_act": "silu", "hidden_size": 4096,
  "intermediate_size": 14336, "max_position_embeddings": 131072, "mlp_bias": False, "model_type": "llama",
  "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "pretraining_tp": 1,
  "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": False, "vocab_size": 128256,
  "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                   "original_max_position_embeddings": 8192, "rope_type": "llama3"}}
ABSENT = object()


def one_device():
  return make_mesh(MeshShape(), jax.devices()[:1])


def eight_devices(**shape):
  return make_mesh(MeshShape(**shape), jax.devices()[:8])


def declared(config):
  return jax.tree.leaves(weight_table(config), is_leaf=is_weight)


def random_params(config, mesh, seed=0):
  """Normal values for every weight, norms and biases too."""
  noise = np.random.default_rng(seed)
  return jax.tree.map(
    lambda w, s: jax.device_put(noise.normal(0, 1, w.shape).astype(np.float32), s),
    weight_table(config), shardings(config, mesh), is_leaf=is_weight)


def assert_equal(a, b):
  flat_a, flat_b = (jax.tree_util.tree_flatten_with_path(tree)[0] for tree in (a, b))
  assert [path for path, _ in flat_a] == [path for path, _ in flat_b]
  for (path, x), (_, y) in zip(flat_a, flat_b, strict=True):
    np.testing.assert_array_equal(np.asarray(x), np.asarray(y), err_msg=str(path))


def write_config(folder, base, **changes):
  values = {k: v for k, v in (base | changes).items() if v is not ABSENT}
  (folder / "config.json").write_text(json.dumps(values))
  return folder


def rewrite(folder, change):
  """Applies `change` to the dict of tensors of a folder's single file."""
  path = folder / "model.safetensors"
  tensors = safetensors.numpy.load_file(path)
  change(tensors)
  safetensors.numpy.save_file(tensors, path)


# config.json


def test_a_hub_config_of_transformers_4(tmp_path):
  assert config_from_folder(write_config(tmp_path, HUB_QWEN2)) == ModelConfig(
    family="qwen2", vocab_size=151936, d_model=1536, num_layers=28, num_heads=12, num_kv_heads=2,
    head_dim=128, d_ff=8960, max_position=4096, rope_theta=10_000.0, rms_norm_eps=1e-6, qkv_bias=True,
    tie_embeddings=True)
  config = config_from_folder(write_config(tmp_path, HUB_LLAMA))
  assert (config.rope_theta, config.head_dim) == (5e5, 128)
  assert not (config.qkv_bias or config.qk_norm or config.tie_embeddings)
  assert config.rope_scaling == RopeScaling("llama3", 8.0, 8192, low_freq_factor=1.0, high_freq_factor=4.0)


def test_the_older_and_the_newer_form_of_rope_say_the_same(tmp_path):
  older = config_from_folder(write_config(tmp_path, HUB_LLAMA))
  newer = config_from_folder(write_config(
    tmp_path, HUB_LLAMA, rope_theta=ABSENT, rope_scaling=ABSENT,
    rope_parameters=HUB_LLAMA["rope_scaling"] | {"rope_theta": 5e5}))
  assert older == newer
  default = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "rope_theta": ABSENT}
  assert config_from_folder(write_config(tmp_path, HUB_QWEN2, **default)) == config_from_folder(
    write_config(tmp_path, HUB_QWEN2, rope_theta=1e6, rope_scaling=None))


def test_yarn_takes_its_defaults_and_the_deepseek_way_of_attention_factor(tmp_path):
  yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
  config = config_from_folder(write_config(tmp_path, HUB_QWEN2, rope_scaling=yarn))
  assert config.rope_scaling == RopeScaling("yarn", 4.0, 32768, beta_fast=32.0, beta_slow=1.0)
  yarn |= {"mscale": 2.0, "mscale_all_dim": 1.0, "beta_fast": 16}
  scaling = config_from_folder(write_config(tmp_path, HUB_QWEN2, rope_scaling=yarn)).rope_scaling
  assert scaling.beta_fast == 16.0
  assert scaling.attention_factor == pytest.approx((0.2 * math.log(4) + 1) / (0.1 * math.log(4) + 1))
  yarn |= {"attention_factor": 0.5}
  scaling = config_from_folder(write_config(tmp_path, HUB_QWEN2, rope_scaling=yarn)).rope_scaling
  assert scaling.attention_factor == 0.5


def test_absent_fields_take_the_defaults_of_transformers(tmp_path):
  names = ("num_key_value_heads", "rope_theta", "tie_word_embeddings", "architectures", "rms_norm_eps",
           "max_position_embeddings")
  absent = dict.fromkeys(names, ABSENT)
  absent["rope_scaling"] = None
  config = config_from_folder(write_config(tmp_path, HUB_LLAMA, **absent))
  assert (config.num_kv_heads, config.rope_theta, config.tie_embeddings) == (32, 10_000.0, False)
  assert (config.rms_norm_eps, config.max_position) == (1e-6, 2048)
  config = config_from_folder(write_config(tmp_path, HUB_QWEN2, num_attention_heads=64, hidden_size=2048, **absent))
  assert (config.num_kv_heads, config.rms_norm_eps, config.max_position) == (32, 1e-6, 32_768)
  qwen3 = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}
  config = config_from_folder(write_config(tmp_path, HUB_QWEN2, hidden_size=1024, **qwen3))
  assert (config.head_dim, config.qk_norm, config.qkv_bias) == (128, True, False)


def test_rope_scaling_that_was_added_by_hand_replaces_rope_parameters(tmp_path):
  yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
  newer = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "rope_theta": ABSENT}
  for given in ({"rope_scaling": yarn | {"rope_theta": 1e6}}, {"rope_scaling": yarn, "rope_theta": 1e6}):
    config = config_from_folder(write_config(tmp_path, HUB_QWEN2, **newer | given))
    assert (config.rope_theta, config.rope_scaling) == (1e6, RopeScaling("yarn", 4.0, 1024))
  with pytest.raises(InputError, match=r"rope_scaling: it replaces rope_parameters, and with it rope_theta 1000000"):
    config_from_folder(write_config(tmp_path, HUB_QWEN2, **newer, rope_scaling=yarn))


def test_yarn_stretches_a_context_that_the_file_left_as_it_was(tmp_path):
  yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
  config = config_from_folder(write_config(tmp_path, HUB_QWEN2, rope_scaling=yarn))
  assert (config.max_position, config.rope_scaling.original_max_position) == (16_384, 4096)
  del yarn["original_max_position_embeddings"]  # then it is max_position_embeddings, for transformers too
  assert config_from_folder(write_config(tmp_path, HUB_QWEN2, rope_scaling=yarn)) == config
  said = config_from_folder(write_config(tmp_path, HUB_QWEN2, max_position_embeddings=10_000, rope_scaling=yarn | {
    "original_max_position_embeddings": 4096}))
  assert said.max_position == 10_000


@pytest.mark.parametrize("names", [[], None, ["FSDPQwen2ForCausalLM"], ABSENT])
def test_names_of_an_architecture_that_say_the_same(tmp_path, names):
  assert config_from_folder(write_config(tmp_path, HUB_QWEN2, architectures=names)).family == "qwen2"


def test_a_refused_architecture_has_a_way_round(tmp_path):
  with pytest.raises(InputError, match=r'If this one is computed as Qwen2ForCausalLM, write \["Qwen2ForCausalLM"\] there'):
    config_from_folder(write_config(tmp_path, HUB_QWEN2, architectures=["MyQwen"]))


def test_deepseeks_own_files_are_refused_for_their_quantisation_too(tmp_path):
  fp8 = {"model_type": "deepseek_v3", "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
  with pytest.raises(InputError, match=r"model_type, quantization_config: 'deepseek_v3', quantised \(fp8\).*unquantised"):
    config_from_folder(write_config(tmp_path, HUB_QWEN2, **fp8))


@pytest.mark.parametrize("changes", [
  {}, {"rms_norm_eps": ABSENT}, {"max_position_embeddings": ABSENT}, {"num_key_value_heads": None},
  {"num_key_value_heads": ABSENT, "num_attention_heads": 64, "hidden_size": 2048},
  {"rope_scaling": {"type": "yarn", "factor": 4.0}}, {"architectures": ["FSDPQwen2ForCausalLM"]},
  {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
   "rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64, "rope_theta": 5e5}},
  {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "rope_scaling": {}},
])
def test_transformers_reads_the_same_config(tmp_path, changes):
  transformers = pytest.importorskip("transformers")
  ours = config_from_folder(write_config(tmp_path, HUB_QWEN2, **changes))
  theirs = transformers.AutoConfig.from_pretrained(tmp_path)
  rope = theirs.rope_parameters
  assert (ours.num_kv_heads, ours.rms_norm_eps, ours.rope_theta) == (
    theirs.num_key_value_heads, theirs.rms_norm_eps, rope["rope_theta"])
  if ours.rope_scaling is None:
    assert rope["rope_type"] == "default" and ours.max_position == theirs.max_position_embeddings
  else:
    assert (ours.rope_scaling.kind, ours.rope_scaling.factor, ours.rope_scaling.original_max_position) == (
      rope["rope_type"], rope["factor"], rope["original_max_position_embeddings"])


def test_a_window_that_no_layer_uses_is_accepted(tmp_path):
  config_from_folder(write_config(tmp_path, HUB_QWEN2, use_sliding_window=True, max_window_layers=28))


@pytest.mark.parametrize(("changes", "field", "value"), [
  ({"model_type": "mistral"}, "model_type", "mistral"),
  ({"model_type": ABSENT}, "model_type", "missing"),
  ({"architectures": ["Qwen2ForSequenceClassification"]}, "architectures", "Qwen2ForSequenceClassification"),
  ({"hidden_act": "gelu"}, "hidden_act", "gelu"),
  ({"use_sliding_window": True}, "use_sliding_window", "true"),
  ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types", "sliding_attention"),
  ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling.type", "linear"),
  ({"rope_scaling": {"rope_type": "longrope"}}, "rope_scaling.rope_type", "longrope"),
  ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope_parameters.rope_type", "dynamic"),
  ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rope_parameters.full_attention", "yarn"),
  ({"layer_types": 5}, "layer_types", "5"),
  ({"dual_chunk_attention_config": {"chunk_size": 262144}}, "dual_chunk_attention_config", "262144"),
  ({"architectures": "Qwen2ForCausalLM"}, "architectures", "Qwen2ForCausalLM"),
  ({"architectures": [None]}, "architectures", "null"),
  ({"rope_scaling": {"type": "llama3", "factor": 4.0, "original_max_position_embeddings": 32}},
   "rope_scaling.low_freq_factor", "missing"),
  ({"rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 32, "truncate": False}},
   "rope_scaling.truncate", "false"),
  ({"rope_scaling": "yarn"}, "rope_scaling", "yarn"),
  ({"partial_rotary_factor": 0.5}, "partial_rotary_factor", "0.5"),
  ({"attention_bias": True}, "attention_bias", "true"),
  ({"quantization_config": {"bits": 4}}, "quantization_config", "bits"),
  ({"hidden_size": ABSENT}, "hidden_size", "missing"),
  ({"num_key_value_heads": ABSENT}, "model.num_kv_heads", "32"),
  ({"rms_norm_eps": math.inf}, "rms_norm_eps", "Infinity"),
  ({"rms_norm_eps": -1}, "model.rms_norm_eps", "-1"),
  ({"rope_theta": 0}, "model.rope_theta", "0"),
  ({"rope_theta": 10**400}, "rope_theta", "1000"),
  ({"rms_norm_eps": None}, "rms_norm_eps", "null"),
  ({"vocab_size": "many"}, "vocab_size", "many"),
  ({"num_hidden_layers": True}, "num_hidden_layers", "true"),
  ({"num_key_value_heads": 5}, "model.num_kv_heads", "5"),
  ({"num_attention_heads": 0}, "model.num_heads", "0"),
])
def test_a_config_that_cannot_be_computed_is_refused_by_file_field_and_value(tmp_path, changes, field, value):
  with pytest.raises(InputError) as error:
    config_from_folder(write_config(tmp_path, HUB_QWEN2, **changes))
  assert error.value.where == f"{tmp_path / 'config.json'}: {field}"
  assert value in str(error.value.found)
  assert error.value.remedy


@pytest.mark.parametrize(
  ("text", "found"), [(None, "no such file"), ("{", "not readable as JSON"), ("[]", "not a JSON object"),
                      ("[" * 100_000, "not readable as JSON")])
def test_an_unreadable_config_is_refused(tmp_path, text, found):
  if text is not None:
    (tmp_path / "config.json").write_text(text)
  with pytest.raises(InputError, match=found):
    config_from_folder(tmp_path)


# Loading


def test_every_axis_lands_where_the_hub_means_it(tmp_path):
  """Each weight gives the product that torch.nn.Linear, y = W x + b with heads folded, would give."""
  export(random_params(QWEN2, one_device()), QWEN2, tmp_path / "m")
  tensors = safetensors.numpy.load_file(tmp_path / "m/model.safetensors")
  params = jax.tree.map(np.asarray, load(tmp_path / "m", QWEN2, one_device()))
  layer = {name: stacked[2] for name, stacked in params["layers"].items()}
  x = np.random.default_rng(0).normal(size=16).astype(np.float32)

  def linear(name, x):
    y = tensors[f"model.layers.2.{name}.weight"] @ x
    return y + tensors.get(f"model.layers.2.{name}.bias", np.zeros_like(y))

  for ours, name in (("q", "self_attn.q_proj"), ("k", "self_attn.k_proj"), ("v", "self_attn.v_proj")):
    y = np.einsum("d,dnh->nh", x, layer[ours]) + layer[f"{ours}_bias"]
    np.testing.assert_allclose(y.reshape(-1), linear(name, x), atol=1e-5)
  for ours, name in (("gate", "mlp.gate_proj"), ("up", "mlp.up_proj")):
    np.testing.assert_allclose(x @ layer[ours], linear(name, x), atol=1e-5)
  heads = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
  np.testing.assert_allclose(
    np.einsum("nh,nhd->d", heads, layer["o"]), linear("self_attn.o_proj", heads.reshape(-1)), atol=1e-5)
  inner = np.random.default_rng(2).normal(size=20).astype(np.float32)
  np.testing.assert_allclose(inner @ layer["down"], linear("mlp.down_proj", inner), atol=1e-5)


@pytest.mark.parametrize(
  "shape", [{"fsdp": 4, "tensor": 2}, {"replica": 2, "fsdp": 2, "tensor": 2}, {"fsdp": 8}])
@pytest.mark.parametrize("name", ["qwen2_tied", "qwen3_sharded", "llama3_scaled"])
def test_eight_devices_hold_what_one_holds(name, shape):
  folder = REFERENCE / name
  config, mesh = config_from_folder(folder), eight_devices(**shape)
  params = load(folder, config, mesh)
  assert_equal(params, load(folder, config, one_device()))
  jax.tree.map(lambda x, s: np.testing.assert_equal(x.sharding, s), params, shardings(config, mesh))


def test_rollout_rules_and_bfloat16():
  folder = REFERENCE / "qwen3_sharded"
  config, mesh = config_from_folder(folder), eight_devices(fsdp=4, tensor=2)
  params = load(folder, config, mesh, jnp.bfloat16, ROLLOUT_RULES)
  assert params["layers"]["q"].sharding == shardings(config, mesh, ROLLOUT_RULES)["layers"]["q"]
  whole = load(folder, config, one_device())
  assert_equal(params, jax.tree.map(lambda x: np.asarray(x).astype(ml_dtypes.bfloat16), whole))


class CountedSlice:
  """A safetensors slice that notes the size of each read."""

  def __init__(self, stored, name, reads):
    self.stored, self.name, self.reads = stored, name, reads

  def __getattr__(self, attribute):
    return getattr(self.stored, attribute)

  def __getitem__(self, index):
    value = self.stored[index]
    self.reads.append((self.name, value.size))
    return value


class CountedFile:
  def __init__(self, file, reads):
    self.file, self.reads = file, reads

  def __enter__(self):
    self.file.__enter__()
    return self

  def __exit__(self, *error):
    return self.file.__exit__(*error)

  def keys(self):
    return self.file.keys()

  def get_slice(self, name):
    return CountedSlice(self.file.get_slice(name), name, self.reads)


@pytest.fixture
def reads(monkeypatch):
  """(tensor, elements) of each read of stored weights."""
  noted = []
  real = huggingface.safe_open
  monkeypatch.setattr(huggingface, "safe_open", lambda path, kind: CountedFile(real(path, kind), noted))
  return noted


def test_each_device_reads_its_own_part_and_nothing_twice(reads):
  folder = REFERENCE / "qwen3_sharded"
  config = config_from_folder(folder)
  load(folder, config, eight_devices(fsdp=4, tensor=2))
  sizes = dict(reads)
  assert sizes["model.layers.0.self_attn.q_proj.weight"] == 32 * 64 // 8
  assert sizes["model.layers.1.mlp.down_proj.weight"] == 32 * 48 // 8
  assert sizes["model.layers.1.input_layernorm.weight"] == 32 // 4
  assert sizes["lm_head.weight"] == 80 * 32 // 8
  assert sum(size for _, size in reads) == count_params(config)


def traced_excess(function):
  """Bytes that `function` allocated at its peak beyond what its result still holds."""
  tracemalloc.start()
  try:
    result = function()
    held, peak = tracemalloc.get_traced_memory()
    del result
    return peak - held
  finally:
    tracemalloc.stop()


@pytest.mark.parametrize("mesh_shape", [None, {"fsdp": 4, "tensor": 2}])
def test_loading_never_holds_a_second_copy(tmp_path, mesh_shape):
  config = dataclasses.replace(
    QWEN3, vocab_size=512, d_model=128, num_layers=8, num_heads=8, num_kv_heads=8, head_dim=16, d_ff=160)
  folder = export(random_params(config, one_device()), config, tmp_path / "m", max_shard_bytes=10**6)
  largest, total = 4 * max(math.prod(w.shape) for w in declared(config)), 4 * count_params(config)
  # A leaf in the making, two copies of one layer of it while it is read, and small objects of Python and JAX.
  allowed = largest * (1 + 2 / config.num_layers) + 100_000
  assert total > 3 * allowed
  mesh = one_device() if mesh_shape is None else eight_devices(**mesh_shape)

  def read_all_then_place():  # the way not to do it, by the same measurement
    tensors = {}
    for path in folder.glob("*.safetensors"):
      tensors |= safetensors.numpy.load_file(path)
    return jax.device_put(list(tensors.values()), jax.devices()[0], may_alias=False)

  load(folder, config, mesh)  # what JAX keeps of its first run is not this load's
  assert traced_excess(lambda: load(folder, config, mesh)) < allowed
  assert traced_excess(read_all_then_place) > allowed


def test_all_misfits_are_listed_at_once_before_any_data_is_read(tmp_path, reads):
  export(random_params(QWEN2, one_device()), QWEN2, tmp_path / "m")

  def damage(tensors):
    del tensors["model.layers.1.mlp.up_proj.weight"], tensors["model.norm.weight"]
    tensors["model.layers.3.input_layernorm.weight"] = np.ones(16, np.float32)
    tensors["model.layers.0.self_attn.q_proj.weight"] = np.ones((16, 24), np.float32)
    tensors["model.layers.0.self_attn.q_proj.bias"] = np.ones(24, np.int32)

  rewrite(tmp_path / "m", damage)
  with pytest.raises(InputError) as error:
    load(tmp_path / "m", QWEN2, one_device())
  message = str(error.value)
  assert "2 missing: model.layers.1.mlp.up_proj.weight, model.norm.weight" in message
  assert "1 not in the model: model.layers.3.input_layernorm.weight" in message
  assert "1 of another shape: model.layers.0.self_attn.q_proj.weight [16, 24] instead of [24, 16]" in message
  assert "1 of another type: model.layers.0.self_attn.q_proj.bias I32" in message
  assert str(tmp_path / "m") in message
  assert reads == []


def test_a_long_list_of_misfits_is_cut(tmp_path):
  deep = dataclasses.replace(QWEN2, num_layers=5)
  export(random_params(QWEN2, one_device()), QWEN2, tmp_path / "m")
  with pytest.raises(InputError, match=r"24 missing: model\.layers\.3.* and 12 more"):
    load(tmp_path / "m", deep, one_device())


@pytest.mark.parametrize("cut", ["data", "header", "empty"])
def test_a_truncated_file_is_refused(tmp_path, cut):
  folder = export(random_params(QWEN2, one_device()), QWEN2, tmp_path / "m")
  path = folder / "model.safetensors"
  whole = path.read_bytes()
  path.write_bytes(whole[:{"data": -5, "header": 100, "empty": 0}[cut]])
  with pytest.raises(InputError, match="not a whole safetensors file") as error:
    load(folder, QWEN2, one_device())
  assert error.value.where == str(path)


def test_a_missing_file_and_a_folder_without_weights_are_refused(tmp_path):
  with pytest.raises(InputError, match="neither model.safetensors nor"):
    load(tmp_path, QWEN2, one_device())
  folder = export(random_params(QWEN2, one_device()), QWEN2, tmp_path / "m", max_shard_bytes=4000)
  missing = sorted(folder.glob("*.safetensors"))[1]
  missing.unlink()
  with pytest.raises(InputError, match=f"weight_map: no file '{missing.name}'"):
    load(folder, QWEN2, one_device())


def test_rotary_buffers_are_ignored(tmp_path):
  params = random_params(QWEN2, one_device())
  folder = export(params, QWEN2, tmp_path / "m")
  name = "model.layers.0.self_attn.rotary_emb.inv_freq"
  rewrite(folder, lambda tensors: tensors.update({name: np.ones(3, np.float32)}))
  assert_equal(load(folder, QWEN2, one_device()), params)


def test_the_head_of_a_tied_model_must_equal_its_embedding(tmp_path):
  params = random_params(QWEN2, one_device())
  folder = export(params, QWEN2, tmp_path / "m")
  rewrite(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].copy()}))
  assert_equal(load(folder, QWEN2, one_device()), params)
  rewrite(folder, lambda t: t["lm_head.weight"].__setitem__((23, 15), 7.0))
  with pytest.raises(InputError, match="tie_word_embeddings: true, but lm_head.weight differs"):
    load(folder, QWEN2, one_device())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_tied_model_may_have_its_matrix_under_the_heads_name_and_in_another_type(tmp_path, dtype):
  params = jax.tree.map(lambda x: jnp.asarray(np.asarray(x).astype(ml_dtypes.bfloat16).astype(np.float32)),
                        random_params(QWEN2, one_device()))
  folder = export(params, QWEN2, tmp_path / "m")
  rewrite(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].astype(dtype)}))
  assert_equal(load(folder, QWEN2, one_device()), params)
  rewrite(folder, lambda t: t.pop("model.embed_tokens.weight"))
  assert_equal(load(folder, QWEN2, one_device()), params)
  rewrite(folder, lambda t: t.update({"lm_head.weight": np.ones((24, 16), np.int32)}))
  with pytest.raises(InputError, match="1 of another type: model.embed_tokens.weight I32"):
    load(folder, QWEN2, one_device())


@pytest.mark.parametrize("name", [None, 5, ["a"], {}, ""])
def test_an_index_that_names_no_file_is_refused_by_its_tensor(tmp_path, name):
  folder = export(random_params(QWEN2, one_device()), QWEN2, tmp_path / "m", max_shard_bytes=4000)
  index = json.loads((folder / "model.safetensors.index.json").read_text())
  index["weight_map"]["model.norm.weight"] = name
  (folder / "model.safetensors.index.json").write_text(json.dumps(index))
  with pytest.raises(InputError, match="index.json: weight_map: model.norm.weight: .* is no file's name"):
    load(folder, QWEN2, one_device())


def test_a_family_without_names_on_the_hub_is_neither_loaded_nor_exported(tmp_path):
  config = dataclasses.replace(QWEN3, family="deepseek_v3")
  params = random_params(config, one_device())
  with pytest.raises(InputError, match="model.family: 'deepseek_v3'. Only .* can be exported yet"):
    export(params, config, tmp_path / "m")
  with pytest.raises(InputError, match="model.family: 'deepseek_v3'. Only .* can be loaded yet"):
    load(export(params, QWEN3, tmp_path / "m"), config, one_device())


# Exporting


@pytest.mark.parametrize("name", CONFIGS)
def test_export_then_load_is_exact(tmp_path, name):
  config = CONFIGS[name]
  params = random_params(config, one_device())
  folder = export(params, config, tmp_path / "m")
  assert config_from_folder(folder) == config
  assert_equal(load(folder, config, one_device()), params)


@pytest.mark.parametrize("scaling", [
  RopeScaling("llama3", 8.0, 32, low_freq_factor=1.5, high_freq_factor=3.0),
  RopeScaling("yarn", 4.0, 32, beta_fast=16.0, beta_slow=2.0),
  RopeScaling("yarn", 4.0, 32, attention_factor=1.5)])
def test_rope_scaling_survives(tmp_path, scaling):
  config = dataclasses.replace(LLAMA, rope_scaling=scaling, rope_theta=12345.0)
  export(random_params(config, one_device()), config, tmp_path / "m")
  assert config_from_folder(tmp_path / "m") == config


def test_export_cuts_files_and_writes_their_index(tmp_path):
  params = random_params(QWEN3, one_device())
  folder = export(params, QWEN3, tmp_path / "m", max_shard_bytes=4000)
  index = json.loads((folder / "model.safetensors.index.json").read_text())
  files = sorted(path.name for path in folder.glob("*.safetensors"))
  assert len(files) > 3 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
  held = {name: safetensors.numpy.load_file(folder / name) for name in files}
  assert {tensor: name for name, tensors in held.items() for tensor in tensors} == index["weight_map"]
  sizes = [sum(tensor.nbytes for tensor in tensors.values()) for tensors in held.values()]
  assert max(sizes) <= 4000 and sum(sizes) == index["metadata"]["total_size"]
  assert_equal(load(folder, QWEN3, one_device()), params)


def test_export_from_eight_devices_writes_the_same_bytes(tmp_path):
  params, mesh = random_params(LLAMA, one_device()), eight_devices(fsdp=4, tensor=2)
  spread = jax.tree.map(lambda x, s: jax.device_put(np.asarray(x), s), params, shardings(LLAMA, mesh))
  one, eight = export(params, LLAMA, tmp_path / "one"), export(spread, LLAMA, tmp_path / "eight")
  assert (one / "model.safetensors").read_bytes() == (eight / "model.safetensors").read_bytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_export_casts(tmp_path, dtype):
  params = random_params(LLAMA, one_device())
  folder = export(params, LLAMA, tmp_path / "m", dtype=dtype)
  assert json.loads((folder / "config.json").read_text())["torch_dtype"] == dtype
  cast = jax.tree.map(lambda x: np.asarray(x).astype(dtype).astype(np.float32), params)
  assert_equal(load(folder, LLAMA, one_device()), cast)


def test_export_carries_the_tokenizer_and_its_stop_ids(tmp_path):
  tokenizer = word_level_tokenizer(["one", "two"], stop_tokens=("<eos>", "<end>"))
  folder = export(random_params(LLAMA, one_device()), LLAMA, tmp_path / "m", tokenizer)
  generation = json.loads((folder / "generation_config.json").read_text())
  assert generation == {"eos_token_id": [1, 2], "pad_token_id": 0}
  config = json.loads((folder / "config.json").read_text())
  assert (config["eos_token_id"], config["pad_token_id"], config["bos_token_id"]) == ([1, 2], 0, None)
  back = load_tokenizer(folder)
  assert (back.stop_ids, back.pad_id, back.encode("two one")) == ((1, 2), 0, [4, 3])


def test_export_without_a_tokenizer_claims_no_special_ids(tmp_path):
  folder = export(random_params(LLAMA, one_device()), LLAMA, tmp_path / "m")
  assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
  assert json.loads((folder / "config.json").read_text())["eos_token_id"] is None


def test_export_overwrites_nothing(tmp_path):
  params = random_params(LLAMA, one_device())
  (tmp_path / "empty").mkdir()
  export(params, LLAMA, tmp_path / "empty")
  before = (tmp_path / "empty/config.json").stat().st_mtime_ns
  with pytest.raises(InputError, match="exists and is not empty"):
    export(params, LLAMA, tmp_path / "empty")
  (tmp_path / "file").write_text("mine")
  with pytest.raises(InputError, match="exists and is not empty"):
    export(params, LLAMA, tmp_path / "file")
  assert (tmp_path / "empty/config.json").stat().st_mtime_ns == before
  assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


def test_an_export_that_fails_leaves_nothing(tmp_path, monkeypatch):
  written = []

  def fail(path, *rest):
    written.append(path)
    if len(written) == 2:
      raise OSError("disk full")
    real(path, *rest)

  real = huggingface._write_safetensors
  monkeypatch.setattr(huggingface, "_write_safetensors", fail)
  with pytest.raises(OSError, match="disk full"):
    export(random_params(LLAMA, one_device()), LLAMA, tmp_path / "m", max_shard_bytes=4000)
  assert written[0].parent != tmp_path / "m" and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("changes", "where"), [
  ({"family": "llama", "qk_norm": True}, "model.qk_norm"),
  ({"family": "qwen2", "qk_norm": False}, "model.qkv_bias"),
  ({"d_ff": 22}, "export: params"), ({"qk_norm": False}, "export: params")])
def test_export_refuses_what_the_folder_would_not_be(tmp_path, changes, where):
  params = random_params(QWEN3, one_device())
  config = dataclasses.replace(QWEN3, **changes)
  if where != "export: params":
    params = random_params(config, one_device())
  with pytest.raises(InputError) as error:
    export(params, config, tmp_path / "m")
  assert error.value.where == where
  assert list(tmp_path.iterdir()) == []


def test_export_refuses_odd_types_and_a_tokenizer_that_is_too_large(tmp_path):
  params = random_params(LLAMA, one_device())
  with pytest.raises(InputError, match="int8"):
    export(params, LLAMA, tmp_path / "m", dtype="int8")
  with pytest.raises(InputError, match="The tokenizer has 102 ids"):
    export(params, LLAMA, tmp_path / "m", word_level_tokenizer([f"w{i}" for i in range(100)]))
