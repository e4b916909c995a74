"""The server process: a socket, the application, and an end that lets requests finish."""
import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from r1jax.errors import InputError
from r1jax.server.app import Service, make_app

KEEP_ALIVE_SECONDS = 65  # longer than clients and proxies keep idle connections, or they would send into closed ones


def bind(host: str, port: int) -> socket.socket:
  """A socket for host and port (0: any that is free); nobody can connect until the server listens. InputError if there is
  none."""
  try:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    found = socket.socket(family, kind, protocol)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(address)
  except (OSError, OverflowError) as error:
    raise InputError(f"--host {host}, --port {port}", error, "Name an address of this machine and a free port.") from None
  return found


class Server(uvicorn.Server):
  """A uvicorn server of a Service. Asked to stop, it takes no more requests and gives those in hand `grace` seconds; what is
  still being sampled then is refused. listening: called once clients can connect and signals are heeded."""

  def __init__(self, service: Service, grace: float, listening: Callable[[], None] = lambda: None):
    self.service, self.grace, self.listening = service, grace, listening
    super().__init__(uvicorn.Config(
      make_app(service), lifespan="on", access_log=False, log_level="warning", timeout_keep_alive=KEEP_ALIVE_SECONDS,
      timeout_graceful_shutdown=int(grace) + 10, server_header=False, ws="none"))

  @contextmanager
  def capture_signals(self) -> Iterator[None]:
    """SIGINT and SIGTERM stop the server and are done with: uvicorn's own method raises them once more at the end."""
    if threading.current_thread() is not threading.main_thread():
      yield  # where no signal arrives
      return
    before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
      yield
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)

  async def startup(self, sockets=None) -> None:
    await super().startup(sockets)
    self.listening()

  async def shutdown(self, sockets=None) -> None:
    self.service.stopping = True
    loop = asyncio.get_running_loop()
    late = loop.call_later(self.grace, lambda: loop.run_in_executor(None, self.service.engine.stop))
    try:
      await super().shutdown(sockets)
    finally:
      late.cancel()


def serve(service: Service, listener: socket.socket, grace: float, listening: Callable[[], None]) -> None:
  """Serves until it is interrupted or terminated. grace and listening: as of Server."""
  Server(service, grace, listening).run(sockets=[listener])
