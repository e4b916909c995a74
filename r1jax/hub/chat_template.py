"""Chat templates: the jinja2 sources that hub folders carry, rendered as transformers renders them."""
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache

import jinja2
import tokenizers
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from r1jax.data.templates import PLACE, Template
from r1jax.data.tokenizer import Tokenizer
from r1jax.errors import InputError

Message = Mapping[str, str]  # "role": "system", "user" or "assistant"; "content": its text


class _Generation(Extension):
  """{% generation %} ... {% endgeneration %}, which marks what an assistant wrote, is what is inside."""

  tags = {"generation"}

  def parse(self, parser):
    next(parser.stream)
    return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def of_template(template: Template, tokenizer: Tokenizer) -> str:
  """The chat template that writes, for one question, exactly the prompt of a run's template.

  The policy has been trained on single questions. Several are written one after another, each in its own template, with the
  answers between them, thoughts left out; a system message goes in front of the next question. tokenizer: the text starts
  with its beginning-of-text token where the model was trained with one, and white space parts the words of a word-level one.
  """
  gap = " " if isinstance(tokenizer.backend.model, tokenizers.models.WordLevel) else ""
  parts = [json.dumps(part, ensure_ascii=False) for part in template.text.split(PLACE)]
  question = " + system.text + message['content'] + ".join(parts)
  return (
    ("{{ bos_token }}" if tokenizer.adds_bos else "") +
    "{%- set system = namespace(text='') -%}\n"
    "{%- for message in messages -%}\n"
    "{%- if message['role'] == 'system' -%}\n"
    "{%- set system.text = system.text + message['content'] + '\\n\\n' -%}\n"
    "{%- elif message['role'] == 'user' -%}\n"
    "{{- " + question + " -}}\n"
    "{%- set system.text = '' -%}\n"
    "{%- elif message['role'] == 'assistant' -%}\n"
    f"{{{{- '{gap}' + message['content'].split('</think>')[-1] + '{gap}' + eos_token + '{gap}' -}}}}\n"
    "{%- else -%}\n"
    "{{- raise_exception('a message is of the system, the user or the assistant') -}}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "{{- " + json.dumps(template.prefill, ensure_ascii=False) + " -}}\n"
    "{%- endif -%}\n")


def to_template(chat_template: str, tokenizer: Tokenizer) -> Template:
  """The Template that writes, for one question, what a chat template writes for one user message. An opening <think> at its
  end becomes the prefill. InputError for a chat template that does not repeat the message once."""
  text = render(chat_template, [{"role": "user", "content": PLACE}], tokenizer)
  if text.count(PLACE) != 1:
    raise InputError("chat template", f"writes a user message {text.count(PLACE)} times", "Give one that writes it once.")
  start = re.search(r"(<think>\s*)?\Z", text).start()
  return Template(text[:start], prefill=text[start:])


def render(chat_template: str, messages: Sequence[Message], tokenizer: Tokenizer, generate: bool = True) -> str:
  """The text of a conversation; generate: up to where the assistant's next answer starts. InputError for a template that is
  broken, or that refuses these messages."""
  tokens = {name: _text(token) for name, token in json.loads(tokenizer.settings).items() if name.endswith("_token")}
  for name, number in (("eos", tokenizer.stop_ids[0]), ("pad", tokenizer.pad_id), ("bos", tokenizer.bos_id)):
    if not isinstance(tokens.get(f"{name}_token"), str):
      tokens[f"{name}_token"] = "" if number is None else tokenizer.backend.id_to_token(number)
  try:
    return _compiled(chat_template).render(
      messages=[dict(message) for message in messages], add_generation_prompt=generate, tools=None, documents=None, **tokens)
  except (jinja2.TemplateError, TypeError, KeyError, AttributeError) as error:
    raise InputError("chat template", f"cannot write these messages ({error})",
                     "Give messages that the template knows, or correct it.") from None


def _text(token) -> str | None:
  return token.get("content") if isinstance(token, dict) else token


@cache
def _compiled(source: str) -> jinja2.Template:
  """A template in a sandbox, with the settings and functions that transformers gives it."""
  def refuse(message):
    raise jinja2.TemplateError(message)

  environment = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
  environment.filters["tojson"] = lambda value, indent=None, **_: json.dumps(value, ensure_ascii=False, indent=indent)
  environment.globals.update(raise_exception=refuse, strftime_now=lambda form: datetime.now().strftime(form))
  return environment.from_string(source)
