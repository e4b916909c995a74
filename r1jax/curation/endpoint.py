"""Another model through an OpenAI-style HTTP endpoint: deadlines, retries, a cache on disk, a budget.

An answered request is kept in FOLDER/endpoint.sqlite and never paid for twice, even if the run is killed.
"""
import asyncio
import base64
import hashlib
import json
import math
import os
import random
import re
import sys
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Annotated

import anyio.from_thread
import httpx
import tenacity
from annotated_types import Ge, Le

from r1jax.curation.reply_cache import ReplyCache
from r1jax.errors import InputError
from r1jax.fields import Count, Natural, NonNegative, Share, check_fields

_LONGEST_PAUSE = 60.0  # seconds between two tries
_LONGEST_BODY = 16 * 2**20  # bytes of an answer, a hundred times what 32,768 tokens take
_MOST_TOKENS = 10**9  # of one request, as a server reports them
_FEW = 20  # requests before their share of failures counts
_WRONG_SETTINGS = (401, 403, 404, 405)  # the same for every prompt


@dataclass(frozen=True)
class Endpoint:
  """A model behind POST {url}/chat/completions.

  key_variable: the environment variable that holds the key, None where none is needed; never put keys in configs.
  timeout_seconds: of one try, from connecting to the last byte. retries: tries after the first, on time-outs, broken
  connections, 408, 429, 5xx and answers that cannot be read, each after twice the pause, or after what the server asks for.
  parallel: requests at a time. max_requests, max_total_tokens: the budget, over all runs that share the cache;
  max_total_tokens counts what the server reports. max_failed: the share of prompts without a usable reply (refused, cut at
  the token limit, given up) above which a stage stops, once there are twenty.
  """

  url: str
  model: str
  key_variable: str | None = None
  temperature: NonNegative = 0.0
  max_tokens: Count = 4_096
  timeout_seconds: Annotated[float, Ge(1e-3), Le(1e6)] = 120.0
  retries: Natural = 5
  first_pause_seconds: Annotated[float, Ge(0), Le(_LONGEST_PAUSE)] = 1.0
  parallel: Count = 8
  max_requests: Count = 100_000
  max_total_tokens: Count | None = None
  max_failed: Share = 0.5

  def __post_init__(self):
    check_fields(self, "Endpoint")
    remedy = "Give http://HOST/... or https://HOST/..., up to and with /v1, without a key, a query or spaces."
    try:
      url = httpx.URL(self.url)
    except (httpx.InvalidURL, TypeError, ValueError) as error:
      raise InputError("Endpoint.url", f"{self.url!r}: {error}", remedy) from None
    if url.userinfo:
      raise InputError("Endpoint.url", "it holds a name or a key", remedy)
    whole = url.scheme in ("http", "https") and url.host and 0 < (url.port or 80) < 65_536
    if not whole or url.query or url.fragment or re.search(r"\s", self.url):
      raise InputError("Endpoint.url", repr(self.url), remedy)

  def key(self) -> str | None:
    """The key. InputError if the environment has none, or one that no HTTP header can carry."""
    if self.key_variable is None:
      return None
    key = os.environ.get(self.key_variable, "").strip(" \t")
    if not key:
      raise InputError("Endpoint.key_variable", f"the environment has no {self.key_variable}", "Export it, or name another.")
    if not re.fullmatch(r"[\x21-\x7e]+", key):
      raise InputError("Endpoint.key_variable", f"{self.key_variable} holds a line break, a space or a letter outside ASCII",
                       "Export the key alone.")
    return key

  @contextmanager
  def connect(self, folder: Path) -> Iterator["Client"]:
    """A client whose cache is in `folder`. InputError if the key is missing."""
    client = Client(self, self.key(), Path(folder))
    try:
      yield client
    finally:
      client.close()


class Client:
  """Asks an endpoint. failures: prompts without a usable reply, by reason."""

  def __init__(self, endpoint: Endpoint, key: str | None, folder: Path):
    self.endpoint, self.failures, self.asked = endpoint, Counter(), 0
    self._key, self._cache = key, ReplyCache(folder / "endpoint.sqlite")
    self._requests, self._tokens = self._cache.spent()

  def close(self) -> None:
    """Closes the cache, and says how many prompts have no usable reply."""
    self._cache.close()
    if self.failures:
      reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.failures.items()))
      print(f"{self.endpoint.url}: {self.failures.total()} of {self.asked} prompts without a usable reply ({reasons})",
            file=sys.stderr)

  def ask_all(self, prompts: Sequence[str], variants: Sequence[int] | None = None) -> list[str | None]:
    """The replies in order, None where there was no usable one.

    variants: numbers that tell apart requests with the same prompt, which are then asked each for itself.

    Raises:
      InputError: the server refuses the key, the url or the model, sends requests elsewhere, too many prompts have no
        usable reply, or the budget is used up; what was answered stays in the cache.
    """
    # A loop in a thread of its own: a notebook's thread runs one already.
    with anyio.from_thread.start_blocking_portal() as portal:
      return portal.call(self._ask_all, prompts, variants or [0] * len(prompts))

  async def _ask_all(self, prompts: Sequence[str], variants: Sequence[int]) -> list[str | None]:
    turns = asyncio.Semaphore(self.endpoint.parallel)
    headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
    async with httpx.AsyncClient(headers={"Accept-Encoding": "identity", **headers}, timeout=None) as http:
      return await asyncio.gather(*(self._ask(http, turns, *asked) for asked in zip(prompts, variants, strict=True)))

  async def _ask(self, http: httpx.AsyncClient, turns: asyncio.Semaphore, prompt: str, variant: int) -> str | None:
    e = self.endpoint
    key = hashlib.sha256(json.dumps([e.url, e.model, e.temperature, e.max_tokens, prompt, variant]).encode()).hexdigest()
    body = json.dumps({"model": e.model, "messages": [{"role": "user", "content": prompt}], "temperature": e.temperature,
                       "max_tokens": e.max_tokens}).encode()
    async with turns:
      self.asked += 1
      found = self._cache.get(key)
      if found is None:
        self._spend()
        try:
          reply, tokens = await self._tried(http, body, random.Random(key))
        except _Failed as failure:
          self._count(failure.reason)
          return None
        self._tokens += tokens
        self._cache.put(key, reply, tokens)
        found = (reply,)
      if found[0] is None:
        self._count("cut")
      return found[0]

  def _count(self, reason: str) -> None:
    self.failures[reason] += 1
    if self.asked >= _FEW and self.failures.total() > self.endpoint.max_failed * self.asked:
      raise InputError("Endpoint.max_failed", f"{self.failures.total()} of {self.asked} prompts have no usable reply: "
                       + ", ".join(f"{reason} {count}" for reason, count in sorted(self.failures.items())),
                       "Mend the server or the prompts, or raise it; what was answered is in the cache.")

  def _spend(self) -> None:
    """Takes one request from the budget."""
    e = self.endpoint
    for name, spent, limit in (("max_requests", self._requests, e.max_requests),
                               ("max_total_tokens", self._tokens, e.max_total_tokens)):
      if limit is not None and spent >= limit:
        raise InputError(f"Endpoint.{name}", f"the budget of {limit} is used up",
                         "Raise it and start again; answers that were paid for are in the cache.")
    self._requests += 1

  async def _tried(self, http: httpx.AsyncClient, body: bytes, jitter: random.Random) -> tuple[str | None, int]:
    """(reply, tokens) of the first try that succeeds."""
    doubled = tenacity.wait_exponential(self.endpoint.first_pause_seconds, max=_LONGEST_PAUSE)

    def pause(state: tenacity.RetryCallState) -> float:
      asked = state.outcome.exception().after
      return min(asked, _LONGEST_PAUSE) if asked is not None else doubled(state) * (0.5 + 0.5 * jitter.random())

    tries = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(self.endpoint.retries + 1), wait=pause, reraise=True,
                                   retry=tenacity.retry_if_exception(lambda error: getattr(error, "passes", False)))
    return await tries(self._once, http, body)

  async def _once(self, http: httpx.AsyncClient, body: bytes) -> tuple[str | None, int]:
    try:
      async with asyncio.timeout(self.endpoint.timeout_seconds):
        async with http.stream("POST", f"{self.endpoint.url.rstrip('/')}/chat/completions", content=body,
                               headers={"Content-Type": "application/json"}) as response:
          if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _Failed("garbage")  # not what was asked for, and it may be a bomb
          received = bytearray()
          async for chunk in response.aiter_raw():
            received += chunk
            if len(received) > _LONGEST_BODY:
              raise _Failed("too_long")
    except (TimeoutError, httpx.TimeoutException):
      raise _Failed("timed_out") from None
    except httpx.ConnectError:
      raise _Failed("unreachable") from None
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL):
      raise _Failed("broken") from None
    return self._read(response, bytes(received))

  def _read(self, response: httpx.Response, body: bytes) -> tuple[str | None, int]:
    """(reply, tokens) of an answer; the reply is None where it was cut at the token limit."""
    status = response.status_code
    if status in (408, 429) or status >= 500:
      raise _Failed("rate_limited" if status == 429 else "server_error", _seconds(response.headers.get("Retry-After", "")))
    if 300 <= status < 400:
      target = re.sub(r"[?#].*", "", self._masked(response.headers.get("Location", "nowhere")))
      raise InputError(f"Endpoint.url {self.endpoint.url}", f"the server answers {status}: go to {target!r:.200}",
                       "Give the url where the model is; redirects are not followed, for they would take the key along.")
    if status in _WRONG_SETTINGS:
      raise InputError(f"Endpoint.url {self.endpoint.url}", f"the server answers {status}: {self._said(body)}",
                       "Correct url, model or key.")
    if status != 200:
      raise _Failed("refused", passes=False)
    try:
      answer = json.loads(body)
      choice = answer["choices"][0]
      reply, usage = choice["message"]["content"], answer.get("usage")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
      raise _Failed("garbage") from None
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else 0
    tokens = tokens if isinstance(tokens, int) and 0 <= tokens <= _MOST_TOKENS else 0
    if choice.get("finish_reason") == "length":
      return None, tokens
    if not isinstance(reply, str) or not reply.strip():
      raise _Failed("empty")
    return self._masked(reply.encode("utf-16", "surrogatepass").decode("utf-16", "replace")), tokens

  def _said(self, body: bytes) -> str:
    """The beginning of an answer, on one line."""
    return re.sub(r"[^\S ]+|[\x00-\x1f\x7f-\x9f]+", " ", self._masked(body[:4_000].decode(errors="replace")))[:300]

  def _masked(self, text: str) -> str:
    """The text without the key, or a part of eight characters of it, however a server echoes it."""
    if not self._key:
      return text
    for form in (self._key, base64.b64encode(self._key.encode()).decode(), urllib.parse.quote(self._key, "")):
      if len(form) >= 8:
        parts = "|".join(sorted({re.escape(form[i:i + 8]) for i in range(len(form) - 7)}))
        shown, hidden = list(text), 0
        for found in re.finditer(f"(?={parts})", text):  # parts may overlap
          start, end = max(found.start(), hidden), found.start() + 8
          shown[start:end], hidden = "*" * (end - start), end
        text = "".join(shown)
    return text


def _seconds(after: str) -> float | None:
  """What a Retry-After header asks for: seconds or a date; None for anything else."""
  if re.fullmatch(r"[0-9]{1,6}", after):
    return float(after)
  try:
    seconds = parsedate_to_datetime(after).timestamp() - time.time()
  except (ValueError, TypeError, OverflowError, IndexError):
    return None
  return max(0.0, seconds) if math.isfinite(seconds) else None


class _Failed(Exception):
  """A try without a usable reply. after: seconds that the server asks to wait. passes: whether another try may succeed."""

  def __init__(self, reason: str, after: float | None = None, passes: bool = True):
    super().__init__(reason)
    self.reason, self.after, self.passes = reason, after, passes
