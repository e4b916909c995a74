"""One choice of a reply, as its tokens arrive: its text, where it stops, what of it is a thought."""
from dataclasses import dataclass, field

from r1jax.data.tokenizer import Tokenizer
from r1jax.records import Piece
from r1jax.serving.text import TextStream


@dataclass
class Choice:
  """A response and why it ended. All that `add` returns, joined, is `text`.

  stops: texts that end it, none of which is part of it. tokens: those with a part in the text; sampled: how many were drawn,
  up to the one that ended it. finish: "stop" (a stop token or text), "length", or None as long as it grows.
  """

  tokenizer: Tokenizer
  stops: tuple[str, ...] = ()
  text: str = ""
  tokens: list[int] = field(default_factory=list)
  offsets: list[int] = field(default_factory=list)  # where in the text each token begins
  sampled: int = 0
  finish: str | None = None
  _stream: TextStream = field(init=False)
  _sent: int = 0

  def __post_init__(self):
    self._stream = TextStream(self.tokenizer)

  def add(self, piece: Piece) -> str:
    """The text that is certain by now and was not before: what may be the beginning of a stop text is held back."""
    ended = piece.episode
    own = len(piece.tokens) - bool(ended and ended.stopped)  # a stop token has no text
    for token in piece.tokens[:own].tolist():
      self.sampled += 1
      self.tokens.append(token)
      self.offsets.append(len(self.text))
      self._grow(self._stream.add([token]))
      if self.finish:
        return self._certain()
    if ended:
      self.sampled += bool(ended.stopped)
      self._grow(self._stream.end())
      self.finish = self.finish or ("stop" if ended.stopped else "length")
    return self._certain()

  def _grow(self, new: str) -> None:
    if not new:
      return
    first = max(0, len(self.text) + 1 - max(map(len, self.stops), default=1))  # before it a stop would have been found
    self.text += new
    at = min((place for stop in self.stops if (place := self.text.find(stop, first)) >= 0), default=None)
    if at is not None:
      self.text, self.finish = self.text[:at], "stop"
      kept = sum(offset < at for offset in self.offsets)
      del self.tokens[kept:], self.offsets[kept:]

  def _certain(self) -> str:
    held = 0 if self.finish else max(
      (n for stop in self.stops for n in range(1, len(stop)) if self.text.endswith(stop[:n])), default=0)
    new, self._sent = self.text[self._sent:len(self.text) - held], len(self.text) - held
    return new
