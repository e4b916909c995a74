"""A run directory: what its files are called, who may write there, and what in it can be believed.

    config.json       the experiment, versions of packages, and checksums of the files that the run reads
    summary.json      what finished stages say, with the checksums of what they made and of their log lines
    metrics.jsonl, samples.jsonl    lines of all stages, each with `stage` and `step`
    checkpoints/STAGE/STEP          sealed (r1jax.files.seal)
    datasets/STAGE.jsonl            rows that a stage made
    data/                           questions and token rows as they were built, sealed
    lock              held by the process that writes

config.json and summary.json carry a checksum of themselves. What is unsound is renamed to NAME.unsound, never deleted.
"""
import fcntl
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xxhash

from r1jax.config import differences
from r1jax.errors import InputError
from r1jax.files import CHECKSUMS, checksum, damage, seal, write_atomically

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorstore", "numpy", "tensorflow-datasets", "grain",
            "mpmath")
WITHOUT_CHECKSUM = {"config", "hash", "versions", "experiment", "status", "seconds", "stages"}  # what older versions wrote
LOGS = ("metrics", "samples")
LOCK = "lock"
READ = {"path": (), "weights": (".json", ".safetensors"), "tokenizer": (".json", ".jinja")}  # fields that name what is read


def say(text: str) -> None:
  """One line on stderr, where the log of a run goes."""
  print(text, file=sys.stderr, flush=True)


def set_aside(path: Path, why: str) -> None:
  """Renames what cannot be believed to NAME.unsound, NAME.unsound2, ..., and says so."""
  others = sum(1 for _ in path.parent.glob(f"{path.name}.unsound*"))
  target = path.with_name(f"{path.name}.unsound{others + 1 if others else ''}")
  path.rename(target)
  say(f"{path}: {why}; set aside as {target.name}")


def paths_in(config: Any) -> Iterator[tuple[str, str]]:
  """(field, path) of whatever a JSON config names that is on this disk."""
  if isinstance(config, Mapping):
    if config.get("type") == "Tfds":  # a data set of TFDS, which is a folder of its own
      home = config.get("data_dir") or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
      yield "data_dir", f"{home}/{config['name'].partition(':')[0]}"
    for name, value in config.items():
      if name in READ and isinstance(value, str) and value != "bytes":
        yield name, value
      else:
        yield from paths_in(value)
  elif isinstance(config, list | tuple):
    for value in config:
      yield from paths_in(value)


def contents(config: Any) -> dict[str, str]:
  """file -> checksum of every file that a config names, of folders those that r1jax reads."""
  found: dict[str, str] = {}
  for field, name in paths_in(config):
    path = Path(name).expanduser()
    if path.is_file() and field == "tokenizer":
      path = path.parent  # its neighbours are read too
    if field == "data_dir":
      files = sorted(path.rglob("*"))
    else:
      files = sorted(f for f in path.iterdir() if f.suffix in READ[field]) if path.is_dir() else [path]
    found |= {str(f): checksum(f) for f in files if f.is_file() and str(f) not in found}
  return found


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
  """The files whose contents differ, or that are in one of the two only."""
  return sorted(file for file in before.keys() | now.keys() if before.get(file) != now.get(file))


def without_watchdogs(config: Any) -> Any:
  """A config without what decides no result: a run that a watchdog has stopped may go on with another policy."""
  if isinstance(config, Mapping):
    return {k: without_watchdogs(v) for k, v in config.items() if k != "watchdogs"}
  return [without_watchdogs(v) for v in config] if isinstance(config, list | tuple) else config


class RunDir:
  """One run directory. Reading needs nothing; whoever writes holds the lock (`held`)."""

  def __init__(self, path: str | os.PathLike[str]):
    self.path = Path(path)
    self.config, self.summary = self.path / "config.json", self.path / "summary.json"
    self.data, self.datasets = self.path / "data", self.path / "datasets"
    self._new: dict | None = None  # what config.json is to be
    self.read_only = False  # found by `held`: a run that is finished can be asked for its summary there too

  def __fspath__(self) -> str:
    return os.fspath(self.path)

  def checkpoints(self, stage: str) -> Path:
    """Where a stage keeps its checkpoints."""
    return self.path / "checkpoints" / stage

  def log(self, name: str) -> Path:
    """The file of one of LOGS."""
    return self.path / f"{name}.jsonl"

  # Who writes

  @contextmanager
  def held(self) -> Iterator[None]:
    """This process alone writes here. The kernel releases the lock when the process is gone, however it went.

    InputError where another process holds it, and for a path that cannot be a run directory. A directory that was made for
    it and holds nothing at the end is removed.
    """
    where = f"--run_dir {self.path}"
    try:
      made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
      self._check_free()
      self.path.mkdir(parents=True, exist_ok=True)
      try:
        file = (self.path / LOCK).open("a+", encoding="utf-8")
      except OSError:
        if not self.config.is_file():
          raise
        self.read_only = True
    except OSError as error:
      raise InputError(where, error.strerror or str(error), "Give a directory that can be written.") from None
    if self.read_only:
      yield
      return
    with file:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        file.seek(0)
        raise InputError(where, f"{file.read().strip() or 'another process'} is writing there",
                         "Wait for it, or give another --run_dir.") from None
      file.truncate(0)
      file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
      file.flush()
      try:
        yield
      finally:
        if made and [entry.name for entry in self.path.iterdir()] == [LOCK]:
          (self.path / LOCK).unlink()
          for folder in made:
            folder.rmdir()

  def _check_free(self) -> None:
    if not self.config.exists() and self.path.is_dir() and any(entry.name != LOCK for entry in self.path.iterdir()):
      raise InputError(f"--run_dir {self.path}", "not empty, and not a run directory (no config.json)",
                       "Give a new or an empty directory.")

  def claim(self, config: dict, config_hash: str) -> None:
    """Refuses a directory that holds another run, or one that has read other files; `begin` writes config.json.

    Package versions that differ from those that the run began with are said.
    """
    config, read = json.loads(json.dumps(config)), contents(config)
    versions = {name: version(name) for name in PACKAGES}
    self._check_free()
    if not self.config.exists():
      self._new = {"config": config, "hash": config_hash, "versions": versions, "read": read}
      return
    old = self.read_config()
    fields = differences(without_watchdogs(old["config"]), without_watchdogs(config))
    if fields:
      raise InputError(str(self.config), "this run was started with another config: " + "; ".join(fields),
                       "Give the old values, or another --run_dir.")
    files = changed(old["read"], read) if "read" in old else ()  # an older version wrote none
    if files:
      raise InputError(", ".join(files), f"changed since the run in {self.path} began",
                       "Restore it, or give another --run_dir.")
    for name in sorted(old.get("versions", {}).keys() & versions):
      if old["versions"][name] != versions[name]:
        say(f"{self.path}: the run began with {name} {old['versions'][name]} and goes on with {versions[name]}: what "
            "follows need not be what it would have been, bit for bit")

  def begin(self) -> None:
    """Writes the config.json of a run that is new."""
    if self._new is not None:
      self.path.mkdir(parents=True, exist_ok=True)
      self._write(self.config, self._new)

  # What is said of the run

  def read_config(self) -> dict:
    """config.json; InputError where it is damaged."""
    found = self._read(self.config)
    if not isinstance(found, dict) or not isinstance(found.get("config"), dict):
      raise InputError(str(self.config), "damaged, or no config of a run" if found is None else "no config of a run",
                       "Restore it from a copy, or give another --run_dir.")
    return found

  def read_summary(self, experiment: str, change: bool = True) -> dict:
    """summary.json, or an empty one: where it is damaged it is set aside, and the stages say what they know again.

    change False: a damaged one is an InputError.
    """
    found = self._read(self.summary) if self.summary.exists() else {"stages": {}}
    stages = found.get("stages") if isinstance(found, dict) else None
    if not isinstance(stages, dict) or not all(isinstance(entry, dict) for entry in stages.values()):
      if self.read_only or not change:
        raise InputError(str(self.summary), "damaged", "Start that run again: its stages say what they know once more.")
      set_aside(self.summary, "damaged")
      found = {}
    return {"experiment": experiment, "status": "running", "seconds": 0.0, "stages": {}} | found

  def write_summary(self, summary: dict) -> None:
    self._write(self.summary, summary)

  def _write(self, file: Path, value: dict) -> None:
    write_atomically(file, json.dumps(value | {"checksum": _checksum_of(value)}, indent=1, ensure_ascii=False))

  def _read(self, file: Path) -> Any:
    """What _write wrote; None where it is damaged."""
    try:
      value = json.loads(file.read_text(encoding="utf-8"))
      known = value.pop("checksum", None)
    except (ValueError, AttributeError, TypeError):
      return None
    return value if known == _checksum_of(value) or known is None and value.keys() <= WITHOUT_CHECKSUM else None

  # What finished stages rest on

  def made(self, stage: str) -> dict[str, str]:
    """file -> checksum of what a stage has left: its newest checkpoint, its data set, its table."""
    steps = sorted((f for f in self.checkpoints(stage).glob("*") if f.name.isdigit()), key=lambda f: int(f.name))
    files = [self.datasets / f"{stage}.jsonl", self.datasets / f"{stage}.json", self.path / f"{stage}.md",
             *(f / CHECKSUMS for f in steps[-1:])]
    return {f.relative_to(self.path).as_posix(): checksum(f) for f in files if f.is_file()}

  def unsound(self, stage: str, entry: dict, kind: str | None = None) -> str | None:
    """Why a stage that summary.json calls finished is not; None where all that it left is as it was written. kind: of the
    stage, as r1jax.stages.context has it."""
    if kind in ("policy", "reward_model") and not self.checkpoints(stage).is_dir():
      return f"{self.checkpoints(stage)} is gone"
    for name, known in entry.get("made", {}).items():
      file = self.path / name
      if not file.is_file():
        return f"{file} is gone"
      if checksum(file) != known:
        return f"{file} is not what was written"
      wrong = damage(file.parent) if file.name == CHECKSUMS else None
      if wrong:
        return f"{file.parent}: {wrong}"
    return None

  def _sets(self) -> list[Path]:
    """The folders of questions and token rows that were built whole."""
    files = (f.relative_to(self.data) for f in self.data.rglob("*") if f.is_file() and f.suffix != ".lock")
    return [self.data / folder for folder in sorted({f.parent for f in files if "incomplete" not in f.as_posix()})]

  def check_sets(self) -> None:
    """Removes built sets that are not what was built: they are built anew."""
    for folder in self._sets():
      wrong = damage(folder) if (folder / CHECKSUMS).exists() else None
      if wrong:
        say(f"{folder}: damaged ({wrong}); it is built anew")
        shutil.rmtree(folder)

  def seal_sets(self) -> None:
    """Writes down the checksums of the sets that were built since."""
    for folder in self._sets():
      if not (folder / CHECKSUMS).exists():
        seal(folder)

  # The log

  def lines(self, name: str) -> tuple[list[tuple[bytes, dict]], int]:
    """((line, what it says) of each whole line of a log, how many others there are). What a kill left of a last line is in
    neither."""
    file = self.log(name)
    *whole, _ = file.read_bytes().split(b"\n") if file.exists() else [b""]
    found = []
    for line in whole:
      try:
        record = json.loads(line)
        found.append((line + b"\n", record | {"stage": record["stage"], "step": int(record["step"])}))
      except (ValueError, TypeError, KeyError):
        continue
    return found, len(whole) - len(found)

  def records(self, name: str, stage: str | None = None) -> list[dict]:
    """What the whole lines of a log say, of one stage or of all."""
    return [record for _, record in self.lines(name)[0] if stage in (None, record["stage"])]

  def keep_lines(self, name: str, keep: Callable[[dict], bool], more: bytes = b"") -> list[tuple[bytes, dict]]:
    """Rewrites a log with the lines that are to be kept, and `more` behind them; those that were kept."""
    found, damaged = self.lines(name)
    if damaged:
      say(f"{self.log(name)}: {damaged} damaged lines are left out")
    kept = [(line, record) for line, record in found if keep(record)]
    write_atomically(self.log(name), b"".join(line for line, _ in kept) + more)
    return kept

  def log_checksums(self) -> dict[str, dict[str, str]]:
    """stage -> log -> checksum of the stage's lines."""
    sums: dict[str, dict[str, Any]] = {}
    for name in LOGS:
      for line, record in self.lines(name)[0]:
        sums.setdefault(record["stage"], {}).setdefault(name, xxhash.xxh3_128()).update(line)
    return {stage: {name: of.hexdigest() for name, of in logs.items()} for stage, logs in sums.items()}

  def faults(self) -> list[str]:
    """Everything in the directory that is not what was written, a sentence each; nothing is changed."""
    found = []
    for file in (self.config, self.summary):
      if (file.exists() or file is self.config) and (not file.exists() or self._read(file) is None):
        found.append(f"{file} is damaged" if file.exists() else f"{file} is missing")
    summary = (self._read(self.summary) if self.summary.exists() else None) or {}
    sums = self.log_checksums()
    for stage, entry in summary.get("stages", {}).items():
      wrong = self.unsound(stage, entry)
      found += [f"{stage}: {wrong}"] if wrong else []
      found += [f"{self.log(name)}: the lines of stage {stage} are not those that were written"
                for name, known in entry.get("log", {}).items() if sums.get(stage, {}).get(name) != known]
    for name in LOGS:
      damaged = self.lines(name)[1]
      found += [f"{self.log(name)}: {damaged} damaged lines"] if damaged else []
    for file in sorted(self.path.rglob(CHECKSUMS)):
      wrong = None if ".unsound" in str(file.relative_to(self.path)) else damage(file.parent)
      found += [f"{file.parent}: {wrong}"] if wrong else []
    return list(dict.fromkeys(found))


def _checksum_of(value: dict) -> str:
  return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True).encode())
