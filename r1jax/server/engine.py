"""One thread that owns the device: requests join the batch that is running, and hear what they grow by.

The thread has a session of the sampler as long as anything is being sampled, and none while nobody asks, so an idle server
holds no cache. Prompts are scored between two segments of the batch.
"""
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax

from r1jax.records import Piece, Request
from r1jax.sampling.choice import Sampling
from r1jax.sampling.sampler import Session
from r1jax.server.scoring import Scored, score
from r1jax.serving.responses import Speaker

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ask(Request):
  """A response to be sampled, with a sampling of its own."""

  sampling: Sampling


@dataclass(frozen=True)
class Score:
  """Tokens whose log-probs are wanted, and at each place those of the `likeliest` likeliest tokens."""

  tokens: tuple[int, ...]
  likeliest: int


class Busy(Exception):
  """As many jobs as may wait are waiting already."""


class Stopped(Exception):
  """The engine was stopped before the job was done."""


Job = Ask | Score  # told apart by identity: two people may ask the same
Heard = Callable[[Job, Piece | Scored | Exception], None]


class Engine:
  """Runs jobs. most: how many may be in it at a time, those being sampled among them; longest: most tokens of a prompt and
  its response together."""

  def __init__(self, speaker: Speaker, most: int, longest: int):
    self.speaker, self.most, self.longest = speaker, most, longest
    self._jobs: dict[int, tuple[Job, Heard]] = {}  # by id, until they are done
    self._inbox: queue.SimpleQueue[Callable[[Session], None]] = queue.SimpleQueue()
    self._stopped = threading.Event()
    self._session: Session | None = None
    self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

  def start(self) -> None:
    """Starts the thread, if it has not been started."""
    if self._thread.ident is None:
      self._thread.start()

  def warm(self) -> None:
    """Samples two tokens, so that the first client does not wait for the programs of a small batch to be compiled."""
    self.start()
    told: queue.SimpleQueue = queue.SimpleQueue()
    prompt = (self.speaker.model.tokenizer.stop_ids[0],) * 2
    self.submit([Ask(0, 0, prompt[:self.longest - 1], 1, self.speaker.sampling)], lambda job, what: told.put(what))
    if isinstance(found := told.get(), Exception):
      raise found

  def stop(self) -> None:
    """Ends the thread after the segment that is running; jobs that are not done hear Stopped."""
    self._stopped.set()
    self._inbox.put(lambda session: None)  # wakes it
    if self._thread.ident is not None:
      self._thread.join()

  def submit(self, jobs: Sequence[Job], heard: Heard) -> None:
    """Hands over jobs, all or none. Busy if they are more than there is room for, Stopped after `stop`.

    heard: called from the engine's thread: of an Ask with every Piece, the last of which has the episode; of a Score with a
    Scored; of a job that came to nothing with the exception. Call from one thread alone, as `cancel`.
    """
    if self._stopped.is_set():
      raise Stopped
    asks = sum(isinstance(job, Ask) for job in jobs)
    if asks and len(self._jobs) + asks > self.most:  # scores are of responses that have had their turn
      raise Busy
    self._jobs.update((id(job), (job, heard)) for job in jobs)
    if self._stopped.is_set():  # meanwhile: the thread may have told all others already
      self.cancel(jobs)
      raise Stopped
    self._inbox.put(lambda session: self._join(session, jobs))

  def cancel(self, jobs: Sequence[Job]) -> None:
    """Forgets jobs; nothing more is heard of them. Those that are done may be among them."""
    gone = [job for job in jobs if self._jobs.pop(id(job), None)]
    asks = [job for job in gone if isinstance(job, Ask)]
    if asks:
      self._inbox.put(lambda session: [session.cancel(ask) for ask in asks])

  @property
  def alive(self) -> bool:
    return self._thread.is_alive() and not self._stopped.is_set()

  def counts(self) -> dict[str, int]:
    """How many responses are being sampled, how many jobs wait, and how many slots the batch has now."""
    session = self._session
    sequences = list(session.sequences) if session else []
    running = sum(sequence is not None for sequence in sequences)
    return {"running": running, "waiting": max(0, len(self._jobs) - running), "slots": len(sequences)}

  # ---- in the thread

  def _work(self) -> None:
    with jax.set_mesh(self.speaker.model.mesh):
      while not self._stopped.is_set():
        command = self._inbox.get()
        try:
          self._run(command)
        except Exception as error:  # of the device: whoever is in the batch has to be told, and the next batch may work
          LOG.exception("the batch has failed")
          self._fail(error)
        self._session = None
    self._fail(Stopped())

  def _run(self, command: Callable[[Session], None]) -> None:
    """A session from the first command on until nothing is left in it."""
    speaker = self.speaker
    session = self._session = speaker.sampler.open(speaker.weights, jax.random.key(speaker.seed), self.longest,
                                                   sampling_of=lambda ask: ask.sampling)
    command(session)
    while self._obey(session) and (session.queue or any(session.sequences)):
      for pieces in session.pieces():
        for piece in pieces:
          self._tell(piece.request, piece, done=piece.episode is not None)
        if not self._obey(session):
          return

  def _obey(self, session: Session) -> bool:
    """Carries out what has been asked meanwhile; False when the engine is to stop."""
    while not self._stopped.is_set():
      try:
        command = self._inbox.get_nowait()
      except queue.Empty:
        return True
      command(session)
    return False

  def _join(self, session: Session, jobs: Sequence[Job]) -> None:
    for job in jobs:
      if id(job) not in self._jobs:
        continue  # cancelled before it began
      if isinstance(job, Ask):
        session.add([job])
      elif not self._stopped.is_set():
        self._tell(job, score(self.speaker.model, job.tokens, job.likeliest), done=True)

  def _tell(self, job: Job, what: Piece | Scored | Exception, done: bool) -> None:
    _, heard = (self._jobs.pop if done else self._jobs.get)(id(job), (None, None))
    if heard is not None:
      heard(job, what)

  def _fail(self, error: Exception) -> None:
    for job, _ in list(self._jobs.values()):
      self._tell(job, error, done=True)
