"""Runs a Python program where it can do no harm: in a bubblewrap sandbox of its own, under limits, until a deadline.

What a program finds: CPython and its standard library (read-only, without site-packages; with numpy if asked for), an empty
/tmp and /dev/shm of limited size, /dev/null, /dev/stdin, three standard streams. No network, no other file, no /proc, no
environment, no process but itself. It is one process: fork, vfork and clone fail, threads work. That makes the limits
exact, for the kernel counts memory and CPU time by process: address space, CPU seconds, threads, open files, size of a file
and of both directories, bytes of output (the reader stops and kills). It runs in namespaces of its own (pid, network, ipc,
uts, cgroup, mount), in a new session, without capabilities and without a way to new ones; many system calls are refused
(`r1jax.verifiers.seccomp`). Started by an ordinary user it is in a user namespace of its own; started by root it runs as a
user id that nothing else has, for the kernel does not count the threads of root.

It dies with its parent, and is gone, not even a zombie, when its end is reported. For that, the process that uses this
module becomes the one that the kernel gives orphans of its children to (PR_SET_CHILD_SUBREAPER).

Not defended: bugs of the kernel that the remaining system calls reach; timing and load as seen through shared CPUs and
caches; memory of the kernel for very many empty files, which only the CPU seconds bound.
Needs Linux 5.14 (from there on the threads of each sandbox are counted, and not all that the user runs).
"""

import json
import marshal
import math
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from r1jax.errors import InputError
from r1jax.verifiers import inside, seccomp, shown

EXITED = "exited"  # by itself; see exit_code
TIMED_OUT = "timed out"  # CPU or wall seconds
TOO_LONG = "too long"  # more output than allowed
STOPPED = "stopped"  # by kill()
BROKEN = "broken"  # the sandbox did not start, see error

START_SECONDS = 30.0  # for the sandbox to be made, on a machine that is busy with other things; ours
KILL_SECONDS = 2.0  # for the kernel to end a killed sandbox; ours
_READ_BYTES = 1 << 16
_ERROR_BYTES = 1 << 12
_UIDS, _UID_BITS = 0x70000000, 24  # a range that neither users nor containers are given (systemd's UIDS-GIDS)
_NOBODY = 65534
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_ENVIRONMENT = {
  "PYTHONHASHSEED": "0",  # the order of a set does not differ from run to run
  "PYTHONUTF8": "1",
  "LC_ALL": "C.UTF-8",
  "HOME": "/tmp",
  "PYTHONPATH": shown.PACKAGES,
  "OPENBLAS_NUM_THREADS": "1",  # numpy's; each of its threads reserves address space too
  "MALLOC_ARENA_MAX": "1",  # or each thread reserves 64 MB of the address space that is allowed
}
_REMEDY = (
  "Install Debian's package bubblewrap (apt-get install bubblewrap) and allow it namespaces: run as root, or let users"
  " make user namespaces (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns,"
  " user.max_user_namespaces; in a container, its seccomp profile). Or accept the risk with unsafe=True."
)
_WARNING = """\
r1jax: WARNING: CODE REWARDS WITHOUT A SANDBOX (unsafe=True)
r1jax: WARNING: programs that a model wrote now run with your rights, on this machine. Lost: the protection of your
r1jax: WARNING: files, environment, network and processes; the bound on child processes and on disk; the certainty that
r1jax: WARNING: nothing is left behind; the secrecy of expected answers. Kept: time limits and memory of each process.
"""


@dataclass(frozen=True)
class Limits:
  """What a program may use. The defaults are ours."""

  cpu_seconds: float = 4.0  # user and system time of all threads, the interpreter's start (10 ms) included
  wall_seconds: float = 10.0  # from the moment that the sandbox stands
  memory_bytes: int = 1 << 30  # address space
  output_bytes: int = 4 << 20  # standard output
  disk_bytes: int = 32 << 20  # of /tmp, and of a single file; /dev/shm has as much again
  threads: int = 64
  open_files: int = 64

  def __post_init__(self):
    for name, value in vars(self).items():
      if not 0 < value < math.inf:
        raise InputError(f"Limits.{name}", f"{value!r}", "Give a finite number greater than 0.")


@dataclass(frozen=True)
class Run:
  """How a program ended.

  outcome: EXITED, TIMED_OUT, TOO_LONG, STOPPED or BROKEN. exit_code: 128 + signal for a signal. stdout: at most
  output_bytes. error: for BROKEN, what bubblewrap or the launcher said.
  """

  outcome: str
  exit_code: int
  stdout: bytes
  cpu_seconds: float
  wall_seconds: float
  error: str = ""


class Sandbox:
  """Starts programs in sandboxes. Immutable after it is made, so threads and processes can share it.

  Makes one sandbox to see whether that works, and raises InputError where it does not. unsafe=True: no sandbox at
  all, which a warning on standard error says. python: an interpreter of this version, by default this one. numpy: programs
  can import this environment's; a sandbox then takes longer to make, for all its shared libraries are shown.
  """

  def __init__(self, unsafe: bool = False, python: str | None = None, numpy: bool = False):
    self.unsafe = unsafe
    self._python = os.path.realpath(python or getattr(sys, "_base_executable", None) or sys.executable)
    if unsafe:
      sys.stderr.write(_WARNING)
      sys.stderr.flush()
      return
    self._bwrap = _find_bwrap()
    self._filter = seccomp.refusals(platform.machine())
    self._binds = shown.binds(self._python, shown.numpy_folders() if numpy else ())
    self._as_root = os.geteuid() == 0
    run = self.run("import json, resource\nprint('ready')")
    if run.stdout != b"ready\n":
      found = run.error or f"a program in it {run.outcome} with status {run.exit_code}"
      raise InputError("code sandbox (bubblewrap)", f"it does not work here: {found}", _REMEDY)

  def run(self, source: str, stdin: bytes = b"", limits: Limits | None = None) -> Run:
    """Runs a program as a script and waits for its end."""
    process = self.start({"role": "program", "source": source}, limits, stdin)
    try:
      while not process.ended:
        wait([process])
    finally:
      process.kill()
    return process.result

  def start(
    self, job: dict, limits: Limits | None = None, stdin: bytes = b"", keep: Sequence[int] = (), role: object = None
  ) -> "Process":
    """Starts a job of `r1jax.verifiers.inside`. The caller keeps the process in `wait` and kills it in the end.

    job: plain data; "role" names the function. role: a module whose functions join those of `inside`. keep:
    descriptors that stay open in the sandbox, under the same numbers. The thread that calls this must live until
    the process has ended.
    """
    limits = limits or Limits()
    if not self.unsafe:
      _adopt_orphans(os.getpid())
    job = {
      **job,
      "uid": None if self.unsafe or not self._as_root else _fresh_uid(),
      "limits": _resource_limits(limits, self.unsafe),
    }
    modules = [_code(module.__file__) for module in (inside, role) if module is not None]
    return Process(self, marshal.dumps((modules, job)), limits, stdin, keep)

  def command(self, limits: Limits, payload: int, stdin: int, filter_fd: int, info: int) -> list[str]:
    """The command line of one sandbox, given the descriptors that it reads; stdin: what /dev/stdin holds."""
    interpreter = [
      # Not -I, which ignores the environment.
      self._python, "-s", "-S", "-P", "-B", "-c",
      f"import marshal\nm,j=marshal.load(open({payload},'rb'))\nn={{'__name__':'inside'}}\n"
      "for c in m:exec(c,n)\ndel m,c\nn['main'](j)",
    ]
    if self.unsafe:
      return interpreter
    disk = ["--perms", "1777", "--size", str(limits.disk_bytes), "--tmpfs"]
    if self._as_root:
      user = ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]  # until `inside` has used them
    else:
      user = ["--unshare-user", "--uid", str(_NOBODY), "--gid", str(_NOBODY)]
    return [
      self._bwrap, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup",
      "--die-with-parent", "--new-session", "--cap-drop", "ALL", *user,
      "--seccomp", str(filter_fd), "--info-fd", str(info),
      "--clearenv", *(word for item in _ENVIRONMENT.items() for word in ("--setenv", *item)),
      "--perms", "0755", "--dir", "/dev", "--dev-bind", "/dev/null", "/dev/null",
      "--perms", "0444", "--ro-bind-data", str(stdin), "/dev/stdin", *disk, "/tmp", *disk, "/dev/shm",
      *self._binds, "--remount-ro", "/", "--chdir", "/tmp", "--", *interpreter,
    ]  # fmt: skip


class Process:
  """A program on its way, from `Sandbox.start`. `result` is a Run once `ended`."""

  def __init__(self, sandbox: Sandbox, payload: bytes, limits: Limits, stdin: bytes, keep: Sequence[int]):
    self.limits, self.result, self._unsafe = limits, None, sandbox.unsafe
    self._outcome, self._error, self._info = None, bytearray(), bytearray()
    self._output = bytearray()
    self._child = self._exit = -1  # pidfd of process 1 in the sandbox, and of bubblewrap
    self._child_pid = None
    self._began, self._started_at = time.monotonic(), None
    given = [_memory_file(payload), _memory_file(stdin)]
    if not sandbox.unsafe:
      given += [_memory_file(stdin), _memory_file(sandbox._filter)]
    self._out, out = os.pipe()
    self._err, err = os.pipe()
    self._info_fd, info = os.pipe()
    try:
      self._process = subprocess.Popen(
        sandbox.command(limits, given[0], *(given[2:] or (-1, -1)), info),
        stdin=given[1],
        stdout=out,
        stderr=err,
        pass_fds=[given[0], *given[2:], info, *keep],
        cwd=tempfile.gettempdir() if sandbox.unsafe else "/",
        env={"PATH": os.defpath, **(_ENVIRONMENT if sandbox.unsafe else {})},
        start_new_session=True,
      )
      self._exit = os.pidfd_open(self._process.pid)
    except BaseException:
      self._close()
      raise
    finally:
      for fd in [*given, out, err, info]:
        os.close(fd)
    for fd in (self._out, self._err, self._info_fd):
      os.set_blocking(fd, False)

  @property
  def ended(self) -> bool:
    return self.result is not None

  @property
  def deadline(self) -> float:
    """When it is killed, in `time.monotonic()` seconds."""
    if self._started_at is None:
      return self._began + START_SECONDS
    return self._started_at + self.limits.wall_seconds

  def descriptors(self) -> list[int]:
    """What to poll for."""
    return [fd for fd in (self._out, self._err, self._info_fd, self._exit) if fd >= 0]

  def advance(self) -> None:
    """Takes what has come, without waiting; ends the process when it has exited or must be stopped."""
    if self.ended:
      return
    exited = _is_ready(self._exit)  # before reading, so that nothing that it wrote is missed
    self._read_info()
    self._read_error()
    if self._read_output():
      self._finish(TOO_LONG)
    elif exited:
      self._finish(EXITED)
    elif time.monotonic() >= self.deadline:
      self._finish(TIMED_OUT if self._started_at else BROKEN)

  def kill(self) -> None:
    """Ends it now, if it has not ended. Nothing of it is left when this returns."""
    if not self.ended:
      self._finish(STOPPED)

  def _read_info(self) -> None:
    if self._info_fd < 0:
      return
    chunk = _read(self._info_fd, _ERROR_BYTES)
    if chunk is None:
      return
    self._info += chunk
    if not chunk:
      self._info_fd = _closed(self._info_fd)
      with suppress(ValueError, KeyError, OSError):  # bubblewrap failed, or it is over already
        self._child_pid = json.loads(self._info)["child-pid"]
        self._child = os.pidfd_open(self._child_pid)

  def _read_error(self) -> None:
    if self._err < 0:
      return
    chunk = _read(self._err, _ERROR_BYTES)
    if chunk == b"":
      self._err = _closed(self._err)
    elif chunk and self._started_at is None:
      self._error = (self._error + chunk)[:_ERROR_BYTES]
      if self._error.endswith(inside.STARTED):
        self._started_at = time.monotonic()
    elif chunk:  # cannot be: the launcher has closed it
      self._err = _closed(self._err)

  def _read_output(self) -> bool:
    """Whether there is more than allowed."""
    while self._out >= 0 and (chunk := _read(self._out, _READ_BYTES)) is not None:
      if not chunk:
        self._out = _closed(self._out)
      self._output += chunk
      if len(self._output) > self.limits.output_bytes:
        del self._output[self.limits.output_bytes:]
        return True
    return False

  def _finish(self, outcome: str) -> None:
    ended_at = time.monotonic()
    if outcome != EXITED:
      self._stop()
    exit_code, cpu_seconds = self._reap()
    started = self._started_at is not None
    if outcome == EXITED and not started:
      outcome = BROKEN
    elif outcome == EXITED and exit_code == 128 + signal.SIGKILL and cpu_seconds > self.limits.cpu_seconds - 0.5:
      outcome = TIMED_OUT
    self._close()
    self.result = Run(
      outcome=outcome,
      exit_code=exit_code,
      stdout=bytes(self._output),
      cpu_seconds=cpu_seconds,
      wall_seconds=ended_at - self._started_at if started else 0.0,
      error="" if started else self._error.decode(errors="replace").strip() or "it did not start",
    )

  def _stop(self) -> None:
    """Kills the program, not bubblewrap: that then ends when nothing of the sandbox is left."""
    if self._unsafe:
      with suppress(ProcessLookupError):
        os.killpg(self._process.pid, signal.SIGKILL)
      return
    until = time.monotonic() + KILL_SECONDS
    while self._child < 0 and self._info_fd >= 0 and _poll([self._info_fd, self._exit], until):
      self._read_info()
      if _is_ready(self._exit):
        return
    if self._child >= 0:
      with suppress(ProcessLookupError):
        signal.pidfd_send_signal(self._child, signal.SIGKILL)
    else:
      self._process.kill()

  def _reap(self) -> tuple[int, float]:
    """(exit code, CPU seconds), once nothing of the sandbox is left."""
    if not _poll([self._exit], time.monotonic() + KILL_SECONDS):
      self._process.kill()
    _, status, usage = os.wait4(self._process.pid, 0)
    cpu_seconds = usage.ru_utime + usage.ru_stime
    self._process.returncode = code = os.waitstatus_to_exitcode(status)
    self._read_info()
    if self._child_pid is not None:
      # bubblewrap does not wait for a program that ends by itself. With its process 1 the last of the sandbox ends.
      gone = self._child < 0 or _poll([self._child], time.monotonic() + KILL_SECONDS)
      with suppress(ChildProcessError):  # this time it did
        _, _, usage = os.wait4(self._child_pid, 0 if gone else os.WNOHANG)
        cpu_seconds += usage.ru_utime + usage.ru_stime
    return 128 - code if code < 0 else code, cpu_seconds

  def _close(self) -> None:
    for fd in (self._out, self._err, self._info_fd, self._exit, self._child):
      if fd >= 0:
        os.close(fd)
    self._out = self._err = self._info_fd = self._exit = self._child = -1


def wait(processes: Iterable[Process], until: float = math.inf) -> None:
  """Waits until something happens to one of the processes, or `until` (`time.monotonic()` seconds), and advances all."""
  running = [process for process in processes if not process.ended]
  if running:
    _poll([fd for process in running for fd in process.descriptors()], min([until, *(p.deadline for p in running)]))
    for process in running:
      process.advance()


def _poll(fds: Iterable[int], until: float) -> bool:
  poll = select.poll()  # not select(), which refuses descriptors above 1023
  for fd in fds:
    poll.register(fd, select.POLLIN)
  # A moment more, or rounding would wake it just before the deadline and wait for nothing again.
  return bool(poll.poll(max(0.0, until - time.monotonic()) * 1000 + 1))


def _is_ready(fd: int) -> bool:
  return _poll([fd], -math.inf)


def _read(fd: int, size: int) -> bytes | None:
  """None when there is nothing yet, b"" at the end."""
  try:
    return os.read(fd, size)
  except BlockingIOError:
    return None


def _closed(fd: int) -> int:
  os.close(fd)
  return -1


def _memory_file(data: bytes) -> int:
  """A descriptor to read `data` from, which nobody can write to."""
  import fcntl

  fd = os.memfd_create("r1jax", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
  view = memoryview(data)
  while view:
    view = view[os.write(fd, view):]
  os.lseek(fd, 0, os.SEEK_SET)
  fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
  return fd


@cache
def _adopt_orphans(pid: int) -> None:
  """Makes this process, whose id is `pid`, the one that the kernel gives orphans of its children to.

  It waits for those of its sandboxes. Otherwise they would go to process 1, which in a container may be a program that
  never waits, and ten thousands of zombies later the container can start no more processes.
  """
  import ctypes

  if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
    raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


@cache
def _code(file: str):
  return compile(Path(file).read_text(encoding="utf-8"), f"<{Path(file).stem}>", "exec", dont_inherit=True)


def _resource_limits(limits: Limits, unsafe: bool) -> dict[str, int]:
  cpu = math.ceil(limits.cpu_seconds)
  result = {
    "RLIMIT_AS": limits.memory_bytes,
    "RLIMIT_CPU": cpu,
    "RLIMIT_FSIZE": limits.disk_bytes,
    "RLIMIT_NOFILE": limits.open_files,
    "RLIMIT_NPROC": limits.threads,
    "RLIMIT_CORE": 0,
    "RLIMIT_MEMLOCK": 0,
    "RLIMIT_MSGQUEUE": 0,
    "RLIMIT_SIGPENDING": 256,
  }
  if unsafe:
    del result["RLIMIT_NPROC"]  # it would count all that this user runs
  return result


def _fresh_uid() -> int:
  """A user id for one sandbox. Two that draw the same share no more than the count of their threads."""
  if not _is_mapped(_UIDS, 1 << _UID_BITS):
    return _NOBODY
  return _UIDS + (int.from_bytes(os.urandom(4), "big") & ((1 << _UID_BITS) - 1))


@cache
def _is_mapped(first: int, count: int) -> bool:
  """Whether this user namespace, which may be a container's, has these user ids."""
  for line in Path("/proc/self/uid_map").read_text().splitlines():
    begin, _, length = map(int, line.split())
    if begin <= first and first + count <= begin + length:
      return True
  return False


def _find_bwrap() -> str:
  if not sys.platform.startswith("linux") or platform.machine() not in seccomp.MACHINES:
    machine = f"{sys.platform} on {platform.machine()}"
    raise InputError("code sandbox (bubblewrap)", f"there is none for {machine}", "Use Linux, or accept unsafe=True.")
  path = shutil.which("bwrap")
  if path is None:
    raise InputError("code sandbox (bubblewrap)", "the command bwrap is not installed", _REMEDY)
  return path
