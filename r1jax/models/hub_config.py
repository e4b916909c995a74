"""config.json of Hugging Face model folders <-> ModelConfig, for Qwen2/2.5, Qwen3 and Llama 3."""

import json
import math
import os
import pathlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from r1jax.errors import InputError
from r1jax.models.config import ModelConfig, RopeScaling

ARCHITECTURES = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}
# What transformers 5 takes where a field is absent, by family; the sizes that make up all tensors have to be there.
_QWEN = {"num_key_value_heads": 32, "max_position_embeddings": 32_768, "rms_norm_eps": 1e-6}
DEFAULTS = {"qwen2": _QWEN, "qwen3": _QWEN | {"head_dim": 128},
            "llama": {"max_position_embeddings": 2048, "rms_norm_eps": 1e-6}}
DEFAULT_THETA = 10_000.0  # in all three


@dataclass(frozen=True)
class JsonObject:
  """A JSON object and where it stands, so that an error names a missing or wrong field in full."""

  path: pathlib.Path
  values: Mapping[str, Any]
  prefix: str = ""

  def error(self, name: str, remedy: str) -> InputError:
    found = json.dumps(self.values[name]) if name in self.values else "missing"
    return InputError(f"{self.path}: {self.prefix}{name}", found, remedy)

  def get(self, name: str, kind: type, default: Any = None) -> Any:
    """The field as `kind`; `default` where it is absent or null, an error if there is no default."""
    value = self.values.get(name)
    if value is None:
      if default is None:
        raise self.error(name, f"Add this field ({kind.__name__}): the model cannot be built without it.")
      return default
    allowed = (int, float) if kind is float else kind
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
      raise self.error(name, f"It must be of type {kind.__name__}.")
    if kind is float and not abs(value) <= sys.float_info.max:
      raise self.error(name, "It must be a finite number.")
    return kind(value)


def read_json(path: pathlib.Path) -> JsonObject:
  """The object in a JSON file; InputError if there is none."""
  try:
    values = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    raise InputError(str(path), "no such file", "Give a folder of the Hugging Face format.") from None
  except (ValueError, RecursionError, OSError) as e:
    raise InputError(str(path), f"not readable as JSON ({e})", "Copy it again from where it came.") from None
  if not isinstance(values, dict):
    raise InputError(str(path), "not a JSON object", "Copy it again from where it came.")
  return JsonObject(path, values)


def config_from_folder(folder: str | os.PathLike) -> ModelConfig:
  """The ModelConfig of a Hugging Face folder's config.json, read as transformers 5 reads it, whichever wrote it.

  Absent fields take the DEFAULTS of transformers. InputError for a missing size of the model (vocabulary, width, layers,
  heads, feed-forward), and for an architecture, activation, attention, quantisation or rotary scaling that r1jax does
  not compute. `architectures` may be absent or empty, and its name may have something before that of the family
  (FSDPQwen2ForCausalLM). Where `rope_scaling` was added to a file that has `rope_parameters`, it counts alone. Where
  YaRN stretches the context and max_position_embeddings is still the original one, the context is factor times that.
  """
  hub = read_json(pathlib.Path(folder) / "config.json")
  family = _family(hub)
  hub = replace(hub, values=DEFAULTS[family] | hub.values)
  _refuse_variants(hub)
  rope_theta, rope_scaling = _rope(hub)
  num_heads, d_model = hub.get("num_attention_heads", int), hub.get("hidden_size", int)
  sizes = {
    "vocab_size": hub.get("vocab_size", int), "d_model": d_model, "num_heads": num_heads,
    "num_layers": hub.get("num_hidden_layers", int),
    "num_kv_heads": hub.get("num_key_value_heads", int, num_heads), "head_dim": hub.get(
      "head_dim", int, d_model // max(num_heads, 1)),
    "d_ff": hub.get("intermediate_size", int), "max_position": _context(hub, rope_scaling)}
  rms_norm_eps, tied = hub.get("rms_norm_eps", float), hub.get("tie_word_embeddings", bool, False)
  try:
    return ModelConfig(
      family=family, rope_theta=rope_theta, rope_scaling=rope_scaling, rms_norm_eps=rms_norm_eps,
      qkv_bias=family == "qwen2", qk_norm=family == "qwen3", tie_embeddings=tied, **sizes)
  except InputError as e:
    raise InputError(f"{hub.path}: {e.where}", e.found, e.remedy) from None


def _family(hub: JsonObject) -> str:
  supported = f"r1jax computes {', '.join(ARCHITECTURES.values())} only: choose such a model."
  family = hub.get("model_type", str)
  if family not in ARCHITECTURES:
    quantised = hub.values.get("quantization_config")
    if quantised:  # DeepSeek-V3's own files: said at once, for a model of another type would be refused for it next
      kind = quantised.get("quant_method", quantised) if isinstance(quantised, dict) else quantised
      raise InputError(f"{hub.path}: model_type, quantization_config", f"{family!r}, quantised ({str(kind):.80})",
                       supported.replace("such a model", "such a model, with unquantised files (bf16, f16 or f32)"))
    raise hub.error("model_type", supported)
  names, known = hub.values.get("architectures") or [], ARCHITECTURES[family]
  if not isinstance(names, list) or not all(isinstance(name, str) and name.endswith(known) for name in names):
    raise hub.error("architectures", f"{supported} If this one is computed as {known}, write [\"{known}\"] there.")
  return family


def _context(hub: JsonObject, scaling: RopeScaling | None) -> int:
  """Most positions: max_position_embeddings, or what YaRN makes of it where the file still says the original length."""
  longest = hub.get("max_position_embeddings", int)
  if scaling is not None and scaling.kind == "yarn" and longest <= scaling.original_max_position:
    return int(scaling.factor * scaling.original_max_position)
  return longest


def _refuse_variants(hub: JsonObject) -> None:
  """InputError for options of the three architectures that r1jax does not compute."""
  if hub.values.get("hidden_act", "silu") != "silu":
    raise hub.error("hidden_act", "Only 'silu' is computed.")
  for name in ("attention_bias", "mlp_bias"):
    if hub.values.get(name):
      raise hub.error(name, "Only Qwen2's biases, on queries, keys and values, are computed.")
  if hub.values.get("quantization_config"):
    raise hub.error("quantization_config", "Use the model's unquantised files (bf16, f16 or f32).")
  windowed = hub.values.get("use_sliding_window") and hub.values.get("sliding_window") is not None
  if windowed and hub.get("max_window_layers", int, 0) < hub.get("num_hidden_layers", int):
    raise hub.error("use_sliding_window", "Only attention to all tokens is computed; false is required.")
  if hub.values.get("dual_chunk_attention_config"):
    raise hub.error("dual_chunk_attention_config", "Dual chunk attention (Qwen2.5-1M) is not computed. It differs beyond "
                    "chunk_size tokens only: remove the field, and let max_position_embeddings end there.")
  if any(kind != "full_attention" for kind in hub.get("layer_types", list, [])):
    raise hub.error("layer_types", "Only 'full_attention' is computed: use a model with no other.")


def _rope(hub: JsonObject) -> tuple[float, RopeScaling | None]:
  """rope_theta and the scaling. `rope_scaling` replaces transformers 5's `rope_parameters` where both are there."""
  block = "rope_scaling" if hub.values.get("rope_scaling") else "rope_parameters"
  if not isinstance(hub.values.get(block) or {}, dict):
    raise hub.error(block, "It must be a JSON object or null.")
  rope = JsonObject(hub.path, hub.values.get(block) or {}, f"{block}.")
  for name, value in rope.values.items():
    if isinstance(value, dict):
      raise rope.error(name, "Rotary parameters that differ between layers are not computed.")
  for where in (hub, rope):
    if where.values.get("partial_rotary_factor") not in (None, 1):
      raise where.error("partial_rotary_factor", "Only rotation of the whole head is computed.")
  replaced = hub.values.get("rope_parameters") if block == "rope_scaling" else None
  lost = replaced.get("rope_theta", DEFAULT_THETA) if isinstance(replaced, dict) else DEFAULT_THETA
  if lost != DEFAULT_THETA and not any("rope_theta" in where.values for where in (hub, rope)):
    raise InputError(f"{hub.path}: rope_scaling", f"it replaces rope_parameters, and with it rope_theta {lost}",
                     "Write its fields into rope_parameters, or rope_theta into it: without one, 10,000 is taken.")
  theta = rope.get("rope_theta", float, hub.get("rope_theta", float, DEFAULT_THETA))
  kind_field = "rope_type" if "rope_type" in rope.values else "type"
  kind = rope.get(kind_field, str, "default")
  if kind == "default":
    return theta, None
  if kind not in ("llama3", "yarn"):
    raise rope.error(kind_field, "Use 'default', 'llama3' or 'yarn': no other rotary scaling is computed.")
  names = ("low_freq_factor", "high_freq_factor") if kind == "llama3" else ()
  numbers = {name: rope.get(name, float) for name in ("factor", *names)}
  if kind == "yarn":
    numbers |= _yarn(rope, numbers["factor"])
  window = rope.get("original_max_position_embeddings", int, hub.get("max_position_embeddings", int))
  return theta, RopeScaling(kind=kind, original_max_position=window, **numbers)


def _yarn(rope: JsonObject, factor: float) -> dict:
  if rope.values.get("truncate") is False:
    raise rope.error("truncate", "Only a correction range rounded to whole dimensions (true) is computed.")
  mscale, all_dim = (rope.get(name, float, 0.0) for name in ("mscale", "mscale_all_dim"))
  attention_factor = None  # 0.1 ln(factor) + 1
  if rope.values.get("attention_factor") is not None:
    attention_factor = rope.get("attention_factor", float)
  elif mscale and all_dim and factor > 1:
    attention_factor = (0.1 * mscale * math.log(factor) + 1) / (0.1 * all_dim * math.log(factor) + 1)
  return {"beta_fast": rope.get("beta_fast", float, 32.0), "beta_slow": rope.get("beta_slow", float, 1.0),
          "attention_factor": attention_factor}


def hub_config(config: ModelConfig, dtype, tokenizer=None) -> dict:
  """config.json for a ModelConfig, in the form that both transformers 4 and 5 read.

  InputError for a config that its family's architecture in transformers cannot express.
  """
  for name, family in (("qkv_bias", "qwen2"), ("qk_norm", "qwen3")):
    value = getattr(config, name)
    if value != (config.family == family):
      raise InputError(
        f"model.{name}", f"{value} with family {config.family!r}",
        f"{ARCHITECTURES[config.family]} has no such variant: {name} is true in family {family!r} only.")
  return {
    "architectures": [ARCHITECTURES[config.family]], "model_type": config.family,
    "torch_dtype": np.dtype(dtype).name, "vocab_size": config.vocab_size, "hidden_size": config.d_model,
    "intermediate_size": config.d_ff, "num_hidden_layers": config.num_layers,
    "num_attention_heads": config.num_heads, "num_key_value_heads": config.num_kv_heads,
    "head_dim": config.head_dim, "hidden_act": "silu", "max_position_embeddings": config.max_position,
    "rms_norm_eps": config.rms_norm_eps, "rope_theta": config.rope_theta,
    "rope_scaling": _hub_rope_scaling(config.rope_scaling), "tie_word_embeddings": config.tie_embeddings,
    **({} if config.family == "llama" else {"use_sliding_window": False}),
    **({} if config.family == "qwen2" else {"attention_bias": False}),
    **hub_token_ids(tokenizer),
  }


def _hub_rope_scaling(scaling: RopeScaling | None) -> dict | None:
  if scaling is None:
    return None
  block = {"rope_type": scaling.kind, "factor": scaling.factor,
           "original_max_position_embeddings": scaling.original_max_position}
  names = ("low_freq_factor", "high_freq_factor")
  if scaling.kind == "yarn":
    names = ("beta_fast", "beta_slow") + (() if scaling.attention_factor is None else ("attention_factor",))
  return block | {name: getattr(scaling, name) for name in names}


def hub_token_ids(tokenizer) -> dict:
  """Special ids; explicit nulls without a tokenizer, because transformers would assume Llama's 1 and 2."""
  if tokenizer is None:
    return {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
  stop = list(tokenizer.stop_ids)
  return {"bos_token_id": tokenizer.bos_id, "eos_token_id": stop[0] if len(stop) == 1 else stop or None,
          "pad_token_id": tokenizer.pad_id}
