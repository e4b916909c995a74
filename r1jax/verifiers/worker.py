"""Process that checks answers for `r1jax.verifiers.pool`: `python -m r1jax.verifiers.worker PARENT_PID`.

Reads requests on standard input and writes replies on standard output, each a four-byte big-endian length and that many
bytes of JSON. The first message is a reply, {"ready": true}, once the verifiers are imported. Requests:
{"op": "judge", "kind", "answer", "gold", "question", "seconds"} -> {"equal", "status"} and {"op": "modules"} ->
{"modules"}. It ends at the end of its input, with its parent (Linux), or by its own alarm soon after the parent's
deadline.
"""

import json
import logging
import math
import os
import signal
import struct
import sys

from r1jax.verifiers.kinds import kind_of
from r1jax.verifiers.verdict import CRASHED

MEMORY_BYTES = 2 << 30  # address space; an answer that needs more costs a sample, not the machine. Ours.
ALARM_MARGIN_SECONDS = 5  # the parent kills at the deadline; the alarm is for a parent that is gone. Ours.
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent_pid: int) -> None:
  _die_with_parent(parent_pid)
  _limit_resources()
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
  replies = os.fdopen(os.dup(1), "wb")
  os.dup2(2, 1)  # whatever prints must not print into the protocol
  logging.disable(logging.CRITICAL)
  _send(replies, {"ready": True})
  os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # start-up errors were worth showing, hostile input's are not
  while (request := _receive(sys.stdin.buffer)) is not None:
    # With no handler set the alarm ends the process, whatever C code it is in.
    signal.alarm(math.ceil(request.get("seconds", 0)) + ALARM_MARGIN_SECONDS)
    reply = _answer(request)
    signal.alarm(0)
    _send(replies, reply)


def _answer(request: dict) -> dict:
  if request["op"] == "modules":
    return {"modules": sorted(sys.modules)}
  try:
    equal, status = kind_of(request["kind"]).judge(request["answer"], request["gold"], request["question"])
  except Exception:  # a verifier on hostile input, RecursionError and MemoryError included
    equal, status = False, CRASHED
  return {"equal": equal, "status": status}


def _die_with_parent(parent_pid: int) -> None:
  if sys.platform == "linux":
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  if os.getppid() != parent_pid:  # it died before the line above
    sys.exit(0)


def _limit_resources() -> None:
  import resource

  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  if sys.platform == "linux":  # macOS refuses a limit on the address space
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _receive(stream) -> dict | None:
  header = stream.read(4)
  if len(header) < 4:
    return None
  return json.loads(stream.read(struct.unpack(">I", header)[0]))


def _send(stream, message: dict) -> None:
  body = json.dumps(message).encode()
  stream.write(struct.pack(">I", len(body)) + body)
  stream.flush()


if __name__ == "__main__":
  main(int(sys.argv[1]))
