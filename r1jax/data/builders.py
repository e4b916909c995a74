"""TFDS builders of question sets, written as array_record and read without TensorFlow.

A set lives under data_dir/BUILDER/LABEL-KEY/VERSION, where KEY is a hash of everything that decides its
content: the bytes of the file or the code of the generator, and every field of the source. So a changed file
is another set and is built again; a stale one is never read. TFDS writes to a folder
incomplete.XXXXXX_VERSION and renames it at the end, so a killed build leaves nothing under the final name.
"""

import abc
import contextlib
import dataclasses
import hashlib
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import absl.logging
import tensorflow_datasets as tfds

from r1jax.data import arithmetic, bilingual, countdown, requests, word_problems
from r1jax.data.questions import TEST, TRAIN, VALIDATION, Generated, Jsonl, Question, split_of
from r1jax.errors import InputError
from r1jax.verifiers.kinds import KINDS, MAX_PLACES, unusable

# name -> generator(seed, count, **parameters) -> `count` distinct questions. The source of the module that
# defines the function is part of the key of its sets, so wrap a function of another module there, not here.
GENERATORS: dict[str, Callable[..., Sequence[Question]]] = {
  "bilingual_chains": bilingual.bilingual_chains,
  "chains": arithmetic.chains,
  "countdown": countdown.countdown,
  "requests": requests.requests,
  "sums": countdown.sums,
  "word_problems": word_problems.word_problems,
}

FIELDS = tuple(field.name for field in dataclasses.fields(Question))
GROUPED_DIGITS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
LEVEL = re.compile(r"\Alevel\s+", re.IGNORECASE)  # "Level 5"
CHANGED = "the file changed while it was being read"


class _File(NamedTuple):
  """What a file held when it was read. identity: of the file then, as _identity has it; sha256: of its bytes."""

  identity: tuple
  sha256: str
  questions: tuple[Question, ...]


# The newest reading of each source. The checks before a run, the name of the built set and its building all want the same
# questions, so a file is read and parsed once a process; its questions stay in memory for that (some 100 MB for 100,000).
_FILES: dict[Jsonl, _File] = {}


@dataclasses.dataclass(eq=False)
class SourceConfig(tfds.core.BuilderConfig):
  """What a builder needs: the source, and for a file the SHA-256 of the bytes that named the set."""

  source: Jsonl | Generated | None = None
  sha256: str = ""


class _QuestionsBuilder(tfds.core.GeneratorBasedBuilder):
  """Writes the questions of `_questions` into the splits that questions.split_of gives."""

  VERSION = tfds.core.Version("3.0.0")  # of the splits' rule and the fields

  @abc.abstractmethod
  def _questions(self) -> Sequence[Question]:
    """All questions of the source, in order."""

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict({name: tfds.features.Text() for name in FIELDS}),
      disable_shuffling=True,  # the order of the file; prompts.question_stream shuffles
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    by_split = {TRAIN: [], VALIDATION: [], TEST: []}
    for question in self._questions():
      by_split[split_of(question.text, self.builder_config.source.held_out)].append(question)
    # TFDS cannot write an empty split; load_questions explains one that is asked for.
    return {name: self._generate_examples(questions) for name, questions in by_split.items() if questions}

  def _generate_examples(self, questions: Sequence[Question]) -> Iterator[tuple[int, dict[str, str]]]:
    for index, question in enumerate(questions):
      yield index, dataclasses.asdict(question)

  def _log_download_bytes(self) -> None:
    """Nothing is downloaded, so TFDS need not print that it is of unknown size."""

  def _log_download_done(self) -> None:
    """Nor that it is done."""


class LocalQuestions(_QuestionsBuilder):
  """Questions out of a local JSONL file."""

  def _questions(self) -> Sequence[Question]:
    source = self.builder_config.source
    file = _read_file(source)
    if file.sha256 != self.builder_config.sha256:
      raise InputError(str(source.path), CHANGED, "Start again")
    return file.questions


class GeneratedQuestions(_QuestionsBuilder):
  """Questions of an in-process generator."""

  def _questions(self) -> Sequence[Question]:
    return read_questions(self.builder_config.source)


def read_questions(source: Jsonl | Generated) -> Sequence[Question]:
  """All questions of a source, both splits; nothing is written. A file is read again only if it is not the one that was
  read before.

  Raises:
    InputError: a bad file or line, or a generator's parameter.
  """
  if isinstance(source, Jsonl):
    return _read_file(source).questions
  return GENERATORS[source.generator](source.seed, source.count, **dict(source.parameters))


def prepare(source: Jsonl | Generated, data_dir: str | os.PathLike[str]) -> tfds.core.DatasetBuilder:
  """The builder of a source, its set ready to be read under data_dir; built if it is not there.

  Several processes may do this at once: the first that ends wins, and the others read what it wrote.

  Raises:
    InputError: a bad file or line, a generator's parameter, a folder that cannot be written.
  """
  config = _config(source)
  builder_class = LocalQuestions if isinstance(source, Jsonl) else GeneratedQuestions
  root = os.path.abspath(os.path.expanduser(data_dir))

  def new_builder():
    return builder_class(data_dir=root, config=config, file_format="array_record")

  with _quiet():
    builder = new_builder()
    if builder.is_prepared():
      return builder
    if builder.data_path.exists():
      found = "the data set is damaged (its description is missing)"
      raise InputError(str(builder.data_path), found, "Delete that folder")
    try:
      builder.download_and_prepare()
    except OSError as error:
      builder = new_builder()  # another process may have built it meanwhile, and then the rename fails
      if not builder.is_prepared():
        found = f"the data set cannot be written ({error})"
        raise InputError(f"data_dir={root}", found, "Give a folder that can be written") from error
    return builder


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Without TFDS's progress bars and its warnings that a config is custom and a set not yet there."""
  tfds.disable_progress_bar()
  before = absl.logging.get_verbosity()
  absl.logging.set_verbosity(absl.logging.ERROR)
  try:
    yield
  finally:
    absl.logging.set_verbosity(before)


def parse_jsonl(content: bytes, source: Jsonl) -> list[Question]:
  """The questions of a JSONL file's bytes; blank lines are skipped, duplicates are kept.

  Raises:
    InputError: naming file and line for text that is not UTF-8, a line that is not a JSON object, a missing
      field, an empty question, an answer that is empty or does not match answer_pattern; a file without rows.
  """
  try:
    text = content.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    line = content.count(b"\n", 0, error.start) + 1
    byte = f"byte 0x{content[error.start]:02x} is not UTF-8"
    raise InputError(f"{source.path}:{line}", byte, "Save the file as UTF-8") from None
  questions = []
  # Not splitlines(): it would also cut at U+2028 and others, which JSON allows within a string.
  for number, line in enumerate(text.split("\n"), start=1):
    if source.max_rows is not None and len(questions) >= source.max_rows:
      break
    if line.strip():
      question = _parse_row(line, number, source)
      if source.max_characters is None or len(question.text) <= source.max_characters:
        questions.append(question)
  if source.unusable == "drop":
    questions = _usable(questions, source)
  if not questions:
    limit = f" of at most {source.max_characters} characters" if source.max_characters is not None else ""
    raise InputError(str(source.path), f"the file has no rows{limit}", "Give one JSON object a line")
  return questions


def _usable(questions: list[Question], source: Jsonl) -> list[Question]:
  """The questions whose answers can judge; how many others there are, and in which lines, is written to standard error."""
  dropped = [q for q in questions if q.kind in KINDS and unusable(q.kind, q.answer, q.id) is not None]
  if dropped:
    lines = ", ".join(question.id.rpartition(":")[2] for question in dropped[:MAX_PLACES])
    print(f"{source.path}: {len(dropped)} of {len(questions)} questions left out: their answers cannot judge (lines {lines}"
          f"{', ...' if len(dropped) > MAX_PLACES else ''})", file=sys.stderr)
  left_out = {question.id for question in dropped}
  return [question for question in questions if question.id not in left_out]


def _parse_row(line: str, number: int, source: Jsonl) -> Question:
  where = f"{source.path}:{number}"
  try:
    # Decimals as they are written: 0.10 stays "0.10".
    row = json.loads(line, parse_float=str, parse_constant=_reject_constant)
  except (ValueError, RecursionError) as error:
    raise InputError(where, f"not JSON ({error}): {_excerpt(line)}", "Correct or remove the line") from None
  if not isinstance(row, dict):
    raise InputError(where, f"not a JSON object: {_excerpt(line)}", "Give one JSON object a line")
  text = _text_field(row, source.question_field, "question_field", where)
  answer = _text_field(row, source.answer_field, "answer_field", where)
  if source.answer_pattern is not None:
    matches = re.findall(source.answer_pattern, answer)
    if not matches or not matches[-1].strip():
      raise InputError(
        f"{where}, field {source.answer_field!r}",
        f"no answer where answer_pattern {source.answer_pattern!r} looks, in {_excerpt(answer, tail=True)}",
        "Correct the line or answer_pattern",
      )
    answer = matches[-1].strip()
  if source.remove_commas:
    answer = GROUPED_DIGITS.sub(lambda match: match[0].replace(",", ""), answer)
  level = "" if source.level_field is None else _text_field(row, source.level_field, "level_field", where)
  level = LEVEL.sub("", level).replace("/", "-")  # names of metrics are made of it
  return Question(f"{_label(source)}:{number}", text, answer, source.kind, source.language, level)


def _text_field(row: dict, name: str, option: str, where: str) -> str:
  if name not in row:
    found = f"no field {name!r}; the row has {sorted(row)}"
    raise InputError(where, found, f"Name the right field in {option} or correct the line")
  value = row[name]
  if isinstance(value, int) and not isinstance(value, bool):
    value = str(value)
  if not isinstance(value, str):
    raise InputError(f"{where}, field {name!r}", _excerpt(json.dumps(value)), "Give text or a number")
  if not value.strip():
    raise InputError(f"{where}, field {name!r}", "it is empty", "Fill it in or remove the line")
  try:
    value.encode("utf-8")
  except UnicodeEncodeError:
    found = "half of a surrogate pair"
    raise InputError(f"{where}, field {name!r}", found, "Correct the \\u escape") from None
  return value.strip()


def _reject_constant(name: str):
  raise ValueError(f"{name} is not a JSON value")


def _excerpt(text: str, tail: bool = False, width: int = 80) -> str:
  if len(text) <= width:
    return repr(text)
  return "..." + repr(text[-width:]) if tail else repr(text[:width]) + "..."


def _read_file(source: Jsonl) -> _File:
  """The file of a source as it is now, from memory if it was read before and is the same."""
  path = Path(os.path.abspath(Path(source.path).expanduser()))
  known = _FILES.get(source)
  try:
    if known is not None and known.identity == _identity(path, path.stat()):
      return known
    with path.open("rb") as file:
      identity = _identity(path, os.fstat(file.fileno()))
      content = file.read()
      if identity != _identity(path, os.fstat(file.fileno())):
        raise InputError(str(source.path), CHANGED, "Start again")
  except FileNotFoundError:
    raise InputError(str(source.path), "no such file", "Give the path of a JSONL file") from None
  except IsADirectoryError:
    raise InputError(str(source.path), "a folder", "Give the path of a JSONL file inside it") from None
  except OSError as error:
    raise InputError(str(source.path), f"cannot be read ({error.strerror})", "Give a readable JSONL file") from None
  _FILES[source] = _File(identity, hashlib.sha256(content).hexdigest(), tuple(parse_jsonl(content, source)))
  return _FILES[source]


def _identity(path: Path, stat: os.stat_result) -> tuple:
  """Equal as long as the file at a path is the same and nobody writes to it. The path is part of it, for questions are
  named after it; the time of change (ctime) tells of a write even if the other times were set back."""
  return path, stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _label(source: Jsonl) -> str:
  """ "gsm8k/train.jsonl": says which file a question is from wherever the folder above lies."""
  path = Path(os.path.abspath(Path(source.path).expanduser()))
  return f"{path.parent.name}/{path.name}"


def _config(source: Jsonl | Generated) -> SourceConfig:
  fields = dataclasses.asdict(source)
  if isinstance(source, Jsonl):
    label = fields["path"] = _label(source)
    sha256 = _read_file(source).sha256
  else:
    label = source.generator
    sha256 = hashlib.sha256(inspect.getsource(inspect.getmodule(GENERATORS[source.generator])).encode("utf-8")).hexdigest()
  key = hashlib.sha256(json.dumps([fields, sha256], sort_keys=True).encode("utf-8")).hexdigest()[:16]
  name = re.sub(r"\W+", "_", label.removesuffix(".jsonl"), flags=re.ASCII).strip("_")
  return SourceConfig(name=f"{name}-{key}", description=f"questions of {label}", source=source, sha256=sha256)
