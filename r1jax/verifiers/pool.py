"""Pool of processes that compare answers, each under a deadline that is kept by SIGKILL.

The workers are new interpreters started by exec, never forks of this process: they import
`r1jax.verifiers.worker` and what that needs, so neither jax nor the caller's `__main__` is in them.
"""

import json
import math
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import CancelledError, Future
from pathlib import Path

from r1jax.errors import InputError
from r1jax.verifiers.kinds import kind_of
from r1jax.verifiers.verdict import CRASHED, TIMED_OUT

START_SECONDS = 120.0  # to import the verifiers on a busy machine; ours
START_ATTEMPTS = 3  # ours
CHUNK_BYTES = 1 << 16  # read at once of replies, which are far shorter; ours
# Answers that a worker is given at once: while it compares one, the next is there already. Of kinds that take long, one.
AT_ONCE = 8  # ours
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])


class VerifierPool:
  """Compares answers in `workers` processes, one answer at a time each.

  A worker that passes `timeout_seconds` on an answer, or dies on it, costs that answer (not equal, status
  "timed_out" or "crashed"), is counted and replaced; answers that it had not come to are given to the next one.
  Start-up is not counted against the deadline. A worker is retired after `max_tasks` answers or a few more, because
  caches grow. Workers start when the first answer needs one and die with this process. Safe to call from several
  threads; close it, or use it in a `with`.

  Raises InputError for a number that makes no sense.
  """

  def __init__(self, workers: int = 1, timeout_seconds: float = 5.0, max_tasks: int = 20_000):
    for name, value in (("workers", workers), ("timeout_seconds", timeout_seconds), ("max_tasks", max_tasks)):
      if not 0 < value < math.inf:
        raise InputError(f"VerifierPool.{name}", f"{value!r}", "Give a finite number greater than 0.")
    self.workers, self.timeout_seconds, self.max_tasks = workers, timeout_seconds, max_tasks
    self._tasks: deque[tuple[dict, Future]] = deque()
    self._threads: list[threading.Thread] = []
    self._live: set[_Worker] = set()
    self._lock = threading.Lock()
    self._waiting = threading.Condition(self._lock)  # for tasks, or the end
    self._closed = False
    self._counts = {"checked": 0, TIMED_OUT: 0, CRASHED: 0, "started": 0}

  def submit(self, answer: str, gold: str, kind: str = "maths", question: str = "") -> "Future[tuple[bool, str]]":
    """Future of (right, status), status as in `r1jax.verifiers.verdict`. Raises RuntimeError after close().

    gold: what `r1jax.verifiers.kinds` says of the kind. A kind that needs more than timeout_seconds has its own deadline.
    """
    seconds = max(self.timeout_seconds, kind_of(kind).seconds)
    return self._submit(
      {"op": "judge", "kind": kind, "answer": answer, "gold": gold, "question": question, "seconds": seconds})

  def counts(self) -> dict[str, int]:
    """Since the pool was made: answers checked, of these timed_out and crashed; workers started."""
    with self._lock:
      return dict(self._counts)

  def pids(self) -> list[int]:
    """Process ids of the workers that are alive now."""
    with self._lock:
      return [worker.process.pid for worker in self._live]

  def close(self) -> None:
    """Kills the workers and cancels what they have not finished. Nothing is left running when it returns."""
    with self._lock:
      self._closed = True
      for worker in self._live:
        worker.process.kill()
      self._waiting.notify_all()
    for thread in self._threads:
      thread.join()

  def __enter__(self) -> "VerifierPool":
    return self

  def __exit__(self, *exception) -> None:
    self.close()

  def _submit(self, request: dict) -> Future:
    future: Future = Future()
    with self._lock:
      if self._closed:
        raise RuntimeError("VerifierPool is closed")
      while len(self._threads) < self.workers:
        # The kernel ends a worker with the thread that started it, so that thread stays: one for each worker.
        thread = threading.Thread(target=self._serve, name="verifier", daemon=True)
        try:
          thread.start()
        except RuntimeError as error:  # where threads are limited; then there is none to join
          raise InputError("verifier workers", f"{self.workers}, and no more than {len(self._threads)} start ({error})",
                           "Give fewer (verifier_workers), or raise the limit of processes (ulimit -u).") from None
        self._threads.append(thread)
      self._tasks.append((request, future))
      self._waiting.notify()
    return future

  def _take(self) -> "deque[tuple[dict, Future]]":
    """The next tasks, waited for: one, or, where there are more than the threads can start on, several that are quick; none
    when the pool is closed."""
    taken: deque[tuple[dict, Future]] = deque()
    with self._waiting:
      while not self._tasks and not self._closed:
        self._waiting.wait()
      most = min(AT_ONCE, 1 + len(self._tasks) // self.workers)
      while self._tasks and len(taken) < most and (not taken or self._is_quick(self._tasks[0]) and self._is_quick(taken[0])):
        taken.append(self._tasks.popleft())
    return taken

  def _is_quick(self, task: tuple[dict, Future]) -> bool:
    return task[0].get("seconds", math.inf) <= self.timeout_seconds

  def _serve(self) -> None:
    """The loop of one thread: takes tasks, and owns the worker that does them."""
    worker = None
    try:
      while tasks := self._take():
        while tasks:
          worker = self._do(tasks, worker)
    finally:
      self._retire(worker)

  def _do(self, tasks: "deque[tuple[dict, Future]]", worker: "_Worker | None") -> "_Worker | None":
    """Takes tasks that are done off the front, until all are or the worker is lost; what is left is for the next one. The
    worker, None if it has been retired."""
    if self._closed:
      tasks.popleft()[1].cancel()
      return worker
    running = False
    try:
      if worker is None or not worker.is_usable(self.max_tasks):
        self._retire(worker)
        worker = self._start()
      worker.ask([request for request, _ in tasks])
      while tasks:
        request, future = tasks[0]
        running = future.set_running_or_notify_cancel()
        reply = self._reply(worker, request)
        tasks.popleft()
        if running:
          future.set_result(reply)
        running = False
        if not worker.is_usable(math.inf):
          break
      return worker
    except BaseException as error:  # the caller's result() raises it; the thread serves on
      _, future = tasks.popleft()
      if running or future.set_running_or_notify_cancel():
        future.set_exception(error)
      self._retire(worker)
      return None

  def _reply(self, worker: "_Worker", request: dict):
    try:
      reply = worker.receive(time.monotonic() + request.get("seconds", self.timeout_seconds))
    except (TimeoutError, OSError, EOFError) as error:
      if self._closed:
        raise CancelledError from None
      worker.process.kill()
      worker.process.wait()  # until then it would pass for alive and be given the next answer
      reply = {"equal": False, "status": TIMED_OUT if isinstance(error, TimeoutError) else CRASHED}
    if request["op"] != "judge":
      return reply
    with self._lock:
      self._counts["checked"] += 1
      if reply["status"] in (TIMED_OUT, CRASHED):
        self._counts[reply["status"]] += 1
    return reply["equal"], reply["status"]

  def _start(self) -> "_Worker":
    """A worker that has said it is ready."""
    found: object = None
    for _ in range(START_ATTEMPTS):
      worker = None
      try:
        worker = _Worker()
        with self._lock:
          self._live.add(worker)
          self._counts["started"] += 1
          closed = self._closed
        if not closed:
          worker.receive(time.monotonic() + START_SECONDS)
          return worker
      except (TimeoutError, OSError, EOFError) as error:  # OSError: no more processes, too
        found = error
      self._retire(worker)
      if self._closed:
        raise CancelledError
    raise InputError(
      "answer verifier (python -m r1jax.verifiers.worker)",
      f"does not start: {found}",
      "Its own error is printed above; check that mpmath is installed in this environment.",
    )

  def _retire(self, worker: "_Worker | None") -> None:
    if worker is None:
      return
    worker.process.kill()
    worker.process.wait()
    with self._lock:
      self._live.discard(worker)
    worker.process.stdin.close()
    worker.process.stdout.close()


class _Worker:
  """One process and its two pipes. Every wait has a deadline in `time.monotonic()` seconds."""

  def __init__(self):
    paths = [_PACKAGE_ROOT, os.environ.get("PYTHONPATH", "")]
    self.process = subprocess.Popen(
      # -P: modules of the current directory must not shadow the library's.
      [sys.executable, "-P", "-m", "r1jax.verifiers.worker", str(os.getpid())],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      bufsize=0,
      env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
      start_new_session=True,  # Ctrl-C in the terminal is for the parent alone, from the first moment on
    )
    os.set_blocking(self.process.stdin.fileno(), False)
    os.set_blocking(self.process.stdout.fileno(), False)
    self.tasks = 0
    self._unsent, self._read = b"", b""

  def is_usable(self, max_tasks: int) -> bool:
    return self.tasks < max_tasks and self.process.poll() is None

  def ask(self, requests: list[dict]) -> None:
    """Sends requests, whose replies come in their order. What cannot be sent shows when the replies are waited for."""
    self.tasks += len(requests)
    bodies = [json.dumps(request).encode() for request in requests]
    self._unsent += b"".join(struct.pack(">I", len(body)) + body for body in bodies)
    self._send()

  def receive(self, deadline: float) -> dict:
    """The next reply. Raises TimeoutError after the deadline, EOFError or OSError when the process dies."""
    fd = self.process.stdout.fileno()
    while len(self._read) < 4 or len(self._read) < 4 + struct.unpack_from(">I", self._read)[0]:
      self._wait(fd, deadline)
      chunk = os.read(fd, CHUNK_BYTES)
      if not chunk:
        raise EOFError(f"the process ended with status {self.process.wait()}")
      self._read += chunk
    end = 4 + struct.unpack_from(">I", self._read)[0]
    body, self._read = self._read[4:end], self._read[end:]
    return json.loads(body)

  def _send(self) -> None:
    """As much of what is to be sent as the pipe takes."""
    try:
      while self._unsent:
        self._unsent = self._unsent[os.write(self.process.stdin.fileno(), self._unsent):]
    except BlockingIOError:  # the pipe is full
      pass
    except BrokenPipeError:  # the process has ended, which the reader will see
      self._unsent = b""

  def _wait(self, fd: int, deadline: float) -> None:
    """Until there is something to read; what is still to be sent is sent meanwhile."""
    while True:
      poll = select.poll()  # not select(), which refuses descriptors above 1023
      poll.register(fd, select.POLLIN)
      if self._unsent:
        poll.register(self.process.stdin.fileno(), select.POLLOUT)
      ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
      if not ready:
        raise TimeoutError("no answer before the deadline")
      if any(found == fd for found, _ in ready):
        return
      self._send()
