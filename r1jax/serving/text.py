"""Text as it streams: tokens to characters, and thoughts told from answers."""
from collections.abc import Iterable
from dataclasses import dataclass, field

from tokenizers.decoders import DecodeStream

from r1jax.data.tokenizer import Tokenizer

OPEN, CLOSE = "<think>", "</think>"


@dataclass
class TextStream:
  """The text of one response as its tokens arrive. All that `add` and `end` return, joined, is tokenizer.response_text.

  A character whose bytes are spread over tokens comes with the last of them.
  """

  tokenizer: Tokenizer
  ids: list[int] = field(default_factory=list)
  text: str = ""  # returned so far
  _stream: DecodeStream = field(default_factory=lambda: DecodeStream(skip_special_tokens=False))

  def add(self, ids: Iterable[int]) -> str:
    """The text that further tokens add, the stop token not among them."""
    new = ""
    for i in map(int, ids):
      self.ids.append(i)
      if i < self.tokenizer.vocab_size:  # as Tokenizer.decode
        new += self._stream.step(self.tokenizer.backend, i) or ""
    self.text += new
    return new

  def end(self) -> str:
    """What was held back: bytes at the end that are no whole character, as decode writes them."""
    whole = self.tokenizer.decode(self.ids)
    rest = whole[len(self.text):] if whole.startswith(self.text) else ""
    self.text += rest
    return rest


@dataclass
class Thoughts:
  """Splits a text that arrives in pieces into thoughts and the rest, by <think> and </think>, which belong to neither.

  inside: whether it starts within a thought, as behind a prompt that ends in <think>.
  """

  inside: bool = False
  _held: str = ""  # the end of the text so far, where it may be the beginning of a tag

  def add(self, text: str) -> list[tuple[bool, str]]:
    """(is a thought, text) of each stretch that is certain by now."""
    found, text = [], self._held + text
    while (at := text.find(self._tag)) >= 0:
      found.append((self.inside, text[:at]))
      text = text[at + len(self._tag):]
      self.inside = not self.inside
    keep = next((n for n in range(len(self._tag) - 1, 0, -1) if text.endswith(self._tag[:n])), 0)
    self._held = text[len(text) - keep:]
    found.append((self.inside, text[:len(text) - keep]))
    return [(inside, part) for inside, part in found if part]

  def end(self) -> list[tuple[bool, str]]:
    """What was held back."""
    held, self._held = self._held, ""
    return [(self.inside, held)] if held else []

  @property
  def _tag(self) -> str:
    return CLOSE if self.inside else OPEN


def starts_inside(prompt: str) -> bool:
  """Whether what follows a prompt is a thought: the prompt has opened one at its end."""
  return prompt.rstrip().endswith(OPEN)
