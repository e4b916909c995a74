"""A tiny random model behind a live server, for tests that ask it over HTTP."""
import socket
import threading
import time
from contextlib import contextmanager

from asked_model import write_model
from tiny import one_device

from r1jax.hub import load
from r1jax.sampling.sampler import Decoding
from r1jax.server.app import Limits, Service
from r1jax.server.engine import Engine
from r1jax.server.run import Server, bind
from r1jax.serving.responses import PAPER, Speaker

KEY = "a key for the tests"
LIMITS = Limits(body=50_000, requests=700)
HEADERS = {"Authorization": f"Bearer {KEY}"}


def speaker_of(folder) -> Speaker:
  return Speaker(load(write_model(folder / "words"), mesh=one_device()), PAPER,
                 Decoding(slots=4, segment=4, prefill_rows=1))


@contextmanager
def live(speaker: Speaker, most: int = 600, limits: Limits = LIMITS, grace: float = 60):
  """(address, service, server) of a server that listens while the context is open."""
  service = Service(speaker.model, Engine(speaker, most, speaker.model.context), "words", PAPER, KEY, limits)
  listener = bind("127.0.0.1", 0)
  server = Server(service, grace)
  thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
  thread.start()
  until(lambda: server.started)
  try:
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", service, server
  finally:
    server.should_exit = True
    thread.join()
    listener.close()


def until(true, seconds: float = 120) -> None:
  """Waits for something to come true."""
  end = time.time() + seconds
  while not true():
    assert time.time() < end, "it has not come true"
    time.sleep(0.01)


def send(address: str, body: bytes, length: int | None = None, path: str = "/v1/completions") -> socket.socket:
  """A connection over which a request has been sent. length: the Content-Length that it claims (default: the body's)."""
  host, port = address.removeprefix("http://").split(":")
  found = socket.create_connection((host, int(port)), timeout=120)
  found.sendall(f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n"
                f"Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body)
  return found
