"""The records of the data side: a question, and the sources that questions come from.

Here too is the one rule that decides which questions are held out, for choices or for reports, so that no builder can
have its own.
"""

import hashlib
import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

TRAIN = "train"
VALIDATION = "validation"  # held out: what choices are made on, and what a stage watches while it trains
TEST = "test"  # held out: what tables report
HELD_OUT = "held_out"  # validation and test together


@dataclass(frozen=True)
class Question:
  """One question with a determinate answer.

  Attributes:
    id: names the question in messages and logs; unique within a source. For a file "folder/file.jsonl:LINE".
    text: the question as the user would ask it, without any template.
    answer: the gold answer, always text ("72", "\\frac{1}{2}").
    kind: what sort of check the answer wants: "maths", "choice", "logic" or "code"; or the reward model that scores
      responses: "helpful" or "safety".
    language: ISO 639-1 code of the question.
    level: how difficult it is ("5"); accuracy is reported by level; "" where the source does not say.
  """

  id: str
  text: str
  answer: str
  kind: str = "maths"
  language: str = "en"
  level: str = ""


@dataclass(frozen=True)
class Jsonl:
  """Questions out of a local file: JSONL, one JSON object a line, packed by gzip or not; or Parquet (NAME.parquet).

  Attributes:
    path: the file. A relative path counts from the working directory.
    question_field: the field that holds the question.
    answer_field: the field that holds the gold answer (text or a number).
    answer_pattern: a regular expression with one group that takes the gold answer out of answer_field; the
      last match counts. GSM8K: "#### (.+)". None takes the whole field.
    remove_commas: "1,234" becomes "1234" in the gold answer. Off by default, for "(1,234)" may be a pair.
    held_out: the share of questions (0 to 1, exclusive) that is held out, half for validation and half for tests, decided
      by each question's text.
    max_rows: read only the first rows of the file; None reads all.
    max_characters: leave out questions that are longer; None leaves out none.
    unusable: what is done with a gold answer that nothing could be compared with (no mathematics, a sentence, "N/A"), and
      with a question that comes again with an answer that contradicts the first (kinds "maths" and "choice").
      "refuse": a run that judges by it says so, with counts and lines, and does not start; contradictions are refused when
      the file is read. "drop": left out and counted, contradictory questions with all their answers.
    kind, language: copied into every Question.
    level_field: the field that holds the level (text or a number; "Level 5" becomes "5"), MATH's "level". None: no levels.
  """

  path: str | os.PathLike[str]
  question_field: str = "question"
  answer_field: str = "answer"
  answer_pattern: str | None = None
  held_out: float = 0.1
  max_rows: int | None = None
  max_characters: int | None = None
  kind: str = "maths"
  language: str = "en"
  remove_commas: bool = False
  unusable: str = "refuse"
  level_field: str | None = None


@dataclass(frozen=True)
class Tfds:
  """Questions out of a data set of the TFDS catalogue that lies on this machine; nothing is downloaded, TensorFlow is not
  needed. `tfds build NAME --file_format=array_record` prepares one.

  Attributes:
    name: the data set's, with config and version where they matter: "math_qa", "math_dataset/algebra__linear_1d:1.0.0".
    split: of the data set, also "train[:1000]" or "train+test". Which of its questions are held out is up to held_out.
    data_dir: the folder of TFDS data sets; None is TFDS's own (~/tensorflow_datasets).
    The other fields are those of Jsonl; max_rows counts the rows of the split. A question's id is "NAME/SPLIT:ROW".
  """

  name: str
  split: str = "train"
  question_field: str = "question"
  answer_field: str = "answer"
  data_dir: str | os.PathLike[str] | None = None
  answer_pattern: str | None = None
  held_out: float = 0.1
  max_rows: int | None = None
  max_characters: int | None = None
  kind: str = "maths"
  language: str = "en"
  remove_commas: bool = False
  unusable: str = "refuse"
  level_field: str | None = None


@dataclass(frozen=True)
class Generated:
  """Questions made in the process by a named generator of builders.GENERATORS.

  Attributes:
    generator: its name ("sums", "countdown").
    count: how many distinct questions, both splits together.
    seed: the same seed and count give the same questions.
    held_out: the share of questions (0 to 1, exclusive) that is held out, half for validation and half for tests.
    parameters: keyword arguments of the generator, as a mapping or (name, value) pairs; kept as sorted pairs,
      so that the record can be hashed and written as JSON.
  """

  generator: str = "sums"
  count: int = 10_000
  seed: int = 0
  held_out: float = 0.1
  parameters: tuple[tuple[str, object], ...] | Mapping[str, object] = ()

  def __post_init__(self):
    pairs = self.parameters.items() if isinstance(self.parameters, Mapping) else self.parameters
    try:
      frozen = tuple(sorted((name, _frozen(value)) for name, value in pairs))
    except (TypeError, ValueError):
      return  # not pairs at all: prompts.check_source says so, with the name of the field
    object.__setattr__(self, "parameters", frozen)


def _frozen(value: object) -> object:
  return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


def normalise(text: str) -> str:
  """The form of a question under which duplicates are equal: width, case and all white space are ignored."""
  return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def split_of(text: str, held_out: float) -> str:
  """ "train", "validation" or "test" for a question, by a hash of its normalised text.

  It depends on nothing else, so a question that occurs twice, in one file or in two, falls on one side. A larger held_out
  only moves questions out of train; about half of those held out are for validation, and that half never changes.
  """
  digest = hashlib.sha256(normalise(text).encode("utf-8")).digest()
  if int.from_bytes(digest[:8], "big") >= held_out * 2**64:
    return TRAIN
  return TEST if digest[8] & 1 else VALIDATION
