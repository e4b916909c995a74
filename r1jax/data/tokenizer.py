"""Tokenizers: the Hugging Face folder format read and written, and a word-level one for tiny worlds."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tokenizers

from r1jax.errors import InputError


@dataclass(frozen=True)
class Tokenizer:
  """A tokenizer and the ids that the sampler needs. Can be pickled.

  Attributes:
    vocab_size: the largest id + 1. A model's embedding may have more rows (padding); decode ignores such ids.
    pad_id: what fills unused slots. It may equal a stop id, so masks come from lengths, never from this id.
    stop_ids: the ids that end a response, the tokenizer's own end-of-text first.
    bos_id: beginning-of-text, None where there is none.
    adds_bos: whether the model was trained with bos_id before every text; prompts.prompt_ids adds it then,
      encode never does.
    backend: the `tokenizers` object.
    settings: tokenizer_config.json as it was read (chat template included), as JSON; save writes it back.
  """

  vocab_size: int
  pad_id: int
  stop_ids: tuple[int, ...]
  bos_id: int | None = None
  adds_bos: bool = False
  backend: tokenizers.Tokenizer = field(default=None, repr=False, compare=False)
  settings: str = field(default="{}", repr=False, compare=False)

  def encode(self, text: str) -> list[int]:
    """The ids of a text, nothing added. Special tokens written in the text become their ids.

    Raises:
      InputError: a word that a word-level tokenizer does not have; half of a surrogate pair, which is what Python makes of
        an argument that is not UTF-8.
    """
    try:
      text.encode("utf-8")
    except UnicodeEncodeError as error:
      raise InputError(f"text, character {error.start + 1}", repr(text[error.start]),
                       "It is half of a surrogate pair: give text in UTF-8.") from None
    try:
      return self.backend.encode(text, add_special_tokens=False).ids
    except Exception as error:
      # `tokenizers` raises bare Exception, for one thing when a word is unknown and there is no <unk>.
      if not isinstance(self.backend.model, tokenizers.models.WordLevel):
        raise
      words = [word for word in text.split() if self.backend.token_to_id(word) is None]
      if not words:
        raise
      raise InputError(
        "tokenizer", f"unknown word {words[0]!r}", "Add it to the tokenizer's words"
      ) from error

  def decode(self, ids: Iterable[int]) -> str:
    """The text of exactly these ids, special tokens written out. Ids from vocab_size on are left out: they are rows of
    the model's embedding that stand for no token."""
    return self.backend.decode([int(i) for i in ids], skip_special_tokens=False)

  def response_text(self, ids: Sequence[int], stopped: bool) -> str:
    """The text of a sampled response.

    Args:
      ids: the response's ids, without padding.
      stopped: whether the last of them is the stop token that ended it, which is no part of the text.
    """
    return self.decode(ids[:-1] if stopped else ids)

  def save(self, folder: str | os.PathLike[str]) -> None:
    """Writes tokenizer.json and tokenizer_config.json for load_tokenizer and transformers' AutoTokenizer.

    tokenizer_config.json has room for one end-of-text token; with several, all go to generation_config.json.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    self.backend.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    settings |= json.loads(self.settings)
    if settings["tokenizer_class"] == "TokenizersBackend":  # the name in transformers 5 only
      settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    for role, index in (("eos", self.stop_ids[0]), ("pad", self.pad_id), ("bos", self.bos_id)):
      if index is not None:
        settings[f"{role}_token"] = self.backend.id_to_token(index)
    _write_json(folder / "tokenizer_config.json", settings)
    if len(self.stop_ids) > 1:
      generation = _read_json(folder / "generation_config.json")
      _write_json(folder / "generation_config.json", generation | {"eos_token_id": list(self.stop_ids)})


def load_tokenizer(
  path: str | os.PathLike[str], stop_tokens: Sequence[str] = (), pad_token: str | None = None
) -> Tokenizer:
  """Reads a tokenizer in the Hugging Face format.

  Stop ids are the union of the tokenizer's eos_token, stop_tokens, and eos_token_id of generation_config.json
  and config.json, in this order. Without any padding token the first stop id pads.

  Args:
    path: a folder with tokenizer.json, or that file; its neighbours tokenizer_config.json,
      special_tokens_map.json, generation_config.json, config.json and chat_template.jinja are read where they
      exist.
    stop_tokens: further tokens that end a response.
    pad_token: overrides what the files say.

  Raises:
    InputError: no or a broken tokenizer, a special token that it lacks, no stop token at all.
  """
  file = _find_tokenizer(Path(path).expanduser())
  text = _read_text(file)
  try:
    backend = tokenizers.Tokenizer.from_str(text)
  except Exception as error:  # `tokenizers` raises bare Exception
    remedy = "Give a tokenizer.json of the tokenizers library"
    raise InputError(str(file), f"not a tokenizer ({error})", remedy) from None
  backend.no_padding()
  backend.no_truncation()
  folder = file.parent
  settings = _read_json(folder / "special_tokens_map.json") | _read_json(folder / "tokenizer_config.json")
  chat_template = folder / "chat_template.jinja"
  if _is_there(chat_template):
    settings.setdefault("chat_template", _read_text(chat_template))
  _check_template(settings.get("chat_template"), folder)
  vocab_size = max(backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1
  if not vocab_size:
    raise InputError(str(file), "the tokenizer has no tokens", "Copy the file again")
  find = _SpecialTokens(backend, folder, settings, vocab_size)
  asked_for = [find.id_of(token, "stop_tokens") for token in stop_tokens]
  stop_ids = tuple(dict.fromkeys(find.named("eos") + asked_for + find.numbered("eos")))
  if not stop_ids:
    remedy = "Give eos_token in tokenizer_config.json, or stop_tokens"
    raise InputError(str(folder), "no token is said to end a text", remedy)
  padding = [find.id_of(pad_token, "pad_token")] if pad_token is not None else []
  # A tokenizer's own settings decide, where it has any: Qwen2.5's config.json numbers a bos it never uses.
  bos_id = (find.named("bos") or ([] if settings else find.numbered("bos")) or [None])[0]
  return Tokenizer(
    vocab_size=vocab_size,
    pad_id=(padding or find.named("pad") or find.numbered("pad") or stop_ids)[0],
    stop_ids=stop_ids,
    bos_id=bos_id,
    adds_bos=bos_id is not None and _adds_bos(backend, settings, bos_id),
    backend=backend,
    settings=json.dumps(settings),
  )


def word_level_tokenizer(
  words: Iterable[str], stop_tokens: Sequence[str] = ("<eos>",), pad_token: str = "<pad>"
) -> Tokenizer:
  """A tokenizer with one token a word: text is cut at white space, decode joins with one space.

  Ids: pad_token is 0, then stop_tokens, then the words in their order. There is no <unk>: encode raises
  InputError on an unknown word, for a text that silently lost a word is a bug that nobody sees.

  Raises:
    InputError: a word that is empty, has white space in it or comes twice; no stop token.
  """
  tokens = [pad_token, *stop_tokens, *words]
  if not stop_tokens:
    raise InputError("word_level_tokenizer", "no stop_tokens", "Give at least one")
  vocabulary = {}
  for token in tokens:
    if token.split() != [token]:
      raise InputError("word_level_tokenizer", f"word {token!r}", "Give words without white space")
    if token in vocabulary:
      raise InputError("word_level_tokenizer", f"{token!r} comes twice", "Give each word once")
    vocabulary[token] = len(vocabulary)
  backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary))
  backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  backend.add_special_tokens(
    [tokenizers.AddedToken(token, normalized=False, special=True) for token in tokens[: 1 + len(stop_tokens)]]
  )
  stop_ids = tuple(range(1, 1 + len(stop_tokens)))
  return Tokenizer(len(vocabulary), pad_id=0, stop_ids=stop_ids, backend=backend)


def named_tokenizer(name: str | os.PathLike[str] | Sequence[str]) -> Tokenizer:
  """The tokenizer that an experiment names: a hub folder or tokenizer.json; "bytes": one token a byte; several words: one
  token a word, the first being padding and the second the stop token. InputError as the three raise it."""
  if not isinstance(name, str | os.PathLike):
    if len(name) < 2:
      raise InputError("tokenizer", repr(tuple(name)), "Begin with two words: what pads, and what a response ends with.")
    pad, stop, *words = name
    return word_level_tokenizer(words, stop_tokens=(stop,), pad_token=pad)
  return byte_level_tokenizer() if name == "bytes" else load_tokenizer(name)


def stop_ids(tokenizer: Tokenizer, stop: Sequence[str]) -> tuple[int, ...]:
  """The tokenizer's stop ids and those of stop texts; InputError for a text that is not one token."""
  extra = [tokenizer.encode(text) for text in stop]
  for text, ids in zip(stop, extra, strict=True):
    if len(ids) != 1:
      raise InputError("stop", f"{text!r} is {len(ids)} tokens", "Give texts that are one token of this tokenizer.")
  return tuple(dict.fromkeys((*tokenizer.stop_ids, *(ids[0] for ids in extra))))


@dataclass(frozen=True)
class _SpecialTokens:
  """Looks up special tokens by name in the tokenizer's settings and by number in the model's."""

  backend: tokenizers.Tokenizer
  folder: Path
  settings: dict
  vocab_size: int

  def id_of(self, token: str, where: str) -> int:
    index = self.backend.token_to_id(token)
    if index is None:
      raise InputError(where, f"token {token!r} is not in the tokenizer", "Name a token of tokenizer.json")
    return index

  def named(self, role: str) -> list[int]:
    """The id of e.g. eos_token, written as text or as an object with `content`; [] where it is absent."""
    token = self.settings.get(f"{role}_token")
    token = token.get("content") if isinstance(token, dict) else token
    where = f"{self.folder / 'tokenizer_config.json'}, {role}_token"
    if token is not None and not isinstance(token, str):
      raise InputError(where, f"{token!r:.80} is not a token's text", 'Write the token, such as "<|im_end|>"')
    return [] if token is None else [self.id_of(token, where)]

  def numbered(self, role: str) -> list[int]:
    """The ids of e.g. eos_token_id, one or a list, in generation_config.json and then config.json."""
    found = []
    for name in ("generation_config.json", "config.json"):
      value = _read_json(self.folder / name).get(f"{role}_token_id")
      for index in value if isinstance(value, list) else [value]:
        if index is None or index == -1:  # -1: older folders' way to say none
          continue
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < self.vocab_size:
          where = f"{self.folder / name}, {role}_token_id"
          raise InputError(where, f"{index!r:.80}", f"Give an id of the tokenizer, 0 to {self.vocab_size - 1}")
        found.append(index)
    return found


def _adds_bos(backend: tokenizers.Tokenizer, settings: dict, bos_id: int) -> bool:
  if isinstance(settings.get("add_bos_token"), bool):
    return settings["add_bos_token"]
  return backend.encode("", add_special_tokens=True).ids[:1] == [bos_id]


def _check_template(template: object, folder: Path) -> None:
  """InputError unless it is None, a text, or several by name, as older folders have them."""
  entries = template if isinstance(template, list) else []
  named = all(isinstance(entry, dict) and isinstance(entry.get("template"), str) for entry in entries)
  if not (template is None or isinstance(template, str) or isinstance(template, list) and named):
    raise InputError(f"{folder / 'tokenizer_config.json'}, chat_template", f"{template!r:.80} is no template",
                     "Write a text, or a list of objects with name and template")


def _find_tokenizer(path: Path) -> Path:
  file = path / "tokenizer.json" if path.is_dir() else path
  try:
    if file.is_file():
      return file
  except OSError as error:
    raise InputError(str(file), f"cannot be read ({error.strerror})", "Give a file that you may read") from None
  if path.is_dir():
    remedy = "Have transformers write one: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
    raise InputError(str(path), "the folder has no tokenizer.json", remedy)
  raise InputError(str(path), "no such file or folder", "Give a folder with a tokenizer.json")


def _is_there(file: Path) -> bool:
  """Whether a folder has a file that it may lack; InputError for a link to nothing, which half of a copied cache has."""
  if file.is_symlink() and not file.exists():
    raise InputError(str(file), "a link to a file that is not there", "Copy the file that it stands for")
  return file.exists()


def _read_json(file: Path) -> dict:
  if not _is_there(file):
    return {}
  try:
    value = json.loads(_read_text(file))
  except InputError:
    raise
  except (ValueError, RecursionError) as error:
    raise InputError(str(file), f"not JSON ({error})", "Correct the file") from None
  if not isinstance(value, dict):
    raise InputError(str(file), "not a JSON object", "Correct the file")
  return value


def _read_text(file: Path) -> str:
  try:
    return file.read_text(encoding="utf-8")
  except UnicodeDecodeError as error:
    raise InputError(str(file), f"byte {error.start + 1} is not UTF-8", "Save the file as UTF-8") from None
  except OSError as error:
    raise InputError(str(file), f"cannot be read ({error.strerror})", "Give a file that you may read") from None


def _write_json(file: Path, value: dict) -> None:
  file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def fingerprint(tokenizer: Tokenizer) -> str:
  """16 hexadecimal digits that tell tokenizers apart: of SHA-256 over all that the backend holds."""
  return hashlib.sha256(tokenizer.backend.to_str().encode("utf-8")).hexdigest()[:16]


def byte_level_tokenizer() -> Tokenizer:
  """One token a UTF-8 byte, after padding (id 0) and the stop token (id 1): any text, nothing to download."""
  alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  vocab = {token: i for i, token in enumerate(["<pad>", "<eos>", *alphabet])}
  backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
  backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = tokenizers.decoders.ByteLevel()
  backend.add_special_tokens(["<pad>", "<eos>"])
  return Tokenizer(vocab_size=len(vocab), pad_id=0, stop_ids=(1,), backend=backend)
