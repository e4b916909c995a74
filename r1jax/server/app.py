"""The HTTP side: who may ask, how much, and what is answered. Nothing here touches the device."""
import asyncio
import hmac
import itertools
import json
import secrets
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from r1jax.data.prompts import prompt_ids
from r1jax.data.templates import PLACE, Template
from r1jax.errors import InputError
from r1jax.hub.model import Model
from r1jax.sampling.choice import Sampling
from r1jax.server.answer import STOPPING, Answer, EventStream, Question
from r1jax.server.asked import Asked, Refused, read
from r1jax.server.engine import Ask, Engine
from r1jax.server.replies import error
from r1jax.serving.text import starts_inside

TOKENIZERS = 2  # prompts that are turned into tokens at a time: a megabyte takes 100 MB and more while it is


@dataclass(frozen=True)
class Limits:
  """What a client may ask for. body: bytes of a request; body_seconds: time for it to arrive; idle_seconds: how long a
  reader of a stream may take nothing before it is given up; requests: how many are dealt with at a time."""

  body: int = 2_000_000
  body_seconds: float = 60.0
  idle_seconds: float = 120.0
  requests: int = 512


@dataclass
class Service:
  """A model as it is served. name: what clients call it; key: what they have to show, None for nothing. sampling: of
  requests that name none. stopping: nothing new is taken."""

  model: Model
  engine: Engine
  name: str
  sampling: Sampling
  key: str | None = None
  limits: Limits = Limits()
  stopping: bool = False
  started: float = field(default_factory=time.time)
  counts: Counter = field(default_factory=Counter)  # replies by status, tokens, requests in hand

  def __post_init__(self):
    self.tokenizing = asyncio.Semaphore(TOKENIZERS)

  def prompt_of(self, asked: Asked, prompt: str | tuple[int, ...] | None) -> tuple[int, ...]:
    """The ids of a prompt, or of the conversation; Refused for one that cannot be read."""
    size = self.model.tokenizer.vocab_size
    if isinstance(prompt, tuple):
      if not all(0 <= token < size for token in prompt):
        raise Refused(400, f"prompt has an id that is no token of this model; they are 0 to {size - 1}.", "prompt")
      return prompt
    try:
      if prompt is None:
        return self.model.conversation(asked.messages)
      return tuple(prompt_ids("", Template(PLACE, prefill=prompt), self.model.tokenizer))
    except InputError as wrong:
      raise Refused(400, str(wrong), "messages" if prompt is None else "prompt") from None

  def question(self, asked: Asked, given: str | tuple[int, ...] | None, base: int) -> Question:
    """A prompt with its requests; base: what their random numbers are made of. Refused where they would not fit."""
    prompt, tokenizer = self.prompt_of(asked, given), self.model.tokenizer
    room, wanted = self.engine.longest - len(prompt), asked.max_tokens
    if room < max(1, wanted or 1):
      where = "messages" if asked.messages else "prompt"
      more = f", and {wanted} are asked for in the completion" if wanted else ""
      raise Refused(400, f"This model's maximum context length is {self.engine.longest} tokens. There are {len(prompt)} in "
                    f"the {where}{more}.", where, "context_length_exceeded")
    asks = [Ask(base, sample, prompt, room if wanted is None else wanted, asked.sampling)
            for sample in range(asked.n)] if wanted != 0 else []
    inside = bool(asked.messages) and starts_inside(tokenizer.decode(prompt[-16:]))
    text = given if isinstance(given, str) else tokenizer.decode(prompt) if asked.echo else ""
    return Question(text, prompt, asks, inside)


async def _body(request: Request, limits: Limits) -> dict:
  """The body as JSON; Refused where it is too large, too slow or broken."""
  found = bytearray()
  try:
    async with asyncio.timeout(limits.body_seconds):
      async for part in request.stream():
        found += part
        if len(found) > limits.body:
          raise Refused(413, f"The request is larger than {limits.body} bytes, the most that this server takes.",
                        code="request_too_large")
    body = json.loads(found)
    json.dumps(body, ensure_ascii=False).encode()  # half of a surrogate pair is no text: no tokenizer and no reply takes it
    return body
  except TimeoutError:
    raise Refused(408, f"The request has not arrived within {limits.body_seconds:g} seconds.") from None
  except UnicodeEncodeError:
    raise Refused(400, "The body has half of a surrogate pair in a string: correct it.") from None
  except (ValueError, RecursionError) as wrong:
    raise Refused(400, f"The body is not JSON ({wrong}).") from None


def _check_caller(service: Service, request: Request) -> None:
  given = request.headers.get("authorization", "").removeprefix("Bearer ")
  if service.key is not None and not hmac.compare_digest(given.encode(), service.key.encode()):
    raise Refused(401, "Incorrect API key provided." if given else "You did not provide an API key: send it in the header "
                  "Authorization: Bearer KEY.", code="invalid_api_key")


def _check_model(service: Service, name: str) -> None:
  if name != service.name:
    raise Refused(404, f"The model `{name}` does not exist; this server has `{service.name}`.", "model", "model_not_found")


async def _questions(service: Service, asked: Asked) -> list[Question]:
  """The prompts as tokens, with their requests."""
  base = secrets.randbits(32) if asked.seed is None else zlib.crc32(str(asked.seed).encode())
  found = []
  for number, prompt in enumerate(asked.prompts or (None,)):
    async with service.tokenizing:
      found.append(await run_in_threadpool(service.question, asked, prompt, (base + number) % 2**32))
  if sum(len(question.asks) for question in found) > service.engine.most:
    raise Refused(400, f"The request asks for more than {service.engine.most} completions at once.", "n")
  return found


async def _complete(service: Service, request: Request, chat: bool) -> Response:
  _check_caller(service, request)
  if service.stopping:
    raise STOPPING
  if service.counts["in_hand"] > service.limits.requests:
    raise Refused(429, "Too many requests at once: try again.", code="too_many_requests")
  asked = read(await _body(request, service.limits), chat, service.sampling)
  _check_model(service, asked.model)
  questions = await _questions(service, asked)
  about = {"id": ("chatcmpl-" if chat else "cmpl-") + secrets.token_hex(12), "created": int(time.time()),
           "model": service.name}
  answer = Answer(service.engine, service.model.tokenizer, asked, questions, about, service.counts)
  if asked.stream:
    return EventStream(answer, service.limits.idle_seconds)
  try:
    return JSONResponse(await _unless_gone(request, answer.whole()))
  finally:
    answer.close()


async def _unless_gone(request: Request, work: Awaitable[dict]) -> dict:
  """The result of `work`, which is given up when the client has gone."""
  async def gone() -> None:
    while (await request.receive())["type"] != "http.disconnect":
      pass

  tasks = [asyncio.ensure_future(work), asyncio.ensure_future(gone())]
  try:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    if not tasks[0].done():
      raise ClientDisconnect
    return tasks[0].result()
  finally:
    for task in tasks:
      task.cancel()


def _metrics(service: Service) -> str:
  """In Prometheus's text form."""
  stats, now = service.engine.speaker.sampler.stats, service.engine.counts()
  lines = [f'r1jax_replies_total{{status="{status}"}} {count}' for status, count in sorted(
    (key, value) for key, value in service.counts.items() if isinstance(key, int))]
  gauges = {"requests_in_hand": service.counts["in_hand"], "responses_running": now["running"],
            "jobs_waiting": now["waiting"], "batch_slots": now["slots"],
            "seconds_up": round(time.time() - service.started, 1)}
  totals = {"prompt_tokens_total": service.counts["prompt_tokens"], "completion_tokens_total": service.counts["sampled"],
            "sampler_tokens_total": stats["tokens"], "sampler_slot_steps_total": stats["slot_steps"],
            "sampler_preempted_total": stats["preempted"], "cancelled_total": service.counts["cancelled"],
            "stalled_total": service.counts["stalled"]}
  lines += [f"r1jax_{name} {value}" for name, value in itertools.chain(gauges.items(), totals.items())]
  return "\n".join(lines) + "\n"


class _Counted:
  """Counts the requests of an application: those in hand, and the replies by their status."""

  def __init__(self, app, counts: Counter):
    self.app, self.counts = app, counts

  async def __call__(self, scope, receive, send) -> None:
    async def counted(message) -> None:
      if message["type"] == "http.response.start":
        self.counts[message["status"]] += 1
      await send(message)

    self.counts["in_hand"] += scope["type"] == "http"
    try:
      await self.app(scope, receive, counted)
    finally:
      self.counts["in_hand"] -= scope["type"] == "http"


async def _refuse(request: Request, refused: Exception) -> Response:
  if isinstance(refused, HTTPException):
    refused = Refused(refused.status_code, f"{refused.detail}: {request.method} {request.url.path}")
  headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}, 503: {"Retry-After": "5"}}
  return JSONResponse(error(refused), refused.status, headers.get(refused.status))


async def _gone(request: Request, disconnect: Exception) -> Response:
  return Response(status_code=499)  # nobody reads it; it is counted


async def _broken(request: Request, wrong: Exception) -> Response:
  return JSONResponse(error(Refused(500, "The server has failed; its log says how.")), 500)


def make_app(service: Service):
  """The ASGI application. It starts the engine and stops it."""
  model = {"id": service.name, "object": "model", "created": int(service.started), "owned_by": "r1jax",
           "max_model_len": service.engine.longest}

  async def models(request: Request) -> Response:
    _check_caller(service, request)
    name = request.path_params.get("name")
    if name is None:
      return JSONResponse({"object": "list", "data": [model]})
    _check_model(service, name)
    return JSONResponse(model)

  async def health(request: Request) -> Response:
    alive = not service.stopping and service.engine.alive
    return JSONResponse({"status": "ok" if alive else "stopping"}, 200 if alive else 503)

  async def metrics(request: Request) -> Response:
    return PlainTextResponse(_metrics(service))

  async def completions(request: Request) -> Response:
    return await _complete(service, request, chat=False)

  async def chat_completions(request: Request) -> Response:
    return await _complete(service, request, chat=True)

  @asynccontextmanager
  async def lifespan(app) -> AsyncIterator[None]:
    service.engine.start()
    yield
    await run_in_threadpool(service.engine.stop)

  routes = [Route("/health", health), Route("/metrics", metrics), Route("/v1/models", models),
            Route("/v1/models/{name:path}", models), Route("/v1/completions", completions, methods=["POST"]),
            Route("/v1/chat/completions", chat_completions, methods=["POST"])]
  app = Starlette(routes=routes, lifespan=lifespan,
                  exception_handlers={Refused: _refuse, HTTPException: _refuse, ClientDisconnect: _gone, Exception: _broken})
  return _Counted(app, service.counts)
