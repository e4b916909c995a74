"""The sandbox: what a program finds in it, each limit, what is left, and what happens where there is none."""

import json
import os
import platform
import signal
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from r1jax.errors import InputError
from r1jax.verifiers import sandbox, seccomp
from r1jax.verifiers.sandbox import BROKEN, EXITED, STOPPED, TIMED_OUT, TOO_LONG, Limits, Sandbox, wait

QUICK = Limits(cpu_seconds=1.0, wall_seconds=2.0, memory_bytes=256 << 20, disk_bytes=1 << 20, output_bytes=1 << 16)


@pytest.fixture(scope="module")
def box():
  try:
    return Sandbox()
  except InputError as error:
    pytest.skip(str(error))


def printed(box, source, stdin=b"", limits=QUICK):
  run = box.run(source, stdin, limits)
  assert (run.outcome, run.exit_code) == (EXITED, 0), run
  return run.stdout.decode()


def test_a_program_reads_prints_and_ends(box):
  run = box.run("print(input()[::-1])", b"abc\n", QUICK)
  assert (run.outcome, run.exit_code, run.stdout, run.error) == (EXITED, 0, b"cba\n", "")
  assert 0 < run.cpu_seconds < 1 and 0 <= run.wall_seconds < 2


def test_input_larger_than_any_pipe_arrives(box):
  assert printed(box, "import sys\nprint(len(sys.stdin.buffer.read()))", b"x" * 3_000_000) == "3000000\n"


def test_a_program_is_main_and_its_exit_status_is_its_own(box):
  assert printed(box, "if __name__ == '__main__': print('main')") == "main\n"
  assert box.run("raise SystemExit(3)", limits=QUICK).exit_code == 3
  assert box.run("1 / 0", limits=QUICK).exit_code == 1
  assert box.run("import ctypes\nctypes.string_at(0)", limits=QUICK).exit_code == 128 + signal.SIGSEGV


def test_it_finds_the_standard_library_and_nothing_of_the_host(box):
  found = json.loads(printed(box, """
import json, os, sys
print(json.dumps({
  "top": os.listdir("/"), "tmp": os.listdir("/tmp"), "dev": sorted(os.listdir("/dev")), "environ": dict(os.environ),
  "uid": os.getuid(), "pid": os.getpid(), "cwd": os.getcwd(), "site": [m for m in sys.path if "-packages" in m],
}))"""))
  assert not {"proc", "sys", "etc", "home", "var", "run", "work", "mnt"} & set(found["top"])
  assert (found["tmp"], found["dev"], found["cwd"], found["pid"], found["site"]) == (
    [], ["null", "shm", "stdin"], "/tmp", 2, [])
  assert set(found["environ"]) <= {*sandbox._ENVIRONMENT, "PWD"}
  assert found["uid"] not in (0, os.getuid())


def test_the_input_is_a_file_too(box):
  assert printed(box, "print(open('/dev/stdin').read() + input(), open('/dev/stdin').readline())", b"a\nb") == "a\nba a\n\n"
  refused = "try: open('/dev/stdin', 'w')\nexcept OSError: print('refused')"
  assert printed(box, refused, b"x") == "refused\n"


def test_numpy_is_there_where_it_is_asked_for(box):
  pytest.importorskip("numpy")
  asked = "try:\n  import numpy\n  print(numpy.linalg.inv([[2.0]])[0, 0])\nexcept ImportError: print('none')"
  assert printed(box, asked) == "none\n"
  run = Sandbox(numpy=True).run(asked + "\nimport os\nprint(os.listdir('/packages'))", limits=Limits(cpu_seconds=4))
  assert run.stdout.splitlines()[0] == b"0.5" and set(json.loads(run.stdout.splitlines()[1].replace(b"'", b'"'))) <= {
    "numpy", "numpy.libs"}


def test_only_the_three_streams_are_open(box):
  assert printed(box, """
import os
def is_open(fd):
  try:
    os.fstat(fd)
    return True
  except OSError:
    return False
print([fd for fd in range(64) if is_open(fd)])""") == "[0, 1, 2]\n"


def test_what_programs_of_contests_import_is_there(box):
  printed(box, "import array, ast, asyncio, bisect, cmath, collections, copy, csv, dataclasses, datetime, decimal, enum\n"
               "import fractions, functools, hashlib, heapq, io, itertools, json, math, operator, queue, random, re\n"
               "import statistics, string, struct, textwrap, threading, time, typing, unicodedata, zlib\n"
               "assert hashlib.sha256(b'').hexdigest()[:4] == 'e3b0'\n"
               "async def f(): await asyncio.sleep(0.01)\nasyncio.run(f())")


def test_deep_recursion_on_a_thread_with_a_large_stack_works(box):
  assert printed(box, """
import sys, threading
sys.setrecursionlimit(10**6)
threading.stack_size(128 << 20)
def depth(n): return 0 if n == 0 else 1 + depth(n - 1)
threading.Thread(target=lambda: print(depth(50_000))).start()""") == "50000\n"


def test_two_runs_of_a_program_print_the_same(box):
  source = "print({str(i) for i in range(20)}, hash('a'))"
  assert printed(box, source) == printed(box, source)


def test_one_program_leaves_nothing_for_the_next(box):
  printed(box, "open('/tmp/a', 'w').write('x')\nopen('/dev/shm/a', 'w').write('x')")
  assert printed(box, "import os\nprint(os.listdir('/tmp'), os.listdir('/dev/shm'))") == "[] []\n"


def test_cpu_seconds_are_limited(box):
  run = box.run("while True: pass", limits=Limits(cpu_seconds=1.0, wall_seconds=60.0))
  # The kernel's limit and its account of the seconds used follow clocks of their own, which on a shared machine differ.
  assert run.outcome == TIMED_OUT and 0.5 < run.cpu_seconds < 2.0


def test_threads_share_their_cpu_seconds(box):
  source = "import threading\ndef f():\n  while True: pass\nfor _ in range(4): threading.Thread(target=f).start()"
  run = box.run(source, limits=Limits(cpu_seconds=1.0, wall_seconds=60.0))
  assert run.outcome == TIMED_OUT and run.cpu_seconds < 2.0


def test_wall_seconds_are_limited(box):
  began = time.monotonic()
  run = box.run("import time\ntime.sleep(60)", limits=Limits(wall_seconds=0.5))
  assert run.outcome == TIMED_OUT and 0.5 <= run.wall_seconds < 1.5 and time.monotonic() - began < 5


def test_memory_is_limited(box):
  assert printed(box, """
held = []
try:
  while True: held.append(bytearray(1 << 20))
except MemoryError:
  print(100 < len(held) < 256)""") == "True\n"


def test_output_is_limited(box):
  run = box.run("import sys\nwhile True: sys.stdout.write('x' * 1000)", limits=QUICK)
  assert run.outcome == TOO_LONG and len(run.stdout) == QUICK.output_bytes


def test_errors_of_any_length_are_dropped(box):
  assert printed(box, "import sys\nsys.stderr.write('x' * 10_000_000)\nprint('done')") == "done\n"


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm"])
def test_disk_is_limited(box, folder):
  assert printed(box, f"""
import os
written = 0
try:
  for i in range(100):
    with open('{folder}/' + str(i), 'wb', buffering=0) as f:
      for _ in range(10): written += f.write(b'x' * 65536)
except OSError as error:
  print(error.errno, written <= 1 << 20)""") == "28 True\n"


def test_size_of_a_file_is_limited(box):
  assert printed(box, """
try: open('/tmp/a', 'wb').truncate(2 << 20)
except OSError as error: print(error.errno)""") == "27\n"


@pytest.mark.parametrize("path", ["/a", "/dev/a", "/lib/a", os.path.dirname(os.__file__) + "/a"])
def test_nothing_else_can_be_written(box, path):
  assert printed(box, f"""
try: open({path!r}, 'w')
except OSError as error: print(error.errno in (1, 2, 13, 30))""") == "True\n"


def test_threads_are_limited(box):
  assert printed(box, """
import threading
go = threading.Event()
count = 0
try:
  while True:
    threading.Thread(target=go.wait, daemon=True).start()
    count += 1
except RuntimeError:
  print(count)""", limits=Limits(threads=40)) == "39\n"


def test_open_files_are_limited(box):
  assert printed(box, """
held = []
try:
  while True: held.append(open('/dev/null'))
except OSError as error:
  print(error.errno, len(held))""") == f"24 {QUICK.open_files - 3}\n"


@pytest.mark.parametrize("call", ["os.fork()", "os.posix_spawn(sys.executable, ['x'], {})",
                                  "subprocess.run([sys.executable, '-c', ''])", "socket.socket()", "os.memfd_create('x')"])
def test_children_and_sockets_are_refused(box, call):
  source = f"import os, socket, subprocess, sys\ntry: {call}\nexcept PermissionError: print('refused')"
  assert printed(box, source) == "refused\n"


def test_no_privilege_is_left(box):
  assert printed(box, """
import ctypes, os
libc = ctypes.CDLL(None)
calls = {
  'setuid': lambda: os.setuid(0), 'setgroups': lambda: os.setgroups([0]), 'chroot': lambda: os.chroot('/tmp'),
  'nice': lambda: os.nice(-5), 'mknod': lambda: os.mknod('/tmp/x', 0o60666), 'chown': lambda: os.chown('/dev/null', 1, 1),
  'hostname': lambda: libc.sethostname(b'x', 1) == 0 or os.close(-1),
}
for name, call in calls.items():
  try: call()
  except OSError: continue
  print(name)
print(libc.prctl(39, 0, 0, 0, 0))  # PR_GET_NO_NEW_PRIVS""") == "1\n"


def test_it_dies_with_its_parent(box):
  code = """
import json, sys, time
from r1jax.verifiers.sandbox import Sandbox, wait
process = Sandbox().start({"role": "program", "source": "import time\\ntime.sleep(600)"})
while process._started_at is None: wait([process], time.monotonic() + 0.1)
print(json.loads(process._info)["child-pid"], flush=True)
time.sleep(600)
"""
  parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
  try:
    pid = int(parent.stdout.readline())
    assert os.path.exists(f"/proc/{pid}")
  finally:
    parent.kill()
    parent.wait()
    parent.stdout.close()
  until = time.monotonic() + 5
  while is_alive(pid) and time.monotonic() < until:
    time.sleep(0.02)
  assert not is_alive(pid)


def is_alive(pid):
  try:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
  except FileNotFoundError:
    return False


def test_a_killed_program_is_gone_when_kill_returns(box):
  process = box.start({"role": "program", "source": "import time\ntime.sleep(600)"}, QUICK)
  while process._started_at is None:
    wait([process], time.monotonic() + 0.1)
  pid = json.loads(process._info)["child-pid"]
  process.kill()
  assert not os.path.exists(f"/proc/{pid}")
  assert process.result.outcome == STOPPED
  process.kill()  # again: nothing happens


def test_one_that_is_killed_before_it_stands_is_gone_too(box):
  for delay in (0.0, 0.001, 0.003, 0.01, 0.02):
    process = box.start({"role": "program", "source": "import time\ntime.sleep(600)"}, QUICK)
    time.sleep(delay)
    process.kill()
    assert process.ended and process._process.returncode is not None


def test_many_at_once_from_many_threads(box):
  before = len(os.listdir("/proc/self/fd"))
  with ThreadPoolExecutor(8) as pool:
    runs = list(pool.map(lambda i: box.run(f"print({i} ** 2)"), range(40)))
  assert [int(run.stdout) for run in runs] == [i**2 for i in range(40)]
  assert len(os.listdir("/proc/self/fd")) == before


def test_descriptors_above_select_s_limit_are_fine(box):
  import resource

  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  if hard != resource.RLIM_INFINITY and hard < 2000:
    pytest.skip(f"the hard limit on open files is {hard}")
  resource.setrlimit(resource.RLIMIT_NOFILE, (2000, hard))
  held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
  try:
    assert printed(box, "print(1)") == "1\n"
  finally:
    for fd in held:
      os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_bubblewrap_it_refuses_and_says_what_to_install(monkeypatch):
  monkeypatch.setenv("PATH", "/nowhere")
  with pytest.raises(InputError, match="bwrap is not installed.*apt-get install bubblewrap.*unsafe=True"):
    Sandbox()


def test_where_namespaces_are_refused_it_says_what_bubblewrap_said(monkeypatch, tmp_path):
  fake = tmp_path / "bwrap"
  fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
  fake.chmod(0o755)
  monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
  with pytest.raises(InputError, match="No permissions to create new namespace.*unprivileged_userns_clone"):
    Sandbox()


def test_a_bubblewrap_that_hangs_is_refused_too(monkeypatch, tmp_path):
  fake = tmp_path / "bwrap"
  fake.write_text("#!/bin/sh\nexec sleep 600\n")
  fake.chmod(0o755)
  monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
  monkeypatch.setattr(sandbox, "START_SECONDS", 0.5)
  monkeypatch.setattr(sandbox, "KILL_SECONDS", 0.1)
  with pytest.raises(InputError, match="did not start"):
    Sandbox()


def test_another_system_is_refused(monkeypatch):
  monkeypatch.setattr(platform, "machine", lambda: "riscv64")
  with pytest.raises(InputError, match="there is none for linux on riscv64"):
    Sandbox()


def test_without_a_sandbox_it_shouts_and_keeps_the_limits(capfd):
  box = Sandbox(unsafe=True)
  shouted = capfd.readouterr().err
  assert shouted.count("WARNING") >= 3 and "WITHOUT A SANDBOX" in shouted and "files" in shouted and "network" in shouted
  assert printed(box, "print(input())", b"7\n") == "7\n"
  assert box.run("while True: pass", limits=QUICK).outcome == TIMED_OUT
  assert box.run("import time\ntime.sleep(60)", limits=QUICK).outcome == TIMED_OUT
  assert box.run("print('x' * 10**6)", limits=QUICK).outcome == TOO_LONG
  assert box.run("x = 'a' * 10**11", limits=QUICK).exit_code == 1


def test_a_program_that_cannot_start_is_broken_not_wrong(box, monkeypatch):
  process = box.start({"role": "no such role"}, QUICK)  # fails after the limits hold: the launcher's own error
  while not process.ended:
    wait([process])
  assert process.result.exit_code == 1
  monkeypatch.setattr(box, "_python", "/nowhere/python")
  run = box.run("print(1)")
  assert run.outcome == BROKEN and "/nowhere/python" in run.error


@pytest.mark.parametrize("name", sorted(vars(Limits())))
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_limits_that_limit_nothing_are_refused(name, value):
  with pytest.raises(InputError, match=name):
    Limits(**{name: value})


# The filter of system calls, interpreted here: the other architecture cannot be run.

ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x50001, 0x50026


def judged(machine, number, arguments=(0, 0), arch=None):
  """What the filter says about one system call: a small interpreter of the instructions that it uses."""
  program = list(struct.iter_unpack("<HBBI", seccomp.refusals(machine)))
  arch = arch or {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]
  data = struct.pack("<iIQ2Q", number, arch, 0, *arguments)
  at, value = 0, 0
  while True:
    code, if_true, if_false, k = program[at]
    at += 1
    if code == 0x06:
      return k
    if code == 0x20:
      value = struct.unpack_from("<I", data, k)[0]
    else:
      holds = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[code]
      at += if_true if holds else if_false


@pytest.mark.parametrize(("machine", "read", "clone", "socket", "socketpair", "execve"), [
  ("x86_64", 0, 56, 41, 53, 59),
  ("aarch64", 63, 220, 198, 199, 221),
])
def test_the_filter_refuses_what_it_should(machine, read, clone, socket, socketpair, execve):
  assert [judged(machine, number) for number in (read, socketpair, execve, 2**20)] == [ALLOW] * 4
  assert judged(machine, socket) == EPERM
  assert judged(machine, clone, (17, 0)) == EPERM  # SIGCHLD: a child
  assert judged(machine, clone, (0x4111, 0)) == EPERM  # vfork
  assert judged(machine, clone, (0x3D0F00, 0)) == ALLOW  # a thread, as pthread_create makes it
  assert judged(machine, 435) == ENOSYS
  assert judged(machine, read, arch=0x40000003) == KILL  # 32-bit x86


def test_the_filter_refuses_the_second_numbers_of_x86_64():
  assert judged("x86_64", 0x40000000 + 57) == ENOSYS


def test_the_filter_refuses_forks_by_number():
  assert judged("x86_64", 57) == judged("x86_64", 58) == EPERM
