"""Replies that were paid for, in an SQLite file: asked once, whatever kills the run."""
import contextlib
import sqlite3
import sys
from pathlib import Path


class ReplyCache:
  """key -> reply, with the tokens it cost; a reply of None is one that was paid for and cannot be used.

  A file that is damaged or locked by another program is set aside under another name, and the cache begins anew; one that
  cannot be written to is read only. Both are said on stderr.
  """

  def __init__(self, file: Path):
    self.file, self._writable = file, True
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
      self._open()
    except sqlite3.DatabaseError as error:
      with contextlib.suppress(AttributeError):
        self._connection.close()
      aside = next(path for n in range(1, 1_000_000) if not (path := file.with_name(f"{file.name}.unsound-{n}")).exists())
      for suffix in ("", "-journal", "-wal", "-shm"):  # a journal would be applied to the new file
        with contextlib.suppress(FileNotFoundError):
          file.with_name(file.name + suffix).rename(aside.with_name(aside.name + suffix))
      print(f"{file}: {error}; set aside as {aside.name}, what it held is asked for again", file=sys.stderr)
      self._open()

  def _open(self) -> None:
    # All calls but this one come from the thread of the client's event loop.
    self._connection = sqlite3.connect(self.file, timeout=2.0, check_same_thread=False)
    self._connection.execute("create table if not exists replies (key text primary key, reply text, tokens integer)")
    self.spent()

  def spent(self) -> tuple[int, int]:
    """(requests, tokens) of all replies."""
    return self._connection.execute("select count(*), coalesce(sum(tokens), 0) from replies").fetchone()

  def get(self, key: str) -> tuple[str | None] | None:
    """(reply,), or None where it was not asked for."""
    return self._connection.execute("select reply from replies where key = ?", (key,)).fetchone()

  def put(self, key: str, reply: str | None, tokens: int) -> None:
    """Keeps a reply."""
    if not self._writable:
      return
    try:
      with self._connection:
        self._connection.execute("insert or replace into replies values (?, ?, ?)", (key, reply, tokens))
    except sqlite3.DatabaseError as error:
      self._writable = False
      print(f"{self.file}: {error}; replies are not kept from here on", file=sys.stderr)

  def close(self) -> None:
    """Closes the file."""
    self._connection.close()
