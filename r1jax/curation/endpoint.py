"""Another model through an OpenAI-style HTTP endpoint: retries, a cache on disk, a budget.

An answered request is kept in FOLDER/endpoint.sqlite and never paid for twice, whatever kills the run.
"""
import hashlib
import json
import os
import random
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from r1jax.errors import InputError

_LONGEST_PAUSE = 60.0  # seconds between two tries


@dataclass(frozen=True)
class Endpoint:
  """A model behind POST {url}/chat/completions.

  key_variable: the environment variable that holds the key, None where none is needed; keys do not belong into configs.
  retries: tries after the first, on time-outs, lost connections, 408, 429 and 5xx, each after twice the pause, or after what
  the server asks for. parallel: requests at a time. max_requests, max_total_tokens: the budget, over all runs that share the
  cache; max_total_tokens counts what the server reports.
  """

  url: str
  model: str
  key_variable: str | None = None
  temperature: float = 0.0
  max_tokens: int = 4_096
  timeout_seconds: float = 120.0
  retries: int = 5
  first_pause_seconds: float = 1.0
  parallel: int = 8
  max_requests: int = 100_000
  max_total_tokens: int | None = None

  def __post_init__(self):
    if not self.url.startswith(("http://", "https://")):
      raise InputError("Endpoint.url", repr(self.url), "Give http://... or https://..., up to and with /v1.")
    for name in ("max_tokens", "timeout_seconds", "parallel", "max_requests"):
      if getattr(self, name) <= 0:
        raise InputError(f"Endpoint.{name}", getattr(self, name), "It must be greater than 0.")
    for name in ("retries", "first_pause_seconds", "temperature"):
      if getattr(self, name) < 0:
        raise InputError(f"Endpoint.{name}", getattr(self, name), "It must not be negative.")

  @contextmanager
  def connect(self, folder: Path) -> Iterator["Client"]:
    """A client whose cache is in `folder`. InputError if the key is missing."""
    key = None if self.key_variable is None else os.environ.get(self.key_variable)
    if self.key_variable is not None and not key:
      raise InputError("Endpoint.key_variable", f"the environment has no {self.key_variable}", "Export it, or name another.")
    client = Client(self, key, Path(folder))
    try:
      yield client
    finally:
      client.close()


class Client:
  """Asks an endpoint. failures: requests without a usable reply after all tries, by reason."""

  def __init__(self, endpoint: Endpoint, key: str | None, folder: Path):
    self.endpoint, self.failures = endpoint, Counter()
    self._key, self._lock = key, threading.Lock()
    folder.mkdir(parents=True, exist_ok=True)
    self._cache = sqlite3.connect(folder / "endpoint.sqlite", check_same_thread=False)
    self._cache.execute("create table if not exists replies (key text primary key, reply text, tokens integer)")
    self._requests, self._tokens = self._cache.execute("select count(*), coalesce(sum(tokens), 0) from replies").fetchone()

  def close(self) -> None:
    """Closes the cache."""
    self._cache.close()

  def ask_all(self, prompts: Sequence[str], variants: Sequence[int] | None = None) -> list[str | None]:
    """The replies in order, None where there was no usable one.

    variants: numbers that tell apart requests with the same prompt, which are then asked each for itself.

    Raises:
      InputError: the server refuses (another 4xx), or the budget is used up; what was answered stays in the cache.
    """
    with ThreadPoolExecutor(self.endpoint.parallel) as threads:
      return list(threads.map(self._ask, prompts, variants or [0] * len(prompts)))

  def _ask(self, prompt: str, variant: int) -> str | None:
    e = self.endpoint
    key = hashlib.sha256(json.dumps([e.url, e.model, e.temperature, e.max_tokens, prompt, variant]).encode()).hexdigest()
    with self._lock:
      found = self._cache.execute("select reply from replies where key = ?", (key,)).fetchone()
      if found:
        return found[0]
      self._spend()
    body = {"model": e.model, "messages": [{"role": "user", "content": prompt}], "temperature": e.temperature,
            "max_tokens": e.max_tokens}
    try:
      reply, tokens = self._tried(json.dumps(body).encode(), random.Random(key))
    except _Failed as failure:
      with self._lock:
        self.failures[failure.args[0]] += 1
      return None
    with self._lock:
      self._tokens += tokens
      self._cache.execute("insert or replace into replies values (?, ?, ?)", (key, reply, tokens))
      self._cache.commit()
    return reply

  def _spend(self) -> None:
    """Takes one request from the budget."""
    e = self.endpoint
    for name, spent, limit in (("max_requests", self._requests, e.max_requests),
                               ("max_total_tokens", self._tokens, e.max_total_tokens)):
      if limit is not None and spent >= limit:
        raise InputError(f"Endpoint.{name}", f"the budget of {limit} is used up",
                         "Raise it and start again; answers that were paid for are in the cache.")
    self._requests += 1

  def _tried(self, body: bytes, jitter: random.Random) -> tuple[str, int]:
    """(reply, tokens) of the first try that succeeds."""
    pause = self.endpoint.first_pause_seconds
    for _ in range(self.endpoint.retries):
      try:
        return self._once(body)
      except _Failed as failure:
        _, asked = failure.args
        time.sleep(min(asked if asked is not None else pause * (0.5 + jitter.random()), _LONGEST_PAUSE))
        pause *= 2
    return self._once(body)

  def _once(self, body: bytes) -> tuple[str, int]:
    e = self.endpoint
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {self._key}"} if self._key else {})}
    request = urllib.request.Request(f"{e.url.rstrip('/')}/chat/completions", body, headers)
    try:
      with urllib.request.urlopen(request, timeout=e.timeout_seconds) as response:
        answer = json.load(response)
      reply = answer["choices"][0]["message"]["content"]
      if not isinstance(reply, str) or not reply.strip():
        raise _Failed("empty", None)
      return reply, int((answer.get("usage") or {}).get("total_tokens") or 0)
    except urllib.error.HTTPError as error:
      if error.code not in (408, 429) and error.code < 500:
        said = error.read(300).decode(errors="replace")
        raise InputError(f"Endpoint.url {e.url}", f"the server answers {error.code}: {said}",
                         "Correct url, model or key.") from None
      after = error.headers.get("Retry-After", "")
      reason = "rate_limited" if error.code == 429 else "server_error"
      raise _Failed(reason, float(after) if after.isdigit() else None) from None
    except TimeoutError:
      raise _Failed("timed_out", None) from None
    except (urllib.error.URLError, ConnectionError) as error:
      timed_out = isinstance(getattr(error, "reason", None), TimeoutError)
      raise _Failed("timed_out" if timed_out else "unreachable", None) from None
    except (ValueError, KeyError, IndexError, TypeError):
      raise _Failed("garbage", None) from None


class _Failed(Exception):
  """(reason, seconds that the server asks to wait or None) of a try that may succeed later."""
