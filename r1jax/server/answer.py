"""The answer to a request: its choices as they grow, put together at the end or sent as events."""
import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from starlette.responses import StreamingResponse

from r1jax.data.tokenizer import Tokenizer
from r1jax.server import replies
from r1jax.server.asked import Asked, Refused
from r1jax.server.choices import Choice
from r1jax.server.engine import Ask, Busy, Engine, Score, Stopped
from r1jax.server.scoring import Scored
from r1jax.serving.text import TextStream, Thoughts

STOPPING = Refused(503, "The server is shutting down.", code="shutting_down")


@dataclass(frozen=True)
class Question:
  """A prompt and the responses to be sampled to it, none where only the prompt is scored. text: of the prompt, as it was
  given; inside: the responses begin in a thought."""

  text: str
  prompt: tuple[int, ...]
  asks: list[Ask]
  inside: bool


@dataclass
class _Line:
  """A choice of the reply with what belongs to it."""

  question: Question
  choice: Choice
  thoughts: Thoughts | None


class Answer:
  """Asks the engine, and hears of it. Refused where the engine takes nothing. Close it, whatever happens."""

  def __init__(self, engine: Engine, tokenizer: Tokenizer, asked: Asked, questions: list[Question], about: dict,
               counts: Counter):
    self.engine, self.tokenizer, self.asked, self.about, self.counts = engine, tokenizer, asked, about, counts
    self.chat = bool(asked.messages)
    self.lines = [_Line(question, Choice(tokenizer, asked.stops), Thoughts(question.inside) if self.chat else None)
                  for question in questions for _ in range(asked.n)]
    self.prompt_tokens = sum(len(question.prompt) for question in questions)
    self._heard: asyncio.Queue = asyncio.Queue()
    asks = [ask for question in questions for ask in question.asks]
    self._index = {id(ask): number for number, ask in enumerate(asks)}
    self._open: dict[int, Ask | Score] = {}
    if asks:
      self._submit(asks)
    else:
      for line in self.lines:
        line.choice.finish = "length"  # of no tokens
    counts["prompt_tokens"] += self.prompt_tokens

  def _submit(self, jobs: list) -> None:
    loop = asyncio.get_running_loop()

    def hear(job, what) -> None:
      with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
        loop.call_soon_threadsafe(self._heard.put_nowait, (job, what))

    try:
      self.engine.submit(jobs, hear)
    except Busy:
      raise Refused(429, "The queue is full: try again.", code="queue_full") from None
    except Stopped:
      raise STOPPING from None
    self._open.update((id(job), job) for job in jobs)

  def close(self) -> None:
    """Cancels what has not ended."""
    self.counts["cancelled"] += len(self._open)
    self.engine.cancel(list(self._open.values()))
    self._open = {}

  async def _next(self):
    """(job, piece or scores) that the engine tells next."""
    job, what = await self._heard.get()
    if isinstance(what, Stopped):
      raise STOPPING
    if isinstance(what, Exception):
      raise Refused(500, "The model has failed on this batch; the server's log says how.")
    return job, what

  async def _growths(self) -> AsyncIterator[tuple[int, str]]:
    """(number of a choice, text that it grows by) until all have ended; the text may be empty."""
    while self._open:
      job, piece = await self._next()
      if id(job) not in self._open:
        continue  # ended by a stop text, and this was under way
      number = self._index[id(job)]
      choice = self.lines[number].choice
      text = choice.add(piece)
      if choice.finish:
        del self._open[id(job)]
        self.counts["sampled"] += choice.sampled
        if piece.episode is None:
          self.engine.cancel([job])
      yield number, text

  async def _logprobs(self, line: _Line) -> dict | None:
    """The log-probs of a choice that has ended."""
    if self.asked.logprobs is None:
      return None
    prompt, choice = line.question.prompt, line.choice
    job = Score((*prompt, *choice.tokens), self.asked.logprobs)
    self._submit([job])
    _, scored = await self._next()
    del self._open[id(job)]
    if self.chat:
      return replies.chat_logprobs(self.tokenizer, choice.tokens, scored, len(prompt))
    return self._of_completion(line, scored)

  def _of_completion(self, line: _Line, scored: Scored) -> dict:
    prompt, choice = line.question.prompt, line.choice
    if not self.asked.echo:
      return replies.completion_logprobs(self.tokenizer, choice.tokens, choice.offsets, scored, len(prompt), None)
    stream, offsets = TextStream(self.tokenizer), []
    for token in prompt:
      offsets.append(len(stream.text))
      stream.add([token])
    stream.end()
    before = len(line.question.text)
    ahead = len(stream.text) - before  # what the tokens have in front of the text: the beginning-of-text token
    offsets = [max(0, offset - ahead) for offset in offsets] + [before + offset for offset in choice.offsets]
    return replies.completion_logprobs(self.tokenizer, [*prompt, *choice.tokens], offsets, scored, 0, 0)

  def _echo(self, line: _Line) -> str:
    return line.question.text if self.asked.echo else ""

  def _parts(self, line: _Line, text: str, end: bool) -> list[tuple[bool, str]]:
    if line.thoughts is None:
      return [(False, text)]
    return line.thoughts.add(text) + (line.thoughts.end() if end else [])

  def _usage(self) -> dict:
    return replies.usage(self.prompt_tokens, sum(line.choice.sampled for line in self.lines))

  async def whole(self) -> dict:
    """The reply. Refused if the engine stops or fails."""
    async for _ in self._growths():
      pass
    choices = []
    for number, line in enumerate(self.lines):
      parts = self._parts(line, self._echo(line) + line.choice.text, end=True)
      choices.append(replies.choice(self.chat, False, number, parts, await self._logprobs(line), line.choice.finish))
    return {**replies.head(self.about, self.chat, False), "choices": choices, "usage": self._usage()}

  async def events(self) -> AsyncIterator[str]:
    """The reply as server-sent events. Log-probs are known at the end: with them, every choice comes whole, at the end."""
    try:
      async for chunk in self._chunks():
        yield replies.event(chunk)
    except Refused as refused:
      yield replies.event(replies.error(refused))
      return
    yield replies.event("[DONE]")

  async def _chunks(self) -> AsyncIterator[dict]:
    about, asked = replies.head(self.about, self.chat, True), self.asked
    if asked.usage:
      about["usage"] = None

    def chunk(number, parts, logprobs=None, finish=None, **more):
      made = replies.choice(self.chat, True, number, parts, logprobs, finish)
      if self.chat:
        made["delta"] = {**more, **made["delta"]}
      return {**about, "choices": [made]}

    if self.chat:
      for number in range(len(self.lines)):
        yield chunk(number, [], role="assistant", content="")
    async for each in self._live(chunk) if asked.logprobs is None else self._at_the_end(chunk):
      yield each
    if asked.usage:
      yield {**about, "choices": [], "usage": self._usage()}

  async def _live(self, chunk) -> AsyncIterator[dict]:
    for number, line in enumerate(self.lines):
      if prompt := self._echo(line):
        yield chunk(number, [(False, prompt)])
      if line.choice.finish:  # nothing is sampled
        yield chunk(number, [], finish=line.choice.finish)
    async for number, text in self._growths():
      line = self.lines[number]
      parts = [part for part in self._parts(line, text, end=bool(line.choice.finish)) if part[1]]
      if parts:
        yield chunk(number, parts)
      if line.choice.finish:
        yield chunk(number, [], finish=line.choice.finish)

  async def _at_the_end(self, chunk) -> AsyncIterator[dict]:
    async for _ in self._growths():
      pass
    for number, line in enumerate(self.lines):
      parts = self._parts(line, self._echo(line) + line.choice.text, end=True)
      yield chunk(number, parts, await self._logprobs(line), line.choice.finish)


class EventStream(StreamingResponse):
  """Sends an answer's events. A client that takes nothing for idle_seconds is given up; what it asked for ends with it."""

  def __init__(self, answer: Answer, idle_seconds: float):
    super().__init__(answer.events(), media_type="text/event-stream",
                     headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
    self.answer, self.idle_seconds = answer, idle_seconds

  async def __call__(self, scope, receive, send) -> None:
    async def patient(message) -> None:
      async with asyncio.timeout(self.idle_seconds):
        await send(message)

    try:
      await super().__call__(scope, receive, patient)
    except TimeoutError:
      self.answer.counts["stalled"] += 1  # the server closes a connection whose reply is not complete
    finally:
      self.answer.close()
