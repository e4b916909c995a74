"""Contamination and duplicates: what a training set must not share with evaluation sets, or have twice."""
import hashlib
from collections.abc import Callable, Iterable, Sequence

from r1jax.curation.filters import words

N = 10  # words that a text must share with an evaluation question or solution to be left out (R1, V2, appendix D.1)


class NGrams:
  """The runs of n words of evaluation texts. A shorter text counts as one run, so that only the whole of it is matched.

  Hashes of eight bytes stand for the runs, so that millions fit into memory; a false match is a one in 10^12 affair.
  """

  def __init__(self, texts: Iterable[str], n: int = N):
    self.n = n
    self._hashes = {h for text in texts for h in _runs(words(text), n)}

  def overlaps(self, text: str) -> bool:
    """Whether a text shares a run of n words with one of the evaluation texts, or is one of the shorter ones."""
    found = words(text)
    return bool(found) and any(h in self._hashes for h in _runs(found, self.n))


def _runs(found: Sequence[str], n: int) -> Iterable[bytes]:
  """Hashes of the runs of n words, or of all of fewer."""
  for i in range(max(len(found) - n + 1, 1)):
    yield hashlib.blake2b(" ".join(found[i:i + n]).encode(), digest_size=8).digest()


def overlapping(evaluated: Sequence[Iterable[str]], training: Iterable[tuple[str, str]], n: int = N) -> dict[int, str]:
  """Number of an evaluated item -> the name of the first training set that shares a run of n words with one of its texts;
  a text of fewer words has to be the whole of a training text. Reads (name, text) of the training sets once, in a stream."""
  owners: dict[bytes, list[int]] = {}
  for i, texts in enumerate(evaluated):
    for run in {run for text in texts for found in [words(text)] if found for run in _runs(found, n)}:
      owners.setdefault(run, []).append(i)
  result: dict[int, str] = {}
  for name, text in training:
    for run in _runs(words(text), n):
      for i in owners.get(run, ()):
        result.setdefault(i, name)
  return result


def deduplicate(rows: Iterable[dict], text: Callable[[dict], tuple[str, ...]]) -> tuple[list[dict], int]:
  """(rows whose texts no earlier row has in the same words, how many were left out)."""
  kept, seen, dropped = [], set(), 0
  for row in rows:
    key = tuple(tuple(words(part)) for part in text(row))
    if key in seen:
      dropped += 1
    else:
      seen.add(key)
      kept.append(row)
  return kept, dropped
