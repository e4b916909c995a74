"""Make the committed reference values of tests/models/test_reference.py with transformers.

Run it where torch and transformers are installed (the extra `reference`):

  python tests/models/make_reference.py

For each tiny random model of CASES it writes tests/models/reference/NAME/: what transformers' save_pretrained
writes (config.json and safetensors, one file or several), and expected.npz with

  tokens [B, T] int32       token ids; row 1 is left-padded
  positions [B, T] int32    0, 1, 2, ... from a row's first real token; -1 in padding
  logits [B, T, V] float32  transformers' logits, computed in float32 (meaningless where positions is -1)
  inv_freq [h / 2] float32  rotary frequencies after scaling
  attention_scaling []      the factor on cos and sin

The weights are drawn far larger than an initialisation's 0.02, so that attention, biases, norms and the
rotation all matter to the logits: a mistake in any of them is far above the tests' tolerance.
"""

import pathlib
import shutil

import numpy as np
import torch
import transformers

FOLDER = pathlib.Path(__file__).parent / "reference"
BATCH, LENGTH, PADDING = 2, 64, 11

SMALL = {
  "vocab_size": 80, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
  "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
# Short original windows and small thetas: LENGTH reaches past the window, and the few frequencies of a tiny
# head fall into every zone of the scaling rule (kept, blended, divided).
LLAMA3_ROPE = {
  "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
  "original_max_position_embeddings": 32}
YARN_ROPE = {"rope_type": "yarn", "rope_theta": 50.0, "factor": 4.0, "original_max_position_embeddings": 32}
YARN_STATED = YARN_ROPE | {"beta_fast": 1.5, "beta_slow": 0.5, "attention_factor": 1.25}


def rope(theta: float) -> dict:
  return {"rope_type": "default", "rope_theta": theta}


# name: (configuration, dtype of the stored weights, largest file)
CASES = {
  "qwen2_tied": (
    transformers.Qwen2Config(**SMALL, tie_word_embeddings=True, rope_parameters=rope(1e4)),
    torch.float32, "1GB"),
  "qwen2_untied_bf16": (
    transformers.Qwen2Config(**SMALL, tie_word_embeddings=False, rope_parameters=rope(1e6)),
    torch.bfloat16, "1GB"),
  "qwen2_yarn": (
    transformers.Qwen2Config(**SMALL, tie_word_embeddings=True, rope_parameters=YARN_ROPE),
    torch.bfloat16, "1GB"),
  "qwen3_sharded": (
    transformers.Qwen3Config(**SMALL, head_dim=16, tie_word_embeddings=False, rope_parameters=rope(1e6)),
    torch.float32, "40KB"),
  "llama3_scaled": (
    transformers.LlamaConfig(**SMALL, head_dim=16, rope_parameters=LLAMA3_ROPE, rms_norm_eps=1e-5),
    torch.bfloat16, "1GB"),
  "llama_yarn_f16": (
    transformers.LlamaConfig(**SMALL, head_dim=16, tie_word_embeddings=True, rope_parameters=YARN_STATED),
    torch.float16, "1GB"),
}


def random_model(config, seed: int, stored_dtype: torch.dtype):
  """A float32 model whose weights are large, seeded, and exactly representable in `stored_dtype`."""
  model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, weight in model.named_parameters():
      noise = torch.randn(weight.shape, generator=generator)
      if "norm" in name:
        value = 1 + 0.2 * noise
      elif weight.ndim == 1:  # a bias
        value = 0.5 * noise
      else:
        value = 1.5 * noise / weight.shape[1] ** 0.5
      weight.copy_(value.to(stored_dtype))
  return model.eval()


def random_tokens(vocab_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Token ids and positions, [B, T] int32 each; row 1 starts with PADDING slots of padding."""
  tokens = np.random.default_rng(seed).integers(0, vocab_size, (BATCH, LENGTH), dtype=np.int32)
  first = np.array([0, PADDING], np.int32)
  positions = np.arange(LENGTH, dtype=np.int32) - first[:, None]
  return np.where(positions < 0, 0, tokens), np.where(positions < 0, np.int32(-1), positions)


def logits_of(model, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
  """transformers' logits [B, T, V] in float32."""
  real = torch.tensor(positions >= 0)
  with torch.no_grad():
    output = model(
      torch.tensor(tokens, dtype=torch.long), attention_mask=real.long(),
      position_ids=torch.tensor(positions, dtype=torch.long).clamp(min=0))
  return output.logits.numpy()


def make(name: str, seed: int) -> None:
  config, stored_dtype, max_shard_size = CASES[name]
  folder = FOLDER / name
  shutil.rmtree(folder, ignore_errors=True)
  model = random_model(config, seed, stored_dtype)
  tokens, positions = random_tokens(config.vocab_size, seed)
  rotary = model.model.rotary_emb
  expected = {
    "tokens": tokens, "positions": positions, "logits": logits_of(model, tokens, positions),
    "inv_freq": rotary.inv_freq.numpy(), "attention_scaling": np.float32(rotary.attention_scaling)}
  model.to(stored_dtype).save_pretrained(folder, max_shard_size=max_shard_size)
  np.savez_compressed(folder / "expected.npz", **expected)


def main() -> None:
  for seed, name in enumerate(CASES):
    make(name, seed)
  size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
  print(f"{FOLDER}: {len(CASES)} models, {size / 1e6:.2f} MB, transformers {transformers.__version__}")


if __name__ == "__main__":
  main()
