"""Files that a sandbox shows to programs: the interpreter, its standard library, numpy if asked for, shared libraries."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from r1jax.errors import InputError

PACKAGES = "/packages"  # where numpy is in a sandbox
LDD_SECONDS = 30.0  # ours
# Extension modules for what a sandbox has not: terminals, windows, network, data bases. hashlib does without _hashlib.
_LEFT_OUT = (
  "_tkinter", "_curses", "readline", "_ssl", "_hashlib", "nis", "_sqlite3", "_dbm", "_gdbm", "_uuid", "_crypt",
  "ossaudiodev", "_test", "xx", "_xx")  # fmt: skip


@cache
def binds(python: str, packages: tuple[str, ...] = ()) -> tuple[str, ...]:
  """bubblewrap's arguments that show the interpreter, its standard library, folders of packages and the shared libraries of
  all these, read-only."""
  library = os.path.dirname(os.path.realpath(os.__file__))
  extensions = next((path for path in sys.path if path.endswith("lib-dynload")), os.path.join(library, "lib-dynload"))
  shown = [library, python, *_shared_libraries(python, extensions, packages)]
  if not os.path.realpath(extensions).startswith(library + os.sep):
    shown.append(extensions)
  # bubblewrap would make them for root alone.
  above = sorted({str(parent) for path in shown for parent in Path(path).parents} - {"/"})
  result = [argument for path in above for argument in ("--perms", "0755", "--dir", path)]
  result += [argument for path in shown for argument in ("--ro-bind", path, path)]
  for name in ("site-packages", "dist-packages"):
    if os.path.isdir(hidden := os.path.join(library, name)):
      result += ["--size", "4096", "--tmpfs", hidden]
  for folder in packages:
    result += ["--perms", "0755", "--dir", PACKAGES, "--ro-bind", folder, os.path.join(PACKAGES, os.path.basename(folder))]
  return tuple(result)


def numpy_folders() -> tuple[str, ...]:
  """numpy's folder and that of the libraries that it brings along, where it does."""
  found = importlib.util.find_spec("numpy")
  if found is None:
    raise InputError("numpy in the code sandbox", "it is not installed here", "Install numpy, or do without it.")
  folder = os.path.realpath(os.path.dirname(found.origin))
  return tuple(path for path in (folder, f"{folder}.libs") if os.path.isdir(path))


def _shared_libraries(python: str, extensions: str, packages: Sequence[str]) -> list[str]:
  """Files that the dynamic loader takes for the interpreter, its extension modules and packages, the loader included.

  Each costs 0.3 ms a sandbox, so the modules of _LEFT_OUT go without, and cannot be imported.
  """
  modules = [path for path in sorted(Path(extensions).glob("*.so")) if not path.name.startswith(_LEFT_OUT)]
  modules += [path for folder in packages for path in sorted(Path(folder).rglob("*.so*"))]
  files = [python, *map(str, modules)]
  done = subprocess.run(["ldd", *files], capture_output=True, text=True, errors="replace", timeout=LDD_SECONDS)
  found = {}
  for line in done.stdout.splitlines():
    words = line.split()
    path = words[2] if len(words) > 3 and words[1] == "=>" else words[0] if words else ""
    if path.startswith("/") and line.startswith("\t") and not os.path.realpath(path).startswith(tuple(packages) or "\0"):
      found[path] = None
  return list(found)
