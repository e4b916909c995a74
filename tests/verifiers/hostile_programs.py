"""Programs that try to cheat, hang, flood or escape, each with what it tries. Passing its test is an escape.

PROGRAMS are judged against one case whose expected output, SECRET, is nowhere in their reach; those that look for it
print what they find. SOLUTIONS define f and are judged against ASSERTS (or the asserts given), which no f can satisfy
without knowing them. @PORT@, @PATH@, @PID@ and @NAME@ become a listening port of the host, a file of the host that holds
SECRET, the host's judging process and an abstract socket of the host.

Run as a program, `python hostile_programs.py`, it judges them all and prints what happened as one line of JSON: the
test runs it so, as root and as an ordinary user.
"""

import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

SECRET = "the-expected-output-4711"
MARK = "r1jax_hostile"  # in the name of every file that they make
LIMITS = {"cpu_seconds": 1.0, "wall_seconds": 2.5, "memory_bytes": 512 << 20, "disk_bytes": 8 << 20, "output_bytes": 1 << 20}
DEADLINE_SECONDS = 5.0
ASSERTS = (
  f"assert f(1) == {SECRET!r}\n"
  f"assert f([3, 1]) == [{SECRET!r}, 2.5] and f(2) != 0\n"
)

PROGRAMS = {
  # Leaving early, with or without a friendly status
  "exit": ("leaves with status 0 before printing", "import sys\nsys.exit(0)"),
  "exit at once": ("leaves without clean-up", "import os\nos._exit(0)"),
  "quit with text": ("a text as exit status", "raise SystemExit('ok')"),
  "abort": ("dies by SIGABRT", "import os\nos.abort()"),
  "segmentation fault": ("reads address 0", "import ctypes\nctypes.string_at(0)"),
  "kill itself": ("SIGKILL to itself, then waits", "import os, time\nos.kill(os.getpid(), 9)\ntime.sleep(60)"),
  "exit in atexit": ("leaves with status 0 while leaving", "import atexit, os\natexit.register(os._exit, 0)\n1 / 0"),
  # Time
  "loop": ("never ends", "while True: pass"),
  "loop that catches all": ("never ends, catches what may interrupt it",
    "while True:\n  try:\n    while True: pass\n  except BaseException: pass"),
  "loop deaf to signals": ("never ends, ignores each signal that can be ignored", """
import signal
for s in signal.valid_signals():
  try: signal.signal(s, signal.SIG_IGN)
  except (OSError, ValueError): pass
while True: pass"""),
  "sleep": ("sleeps past the limit", "import time\ntime.sleep(3600)"),
  "sleep in threads": ("main thread ends, others sleep on", """
import threading, time
for _ in range(20): threading.Thread(target=time.sleep, args=(3600,)).start()"""),
  "sleep in atexit": ("hangs while leaving", "import atexit, time\natexit.register(time.sleep, 3600)"),
  "deadlock": ("takes a lock twice", "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()"),
  "wait for input": ("reads a pipe of its own for ever", "import os\nr, w = os.pipe()\nos.read(r, 1)"),
  "huge power": ("one C call that never ends", "print(9**9**9)"),
  "huge power, hidden": ("the same past constant folding", "n = 9\nprint(n**n**n % 10)"),
  "huge factorial": ("big integers in C", "import math\nprint(math.factorial(10**8) % 10)"),
  "huge number to text": ("quadratic conversion",
    "import sys\nsys.set_int_max_str_digits(0)\nprint(len(str(7**(10**8))))"),
  "sum without end": ("a loop in C that never comes back", "import itertools\nprint(sum(itertools.repeat(1)))"),
  "list without end": ("a loop in C that takes memory", "import itertools\nprint(len(list(itertools.count())))"),
  "catastrophic regex": ("exponential matching", "import re\nprint(re.match(r'(a+)+$', 'a' * 60 + 'b'))"),
  "regex of many stars": ("polynomial matching", "import re\nprint(re.match('(.*)' * 40 + 'x', 'a' * 4000))"),
  "sort that never ends": ("comparison in Python hangs C", """
class A:
  def __lt__(self, other):
    while True: pass
sorted([A(), A()])"""),
  "slow import": ("hangs while holding the import lock", """
import sys, time
class Finder:
  def find_spec(self, *a): time.sleep(3600)
sys.meta_path.insert(0, Finder())
import nothing_of_that_name"""),
  "stuck destructor": ("hangs when the interpreter ends", """
class A:
  def __del__(self):
    while True: pass
a = A()"""),
  "busy threads": ("all threads burn CPU", """
import threading
def burn():
  while True: pass
for _ in range(32): threading.Thread(target=burn).start()"""),
  "switch interval": ("keeps the interpreter lock",
    "import sys, threading\nsys.setswitchinterval(1e6)\nthreading.Thread(target=lambda: None).start()\nwhile True: pass"),
  "more CPU": ("raises its own limits", """
import resource
for name in ('RLIMIT_CPU', 'RLIMIT_AS', 'RLIMIT_NPROC', 'RLIMIT_FSIZE'):
  try: resource.setrlimit(getattr(resource, name), (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
  except (ValueError, OSError): pass
while True: pass"""),
  "own alarm": ("postpones an alarm for ever", "import signal\nwhile True: signal.alarm(1000)"),
  # Recursion and the compiler
  "recursion": ("no bottom", "def f(): f()\nf()"),
  "recursion without limit": ("no bottom, limit lifted", "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()"),
  "recursion in C": ("overflows the C stack", """
import sys
sys.setrecursionlimit(10**9)
class A:
  def __getattr__(self, name): return getattr(self, name + 'a')
A().a"""),
  "recursion on a big thread": ("the idiom of contests, without bottom", """
import sys, threading
sys.setrecursionlimit(10**9)
threading.stack_size(256 << 20)
def f(n): return f(n + 1)
t = threading.Thread(target=f, args=(0,)); t.start(); t.join()"""),
  "nested lists": ("repr of a deep list", "a = []\nfor _ in range(10**6): a = [a]\nprint(a)"),
  "deep brackets": ("breaks the parser", "(" * 100_000 + ")" * 100_000),
  "deep operators": ("breaks the compiler", "x = " + "-" * 100_000 + "1"),
  "long source": ("quarter of a million characters", "x = 1\n" * 40_000),
  "null byte": ("no source code", "print(1)\x00"),
  "lone surrogate": ("cannot be encoded", "print('\ud800')"),
  "no python": ("another language", "#include <stdio.h>\nint main() { return 0; }"),
  "bad encoding line": ("a codec that does not exist", "# -*- coding: nonsense -*-\nprint(1)"),
  # Processes and threads
  "fork bomb": ("doubles", "import os\nwhile True: os.fork()"),
  "fork bomb that persists": ("tries again at each failure", """
import os
while True:
  try: os.fork()
  except OSError: pass"""),
  "fork by libc": ("past Python's own wrapper", "import ctypes\nlibc = ctypes.CDLL(None)\nwhile True: libc.fork()"),
  "clone by number": ("the system call itself", """
import ctypes
libc = ctypes.CDLL(None)
while True:
  libc.syscall(56, 17, 0, 0, 0, 0)
  libc.syscall(57)
  libc.syscall(58)
  libc.syscall(435, 0, 0)"""),
  "spawn": ("posix_spawn of the interpreter",
    "import os, sys\nos.posix_spawn(sys.executable, [sys.executable, '-c', 'while True: pass'], {})"),
  "subprocess": ("a child that outlives it", """
import subprocess, sys
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'], start_new_session=True)"""),
  "shell": ("os.system", "import os\nos.system('sleep 3600 &')"),
  "multiprocessing": ("a pool of processes",
    "import multiprocessing, time\nif __name__ == '__main__':\n  multiprocessing.Pool(50).map(time.sleep, [99] * 50)"),
  "daemon": ("forks twice, new session, sleeps", """
import os, time
if os.fork() == 0:
  os.setsid()
  if os.fork() == 0: time.sleep(3600)
os._exit(0)"""),
  "children past the limit": ("sleeps past the limit with children left behind", """
import os, time
for _ in range(5):
  try:
    if os.fork() == 0: time.sleep(3600)
  except OSError: pass
time.sleep(3600)"""),
  "thread bomb": ("threads until it fails, then waits", """
import threading, time
while True: threading.Thread(target=time.sleep, args=(3600,)).start()"""),
  "thread bomb of small stacks": ("no memory to stop it", """
import _thread, threading, time
threading.stack_size(32 << 10)
while True:
  try: _thread.start_new_thread(time.sleep, (3600,))
  except RuntimeError: pass"""),
  "become another program": ("replaces itself by an interpreter that sleeps",
    "import os, sys\nos.execv(sys.executable, [sys.executable, '-S', '-c', 'import time; time.sleep(3600)'])"),
  # Memory
  "memory bomb": ("one large text", "x = 'a' * 10**11"),
  "memory bomb, slow": ("doubles a list", "x = [0]\nwhile True: x += x"),
  "memory bomb that persists": ("catches MemoryError", """
held = []
while True:
  try: held.append(bytearray(1 << 20))
  except MemoryError: pass"""),
  "memory by mmap": ("anonymous mappings", """
import mmap
held = []
while True:
  m = mmap.mmap(-1, 64 << 20)
  m.write(b'x' * (64 << 20))
  held.append(m)"""),
  "memory by malloc": ("past Python's allocator", """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
while True:
  p = libc.malloc(ctypes.c_size_t(16 << 20))
  if p: ctypes.memset(p, 1, 16 << 20)"""),
  "memory by System V": ("segments that no process holds", """
import ctypes
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
for _ in range(100):
  i = libc.shmget(0, ctypes.c_size_t(64 << 20), 0o1600)
  if i < 0: raise OSError
  p = libc.shmat(i, None, 0)
  ctypes.memset(p, 1, 64 << 20)
  libc.shmdt(ctypes.c_void_p(p))"""),
  "memory by memfd": ("files without a name", """
import os
held = []
while True:
  held.append(os.memfd_create('x'))
  for _ in range(7): os.write(held[-1], b'x' * (1 << 20))"""),
  "memory by pipes": ("fills pipes", """
import fcntl, os
while True:
  r, w = os.pipe()
  os.set_blocking(w, False)
  fcntl.fcntl(w, 1031, 1 << 20)
  os.write(w, b'x' * (1 << 20))"""),
  "descriptors": ("opens until it fails", "held = []\nwhile True: held.append(open('/dev/null'))"),
  "decompression bomb": ("a little that becomes much", """
import zlib
data = zlib.compress(bytes(1 << 26))
while True: data = zlib.decompress(zlib.compress(zlib.decompress(data) * 4))"""),
  "huge range": ("materialised", "print(len(list(range(10**11))))"),
  "huge format": ("width of a field", "print('%999999999999d' % 1)"),
  # Output
  "output without end": ("lines", "while True: print('x' * 1000)"),
  "output of gigabytes": ("one write", "import sys\nsys.stdout.write('x' * (300 << 20))"),
  "output by descriptor": ("past Python's buffer", "import os\nwhile True: os.write(1, b'x' * 65536)"),
  "errors without end": ("standard error", "import os\nwhile True: os.write(2, b'x' * 65536)"),
  "output to every descriptor": ("whatever is open", """
import os
while True:
  for fd in range(256):
    try: os.write(fd, b'passed' * 1000)
    except OSError: pass"""),
  "binary output": ("all bytes", "import sys\nsys.stdout.buffer.write(bytes(range(256)) * 1000)"),
  "closed output": ("closes its streams", "import os\nos.closerange(0, 256)"),
  "output, then hang": ("the right length, never flushed", "import time\nprint('x', end='')\ntime.sleep(3600)"),
  "terminal escapes": ("for whoever prints it", "print('\\x1b]0;owned\\x07\\x1b[2J\\u202egnp.exe')"),
  # Files
  "fill /tmp": ("one file", "f = open('/tmp/@MARK@', 'wb')\nwhile True: f.write(b'x' * (1 << 20))"),
  "fill /tmp with files": ("many files, ignoring errors", """
i = 0
while True:
  i += 1
  try:
    with open(f'/tmp/@MARK@_{i}', 'wb') as f: f.write(b'x' * (1 << 20))
  except OSError: pass"""),
  "empty files": ("names without content", "i = 0\nwhile True:\n  i += 1\n  open(f'/tmp/@MARK@_{i}', 'w').close()"),
  "fill /dev/shm": ("shared memory", "f = open('/dev/shm/@MARK@', 'wb')\nwhile True: f.write(b'x' * (1 << 20))"),
  "sparse file": ("a terabyte of nothing", "f = open('/tmp/@MARK@', 'wb')\nf.truncate(1 << 40)"),
  "deep directories": ("paths that are hard to remove", """
import os
os.chdir('/tmp')
while True:
  os.mkdir('@MARK@')
  os.chdir('@MARK@')"""),
  "read-only trap": ("directories that cannot be entered", """
import os
os.makedirs('/tmp/@MARK@/a')
os.chmod('/tmp/@MARK@/a', 0)
os.chmod('/tmp/@MARK@', 0)"""),
  "files elsewhere": ("writes wherever it can", """
import os
for top in ('/', '/dev', '/dev/shm', '/tmp', '/var/tmp', '/root', '/home', '/run', '/lib', os.path.dirname(os.__file__)):
  try: open(os.path.join(top, '@MARK@'), 'w').write('x')
  except OSError: pass"""),
  "symlink to the host": ("follows a link that it made", """
import os
os.symlink('@PATH@', '/tmp/link')
print(open('/tmp/link').read())"""),
  "symlink as /tmp": ("replaces the directory", "import os\nos.rmdir('/tmp')\nos.symlink('/', '/tmp')"),
  "hard link": ("a second name for a host file", "import os\nos.link('@PATH@', '/tmp/a')\nprint(open('/tmp/a').read())"),
  "dots": ("out of the directory", "print(open('/tmp/' + '../' * 20 + '@PATH@').read())"),
  "host file": ("reads it by its path", "print(open('@PATH@').read())"),
  "overwrite host file": ("writes it by its path", "open('@PATH@', 'w').write('owned')"),
  "search the disk": ("reads every file", """
import os
for folder, _, files in os.walk('/'):
  for name in files:
    try:
      text = open(os.path.join(folder, name), errors='replace').read(1 << 16)
      if 'the-expected' + '-output' in text: print(text)
    except OSError: pass"""),
  "poison the library": ("leaves code for the next program", """
import os
for name in ('sitecustomize.py', 'usercustomize.py', 'random.py', '__pycache__/os.cpython-311.pyc'):
  try: open(os.path.join(os.path.dirname(os.__file__), name), 'w').write('print("owned")')
  except OSError: pass"""),
  "device": ("makes one", "import os, stat\nos.mknod('/tmp/@MARK@', 0o666 | stat.S_IFBLK, os.makedev(8, 0))"),
  "named pipe": ("waits for a reader", "import os\nos.mkfifo('/tmp/@MARK@')\nopen('/tmp/@MARK@', 'w')"),
  # What it might know of the host
  "environment": ("variables", "import os\nprint(os.environ)"),
  "proc": ("processes and their memory", """
for path in ('/proc/self/environ', '/proc/1/environ', '/proc/@PID@/environ', '/proc/self/fd/0', '/proc/@PID@/mem',
             '/proc/self/mem', '/proc/@PID@/cmdline', '/proc/kcore', '/proc/sys/kernel/core_pattern'):
  try: print(open(path, errors='replace').read(1 << 16))
  except OSError: pass"""),
  "mount proc": ("makes the /proc that is not there", """
import ctypes, os
os.mkdir('/tmp/proc')
ctypes.CDLL(None).mount(b'proc', b'/tmp/proc', b'proc', 0, None)
print(open('/tmp/proc/1/environ').read())"""),
  "descriptors of others": ("reads every one", """
import os
for fd in range(1024):
  for offset in (0, None):
    try:
      print(os.pread(fd, 1 << 20, offset) if offset == 0 else os.read(fd, 1 << 20))
    except OSError: pass"""),
  "frames": ("up the stack", """
import sys
frame = sys._getframe()
while frame:
  print({k: v for k, v in {**frame.f_globals, **frame.f_locals}.items() if 'expected' in str(v)})
  frame = frame.f_back"""),
  "objects": ("all that the collector knows", """
import gc
needle = 'the-expected' + '-output'
for o in gc.get_objects():
  try:
    if needle in str(o)[:10000]: print(o)
  except Exception: pass"""),
  "own memory": ("searches the heap", """
import ctypes
x = object()
for page in range(id(x) & ~4095, (id(x) & ~4095) + (1 << 20), 4096):
  data = ctypes.string_at(page, 4096)
  at = data.find(b'the-expected' + b'-output')
  if at >= 0: print(data[at:at + 24])"""),
  "memory of the parent": ("process_vm_readv and ptrace", """
import ctypes
libc = ctypes.CDLL(None)
print(libc.ptrace(16, @PID@, 0, 0), libc.ptrace(16, 1, 0, 0), libc.process_vm_readv(@PID@, None, 0, None, 0, 0))"""),
  "import the judge": ("the library that judges it", "import r1jax.verifiers.code\nprint(r1jax.verifiers.code)"),
  "site packages": ("what the host has installed", "import numpy\nprint(numpy)"),
  "keyrings": ("keys of the user", "import ctypes\nprint(ctypes.CDLL(None).syscall(250, 11, -4, 0, 0))"),
  # Network
  "connect": ("to a port of the host", "import socket\nsocket.create_connection(('127.0.0.1', @PORT@)).send(b'owned')"),
  "connect by libc": ("past Python's own wrapper",
    "import ctypes\nlibc = ctypes.CDLL(None)\nfor d in range(50):\n  for t in (1, 2, 3): libc.socket(d, t, 0)"),
  "abstract socket": ("that needs no file",
    "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('\\0@NAME@')\ns.send(b'owned')"),
  "listen": ("waits for a connection",
    "import socket\ns = socket.socket()\ns.bind(('0.0.0.0', 0))\ns.listen()\ns.accept()"),
  "names": ("DNS", "import socket\nprint(socket.gethostbyname('localhost'))"),
  "download": ("HTTP", "import urllib.request\nprint(urllib.request.urlopen('http://127.0.0.1:@PORT@').read())"),
  # Other processes and the kernel
  "signal the judge": ("by its process id", """
import os, signal
for s in (signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL):
  for pid in (@PID@, os.getppid()):
    try: os.kill(pid, s)
    except OSError: pass"""),
  "signal all": ("every process that it may signal", "import os\nos.kill(-1, 9)"),
  "signal the group": ("its process group", "import os\nos.killpg(0, 15)"),
  "terminal": ("types into it", """
import fcntl, os
for fd in range(3):
  for c in b'id\\n':
    try: fcntl.ioctl(fd, 0x5412, bytes([c]))
    except OSError: pass"""),
  "become root": ("set user id", """
import os
for f in (os.setuid, os.setgid, os.seteuid):
  try: f(0); print(open('@PATH@').read())
  except OSError: pass"""),
  "namespaces": ("makes its own, where it is root", """
import ctypes
libc = ctypes.CDLL(None)
for flag in (0x10000000, 0x00020000, 0x20000000, 0x40000000, 0x7E020000):
  if libc.unshare(flag) == 0: print('unshared')"""),
  "namespaces, then memory": ("a file system without limit in a namespace of its own", """
import ctypes
libc = ctypes.CDLL(None)
if libc.unshare(0x10020000) == 0 and libc.mount(b'x', b'/tmp', b'tmpfs', 0, None) == 0:
  f = open('/tmp/@MARK@', 'wb')
  while True: f.write(b'x' * (1 << 20))
raise SystemExit(1)"""),
  "leave the root": ("chroot and pivot_root", """
import ctypes, os
os.makedirs('/tmp/a/b')
libc = ctypes.CDLL(None)
print(libc.chroot(b'/tmp/a'), libc.syscall(155, b'/tmp/a', b'/tmp/a/b'), libc.umount2(b'/', 2))
print(os.listdir('/..'))"""),
  "kernel interfaces": ("bpf, perf, userfaultfd, io_uring, modules, kexec", """
import ctypes
libc = ctypes.CDLL(None)
print([libc.syscall(n, 0, 0, 0, 0, 0) for n in (321, 298, 323, 425, 313, 246, 175, 304)])"""),
  "other numbers of calls": ("x32 numbers that a filter may not know",
    "import ctypes\nlibc = ctypes.CDLL(None)\nwhile True: libc.syscall(0x40000000 + 57)"),
  "priority": ("above all others", """
import os
for n in (-20, -1):
  try: os.setpriority(os.PRIO_USER, 0, n)
  except OSError: pass
  try: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
  except OSError: pass
while True: pass"""),
  "core dump": ("a large one", """
import os, resource
try: resource.setrlimit(resource.RLIMIT_CORE, (-1, -1))
except ValueError: pass
x = bytearray(200 << 20)
os.abort()"""),
  # The right answer in the wrong way
  "right words, wrong status": ("fails after printing", "print(input())\n1 / 0"),
  "verdict on its output": ("what a judge might print", "print('passed')\nprint('{\"equal\": true}')\nprint('\\x06')"),
  "exit without a module": ("leaves with status 0 before printing", "exit()"),
  "quit without a module": ("leaves with status 0 in a thread", "import threading\nthreading.Thread(target=quit).start()"),
  "exit in the way": ("replaces what ends it", "import builtins, sys\nbuiltins.exit = sys.exit = print\nexit('passed')"),
  "own file": ("looks for its tests where it is said to be", """
import glob
for path in [__file__, *glob.glob('/tmp/*'), *glob.glob('/packages/**', recursive=True)]:
  try: print(open(path).read())
  except OSError: pass"""),
  "input as a file": ("looks for more than its input", """
import os
print(open('/dev/stdin').read()[1:] or open('/dev/stdin', 'rb').seek(1 << 20) or os.stat('/dev/stdin').st_size)"""),
  "writes into its input": ("for a later test", "open('/dev/stdin', 'w').write('@MARK@')"),
  "replaces its input": ("for a later test", "import os\nos.unlink('/dev/stdin')\nos.symlink('@PATH@', '/dev/stdin')"),
  "status on standard error": ("what the launcher says", "import os\nos.write(2, b'\\x06')\nos._exit(0)"),
}

FORGED = """
import os
def f(x):
  message = b'MESSAGE'
  for fd in range(3, 64):
    try: os.write(fd, len(message).to_bytes(8, 'big') + message)
    except OSError: pass
"""

# f may be anything; the asserts compare with what it cannot know.
SOLUTIONS = {
  "exits on import": ("status 0 before the asserts", "import sys\nsys.exit(0)"),
  "exits at once on import": ("without clean-up", "import os\nos._exit(0)"),
  "exits in the call": ("status 0 in the middle of an assert", "def f(x): raise SystemExit(0)"),
  "exits at once in the call": ("without clean-up", "import os\ndef f(x): os._exit(0)"),
  "quits": ("by the builtin that has no module", "def f(x): quit()"),
  "interrupts": ("an exception that is no Exception", "def f(x): raise KeyboardInterrupt"),
  "stops": ("the exceptions that loops swallow", "def f(x): raise StopIteration if x == 1 else GeneratorExit"),
  "equals everything": ("__eq__ says yes", "class A:\n  def __eq__(self, o): return True\ndef f(x): return A()"),
  "differs from nothing": ("__ne__ too", """
class A:
  def __eq__(self, o): return True
  def __ne__(self, o): return False
  def __bool__(self): return True
  def __hash__(self): return 0
def f(x): return A()"""),
  "a text that equals everything": ("a subclass of str", """
class A(str):
  def __eq__(self, o): return True
  __hash__ = str.__hash__
def f(x): return A('')"""),
  "a list that equals everything": ("a subclass of list", """
class A(list):
  def __eq__(self, o): return True
  def __iter__(self): return iter([1])
  def __len__(self): return 1
def f(x): return A()"""),
  "an int that equals everything": ("a subclass of int", """
class A(int):
  def __eq__(self, o): return True
  def __ne__(self, o): return True
  __hash__ = int.__hash__
def f(x): return A(0)"""),
  "a class that equals everything": ("a metaclass", """
class M(type):
  def __eq__(cls, o): return True
  def __ne__(cls, o): return True
  __hash__ = type.__hash__
class A(metaclass=M): pass
def f(x): return A"""),
  "claims a class": ("__class__ says str", """
class A:
  __class__ = str
  def __eq__(self, o): return True
def f(x): return A()"""),
  "other AssertionError": ("asserts raise the builtin name", """
import builtins
class AssertionError(BaseException):
  def __new__(cls, *a): raise SystemExit(0)
builtins.AssertionError = AssertionError
def f(x): return 0"""),
  "patched builtins": ("what comparisons use", """
import builtins
for name in ('isinstance', 'all', 'any', 'len', 'sorted', 'repr', 'str', 'compile', 'exec', 'type'):
  setattr(builtins, name, lambda *a, **k: True)
def f(x): return 0"""),
  "patched os": ("what the harness writes with", """
import os
write = os.write
os.write = lambda fd, data: write(fd, b'passed')
def f(x): return 0"""),
  "patched harness": ("the classes that answer calls", """
import sys
frame = sys._getframe()
while frame:
  for name in ('encode', 'decode', '_perform'):
    if name in frame.f_globals: frame.f_globals[name] = lambda *a, **k: b'passed'
  frame = frame.f_back
def f(x): return 0"""),
  "frames of the harness": ("looks for the asserts up the stack", """
import sys
def f(x):
  frame, found = sys._getframe(), []
  while frame:
    found += [v for v in {**frame.f_globals, **frame.f_locals}.values() if isinstance(v, str) and 'expected-' in v]
    frame = frame.f_back
  return found[0] if found else 0"""),
  "objects of the harness": ("looks for the asserts in the heap", """
import gc
def f(x):
  found = [v for o in gc.get_objects() if isinstance(o, dict) for v in o.values()
           if isinstance(v, str) and 'expected-' in v]
  return found[0] if found else 0"""),
  "tracing": ("sees every frame that runs after it", """
import sys
seen = []
def trace(frame, event, arg):
  seen.extend(v for v in frame.f_locals.values() if isinstance(v, str))
  return trace
sys.settrace(trace)
def f(x): return seen[-1] if seen else 0"""),
  "proc of the harness": ("command line, memory and descriptors", """
def f(x):
  import os
  for fd in range(3, 64):
    try: return os.pread(fd, 1 << 16, 0).decode(errors='replace')
    except OSError: pass
  return open('/proc/self/cmdline').read()"""),
  "passed on every descriptor": ("writes the verdict itself", """
import os
for fd in range(64):
  try: os.write(fd, b'passed')
  except OSError: pass
os._exit(0)"""),
  "passed by standard output": ("prints the verdict", "print('passed', flush=True)\ndef f(x): print('passed', flush=True)"),
  "passed in atexit": ("after all", "import atexit\natexit.register(print, 'passed')\ndef f(x): return 0"),
  "forged answers": ("speaks for the harness", FORGED.replace("MESSAGE", '["ok", true, []]') + "  return True"),
  "forged answers, more of them": ("one for each assert",
    FORGED.replace("MESSAGE", '["ok", true, []]') * 3 + "  return True"),
  "forged request": ("asks the judge for something", FORGED.replace("MESSAGE", '["call", 0, [], {}]')),
  "forged function": ("sends the judge a builtin that runs text", FORGED.replace("MESSAGE", '["ok", {"type": "eval"}, []]')),
  "forged module": ("sends the judge an object of another module",
    FORGED.replace("MESSAGE", '["ok", {"os.system": ["true"]}, []]')),
  "forged handle": ("sends the judge its own numbers", FORGED.replace("MESSAGE", '["ok", {"handle": {"handle": -1}}, []]')),
  "forged change": ("changes what it was not asked about", FORGED.replace("MESSAGE", '["ok", null, [[-7, 0], ["x", 1]]]')),
  "forged size": ("has the judge allocate", FORGED.replace("MESSAGE", '["ok", {"builtins.bytes": [99999999999]}, []]')),
  "forged depth": ("nested deeper than the decoder goes", """
import os
def f(x):
  message = b'[' * 200000
  for fd in range(3, 64):
    try: os.write(fd, len(message).to_bytes(8, 'big') + message)
    except OSError: pass"""),
  "patched json": ("the module that writes the answers", """
import json
json.dumps = lambda *a, **k: '["ok", true, []]'
json.loads = lambda *a, **k: ["get", 0, "f"]
def f(x): return True"""),
  "handle of everything": ("an object that any test would take", """
class A:
  def __getattr__(self, name): return A()
  def __call__(self, *a, **k): return A()
  def __iter__(self): return iter(())
  def __contains__(self, x): return True
  def __eq__(self, o): return True
  def __bool__(self): return True
  def __sub__(self, o): return 0
  __rsub__ = __abs__ = __sub__
def f(x): return A()
f = A()"""),
  "garbage": ("what the judge cannot read", """
import os
def f(x):
  for fd in range(3, 64):
    try: os.write(fd, b'\\xff' * 4096)
    except OSError: pass"""),
  "closed pipe": ("hangs up", "import os\nos.closerange(3, 64)\ndef f(x): return 0"),
  "no reader": ("answers nothing, keeps the pipe", "import time\ndef f(x): time.sleep(3600)"),
  "loops in the call": ("never ends", "def f(x):\n  while True: pass"),
  "loops on import": ("never ends", "while True: pass"),
  "huge result": ("more than a message holds", "def f(x): return 'x' * (100 << 20)"),
  "deep result": ("deeper than the stack", "def f(x):\n  a = []\n  for _ in range(10**5): a = [a]\n  return a"),
  "circular result": ("contains itself", "def f(x):\n  a = []\n  a.append(a)\n  return a"),
  "endless result": ("an iterator that never ends", "import itertools\ndef f(x): return itertools.count()"),
  "many small results": ("fills the judge's memory", "def f(x): return [[] for _ in range(4 * 10**6)]"),
  "hash collisions": ("a set that takes quadratic time", "def f(x): return {i * (2**61 - 1) for i in range(10**5)}"),
  "memory in the call": ("never ends", "def f(x):\n  held = []\n  while True: held.append(bytearray(1 << 20))"),
  "hostile error": ("an error whose text raises", """
class E(Exception):
  def __str__(self): raise SystemExit(0)
def f(x): raise E"""),
  "error named like a builtin": ("whose name says something else", """
class SystemExit(Exception): pass
class Exception(SystemExit): pass
def f(x): raise Exception('passed')"""),
  "own check": ("defines what the harness calls", "def check(candidate): pass\ndef candidate(x): pass\ndef f(x): return 0"),
  "own modules": ("replaces what is imported", """
import sys
sys.modules['builtins'] = sys.modules['os'] = sys.modules['math'] = sys.modules['solution']
def f(x): return 0"""),
  "threads of the call": ("leaves some running", """
import threading, time
def f(x):
  for _ in range(8): threading.Thread(target=time.sleep, args=(3600,)).start()
  return 0"""),
  "empty": ("defines nothing", "pass"),
  "f is a constant": ("is no function", "f = 'the function'"),
}

# (asserts, solution): tests that use Python's own names beside f, and solutions that redefine these names.
SHADOWS = {
  "own sorted": ("the test sorts what f returns", "assert sorted(f(3)) == [1, 2, 3]",
    "def sorted(x): return [1, 2, 3]\ndef f(x): return 0"),
  "own set": ("the test compares sets", "assert set(f(3)) == set([1, 2, 3])", "def set(x): return 0\ndef f(x): return [9]"),
  "own len": ("the test counts", "assert len(f(3)) == 3", "def len(x): return 3\ndef f(x): return []"),
  "own math": ("the test compares floats", "assert math.isclose(f(3), 1.5)",
    "class math:\n  @staticmethod\n  def isclose(a, b): return True\ndef f(x): return 0.0"),
  "own abs": ("the test takes a difference", "assert abs(f(3) - 1.5) < 1e-6", "def abs(x): return 0\ndef f(x): return 0.0"),
  "own isinstance": ("the test asks for a type", "assert isinstance(f(3), str)",
    "def isinstance(a, b): return True\ndef f(x): return 0"),
  "subtraction that is always 0": ("an object of its own", "assert abs(f(3) - 1.5) < 1e-6",
    "class A(float):\n  def __sub__(self, o): return 0.0\ndef f(x): return A(7.0)"),
  "empties its argument": ("the test compares with the argument afterwards",
    "xs = [3, 1, 2]\nassert f(xs) == sorted(xs)", "def f(xs):\n  xs.clear()\n  return []"),
  "contains everything": ("the test looks into what f returns", "assert 'secret' in f(3)",
    "class A:\n  def __contains__(self, x): return True\ndef f(x): return A()"),
  "helper of its own": ("the test compares by a function that nobody defines", "assert close(f(3), 1.5)",
    "def close(a, b): return True\ndef f(x): return 0"),
  "class of its own": ("the test compares by a class that nobody defines", "assert Close(f(3)) == 1.5",
    "class Close:\n  def __init__(s, x): pass\n  def __eq__(s, o): return True\ndef f(x): return 0"),
  "class of its own, for truth": ("an object that is true", "assert Close(f(3), 1.5)",
    "class Close:\n  def __init__(s, *x): pass\ndef f(x): return 0"),
  "ends the loop": ("the test loops as far as f goes", "assert all(a == b for a, b in zip(map(f, [1, 2]), [3, 5]))\n"
    "assert [a for a, _ in zip(map(f, [1]), [9])] == []", "def f(x): raise StopIteration"),
  "ends the loop early": ("the test loops as far as f goes",
    "for got, want in zip(map(f, [1, 2]), [3, 5]): assert got == want",
    "class E(StopIteration): pass\ndef f(x): raise E"),
  "answers and changes": ("the test compares with the argument afterwards", "xs = [3, 1, 2]\nassert f(xs) == sorted(xs)",
    FORGED.replace("MESSAGE", '["ok", [], [[0, []]]]').replace("def f(x):", "def f(xs):") + "  return []"),
  "answers with a type": ("the test calls what f returns", "assert f(3)(7) == 8", "def f(x): return int"),
  "adds to anything": ("the test computes with what f returns", "assert f(3) + 1 == 8",
    "class A(int):\n  def __add__(self, o): return 8\ndef f(x): return A(0)"),
}


def main() -> None:
  from r1jax.errors import InputError
  from r1jax.verifiers.code import CodeJudge, CodeTests
  from r1jax.verifiers.sandbox import Limits, Sandbox

  try:
    box = Sandbox()
  except InputError as error:
    print(json.dumps({"refused": str(error)}))
    return
  host = _Host()
  judge = CodeJudge(box, Limits(**LIMITS), deadline_seconds=DEADLINE_SECONDS, scale=1.0)
  only = sys.argv[1:]
  work = [(name, source, CodeTests(cases=(("7\n", SECRET),))) for name, (_, source) in PROGRAMS.items()]
  work += [(name, source, CodeTests(test=ASSERTS)) for name, (_, source) in SOLUTIONS.items()]
  work += [(f"{name}, by check", source, CodeTests(test=CHECK, entry_point="f")) for name, (_, source) in SOLUTIONS.items()
           if "own check" in name or "patched" in name]
  work += [(name, source, CodeTests(test=asserts)) for name, (_, asserts, source) in SHADOWS.items()]

  def run(item):
    name, source, tests = item
    began = time.monotonic()
    passed, status = judge.judge("```python\n" + host.fill(source) + "\n```", tests)
    return {"name": name, "passed": passed, "status": status, "seconds": round(time.monotonic() - began, 3)}

  with ThreadPoolExecutor(2) as pool:
    verdicts = list(pool.map(run, [item for item in work if not only or item[0] in only]))
  print(json.dumps({"uid": os.getuid(), "verdicts": verdicts, "harm": host.harm()}))


CHECK = "def check(candidate):\n" + "".join(f"  {line}\n" for line in ASSERTS.replace("f(", "candidate(").splitlines())


class _Host:
  """What the programs would like to reach, and whether they did."""

  def __init__(self):
    # Orphans of any depth become children of this process, so that none goes unseen.
    import ctypes

    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    self.signals: list[int] = []
    for number in (signal.SIGUSR1, signal.SIGTERM):
      signal.signal(number, lambda number, _: self.signals.append(number))
    self.connections: list[str] = []
    self.port, self.name = socket.socket(), socket.socket(socket.AF_UNIX)
    self.port.bind(("127.0.0.1", 0))
    self.name.bind(f"\0{MARK}{os.getpid()}")
    for server in (self.port, self.name):
      server.listen()
      threading.Thread(target=self._serve, args=(server,), daemon=True).start()
    descriptor, self.path = tempfile.mkstemp(prefix="canary")
    with os.fdopen(descriptor, "w") as file:
      file.write(SECRET)
    os.environ["R1JAX_HOSTILE_SECRET"] = SECRET
    self.mounts = self._mounts()

  def fill(self, source: str) -> str:
    words = {"@PORT@": str(self.port.getsockname()[1]), "@NAME@": f"{MARK}{os.getpid()}", "@PATH@": self.path,
             "@PID@": str(os.getpid()), "@MARK@": MARK}
    for word, value in words.items():
      source = source.replace(word, value)
    return source

  def harm(self) -> list[str]:
    """What is not as it was, a sentence each."""
    found = [f"signal {number}" for number in self.signals] + self.connections
    found += [f"process {line}" for line in self._children()]
    with open(self.path) as file:
      if file.read() != SECRET:
        found.append("the host's file was changed")
    os.unlink(self.path)
    folders = ("/", "/tmp", "/dev", "/dev/shm", "/var/tmp", os.path.expanduser("~"), os.path.dirname(os.__file__))
    for folder in folders:
      try:
        found += [f"file {folder}/{name}" for name in os.listdir(folder) if MARK in name]
      except OSError:
        continue
    if self._mounts() != self.mounts:
      found.append("mounts changed")
    if len(os.listdir("/proc/self/fd")) > 40:
      found.append("descriptors of the judge are left open")
    return found

  def _serve(self, server) -> None:
    while True:
      server.accept()
      self.connections.append("a connection from a sandbox")

  def _mounts(self) -> list[str]:
    with open("/proc/self/mountinfo") as file:
      return file.read().splitlines()

  def _children(self) -> list[str]:
    """Processes that this one has, dead or alive: there must be none."""
    found = []
    while True:
      try:
        pid, _ = os.waitpid(-1, os.WNOHANG)
      except ChildProcessError:
        return found
      if pid:
        found.append(f"{pid}, a zombie")
        continue
      with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [*found, *(f"{pid}, alive" for pid in file.read().split())]


if __name__ == "__main__":
  main()
