"""Responses of a loaded model: `sample` for all of them, `Speaker` for one after another or as they grow."""
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np

from r1jax.errors import InputError
from r1jax.hub.model import Model
from r1jax.records import Piece, Request
from r1jax.sampling.choice import Sampling
from r1jax.sampling.sampler import Decoding, Sampler
from r1jax.serving.text import TextStream
from r1jax.sharding import batch_parts

PAPER = Sampling(temperature=0.6, top_p=0.95)  # how R1 is evaluated: arXiv 2501.12948v2, appendix D.1
TOGETHER = Decoding()
STREAMED = Decoding(segment=8)  # text appears eight tokens at a time


@dataclass(frozen=True)
class Response:
  """What a model answered. text: without the stop token. tokens: [R] int32, with it; logprobs: [R] float32, of the
  distribution that was sampled from (greedy: of the model's own). stopped: it ended by a stop token, and was not cut."""

  number: int  # of its question
  sample: int  # its number among the samples of the question
  text: str
  tokens: np.ndarray
  logprobs: np.ndarray
  stopped: bool


@dataclass(frozen=True)
class Growth:
  """What a response has grown by: text, tokens and logprobs as of Response. response: the whole, once it has ended."""

  number: int
  sample: int
  text: str
  tokens: np.ndarray
  logprobs: np.ndarray
  response: Response | None


@dataclass(frozen=True)
class Speaker:
  """A model ready to answer: its weights laid out for decoding, which takes their memory once more."""

  model: Model
  sampling: Sampling = PAPER
  decoding: Decoding = TOGETHER
  seed: int = 0

  @cached_property
  def sampler(self) -> Sampler:
    """The sampler of the model; InputError for a decoding that its devices cannot share."""
    parts = batch_parts(self.model.mesh)
    slots = -(-self.decoding.slots // parts) * parts  # rounded up, as nobody counts devices before asking a question
    return Sampler(self.model.config, self.model.compute, self.model.mesh, self.sampling, self.model.tokenizer.stop_ids,
                   replace(self.decoding, slots=slots))

  @cached_property
  def weights(self) -> Any:
    """The parameters laid out for decoding."""
    with jax.set_mesh(self.model.mesh):
      return self.sampler.weights(self.model.params)

  def requests(self, prompts: Sequence[tuple[int, ...]], samples: int = 1, max_new: int | None = None,
               first: int = 0) -> list[Request]:
    """A request for each sample of each prompt; its random numbers depend on (seed, number of the prompt, sample) alone.

    max_new: most tokens of a response; None, or more than fit: as many as the model can take behind the prompt. first: the
    number of the first prompt. InputError for a prompt that leaves no room for an answer.
    """
    for name, value in (("samples", samples), ("max_new", max_new)):
      if value is not None and value < 1:
        raise InputError(name, value, "It must be at least 1.")
    context = self.model.context
    for number, prompt in enumerate(prompts, first):
      if len(prompt) >= context:
        raise InputError(f"question {number + 1}", f"its prompt has {len(prompt)} tokens",
                         f"The model takes {context}, prompt and answer together: shorten the question.")
    return [Request(number, sample, prompt, min(max_new or context, context - len(prompt)))
            for number, prompt in enumerate(prompts, first) for sample in range(samples)]

  def stream(self, requests: Sequence[Request]) -> Iterator[Growth]:
    """The growth of all responses, as it is sampled, in any order."""
    texts = {(r.question_id, r.sample): TextStream(self.model.tokenizer) for r in requests}
    weights = self.weights
    with jax.set_mesh(self.model.mesh):
      pieces = self.sampler.session(weights, jax.random.key(self.seed), requests).pieces()
    while True:
      with jax.set_mesh(self.model.mesh):  # not around a yield: whoever reads the stream may have a mesh of its own
        some = next(pieces, None)
      if some is None:
        return
      for piece in some:
        yield _growth(piece, texts[piece.request.question_id, piece.request.sample])


def _growth(piece: Piece, stream: TextStream) -> Growth:
  number, sample, ended = piece.request.question_id, piece.request.sample, piece.episode
  text, response = stream.add(piece.tokens[:-1] if ended and ended.stopped else piece.tokens), None
  if ended:
    text += stream.end()
    response = Response(number, sample, stream.text, ended.tokens, ended.logprobs, ended.stopped)
  return Growth(number, sample, text, piece.tokens, piece.logprobs, response)


def sample(model: Model, questions: str | Iterable[str], samples: int = 1, sampling: Sampling = PAPER,
           max_new: int | None = None, seed: int = 0, decoding: Decoding = TOGETHER) -> list[Response]:
  """The responses of a model to one question or several, question by question, `samples` to each.

  The same seed gives the same responses. Raises InputError for a question that is too long, or with a word that the model's
  tokenizer lacks, before anything is compiled.
  """
  speaker = Speaker(model, sampling, decoding, seed)
  asked = [questions] if isinstance(questions, str) else list(questions)
  requests = speaker.requests([model.prompt(question) for question in asked], samples, max_new)
  responses = [growth.response for growth in speaker.stream(requests) if growth.response]
  return sorted(responses, key=lambda response: (response.number, response.sample))
