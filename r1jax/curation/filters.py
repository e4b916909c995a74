"""What a sampled response must be like to be trained on: readable, in one language, of a sensible length.

R1 keeps correct and readable responses for its cold start (V2, appendix B.3.2: repetition detection, language-mixing
filters) and drops chains of thought with mixed languages, long paragraphs and code blocks from the 600,000 of its rejection
sampling (V1, section 2.3.3). The papers give no thresholds; they are ours, and an experiment's to choose.
"""
import dataclasses
import re
from collections.abc import Sequence

from r1jax.fields import Count, Share, check_fields
from r1jax.rewards.format import format_reward
from r1jax.rewards.language import language_reward
from r1jax.verifiers.tags import THINK_CLOSE, THINK_OPEN

_WORD = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3400-\u9fff\uf900-\ufaff]+")
_REPETITION_N = 4  # words; ours
LANGUAGE = "language"


def words(text: str) -> list[str]:
  """The words of a text in lower case: runs of letters and digits, and each Chinese character for itself."""
  return _WORD.findall(text.lower())


@dataclasses.dataclass(frozen=True)
class Filters:
  """Which responses are kept. None or False: no such filter. Responses are whole, what a template pre-filled included.

  format: the tags are as the format reward asks (r1jax.rewards.format). language: least share of the question's language in
  the chain of thought (R1, Nature, equation 7); a thought without any words, where that is undecided, passes. repetition:
  largest share of runs of four words that have occurred before in the response. fewest_words, most_words: of the response.
  paragraph_words: most words of a paragraph of the thought. code_blocks: whether a thought may have fenced code in it.
  """

  format: bool = False
  language: Share | None = None
  repetition: Share | None = None
  fewest_words: Count | None = None
  most_words: Count | None = None
  paragraph_words: Count | None = None
  code_blocks: bool = True

  def __post_init__(self):
    check_fields(self, "Filters")

  def reason(self, question: str, response: str, language: str) -> str | None:
    """The name of the first filter that drops a response, or None. language: of the question (ISO 639-1)."""
    if self.format and format_reward(response) != 1.0:
      return "format"
    if self.language is not None and language_reward(question, response, "", language, neutral=1.0) < self.language:
      return LANGUAGE
    found = words(response)
    if self.repetition is not None and repetition(found) > self.repetition:
      return "repetition"
    if self.fewest_words is not None and len(found) < self.fewest_words:
      return "fewest_words"
    if self.most_words is not None and len(found) > self.most_words:
      return "most_words"
    thought = response.split(THINK_CLOSE)[0].removeprefix(THINK_OPEN)
    if self.paragraph_words is not None and any(
        len(words(paragraph)) > self.paragraph_words for paragraph in re.split(r"\n\s*\n", thought)):
      return "paragraph_words"
    if not self.code_blocks and "```" in thought:
      return "code_blocks"
    return None

  def without(self, name: str) -> "Filters":
    """The same with one filter off."""
    return dataclasses.replace(self, **{name: next(f.default for f in dataclasses.fields(self) if f.name == name)})


def repetition(found: Sequence[str], n: int = _REPETITION_N) -> float:
  """The share of runs of n words that have occurred before; 0.0 for a text of fewer than n words."""
  runs = [tuple(found[i:i + n]) for i in range(len(found) - n + 1)]
  return 1 - len(set(runs)) / len(runs) if runs else 0.0
