"""Weights of Hugging Face folders, both ways: safetensors <-> sharded parameters.

`load` reads what transformers 4 and 5 write; `export` writes what they load. Host memory never holds the
weights a second time: `load` reads, leaf by leaf, the pieces for this process's devices, and `export`
brings one layer of one leaf to the host at a time.
"""

import contextlib
import json
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import ml_dtypes
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from safetensors import SafetensorError, safe_open

from r1jax.errors import InputError
from r1jax.models.config import ModelConfig
from r1jax.models.hub_config import ARCHITECTURES, config_from_folder, hub_config, hub_token_ids, read_json
from r1jax.models.params import Weight, is_weight, shardings, weight_name, weight_table
from r1jax.sharding import TRAIN_RULES

__all__ = ["config_from_folder", "export", "load"]

# That ml_dtypes is imported also teaches numpy, and with it safetensors, the name bfloat16.
DTYPES = {"F32": np.dtype(np.float32), "BF16": np.dtype(ml_dtypes.bfloat16), "F16": np.dtype(np.float16)}
SINGLE_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
NAMES_SHOWN = 12  # of each kind of misfit in an error

# Names and axes of the hub.


@dataclass(frozen=True)
class Layout:
  """How the hub stores a weight: its name, our axes (a letter each), the axes of each stored dimension."""

  name: str
  ours: str
  stored: tuple[str, ...]

  @property
  def order(self) -> tuple[int, ...]:
    """Our axes in the stored order."""
    return tuple(self.ours.index(axis) for axis in "".join(self.stored))

  def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The stored shape of a weight whose shape here is `shape`."""
    size = dict(zip(self.ours, shape, strict=True))
    return tuple(math.prod(size[axis] for axis in group) for group in self.stored)

  def to_stored(self, value: np.ndarray) -> np.ndarray:
    return value.transpose(self.order).reshape(self.stored_shape(value.shape))

  def read(self, stored: Any, shape: tuple[int, ...], index: tuple[slice, ...]) -> np.ndarray:
    """The piece `index` of the weight of shape `shape` out of a stored tensor, of which no more is read.

    `stored` takes slices of its stored dimensions, as a safetensors slice does. (Where a later axis of a fold
    is cut as well, all of that axis is read first.)
    """
    rows, block, inner = [], {}, {}
    for group in self.stored:
      first, *rest = (self.ours.index(axis) for axis in group)
      start, stop, _ = index[first].indices(shape[first])
      stride = math.prod(shape[axis] for axis in rest)
      rows.append(slice(start * stride, stop * stride))
      block |= {first: stop - start} | {axis: shape[axis] for axis in rest}
      inner |= {first: slice(None)} | {axis: index[axis] for axis in rest}
    unfolded = stored[tuple(rows)].reshape([block[axis] for axis in self.order])
    return unfolded[tuple(inner[axis] for axis in self.order)].transpose(np.argsort(self.order))


# D d_model, H query heads, K key/value heads, h head_dim, F d_ff, V vocabulary, as in models/params.py.
LAYOUTS = {
  "embed": Layout("model.embed_tokens.weight", "VD", ("V", "D")),
  "layers.attn_norm": Layout("model.layers.{}.input_layernorm.weight", "D", ("D",)),
  "layers.q": Layout("model.layers.{}.self_attn.q_proj.weight", "DHh", ("Hh", "D")),
  "layers.k": Layout("model.layers.{}.self_attn.k_proj.weight", "DKh", ("Kh", "D")),
  "layers.v": Layout("model.layers.{}.self_attn.v_proj.weight", "DKh", ("Kh", "D")),
  "layers.o": Layout("model.layers.{}.self_attn.o_proj.weight", "HhD", ("D", "Hh")),
  "layers.q_bias": Layout("model.layers.{}.self_attn.q_proj.bias", "Hh", ("Hh",)),
  "layers.k_bias": Layout("model.layers.{}.self_attn.k_proj.bias", "Kh", ("Kh",)),
  "layers.v_bias": Layout("model.layers.{}.self_attn.v_proj.bias", "Kh", ("Kh",)),
  "layers.q_norm": Layout("model.layers.{}.self_attn.q_norm.weight", "h", ("h",)),
  "layers.k_norm": Layout("model.layers.{}.self_attn.k_norm.weight", "h", ("h",)),
  "layers.mlp_norm": Layout("model.layers.{}.post_attention_layernorm.weight", "D", ("D",)),
  "layers.gate": Layout("model.layers.{}.mlp.gate_proj.weight", "DF", ("F", "D")),
  "layers.up": Layout("model.layers.{}.mlp.up_proj.weight", "DF", ("F", "D")),
  "layers.down": Layout("model.layers.{}.mlp.down_proj.weight", "FD", ("D", "F")),
  "final_norm": Layout("model.norm.weight", "D", ("D",)),
  "head": Layout("lm_head.weight", "DV", ("V", "D")),
}
EMBED, HEAD = LAYOUTS["embed"].name, LAYOUTS["head"].name


@dataclass(frozen=True)
class Slot:
  """The place in the parameter tree that one stored tensor fills: a leaf, or one layer of a stacked leaf."""

  leaf: str
  layer: int | None
  shape: tuple[int, ...]  # without the layers axis

  @property
  def layout(self) -> Layout:
    return LAYOUTS[self.leaf]

  @property
  def name(self) -> str:
    return self.layout.name.format(self.layer)

  @property
  def stored_shape(self) -> tuple[int, ...]:
    return self.layout.stored_shape(self.shape)


def _slots(leaf: str, weight: Weight) -> list[Slot]:
  if weight.axes[0] != "layers":
    return [Slot(leaf, None, weight.shape)]
  return [Slot(leaf, layer, weight.shape[1:]) for layer in range(weight.shape[0])]


def _leaves(tree: dict, is_leaf=None) -> dict[str, Any]:
  flat, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
  return {weight_name(path): leaf for path, leaf in flat}


def _all_slots(config: ModelConfig) -> list[Slot]:
  table = _leaves(weight_table(config), is_weight)
  return [slot for leaf, weight in table.items() for slot in _slots(leaf, weight)]


def _check_family(config: ModelConfig, done: str) -> None:
  """InputError for a family that has no names for its tensors here yet."""
  if config.family not in ARCHITECTURES:
    raise InputError("model.family", repr(config.family), f"Only {', '.join(ARCHITECTURES)} can be {done} yet.")


# Loading.


def load(folder: str | os.PathLike, config: ModelConfig, mesh: Mesh, dtype=np.float32,
         rules: Mapping[str, Any] = TRAIN_RULES) -> dict:
  """The folder's weights as a tree of arrays in `dtype`, laid out over `mesh` by `rules`.

  Tensors may be bf16, f16 or f32. One InputError lists all tensors that are missing, unknown or misshapen for
  `config`, before any data is read. Buffers of rotary frequencies are ignored. The folder of a tied model may
  carry lm_head.weight as well, if it equals the embedding, or instead.
  """
  _check_family(config, "loaded")
  folder, dtype = pathlib.Path(folder), np.dtype(dtype)
  places = shardings(config, mesh, rules)
  with contextlib.ExitStack() as open_files:
    stored = _stored_tensors(folder, open_files)
    if config.tie_embeddings and EMBED not in stored and HEAD in stored:
      stored[EMBED] = stored.pop(HEAD)  # one matrix under either of its names
    _check_tensors(folder, config, stored)

    def leaf(path, weight: Weight, sharding: NamedSharding) -> jax.Array:
      slots = _slots(weight_name(path), weight)
      array = _load_leaf(weight, slots, [stored[slot.name] for slot in slots], sharding, dtype)
      return jax.block_until_ready(array)  # or buffers of leaves still in transfer would pile up on the host

    return jax.tree_util.tree_map_with_path(leaf, weight_table(config), places, is_leaf=is_weight)


def check_weights(folder: str | os.PathLike, config: ModelConfig) -> None:
  """InputError for weights that `load` would refuse, by the headers of their files alone."""
  with contextlib.ExitStack() as open_files:
    _check_tensors(pathlib.Path(folder), config, _stored_tensors(pathlib.Path(folder), open_files))


def _load_leaf(weight: Weight, slots: list[Slot], tensors: list, sharding: NamedSharding, dtype) -> jax.Array:
  pieces: dict[tuple, np.ndarray] = {}  # devices that hold the same piece share one buffer

  def piece(index: tuple[slice, ...]) -> np.ndarray:
    bounds = tuple(s.indices(n)[:2] for s, n in zip(index, weight.shape, strict=True))
    if bounds not in pieces:
      whole = np.empty([stop - start for start, stop in bounds], dtype)
      if slots[0].layer is None:
        targets, sources, inner = whole[None], tensors, index
      else:
        targets, sources, inner = whole, tensors[index[0]], index[1:]
      for target, source in zip(targets, sources, strict=True):
        target[...] = slots[0].layout.read(source, slots[0].shape, inner)
      pieces[bounds] = whole
    return pieces[bounds]

  return jax.make_array_from_callback(weight.shape, sharding, piece, dtype=dtype)


def _stored_tensors(folder: pathlib.Path, open_files: contextlib.ExitStack) -> dict[str, Any]:
  """Each tensor of a folder as a safetensors slice: its shape and type are known, its data not yet read."""
  if (folder / SINGLE_FILE).exists():
    names = [SINGLE_FILE]
  elif (folder / INDEX_FILE).exists():
    index = read_json(folder / INDEX_FILE).get("weight_map", dict)
    wrong = next((tensor for tensor, name in index.items() if not isinstance(name, str) or not name), None)
    if wrong is not None:
      raise InputError(f"{folder / INDEX_FILE}: weight_map: {wrong}", f"{index[wrong]!r:.80} is no file's name",
                       "Copy the file again from where it came.")
    names = sorted(set(index.values()))
  else:
    raise InputError(str(folder), f"neither {SINGLE_FILE} nor {INDEX_FILE}",
                     "Give a folder with safetensors weights (transformers' save_pretrained writes one).")
  tensors: dict[str, Any] = {}
  for name in names:
    if not (folder / name).is_file():
      raise InputError(f"{folder / INDEX_FILE}: weight_map", f"no file {name!r}", "Copy the missing file.")
    try:
      file = open_files.enter_context(safe_open(folder / name, "np"))
    except (SafetensorError, OSError) as e:
      raise InputError(str(folder / name), f"not a whole safetensors file ({e})", "Copy it again.") from None
    tensors |= {tensor: file.get_slice(tensor) for tensor in list(file.keys())}
  return tensors


def _check_tensors(folder: pathlib.Path, config: ModelConfig, stored: Mapping[str, Any]) -> None:
  """One InputError for all tensors that do not fit the config."""
  wanted = {slot.name: slot for slot in _all_slots(config)}
  found = {name for name in stored if not name.endswith("rotary_emb.inv_freq")}
  spare_head = config.tie_embeddings and HEAD in found
  found -= {HEAD} if spare_head else set()
  both = sorted(found & wanted.keys())
  shapes = {name: (list(stored[name].get_shape()), list(wanted[name].stored_shape)) for name in both}
  types = {name: stored[name].get_dtype() for name in (*both, *([HEAD] if spare_head else []))}
  misfits = {
    "missing": sorted(wanted.keys() - found),
    "not in the model": sorted(found - wanted.keys()),
    "of another shape": [f"{name} {has} instead of {needs}"
                         for name, (has, needs) in shapes.items() if has != needs],
    "of another type": [f"{name} {type_}" for name, type_ in types.items() if type_ not in DTYPES],
  }
  if any(misfits.values()):
    kinds = "; ".join(f"{len(names)} {kind}: {_listed(names)}" for kind, names in misfits.items() if names)
    raise InputError(str(folder), f"tensors do not fit the config. {kinds}",
                     f"Use the config.json these weights were saved with, and types {', '.join(DTYPES)}.")
  if spare_head and not _equal(stored[HEAD], stored[EMBED]):
    raise InputError(
      f"{folder / 'config.json'}: tie_word_embeddings", f"true, but {HEAD} differs from {EMBED}",
      "Set it to false: these weights have an output head of their own.")


def _listed(names: list[str]) -> str:
  more = len(names) - NAMES_SHOWN
  return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _equal(a: Any, b: Any, rows: int = 4096) -> bool:
  """Whether two stored matrices hold the same numbers, of whatever types; read `rows` rows at a time."""
  if a.get_shape() != b.get_shape():
    return False
  end = a.get_shape()[0]
  pieces = (slice(start, min(start + rows, end)) for start in range(0, end, rows))
  return all(np.array_equal(a[piece].astype(np.float32), b[piece].astype(np.float32)) for piece in pieces)


# Exporting.


def export(params: dict, config: ModelConfig, folder: str | os.PathLike, tokenizer=None, dtype=None,
           max_shard_bytes: int = 5 * 10**9, generation: Mapping[str, Any] | None = None,
           more: Mapping[str, str] | None = None) -> pathlib.Path:
  """Writes a Hugging Face folder, which transformers and `load` read, and returns its path.

  It holds config.json, the weights in `dtype` (float32, bfloat16 or float16; None: as `params` are) in files
  of at most max_shard_bytes of weights, or one tensor; with a tokenizer also its files, and
  generation_config.json with its stop ids and the fields of `generation`; and `more`, file name -> text. All
  is written beside the folder and renamed at the end: a folder that exists is complete. With several
  processes, all call it and the first writes. InputError if `folder` holds anything, or if `config` is not
  that of `params` or cannot be expressed by the hub's architecture.
  """
  folder = pathlib.Path(folder)
  _check_family(config, "exported")
  leaves = _leaves(params)
  _check_params(leaves, config)
  dtype = np.dtype(leaves["embed"].dtype if dtype is None else dtype)
  if dtype not in DTYPES.values():
    raise InputError("export: dtype", dtype.name, "Use float32, bfloat16 or float16.")
  if tokenizer is not None and tokenizer.vocab_size > config.vocab_size:
    raise InputError("model.vocab_size", config.vocab_size, f"The tokenizer has {tokenizer.vocab_size} ids.")
  texts = {"config.json": hub_config(config, dtype, tokenizer)}
  plan = _plan_files(config, dtype, max_shard_bytes)
  if len(plan) > 1:
    texts[INDEX_FILE] = _index(plan, dtype)
  if tokenizer is not None and tokenizer.stop_ids:
    known = {k: v for k, v in hub_token_ids(tokenizer).items() if v is not None}
    texts["generation_config.json"] = known | dict(generation or {})

  if jax.process_index() != 0:  # takes part in the gathers, in the same order
    for slot in (slot for slots in plan.values() for slot in slots):
      _host_value(leaves[slot.leaf], slot.layer)
    return folder
  require_new(folder)
  folder.parent.mkdir(parents=True, exist_ok=True)
  partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
  try:
    for name, slots in plan.items():
      _write_safetensors(partial / name, slots, leaves, dtype)
    for name, values in texts.items():
      (partial / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    if tokenizer is not None:
      tokenizer.save(partial)
    for name, text in (more or {}).items():
      (partial / name).write_text(text, encoding="utf-8")
    partial.chmod(0o755)  # mkdtemp closes its folders to all but their owner
    partial.rename(folder)
  finally:
    shutil.rmtree(partial, ignore_errors=True)
  return folder


def require_new(folder: pathlib.Path) -> None:
  """InputError for a folder to be written that holds anything."""
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise InputError(str(folder), "exists and is not empty", "Choose a new folder, or remove this one first.")


def _check_params(leaves: Mapping[str, jax.Array], config: ModelConfig) -> None:
  found = {name: tuple(leaf.shape) for name, leaf in leaves.items()}
  wanted = {name: weight.shape for name, weight in _leaves(weight_table(config), is_weight).items()}
  misfits = [f"{name} {found.get(name, 'missing')} instead of {wanted.get(name, 'nothing')}"
             for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)]
  if misfits:
    raise InputError("export: params", f"do not fit the config: {_listed(misfits)}", "Give their own config.")


def _plan_files(config: ModelConfig, dtype: np.dtype, max_shard_bytes: int) -> dict[str, list[Slot]]:
  """File name -> its tensors, in the order of the layers; a new file where one would grow too large."""
  rank = {"embed": -1, "final_norm": config.num_layers, "head": config.num_layers + 1}
  files: list[list[Slot]] = [[]]
  for slot in sorted(_all_slots(config), key=lambda slot: rank.get(slot.leaf, slot.layer)):
    if files[-1] and _num_bytes([*files[-1], slot], dtype) > max_shard_bytes:
      files.append([])
    files[-1].append(slot)
  if len(files) == 1:
    return {SINGLE_FILE: files[0]}
  return {f"model-{i:05}-of-{len(files):05}.safetensors": slots for i, slots in enumerate(files, 1)}


def _num_bytes(slots: list[Slot], dtype: np.dtype) -> int:
  return sum(math.prod(slot.shape) for slot in slots) * dtype.itemsize


def _index(plan: Mapping[str, list[Slot]], dtype: np.dtype) -> dict:
  return {"metadata": {"total_size": sum(_num_bytes(slots, dtype) for slots in plan.values())},
          "weight_map": {slot.name: name for name, slots in plan.items() for slot in slots}}


def _host_value(leaf: jax.Array, layer: int | None) -> np.ndarray:
  """A leaf, or one layer of a stacked one, gathered from all devices to the host."""
  part = leaf if layer is None else jax.lax.dynamic_index_in_dim(leaf, layer, 0, keepdims=False)
  if isinstance(part.sharding, NamedSharding):
    part = jax.device_put(part, NamedSharding(part.sharding.mesh, P()))
  return np.asarray(part)


def _write_safetensors(path: pathlib.Path, slots: list[Slot], leaves: Mapping[str, jax.Array],
                       dtype: np.dtype) -> None:
  code = next(name for name, known in DTYPES.items() if known == dtype)
  header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
  end = 0
  for slot in slots:
    begin, end = end, end + _num_bytes([slot], dtype)
    header[slot.name] = {"dtype": code, "shape": list(slot.stored_shape), "data_offsets": [begin, end]}
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % 8)  # the data starts at a multiple of 8 bytes
  with open(path, "wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    for slot in slots:
      stored = slot.layout.to_stored(_host_value(leaves[slot.leaf], slot.layer).astype(dtype, copy=False))
      file.write(np.ascontiguousarray(stored).reshape(-1).view(np.uint8))
