"""TFDS builders of question sets, written as array_record and read without TensorFlow; their sources are read here too.

A set lives under data_dir/BUILDER/LABEL-KEY/VERSION, where KEY is a hash of everything that decides its
content: the bytes of the files or the code of the generator, and every field of the source. So a changed file
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
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import absl.logging
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import naming, read_only_builder

from r1jax.data import arithmetic, bilingual, countdown, requests, word_problems
from r1jax.data.questions import TEST, TRAIN, VALIDATION, Generated, Jsonl, Question, Tfds, split_of
from r1jax.errors import InputError
from r1jax.files import read_rows, sha256_of
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
Stored = Jsonl | Tfds


class _Stored(NamedTuple):
  """What a source's files held when they were read. identity: of the files then, as _identity has it; sha256: of their
  bytes."""

  identity: tuple
  sha256: str
  questions: tuple[Question, ...]


# The newest reading of each source. The checks before a run, the name of the built set and its building all want the same
# questions, so a file is read and parsed once a process; its questions stay in memory for that (some 100 MB for 100,000).
_READ: dict[Stored, _Stored] = {}


@dataclasses.dataclass(eq=False)
class SourceConfig(tfds.core.BuilderConfig):
  """What a builder needs: the source, and for files the SHA-256 of the bytes that named the set."""

  source: Stored | Generated | None = None
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
  """Questions out of local files."""

  def _questions(self) -> Sequence[Question]:
    source = self.builder_config.source
    found = _read_stored(source)
    if found.sha256 != self.builder_config.sha256:
      raise InputError(_place(source), CHANGED, "Start again")
    return found.questions


class GeneratedQuestions(_QuestionsBuilder):
  """Questions of an in-process generator."""

  def _questions(self) -> Sequence[Question]:
    return read_questions(self.builder_config.source)


def read_questions(source: Stored | Generated) -> Sequence[Question]:
  """All questions of a source, both splits; nothing is written. A file is read again only if it is not the one that was
  read before.

  Raises:
    InputError: a bad file or line, or a generator's parameter.
  """
  if isinstance(source, Stored):
    return _read_stored(source).questions
  return GENERATORS[source.generator](source.seed, source.count, **dict(source.parameters))


def prepare(source: Stored | Generated, data_dir: str | os.PathLike[str]) -> tfds.core.DatasetBuilder:
  """The builder of a source, its set ready to be read under data_dir; built if it is not there.

  Several processes may do this at once: the first that ends wins, and the others read what it wrote.

  Raises:
    InputError: a bad file or line, a generator's parameter, a folder that cannot be written.
  """
  config = _config(source)
  builder_class = LocalQuestions if isinstance(source, Stored) else GeneratedQuestions
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


def questions_of(rows: Iterable[tuple[int, dict]], source: Stored) -> list[Question]:
  """The questions of a source's (number, row) pairs. Duplicates are kept.

  Raises:
    InputError: naming file and line for a missing field, an empty question, an answer that is empty or does not match
      answer_pattern, and for questions that contradict one another (see Jsonl.unusable); for a file without rows.
  """
  questions = []
  for number, row in rows:
    question = _parse_row(row, number, source)
    if source.max_characters is None or len(question.text) <= source.max_characters:
      questions.append(question)
    if source.max_rows is not None and len(questions) >= source.max_rows:
      break  # what follows is not read
  if source.unusable == "drop":
    dropped = [q for q in questions if q.kind in KINDS and unusable(q.kind, q.answer, q.id) is not None]
    questions = _without(dropped, questions, source, "their answers cannot judge")
  questions = _without_contradictions(questions, source)
  if not questions:
    limit = f" of at most {source.max_characters} characters" if source.max_characters is not None else ""
    raise InputError(_place(source), f"the file has no rows{limit}", "Give one JSON object a line, or another file")
  return questions


def _without(dropped: list[Question], questions: list[Question], source: Stored, why: str) -> list[Question]:
  """The other questions; how many are left out, and in which lines, is written to standard error."""
  if dropped:
    print(f"{_place(source)}: {len(dropped)} of {len(questions)} questions left out: {why} (lines {_lines(dropped)})",
          file=sys.stderr)
  left_out = {question.id for question in dropped}
  return [question for question in questions if question.id not in left_out]


def _lines(questions: Sequence[Question]) -> str:
  lines = ", ".join(question.id.rpartition(":")[2] for question in questions[:MAX_PLACES])
  return f"{lines}, ..." if len(questions) > MAX_PLACES else lines


def _without_contradictions(questions: list[Question], source: Stored) -> list[Question]:
  """The questions, if none comes twice with answers that are not equal; "drop": without those that do."""
  if source.kind not in ("maths", "choice"):
    return questions  # two sets of tests, puzzles or preferences do not contradict one another
  first: dict[str, Question] = {}
  wrong: dict[str, list[Question]] = {}
  for question in questions:
    text = " ".join(question.text.split())
    if _contradict(first.setdefault(text, question), question):
      wrong.setdefault(text, [first[text]]).append(question)
  if not wrong:
    return questions
  if source.unusable == "drop":
    dropped = [question for question in questions if " ".join(question.text.split()) in wrong]
    return _without(dropped, questions, source, "they come with answers that contradict one another")
  a, b, *_ = next(iter(wrong.values()))
  more = f"; {len(wrong)} questions have such answers" if len(wrong) > 1 else ""
  raise InputError(f"{_place(source)}:{b.id.rpartition(':')[2]}", f"the question of line {_lines([a])} with the answer "
                   f"{b.answer!r:.80} instead of {a.answer!r:.80}{more}",
                   'Correct them; unusable="drop" of the source leaves such questions out')


def _contradict(one: Question, other: Question) -> bool:
  if one.answer == other.answer:
    return False
  if one.kind == "choice":
    return one.answer.strip("() .").casefold() != other.answer.strip("() .").casefold()
  judge = KINDS[one.kind].judge
  return not (judge(other.answer, one.answer, "")[0] or judge(one.answer, other.answer, "")[0])


def _parse_row(row: dict, number: int, source: Stored) -> Question:
  where = f"{_place(source)}:{number}"
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
    raise InputError(f"{where}, field {name!r}", _excerpt(json.dumps(value, default=str)), "Give text or a number")
  if not value.strip():
    raise InputError(f"{where}, field {name!r}", "it is empty", "Fill it in or remove the line")
  return value.strip()


def _excerpt(text: str, tail: bool = False, width: int = 80) -> str:
  if len(text) <= width:
    return repr(text)
  return "..." + repr(text[-width:]) if tail else repr(text[:width]) + "..."


def _read_stored(source: Stored) -> _Stored:
  """The files of a source as they are now, from memory if they were read before and are the same."""
  try:
    files = stored_files(source)
    identity, known = _identity(files), _READ.get(source)
    if known is not None and known.identity == identity:
      return known
    sha256 = hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()
    questions = tuple(questions_of(_rows(source), source))
    if identity != _identity(files):
      raise InputError(_place(source), CHANGED, "Start again")
  except FileNotFoundError:
    raise InputError(_place(source), "no such file", "Give the path of a JSONL or Parquet file") from None
  except IsADirectoryError:
    raise InputError(_place(source), "a folder", "Give the path of a JSONL or Parquet file inside it") from None
  except OSError as error:
    raise InputError(_place(source), f"cannot be read ({error.strerror})", "Give a readable file") from None
  _READ[source] = _Stored(identity, sha256, questions)
  return _READ[source]


def stored_files(source: Stored) -> list[Path]:
  """The files that decide what a source holds. InputError for a data set of TFDS that is not on this machine."""
  if isinstance(source, Jsonl):
    return [Path(os.path.abspath(Path(source.path).expanduser()))]
  return sorted(path for path in Path(_tfds(source).data_path).iterdir() if path.is_file())


def _identity(files: Sequence[Path]) -> tuple:
  """Equal as long as the files are the same and nobody writes to them. Paths are part of it, for questions are named after
  them; the time of change (ctime) tells of a write even if the other times were set back."""
  stats = [path.stat() for path in files]
  return tuple((path, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
               for path, s in zip(files, stats, strict=True))


def _rows(source: Stored) -> Iterator[tuple[int, dict]]:
  """(number from 1, row) of a source's rows, decimals as text."""
  if isinstance(source, Jsonl):
    return read_rows(source.path, decimals_as_text=True)
  return _tfds_rows(source)


def _tfds(source: Tfds) -> tfds.core.DatasetBuilder:
  """The data set, read from its files alone: no code of the catalogue is imported, nothing is downloaded."""
  data_dir = None if source.data_dir is None else os.path.abspath(os.path.expanduser(source.data_dir))
  try:
    with _quiet():
      name, version = naming.parse_builder_name_kwargs(source.name, data_dir=data_dir)
      return read_only_builder.builder_from_files(str(name), **version)
  except (ValueError, OSError) as error:  # DatasetNotFoundError is a ValueError
    prepare_it = f"tfds build {source.name.partition(':')[0]} --file_format=array_record"
    where = "" if data_dir is None else f" --data_dir={source.data_dir}"
    raise InputError(_place(source), f"no such data set ({' '.join(str(error).split()):.300})",
                     f"Prepare it, on a machine with TensorFlow: {prepare_it}{where}") from None


def _tfds_rows(source: Tfds) -> Iterator[tuple[int, dict]]:
  builder = _tfds(source)
  types = builder.info.features
  try:
    records = builder.as_data_source(source.split)
  except NotImplementedError:
    raise InputError(_place(source), "in a format that only TensorFlow reads",
                     "Prepare it with --file_format=array_record, or convert it with `tfds convert_format`") from None
  except ValueError as error:
    raise InputError(f"Tfds.split of {source.name}", f"{source.split!r} ({str(error).splitlines()[0]})",
                     "Give a split of the data set") from None
  for i in range(len(records)):
    try:
      row = records[i]
    except Exception as error:  # array_record raises what its storage does
      raise InputError(f"{_place(source)}:{i + 1}", f"cannot be read ({' '.join(str(error).split()):.200})",
                       "Prepare the data set again") from None
    yield i + 1, {name: _plain(value, types[name]) for name, value in row.items()}


def _plain(value: object, feature: tfds.features.FeatureConnector) -> object:
  """A value of TFDS as a row of JSONL could have it, decimals as text."""
  if isinstance(value, bytes):
    try:
      return value.decode("utf-8")
    except UnicodeDecodeError:
      return None  # an image, for example
  if isinstance(value, float | np.floating):
    return str(np.dtype(feature.np_dtype).type(value))  # 0.1 of float32, not 0.10000000149
  return value.item() if isinstance(value, np.generic) else value


def _place(source: Stored) -> str:
  """What messages call a source."""
  return str(source.path) if isinstance(source, Jsonl) else _label(source)


def _label(source: Stored) -> str:
  """What questions' ids begin with: "gsm8k/train.jsonl", the same wherever the folder above lies; "math_qa/train"."""
  if isinstance(source, Tfds):
    return f"{source.name}/{source.split}"
  (path,) = stored_files(source)
  return f"{path.parent.name}/{path.name}"


def _config(source: Stored | Generated) -> SourceConfig:
  fields = dataclasses.asdict(source)
  if isinstance(source, Stored):
    label = fields["path"] = _label(source)
    fields.pop("data_dir", None)  # wherever it lies
    sha256 = _read_stored(source).sha256
  else:
    label = source.generator
    sha256 = hashlib.sha256(inspect.getsource(inspect.getmodule(GENERATORS[source.generator])).encode("utf-8")).hexdigest()
  key = hashlib.sha256(json.dumps([fields, sha256], sort_keys=True).encode("utf-8")).hexdigest()[:16]
  name = re.sub(r"\W+", "_", label.removesuffix(".jsonl"), flags=re.ASCII).strip("_")
  return SourceConfig(name=f"{name}-{key}", description=f"questions of {label}", source=source, sha256=sha256)
