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
    self._hashes = {h for text in texts for h in self._runs(words(text))}

  def _runs(self, found: Sequence[str]) -> Iterable[bytes]:
    for i in range(max(len(found) - self.n + 1, 1)):
      yield hashlib.blake2b(" ".join(found[i:i + self.n]).encode(), digest_size=8).digest()

  def overlaps(self, text: str) -> bool:
    """Whether a text shares a run of n words with one of the evaluation texts, or is one of the shorter ones."""
    found = words(text)
    return bool(found) and any(h in self._hashes for h in self._runs(found))


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
