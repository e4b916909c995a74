"""A conversation on the terminal."""
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console

from r1jax.errors import InputError
from r1jax.hub.model import Model
from r1jax.serving.responses import Speaker
from r1jax.serving.terminal import print_responses
from r1jax.serving.text import starts_inside

HELP = "/new forgets what was said, /quit ends (so does the end of the input), Ctrl-C stops an answer."


@dataclass
class Chat:
  """What has been said, and how it goes on.

  history: earlier turns are part of the prompt, see `remembers`. system: a message that opens the conversation. max_new:
  most tokens of an answer.
  """

  speaker: Speaker
  console: Console
  thinking: str = "dim"
  history: bool = True
  system: str | None = None
  max_new: int | None = None
  logprobs: bool = False
  messages: list[dict[str, str]] = field(default_factory=list)
  turns: int = 0  # questions asked so far: each has random numbers of its own

  def ask(self, text: str) -> str:
    """Prints the answer as it is sampled and returns it; both turns are remembered. InputError for a question that is too
    long for the model even alone, or has a word that its tokenizer lacks."""
    prompt = self._prompt(text)
    request, = self.speaker.requests([prompt], max_new=self.max_new, first=self.turns)
    inside = starts_inside(self.speaker.model.tokenizer.decode(prompt))
    self.turns += 1
    said: list[str] = []

    def heard() -> Iterator:
      for growth in self.speaker.stream([request]):
        said.append(growth.text)
        yield growth

    tokenizer = self.speaker.model.tokenizer if self.logprobs else None
    try:
      print_responses(heard(), [(request.question_id, 0)], [text], self.console, self.thinking, inside, tokenizer)
    except KeyboardInterrupt:
      self.console.out(" [stopped]", style="yellow")
    answer = "".join(said)
    self.messages += [{"role": "user", "content": text},
                      {"role": "assistant", "content": ("<think>" if inside else "") + answer}]
    return answer

  def _prompt(self, text: str) -> tuple[int, ...]:
    """The ids of the conversation with `text` at its end, without the oldest turns where it grows too long."""
    model, question = self.speaker.model, {"role": "user", "content": text}
    opening = [{"role": "system", "content": self.system}] if self.system else []
    if not self.history:
      return model.conversation([*opening, question])
    while True:
      prompt = model.conversation([*opening, *self.messages, question])
      # A quarter of the context is kept for the answer, as long as anything can be forgotten.
      if not self.messages or len(prompt) <= model.context - min(self.max_new or model.context, model.context // 4):
        return prompt
      del self.messages[:2]
      print("The conversation has grown too long for the model: its oldest question and answer are forgotten.",
            file=sys.stderr)


def remembers(model: Model) -> bool:
  """Whether earlier turns are given to a model by default: those of runs were trained on single questions."""
  return model.trained is None


def converse(chat: Chat, read: Callable[[str], str] = input) -> None:
  """Reads questions until the end of the input and answers them; a bad question is named and the conversation goes on."""
  while True:
    try:
      text = read("> ").strip()
    except (EOFError, KeyboardInterrupt):
      return
    if text == "/quit":
      return
    if text == "/new":
      chat.messages.clear()
    elif text.startswith("/"):
      print(HELP, file=sys.stderr)
    elif text:
      try:
        chat.ask(text)
      except InputError as error:
        print(f"error: {error}", file=sys.stderr)
