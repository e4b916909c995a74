"""From a source of questions to the ids of prompts, and of the responses that are trained on.

    source -> load_questions -> question_stream -> draw(cursor) -> encode_prompts

Whatever makes ids of questions and responses is here, so that what is trained on is, token for token, what is sampled.
The position in the data is one integer: stream[i] is the same question in every process and after a restart.
"""

import hashlib
import inspect
import json
import operator
import os
import re
from collections.abc import Sequence

from r1jax.data import builders
from r1jax.data.questions import HELD_OUT, TEST, TRAIN, VALIDATION, Generated, Jsonl, Question, Tfds, split_of
from r1jax.data.templates import Template, render
from r1jax.data.tokenizer import Tokenizer
from r1jax.errors import InputError

TFDS_NAME = re.compile(r"[a-zA-Z]\w*(?:/[\w.\-]+)?(?::\d+\.\d+\.\d+)?", re.ASCII)  # no "huggingface:NAME": that downloads
ALL = "all"
JOINT = {HELD_OUT: (VALIDATION, TEST), ALL: (TRAIN, VALIDATION, TEST)}  # what is read as one
Source = Jsonl | Tfds | Generated | tuple[Jsonl | Tfds | Generated, ...]  # several together are one


class QuestionSet(Sequence[Question]):
  """Random access to the questions of a split; each access reads and decodes one record. InputError for one that is
  damaged by then."""

  def __init__(self, records: Sequence[dict[str, bytes]], folder: str | os.PathLike[str]):
    """folder: the set's, for messages."""
    self._records, self._folder = records, folder

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index):
    if isinstance(index, slice):
      return [self[i] for i in range(len(self))[index]]
    i = range(len(self))[operator.index(index)]
    try:
      record = self._records[i]
      return Question(**{name: record[name].decode("utf-8") for name in builders.FIELDS})
    except Exception as error:  # array_record raises what its storage does
      said = str(error).partition("\n")[0]
      raise InputError(str(self._folder), f"damaged (question {i}: {said or type(error).__name__:.200})",
                       "Start the run again, which builds the set again") from None


class Joined(Sequence[Question]):
  """The questions of several sets as one; every stretch of it holds them in proportion to their sizes."""

  def __init__(self, sets: Sequence[Sequence[Question]]):
    self._sets = sets
    self._places = [(which, i) for _, which, i in sorted(
      ((i + 0.5) / len(questions), which, i) for which, questions in enumerate(sets) for i in range(len(questions)))]

  def __len__(self) -> int:
    return len(self._places)

  def __getitem__(self, index):
    if isinstance(index, slice):
      return [self[i] for i in range(len(self))[index]]
    which, i = self._places[operator.index(index)]
    return self._sets[which][i]


def check_source(source: Source) -> None:
  """Checks the fields of a source without opening its file or building anything.

  Raises:
    InputError: naming the field, its value and the remedy.
  """
  if isinstance(source, Jsonl | Tfds):
    _check_stored(source)
  elif isinstance(source, Generated):
    _check_generated(source)
  elif isinstance(source, tuple) and source:
    for part in source:
      check_source(part)
  else:
    raise InputError("source of questions", repr(source), "Give a Jsonl, a Tfds, a Generated, or a tuple of them")


def read_all(source: Source) -> list[Question]:
  """All questions of a source, every split; nothing is written, and a file that has been read before is not read again.
  InputError as builders.read_questions."""
  parts = source if isinstance(source, tuple) else (source,)
  return [question for part in parts for question in builders.read_questions(part)]


def load_questions(source: Source, split: str, data_dir: str | os.PathLike[str]) -> Sequence[Question]:
  """The questions of one split with random access, in the order of the source ("held_out": validation, then test;
  "all": train, validation, test); of several sources, Joined.

  Args:
    source: where they come from.
    split: "train", "validation", "test", "held_out" for the two of them, or "all" for a benchmark that is read whole.
    data_dir: the folder of built data sets; the set is built there the first time.

  Raises:
    InputError: a bad field, file or line, or a split that is empty.
  """
  check_source(source)
  if isinstance(source, tuple):
    return Joined([load_questions(part, split, data_dir) for part in source])
  if split not in (*JOINT, TRAIN, VALIDATION, TEST):
    raise InputError("split", repr(split), f"Give one of {', '.join((TRAIN, VALIDATION, TEST, *JOINT))}")
  builder = builders.prepare(source, data_dir)
  counts = {name: info.num_examples for name, info in builder.info.splits.items()}
  wanted = [name for name in JOINT.get(split, (split,)) if name in counts]
  if not wanted:
    raise InputError(
      f"split {split!r} of {source}", f"it is empty ({counts})", "Change held_out or give more questions"
    )
  return QuestionSet(builder.as_data_source("+".join(wanted)), builder.data_path)


def check_split(source: Source, questions: int = 0, split: str = VALIDATION) -> None:
  """InputError unless a source has questions to train on, and so many in the split that is measured on."""
  parts = source if isinstance(source, tuple) else (source,)
  found = [[split_of(q.text, part.held_out) for q in builders.read_questions(part)] for part in parts]
  kept = sum(part.count(split) for part in found)
  if kept < questions or any(TRAIN not in part for part in found):
    shares = ", ".join(str(part.held_out) for part in parts)
    raise InputError(f"{type(parts[0]).__name__}.held_out",
                     f"{shares} of {sum(map(len, found))} questions leaves {kept} for {split}; {questions} are to be "
                     "measured on, the others trained on", "Give more questions, another share, or measure on fewer")


def question_stream(questions: Sequence[Question], seed: int):
  """An endless stream of questions, a grain.MapDataset with random access.

  stream[i] depends on (questions, seed, i) only. Every len(questions) items are one epoch: all questions
  once, in an order of its own.

  Args:
    questions: any sequence of Question.
    seed: any integer.
  """
  if not len(questions):
    raise InputError("question_stream", "no questions", "Give at least one question")
  import grain  # here, because grain imports jax and most users of this module do not need it

  # grain adds the number of the epoch to the seed, so seed 0's second epoch would be seed 1's first: hash it.
  spread = int.from_bytes(hashlib.sha256(f"questions {operator.index(seed)}".encode()).digest()[:4], "big")
  return grain.MapDataset.source(questions).shuffle(seed=spread).repeat(None)


def draw(stream, cursor: int, n: int) -> tuple[list[Question], int]:
  """The next n questions of a stream from position `cursor`, and the next cursor."""
  if cursor < 0 or n < 1:
    raise InputError("draw", f"cursor={cursor}, n={n}", "Give a cursor of at least 0 and n of at least 1")
  cursor = operator.index(cursor)
  return [stream[i] for i in range(cursor, cursor + n)], cursor + n


def prompt_ids(question: str, template: Template, tokenizer: Tokenizer) -> list[int]:
  """The ids of a question's prompt, which sampling, supervised training and reward models all start from. The
  tokenizer's beginning-of-text token comes first where the model was trained with one, and never twice.

  Raises:
    InputError: a word that the tokenizer lacks, or a prompt without any token.
  """
  ids = tokenizer.encode(render(template, question))
  if tokenizer.adds_bos and ids[:1] != [tokenizer.bos_id]:
    ids = [tokenizer.bos_id, *ids]
  if not ids:
    raise InputError("prompt", f"question {question!r} makes no tokens", "Give the question a text")
  return ids


def encode_prompts(
  questions: Sequence[Question], template: Template, tokenizer: Tokenizer, max_prompt_length: int
) -> list[tuple[int, ...]]:
  """prompt_ids of each question, unpadded.

  Args:
    questions: N questions.
    template: the text around each, and the prefill that ends the prompt.
    tokenizer: the policy's.
    max_prompt_length: the most tokens that a prompt may have.

  Raises:
    InputError: a prompt that is longer or empty, or has a word that the tokenizer lacks; it names the question.
  """
  rows = [_prompt_of(question, template, tokenizer) for question in questions]
  too_long = [i for i, row in enumerate(rows) if len(row) > max_prompt_length]
  if too_long:
    worst = max(too_long, key=lambda i: len(rows[i]))
    raise InputError(
      f"question {questions[worst].id}",
      f"its prompt has {len(rows[worst])} tokens, max_prompt_length is {max_prompt_length} "
      f"({len(too_long)} of these {len(rows)} prompts are too long, this one most)",
      f"Set max_prompt_length to at least {len(rows[worst])} or remove the question",
    )
  return rows


def _prompt_of(question: Question, template: Template, tokenizer: Tokenizer) -> tuple[int, ...]:
  try:
    return tuple(prompt_ids(question.text, template, tokenizer))
  except InputError as error:
    raise InputError(f"question {question.id}, {error.where}", error.found, error.remedy) from None


def whole_response(template: Template, text: str) -> str:
  """A sampled text as data sets keep it: after what the template had already written of the response, unstripped, so
  that response_ids finds the sampled text again."""
  return template.prefill + text


def response_ids(
  response: str, template: Template, tokenizer: Tokenizer, stop_ids: tuple[int, ...] | None = None
) -> list[int]:
  """The ids that a policy samples after the template's prompt when its response is this text.

  The template's prefill is part of the prompt, so it is taken off; a response that does not begin with it is taken to
  be what follows it. The ids end in exactly one stop token: the first that the text contains, and what follows it is
  cut off; or else the tokenizer's own.

  Args:
    response: whole, as whole_response writes it; or of another origin, with the prefill or without.
    template: of the prompt that it answers.
    tokenizer: the policy's.
    stop_ids: ids that end a response beside the tokenizer's stop ids.

  Raises:
    InputError: a word that the tokenizer lacks.
  """
  ids = tokenizer.encode(_without_prefill(response, template.prefill))
  stops = {*tokenizer.stop_ids, *(stop_ids or ())}
  end = next((i for i, token in enumerate(ids) if token in stops), None)
  return [*ids, tokenizer.stop_ids[0]] if end is None else ids[:end + 1]


def sequence_ids(
  question: str, response: str, template: Template, tokenizer: Tokenizer, stop_ids: tuple[int, ...] | None = None
) -> tuple[list[int], int]:
  """(prompt_ids followed by response_ids, how many of them are the prompt's). Arguments and errors are theirs."""
  prompt = prompt_ids(question, template, tokenizer)
  return prompt + response_ids(response, template, tokenizer, stop_ids), len(prompt)


def _without_prefill(response: str, prefill: str) -> str:
  """What follows the prefill.

  Exactly that, white space included, if the response begins with the prefill to the letter, for then it was sampled
  after it. Otherwise the row was written elsewhere, and its white space around the prefill is not to be trusted: where
  the prefill ends in white space, the response must not begin with white space of its own.
  """
  if response.startswith(prefill):
    return response[len(prefill):]
  words = r"\s+".join(map(re.escape, prefill.split()))
  ending = r"\s*" if prefill[-1].isspace() else ""
  return response[re.match(rf"(?:\s*{words})?{ending}", response).end():]


def _check_stored(source: Jsonl | Tfds) -> None:
  if isinstance(source, Jsonl):
    fits = isinstance(source.path, str | os.PathLike) and os.fspath(source.path)
    _require(fits, source, "path", "Give a file's path")
  else:
    _require(isinstance(source.name, str) and TFDS_NAME.fullmatch(source.name), source, "name",
             'Give the name of a data set, such as "math_qa" or "math_dataset/algebra__linear_1d"')
    _require(isinstance(source.split, str) and source.split, source, "split", 'Give a split, such as "train"')
    fits = source.data_dir is None or isinstance(source.data_dir, str | os.PathLike) and os.fspath(source.data_dir)
    _require(fits, source, "data_dir", "Give a folder's path, or None for TFDS's own")
  for name in ("question_field", "answer_field", "kind", "language"):
    value = getattr(source, name)
    _require(isinstance(value, str) and value, source, name, "Give a name")
  fits = source.level_field is None or isinstance(source.level_field, str) and source.level_field
  _require(fits, source, "level_field", "Give the name of a field, or None")
  _check_held_out(source)
  fits = source.max_rows is None or (_is_int(source.max_rows) and source.max_rows >= 1)
  _require(fits, source, "max_rows", "Give at least 1, or None for all")
  fits = source.max_characters is None or (_is_int(source.max_characters) and source.max_characters >= 1)
  _require(fits, source, "max_characters", "Give at least 1, or None for all")
  _require(isinstance(source.remove_commas, bool), source, "remove_commas", "Give True or False")
  _require(source.unusable in ("refuse", "drop"), source, "unusable", 'Give "refuse" or "drop"')
  if source.answer_pattern is None:
    return
  remedy = 'Give a regular expression with one group, such as "#### (.+)"'
  try:
    groups = re.compile(source.answer_pattern).groups
  except (re.error, TypeError) as error:
    raise InputError(f"{type(source).__name__}.answer_pattern", f"{source.answer_pattern!r} ({error})", remedy) from None
  _require(groups == 1, source, "answer_pattern", remedy)


def _check_generated(source: Generated) -> None:
  names = sorted(builders.GENERATORS)
  _require(source.generator in names, source, "generator", f"Give one of {names}")
  _require(_is_int(source.count) and source.count >= 1, source, "count", "Give at least 1")
  _require(_is_int(source.seed), source, "seed", "Give an integer")
  _check_held_out(source)
  generate = builders.GENERATORS[source.generator]
  try:
    inspect.signature(generate).bind(source.seed, source.count, **dict(source.parameters))
    json.dumps(source.parameters)  # the key of the built set is made of this
  except (TypeError, ValueError) as error:
    known = list(inspect.signature(generate).parameters)[2:]
    raise InputError(
      "Generated.parameters", f"{source.parameters!r} ({error})", f"Give names and values out of {known}"
    ) from None
  try:
    generate(source.seed, 1, **dict(source.parameters))  # one question, to let the generator judge the values
  except InputError:
    raise
  except (TypeError, ValueError) as error:
    remedy = f"See the docstring of {generate.__name__}"
    raise InputError("Generated.parameters", f"{source.parameters!r} ({error})", remedy) from None


def _check_held_out(source: Jsonl | Tfds | Generated) -> None:
  share = source.held_out
  fits = isinstance(share, int | float) and 0 < share < 1
  _require(fits, source, "held_out", "Give a share between 0 and 1, both exclusive")


def _is_int(value: object) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


def _require(holds: object, source: Jsonl | Tfds | Generated, name: str, remedy: str) -> None:
  if not holds:
    raise InputError(f"{type(source).__name__}.{name}", repr(getattr(source, name)), remedy)
