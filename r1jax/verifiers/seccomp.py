"""The system calls that a sandboxed program may not make, as a filter for bubblewrap's --seccomp.

A list of what is refused, not of what is allowed: namespaces and limits do most of the work. The filter takes what
they leave open: children (so that one process is all there is to count and to kill, and limits on a process are limits
on the program), memory that no limit counts (System V, memfd), network, further user namespaces, and system calls that
a Python program has no use for and that kernels are attacked by. Refused calls fail with EPERM.
"""

import errno
import struct

# Numbers: asm/unistd_64.h and asm-generic/unistd.h. None: the architecture does not have it.
_REFUSED = {  # name: (x86_64, aarch64)
  "fork": (57, None), "vfork": (58, None),  # and clone without CLONE_THREAD
  "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "shmat": (30, 196),
  "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
  "socket": (41, 198),  # socketpair stays: asyncio needs it, and it connects to nothing
  "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
  "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
  "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "swapon": (167, 224), "quotactl": (179, 60),
  "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
  "pidfd_getfd": (438, 438), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
  "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
  "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "fanotify_init": (300, 262),
  "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "personality": (135, 92),
  "modify_ldt": (154, None), "init_module": (175, 105), "finit_module": (313, 273), "kexec_load": (246, 104),
  "reboot": (169, 142), "syslog": (103, 116), "acct": (163, 89),
}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH of linux/audit.h
_X32 = 0x40000000  # x86_64's second set of numbers
_CLONE_THREAD = 0x10000

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # linux/filter.h
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000  # linux/seccomp.h
_NUMBER, _ARCH, _ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; of the first argument, the low half

MACHINES = tuple(_MACHINES)


def refusals(machine: str) -> bytes:
  """The filter for `platform.machine()`, one of MACHINES: an array of struct sock_filter."""
  column, arch = _MACHINES[machine]
  program = [
    (_LOAD, 0, 0, _ARCH),
    (_JUMP_EQUAL, 1, 0, arch),
    (_RETURN, 0, 0, _KILL),  # 32-bit calls have other numbers
    (_LOAD, 0, 0, _NUMBER),
    *_when(_JUMP_AT_LEAST, _X32, [_fail(errno.ENOSYS)]),
    *_when(_JUMP_EQUAL, _CLONE3[column], [_fail(errno.ENOSYS)]),  # its flags cannot be seen; libc falls back to clone
    *_when(_JUMP_EQUAL, _CLONE[column], [
      (_LOAD, 0, 0, _ARGUMENT),
      (_JUMP_BITS, 1, 0, _CLONE_THREAD),
      _fail(errno.EPERM),
      (_RETURN, 0, 0, _ALLOW),
    ]),
  ]
  for numbers in _REFUSED.values():
    if numbers[column] is not None:
      program += _when(_JUMP_EQUAL, numbers[column], [_fail(errno.EPERM)])
  program.append((_RETURN, 0, 0, _ALLOW))
  return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def _when(jump: int, value: int, then: list) -> list:
  """Instructions for when the comparison of the accumulator with `value` holds; they must end by returning."""
  return [(jump, 0, len(then), value), *then]


def _fail(number: int) -> tuple:
  return (_RETURN, 0, 0, _ERRNO | number)
