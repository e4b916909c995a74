"""Replies in the form of OpenAI's API: whole completions, chunks of a stream, log-probs, errors."""
import json
from typing import Any

import numpy as np

from r1jax.data.tokenizer import Tokenizer
from r1jax.server.asked import Refused
from r1jax.server.scoring import Scored

KINDS = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error", 503: "server_error"}


def error(refused: Refused) -> dict:
  """The body of an error."""
  kind = KINDS.get(refused.status, "invalid_request_error")
  return {"error": {"message": refused.message, "type": kind, "param": refused.param, "code": refused.code}}


def event(data: dict | str) -> str:
  """An event of a stream."""
  return f"data: {data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)}\n\n"


def head(about: dict, chat: bool, stream: bool) -> dict:
  """What every reply and every chunk begins with; about: id, created and model."""
  kind = "chat.completion" + (".chunk" if stream else "") if chat else "text_completion"
  return {**about, "object": kind}


def usage(prompt: int, sampled: int) -> dict:
  """Numbers of tokens."""
  return {"prompt_tokens": prompt, "completion_tokens": sampled, "total_tokens": prompt + sampled}


def choice(chat: bool, stream: bool, index: int, parts: list[tuple[bool, str]], logprobs: dict | None,
           finish: str | None) -> dict:
  """A choice, or what a chunk adds to it. parts: (is a thought, text) of what is said."""
  rest = {"logprobs": logprobs, "finish_reason": finish}
  if not chat:
    return {"index": index, "text": "".join(text for _, text in parts), **rest}
  thought, said = ("".join(text for inside, text in parts if inside is which) for which in (True, False))
  if stream:
    message = {name: text for name, text in (("reasoning_content", thought), ("content", said)) if text}
    return {"index": index, "delta": message, **rest}
  return {"index": index, "message": {"role": "assistant", "content": said, **({"reasoning_content": thought} if thought
                                                                               else {})}, **rest}


def completion_logprobs(tokenizer: Tokenizer, tokens: list[int], offsets: list[int], scored: Scored, first: int,
                        unknown: int | None) -> dict[str, Any]:
  """logprobs of a completion. scored: from its place `first` on it is about the tokens; unknown: the place among the tokens
  of one that has none before it, and so no log-prob."""
  values, likeliest = [], []
  for place, token in enumerate(tokens, first):
    if place - first == unknown:
      values.append(None)
      likeliest.append(None)
      continue
    values.append(float(scored.logprobs[place]))
    at: dict[str, float] = {}
    for number, value in ((token, scored.logprobs[place]), *zip(scored.ids[place], scored.top[place], strict=True)):
      text = tokenizer.decode([number])
      at[text] = max(at.get(text, -np.inf), float(value))  # several tokens may look alike
    likeliest.append(at)
  return {"tokens": [tokenizer.decode([token]) for token in tokens], "token_logprobs": values,
          "top_logprobs": likeliest if scored.ids.shape[1] else None, "text_offset": offsets}


def chat_logprobs(tokenizer: Tokenizer, tokens: list[int], scored: Scored, first: int) -> dict[str, Any]:
  """logprobs of a chat completion, as completion_logprobs."""
  def of(token, value):
    text = tokenizer.decode([token])
    # A token may be a part of a character.
    return {"token": text, "logprob": float(value), "bytes": None if "\ufffd" in text else list(text.encode())}

  return {"content": [
    {**of(token, scored.logprobs[place]),
     "top_logprobs": [of(*pair) for pair in zip(scored.ids[place], scored.top[place], strict=True)]}
    for place, token in enumerate(tokens, first)], "refusal": None}
