"""The responses of an evaluation on disk: a line for each as it ends, so that a killed evaluation goes on where it stood.

The first line says what they are responses to and how they were sampled; a file with another is refused, never mixed in.
The number of questions and of samples are no part of it: more of either are added to what is there.
"""
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from r1jax.config import differences
from r1jax.errors import InputError
from r1jax.files import write_atomically


@dataclass(frozen=True)
class Kept:
  """A response. id: of its question. text: what was sampled, without the prompt, the template's prefill and the stop token.
  tokens: how many were sampled. stopped: it ended by itself."""

  id: str
  sample: int
  text: str
  tokens: int
  stopped: bool


class Responses:
  """Those of one model to one benchmark. found: (question's id, sample) -> Kept."""

  def __init__(self, file: Path, about: dict):
    self.file, self.found = file, {}
    lines = self._intact_lines() if file.exists() else []
    if not lines:
      file.parent.mkdir(parents=True, exist_ok=True)
      lines = [json.dumps(about, ensure_ascii=False) + "\n"]
    changed = differences(json.loads(lines[0]), json.loads(json.dumps(about)))
    if changed:
      raise InputError(str(file), "holds responses that were sampled otherwise: " + "; ".join(changed),
                       "Give the old values, or another --out.")
    for line in lines[1:]:
      kept = Kept(**json.loads(line))
      self.found[kept.id, kept.sample] = kept
    write_atomically(file, "".join(lines))

  def _intact_lines(self) -> list[str]:
    """The lines up to one that a kill has torn; InputError for a file of something else."""
    intact = []
    with self.file.open(encoding="utf-8", newline="\n", errors="replace") as lines:
      for number, line in enumerate(lines, start=1):
        try:
          row = json.loads(line) if line.endswith("\n") else None
        except ValueError:
          row = None
        if row is None:
          break
        if number > 1 and (not isinstance(row, dict) or row.keys() != Kept.__dataclass_fields__.keys()):
          raise InputError(f"{self.file}:{number}", "no response of an evaluation", "Give another --out.")
        intact.append(line)
    return intact

  def add(self, responses: Iterable[Kept]) -> None:
    """Writes responses down, to the disk before it returns."""
    responses = list(responses)
    with self.file.open("a", encoding="utf-8") as file:
      file.writelines(json.dumps(asdict(each), ensure_ascii=False) + "\n" for each in responses)
      file.flush()
      os.fsync(file.fileno())
    self.found |= {(each.id, each.sample): each for each in responses}
