"""Logits against transformers: committed values, live where it is installed, and SmolLM2's real weights.

make_reference.py, beside this file, made the committed values. With the extra `reference` installed the
comparison also runs live, in both directions. Real weights are compared where R1JAX_SMOLLM2 names a Hugging
Face folder of SmolLM2-135M-Instruct and R1JAX_SMOLLM2_REFERENCE an npz of transformers' logits and greedy
ids for it.
"""

import dataclasses
import importlib.util
import os
import pathlib
from functools import partial

import jax
import numpy as np
import pytest

from r1jax.models.config import Compute, ModelConfig, RopeScaling
from r1jax.models.huggingface import config_from_folder, export, load
from r1jax.models.params import is_weight, shardings, weight_table
from r1jax.models.rope import inverse_frequencies
from r1jax.models.transformer import forward, head_weight, logits
from r1jax.records import Request
from r1jax.sampling.choice import Sampling
from r1jax.sampling.sampler import Decoding, Sampler
from r1jax.sharding import MeshShape, make_mesh, put_batch

REFERENCE = pathlib.Path(__file__).parent / "reference"
CASES = ["qwen2_tied", "qwen2_untied_bf16", "qwen2_yarn", "qwen3_sharded", "llama3_scaled", "llama_yarn_f16"]
SCALED = ["qwen2_yarn", "llama3_scaled", "llama_yarn_f16"]
TOLERANCE = 1e-4  # of logits of several units, in float32

live = pytest.mark.skipif(
  importlib.util.find_spec("transformers") is None or importlib.util.find_spec("torch") is None,
  reason="the live comparison needs torch and transformers: pip install -e '.[reference]'")


def one_device():
  return make_mesh(MeshShape(), jax.devices()[:1])


@partial(jax.jit, static_argnames="config")
def all_logits(params, config, tokens, positions):
  compute = Compute()
  return logits(forward(params, config, compute, tokens, positions), head_weight(params, config, compute))


def logits_here(params, config, tokens, positions, mesh=None):
  mesh = mesh or one_device()
  with jax.set_mesh(mesh):
    return np.asarray(all_logits(params, config, *put_batch(mesh, (tokens, positions))))


def assert_same_logits(ours, theirs, positions):
  real = positions >= 0
  np.testing.assert_allclose(ours[real], theirs[real], rtol=0, atol=TOLERANCE)


# Committed values


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_transformers(name):
  folder = REFERENCE / name
  config, expected = config_from_folder(folder), np.load(folder / "expected.npz")
  params = load(folder, config, one_device())
  ours = logits_here(params, config, expected["tokens"], expected["positions"])
  assert_same_logits(ours, expected["logits"], expected["positions"])


@pytest.mark.parametrize("name", CASES)
def test_rotary_frequencies_are_those_of_transformers(name):
  expected = np.load(REFERENCE / name / "expected.npz")
  frequencies, factor = inverse_frequencies(config_from_folder(REFERENCE / name))
  np.testing.assert_allclose(frequencies, expected["inv_freq"], rtol=1e-6)
  np.testing.assert_allclose(factor, expected["attention_scaling"], rtol=1e-6)


@pytest.mark.parametrize("name", SCALED)
def test_the_reference_sees_rope_scaling(name):
  """The comparison has power: without the scaling the logits are far off."""
  folder = REFERENCE / name
  config, expected = config_from_folder(folder), np.load(folder / "expected.npz")
  params = load(folder, config, one_device())
  unscaled = dataclasses.replace(config, rope_scaling=None)
  ours = logits_here(params, unscaled, expected["tokens"], expected["positions"])
  real = expected["positions"] >= 0
  assert np.abs(ours - expected["logits"])[real].max() > 1000 * TOLERANCE


# Live


@live
@pytest.mark.parametrize("name", CASES)
def test_a_folder_of_transformers_gives_its_logits_here(name, tmp_path):
  import make_reference
  import torch

  hub, _, max_shard_size = make_reference.CASES[name]
  model = make_reference.random_model(hub, seed=100, stored_dtype=torch.float32)
  model.save_pretrained(tmp_path, max_shard_size=max_shard_size)
  tokens, positions = make_reference.random_tokens(hub.vocab_size, seed=100)
  config = config_from_folder(tmp_path)
  ours = logits_here(load(tmp_path, config, one_device()), config, tokens, positions)
  assert_same_logits(ours, make_reference.logits_of(model, tokens, positions), positions)


SIZES = {"vocab_size": 80, "d_model": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 12,
         "d_ff": 48, "max_position": 128}
LLAMA3 = RopeScaling("llama3", 8.0, 32, low_freq_factor=1.0, high_freq_factor=4.0)
YARN = RopeScaling("yarn", 4.0, 32)
EXPORTED = {
  "qwen2": ModelConfig(family="qwen2", qkv_bias=True, **SIZES),
  "qwen2_tied_yarn": ModelConfig(
    family="qwen2", qkv_bias=True, tie_embeddings=True, rope_theta=50.0, rope_scaling=YARN, **SIZES),
  "qwen3": ModelConfig(family="qwen3", qk_norm=True, rope_theta=1e6, **SIZES),
  "qwen3_tied_yarn": ModelConfig(
    family="qwen3", qk_norm=True, tie_embeddings=True, rope_theta=50.0,
    rope_scaling=dataclasses.replace(YARN, attention_factor=1.25, beta_fast=1.5), **SIZES),
  "llama": ModelConfig(family="llama", rms_norm_eps=1e-5, **SIZES),
  "llama3_tied": ModelConfig(
    family="llama", tie_embeddings=True, rope_theta=500.0, rope_scaling=LLAMA3, rms_norm_eps=1e-5, **SIZES),
}


def random_params(config, mesh, seed):
  """Weights large enough for every part of the model to matter to the logits."""
  noise = np.random.default_rng(seed)

  def draw(weight, sharding):
    value = noise.normal(0, 1, weight.shape)
    if weight.init == "ones":
      value = 1 + 0.2 * value
    else:
      value *= 0.5 if weight.init == "zeros" else 1.5 * weight.init**-0.5
    return jax.device_put(value.astype(np.float32), sharding)

  return jax.tree.map(draw, weight_table(config), shardings(config, mesh), is_leaf=is_weight)


@live
@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_folder_gives_our_logits_in_transformers(name, tmp_path):
  import make_reference
  import torch
  import transformers

  config = EXPORTED[name]
  params = random_params(config, one_device(), seed=7)
  folder = export(params, config, tmp_path / "m", max_shard_bytes=40_000)
  model, info = transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32, output_loading_info=True)
  assert not any(info.values()), info
  tokens, positions = make_reference.random_tokens(config.vocab_size, seed=7)
  ours = logits_here(params, config, tokens, positions)
  assert_same_logits(ours, make_reference.logits_of(model.eval(), tokens, positions), positions)


@live
def test_an_exported_tokenizer_and_its_stop_ids_load_in_transformers(tmp_path):
  import transformers

  from r1jax.data.tokenizer import word_level_tokenizer

  config = EXPORTED["llama"]
  tokenizer = word_level_tokenizer(["one", "two", "three"], stop_tokens=("<eos>", "<end>"))
  folder = export(random_params(config, one_device(), 0), config, tmp_path / "m", tokenizer)
  theirs = transformers.AutoTokenizer.from_pretrained(folder)
  assert theirs("two one three")["input_ids"] == tokenizer.encode("two one three")
  assert (theirs.eos_token_id, theirs.pad_token_id) == (1, 0)
  assert transformers.GenerationConfig.from_pretrained(folder).eos_token_id == [1, 2]


# SmolLM2-135M-Instruct


@pytest.fixture(scope="module")
def smollm2():
  """(params, config, mesh, reference values)."""
  folder, reference = (os.environ.get(name) for name in ("R1JAX_SMOLLM2", "R1JAX_SMOLLM2_REFERENCE"))
  if not folder or not reference:
    pytest.skip("set R1JAX_SMOLLM2 (folder of SmolLM2-135M-Instruct) and R1JAX_SMOLLM2_REFERENCE (npz)")
  mesh, config = one_device(), config_from_folder(folder)
  return load(folder, config, mesh), config, mesh, np.load(reference)


def padded(rows):
  """Right-padded tokens and positions, [B, T] each."""
  length = max(map(len, rows))
  tokens = np.stack([np.pad(row, (0, length - len(row))) for row in rows])
  slots = np.arange(length, dtype=np.int32)
  return tokens, np.stack([np.where(slots < len(row), slots, np.int32(-1)) for row in rows])


def test_smollm2_agrees_with_transformers(smollm2):
  """Logits within 1e-3; each greedy id follows from the ids before it; log-probs of those ids within 1e-3."""
  params, config, mesh, reference = smollm2
  greedy = [reference[f"greedy_ids_{i}"] for i in range(3)]
  ours = logits_here(params, config, *padded(greedy), mesh)
  for i, ids in enumerate(greedy):
    prompt = reference[f"prompt_ids_{i}"]
    np.testing.assert_array_equal(ids[:len(prompt)], prompt)
    top = np.take_along_axis(ours[i, :len(prompt)], reference[f"prompt_top_ids_{i}"], axis=-1)
    np.testing.assert_allclose(top, reference[f"prompt_top_{i}"], rtol=0, atol=1e-3)
    np.testing.assert_array_equal(ours[i, len(prompt) - 1:len(ids) - 1].argmax(-1), ids[len(prompt):])
    logprobs = jax.nn.log_softmax(ours[i, :len(ids) - 1])
    taken = np.take_along_axis(np.asarray(logprobs), ids[1:, None], axis=-1)[:, 0]
    np.testing.assert_allclose(taken, reference[f"token_logprobs_{i}"], rtol=0, atol=1e-3)


def test_smollm2_generates_the_greedy_ids_of_transformers(smollm2):
  params, config, mesh, reference = smollm2
  requests = [Request(i, 0, tuple(reference[f"prompt_ids_{i}"].tolist()), 64) for i in range(3)]
  sampler = Sampler(config, Compute(), mesh, Sampling(temperature=0.0), stop_ids=(2,), decoding=Decoding(slots=3))
  with jax.set_mesh(mesh):
    episodes = [e for some in sampler.run(sampler.weights(params), jax.random.key(0), requests) for e in some]
  for episode in episodes:
    i, prompt = episode.request.question_id, episode.request.prompt
    np.testing.assert_array_equal(episode.tokens, reference[f"greedy_ids_{i}"][len(prompt):])
  assert len(episodes) == 3
