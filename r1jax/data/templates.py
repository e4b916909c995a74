"""Prompt templates: the text around a question, and what the response is made to begin with."""

from dataclasses import dataclass

from r1jax.errors import InputError
from r1jax.fields import check_fields

PLACE = "{question}"


@dataclass(frozen=True)
class Template:
  """A prompt with a place for the question.

  Attributes:
    text: any text with "{question}" in it; other braces are left alone.
    prefill: put after the text, in the prompt, as the beginning of the response. It is never sampled or
      trained on, and rewards see prefill + response.

  Raises:
    InputError: the text has no "{question}".
  """

  text: str
  prefill: str = ""

  def __post_init__(self):
    check_fields(self, "Template")
    if PLACE not in self.text:
      raise InputError("Template.text", repr(self.text[:80]), f"Put {PLACE} where the question belongs")


def render(template: Template, question: str) -> str:
  """The prompt as text: the template with the question in its place, then the prefill.

  Both are taken literally: braces in the question or in the template mean nothing.
  """
  return template.text.replace(PLACE, question) + template.prefill


# arXiv 2501.12948v1, Table 1, word for word, with {question} for its `prompt`. Version 2 and Nature print
# "<think>...</think> and <answer>...</answer>"; Nature also capitalises User and Assistant throughout and
# writes "that is," for "i.e.,". The papers leave unknown, and these choices are ours: the full stop after the
# question is kept as printed; the whole is one line; nothing follows "Assistant:"; <think> is not pre-filled.
R1_ZERO = Template(
  "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. "
  "The assistant first thinks about the reasoning process in the mind and then provides the user with the "
  "answer. The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> "
  "tags, respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>. "
  "User: {question}. Assistant:"
)

# The same prompt with the opening tag given (ours; whether DeepSeek did so is not stated).
R1_ZERO_THINK = Template(R1_ZERO.text, prefill=" <think>")
