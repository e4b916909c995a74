"""Refiners: what makes a right but unreadable response readable (R1, V2, appendix B.3.2: DeepSeek-V3 and humans)."""
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from r1jax.curation.endpoint import Endpoint
from r1jax.data.questions import Question
from r1jax.errors import InputError
from r1jax.rewards.format import format_reward
from r1jax.verifiers.tags import THINK_CLOSE, THINK_OPEN

Refine = Callable[[Sequence[tuple[Question, str]]], list[str | None]]


@runtime_checkable
class Refiner(Protocol):
  """A frozen dataclass that says how responses are refined."""

  def connect(self, folder: Path) -> AbstractContextManager[Refine]:
    """A function from (question, whole response) to refined whole responses, None where it could not be done. folder: for
    what is to outlast a kill. The caller verifies a refined response as it does any other."""


@dataclass(frozen=True)
class RuleRefiner:
  """Translates the words of the chain of thought that are in the other language into the question's, word by word.

  glossary: (word in languages[0], word in languages[1]). Stands for "Translate the thinking process to the same language as
  the question." (V2, appendix B.3.2) in worlds whose languages correspond word by word.
  """

  glossary: tuple[tuple[str, str], ...]
  languages: tuple[str, str] = ("en", "zh")

  def __post_init__(self):
    for side in (0, 1):
      meanings: dict[str, str] = {}
      for pair in self.glossary:
        if meanings.setdefault(pair[side], pair[1 - side]) != pair[1 - side]:
          raise InputError("RuleRefiner.glossary", f"{pair[side]!r} has two translations", "Give one.")

  def connect(self, folder: Path) -> AbstractContextManager[Refine]:
    """A rule in this process: nothing is kept in `folder`."""
    del folder
    return nullcontext(lambda items: [self.refined(question, response) for question, response in items])

  def refined(self, question: Question, response: str) -> str | None:
    """The response with its thought translated; None without a thought, or in a language that the glossary lacks."""
    head, opened, rest = response.partition(THINK_OPEN)
    thought, closed, summary = rest.partition(THINK_CLOSE)
    if not (opened and closed) or question.language not in self.languages:
      return None
    to = self.languages.index(question.language)
    translation = {pair[1 - to]: pair[to] for pair in self.glossary}
    translated = " ".join(translation.get(word, word) for word in thought.split())
    return f"{head}{opened} {translated} {closed}{summary}"


@dataclass(frozen=True)
class EndpointRefiner:
  """Another model translates the thought into the question's language and writes a clean summary from it (R1, V2, appendix
  B.3.2 and Listing 1; the prompt is ours). A reply that is not of the format counts as failed."""

  endpoint: Endpoint

  @contextmanager
  def connect(self, folder: Path):
    """The endpoint's client, with its cache in the folder."""
    with self.endpoint.connect(folder) as client:
      def refine(items: Sequence[tuple[Question, str]]) -> list[str | None]:
        replies = client.ask_all([_PROMPT.format(question=question.text, response=response) for question, response in items])
        return [reply.strip() if reply and format_reward(reply) == 1.0 else None for reply in replies]
      yield refine


_PROMPT = """Below are a question and an assistant's response: its reasoning between <think> tags, its answer between \
<answer> tags. Rewrite the response so that it reads well. Translate the thinking into the language of the \
question where it is in another; keep its steps and its conclusions, add none. In place of the answer write a \
clean summary, in the language of the question: the solution as the reasoning found it, and the final answer \
in \\boxed{{}}. Reply with nothing but <think>...</think> <answer>...</answer>.

# Question
{question}

# Response
{response}
"""
