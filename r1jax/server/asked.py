"""What a request's body says, checked: the fields of OpenAI's API that this server knows, and no others."""
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1jax.sampling.choice import Sampling

MOST_STOPS, MOST_CHOICES, MOST_LIKELIEST = 16, 128, 20
# A temperature below this is 0: divided by less, logits leave the range in which float32 tells tokens apart.
GREEDY_BELOW = 0.01
# Of no effect on what is sampled.
IGNORED = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls")
# Known, and taken only where they ask for nothing.
WITHOUT = {"presence_penalty": (0,), "frequency_penalty": (0,), "logit_bias": ({},), "suffix": ("",), "tools": ([],),
           "tool_choice": ("none", "auto"), "functions": ([],), "function_call": ("none", "auto"),
           "response_format": ({"type": "text"},), "modalities": (["text"],)}
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class Refused(Exception):
  """A request that is not answered: the status, and what the error object says. param: the field that is wrong."""

  def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None):
    super().__init__(message)
    self.status, self.message, self.param, self.code = status, message, param, code


@dataclass(frozen=True)
class Asked:
  """A request for completions. prompts: texts or token ids; messages: of a chat, which has no prompts. max_tokens: None for
  all that fit. logprobs: how many likeliest tokens at each place, None for no log-probs. usage: a stream reports it."""

  model: str
  prompts: tuple[str | tuple[int, ...], ...]
  messages: tuple[dict[str, str], ...]
  sampling: Sampling
  n: int
  max_tokens: int | None
  seed: int | None
  stops: tuple[str, ...]
  logprobs: int | None
  echo: bool
  stream: bool
  usage: bool


class _Fields:
  """Takes fields out of a body, so that what is left at the end is unknown. A field that is null is absent."""

  def __init__(self, body: Mapping[str, Any]):
    self.left = {name: value for name, value in body.items() if value is not None}

  def take(self, name: str, kind: type, default, low=None, high=None):
    value = self.left.pop(name, None)
    if value is None:
      return default
    known = {int: int, float: (int, float), bool: bool, str: str, dict: dict}[kind]
    if not isinstance(value, known) or (kind is not bool and isinstance(value, bool)):
      raise Refused(400, f"{name} must be {_NAMES[kind]}.", name)
    if kind is float and not math.isfinite(value):
      raise Refused(400, f"{name} must be a finite number.", name)
    if (low is not None and value < low) or (high is not None and value > high):
      span = f"at least {low}" if high is None else f"from {low} to {high}"
      raise Refused(400, f"{name} is {value}; it must be {span}.", name)
    return value


_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "a string", dict: "an object"}


def read(body: Any, chat: bool, default: Sampling) -> Asked:
  """What a body of /v1/chat/completions (chat) or /v1/completions asks for. default: the sampling of a request that names
  none. Refused for what is wrong, missing, or not to be had here."""
  if not isinstance(body, dict):
    raise Refused(400, "The body must be a JSON object.")
  fields = _Fields(body)
  for name in IGNORED:
    fields.left.pop(name, None)
  model = fields.take("model", str, None)
  if model is None:
    raise Refused(400, "You must provide a model parameter.", "model")
  n = fields.take("n", int, 1, 1, MOST_CHOICES)
  if fields.take("best_of", int, n) != n:
    raise Refused(400, "best_of is not to be had here.", "best_of")
  stream = fields.take("stream", bool, False)
  options = fields.take("stream_options", dict, {})
  if options and not stream:
    raise Refused(400, "stream_options is only for stream=true.", "stream_options")
  asked = Asked(
    model=model, prompts=() if chat else _prompts(fields.left.pop("prompt", None)),
    messages=_messages(fields.left.pop("messages", None)) if chat else (), sampling=_sampling(fields, default), n=n,
    max_tokens=_max_tokens(fields, chat), seed=fields.take("seed", int, None, -2**63, 2**64 - 1),
    stops=_stops(fields.left.pop("stop", None)), logprobs=_logprobs(fields, chat),
    echo=False if chat else fields.take("echo", bool, False), stream=stream, usage=options.get("include_usage") is True)
  for name, value in fields.left.items():
    if value not in WITHOUT.get(name, ()):
      raise Refused(400, f"{name} is not to be had here." if name in WITHOUT else
                    f"Unrecognized request argument supplied: {name}", name)
  return asked


def _sampling(fields: _Fields, default: Sampling) -> Sampling:
  temperature = fields.take("temperature", float, default.temperature, 0, 2)
  # top_p of 0 is the likeliest token alone, or those as likely as it.
  top_p = max(fields.take("top_p", float, default.top_p, 0, 1), 1e-9)
  return Sampling(0.0 if temperature < GREEDY_BELOW else float(temperature), float(top_p))


def _max_tokens(fields: _Fields, chat: bool) -> int | None:
  least = 1 if chat else 0
  found = fields.take("max_tokens", int, None if chat else 16, least)
  return fields.take("max_completion_tokens", int, found, least) if chat else found


def _logprobs(fields: _Fields, chat: bool) -> int | None:
  if not chat:
    return fields.take("logprobs", int, None, 0, MOST_LIKELIEST)
  wanted, likeliest = fields.take("logprobs", bool, False), fields.take("top_logprobs", int, 0, 0, MOST_LIKELIEST)
  if likeliest and not wanted:
    raise Refused(400, "top_logprobs is only for logprobs=true.", "top_logprobs")
  return likeliest if wanted else None


def _stops(value: Any) -> tuple[str, ...]:
  stops = [] if value is None else [value] if isinstance(value, str) else value
  if not isinstance(stops, list) or len(stops) > MOST_STOPS or not all(isinstance(stop, str) and stop for stop in stops):
    raise Refused(400, f"stop must be a string or a list of up to {MOST_STOPS}, none of them empty.", "stop")
  return tuple(stops)


def _prompts(value: Any) -> tuple[str | tuple[int, ...], ...]:
  """A text, ids, or a list of either."""
  def one(prompt):
    return prompt if isinstance(prompt, str) else tuple(prompt)

  def is_one(prompt):
    return isinstance(prompt, str) or (isinstance(prompt, list) and bool(prompt) and all(
      type(token) is int for token in prompt))

  if is_one(value):
    return (one(value),)
  if isinstance(value, list) and value and all(map(is_one, value)):
    return tuple(map(one, value))
  raise Refused(400, "prompt must be a string, a list of token ids, or a list of either, and not empty.", "prompt")


def _messages(value: Any) -> tuple[dict[str, str], ...]:
  if not isinstance(value, list) or not value:
    raise Refused(400, "messages must be a list of messages, and not empty.", "messages")
  return tuple(_message(number, message) for number, message in enumerate(value))


def _message(number: int, message: Any) -> dict[str, str]:
  where = f"messages[{number}]"
  if not isinstance(message, dict) or message.get("role") not in ROLES:
    raise Refused(400, f"{where} must be an object whose role is one of {', '.join(ROLES)}.", "messages")
  if message.get("tool_calls") or message.get("function_call"):
    raise Refused(400, f"{where} calls tools, which are not to be had here.", "messages")
  content = message.get("content")
  if content is None and message["role"] == "assistant":
    content = ""
  if isinstance(content, Sequence) and not isinstance(content, str):
    if not all(isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
               for part in content):
      raise Refused(400, f"{where} has a part that is not text, and only text is read here.", "messages")
    content = "".join(part["text"] for part in content)
  if not isinstance(content, str):
    raise Refused(400, f"{where} must have a content: a string or a list of text parts.", "messages")
  return {"role": ROLES[message["role"]], "content": content}
