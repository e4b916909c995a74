"""Scores the responses in a JSONL or Parquet file: what `r1jax score` and `r1jax bench rewards` do."""
import json
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from r1jax import files
from r1jax.errors import InputError
from r1jax.verifiers import choice
from r1jax.verifiers.kinds import check_machine, kind_of
from r1jax.verifiers.maths import Extraction, extract_answer
from r1jax.verifiers.pool import VerifierPool
from r1jax.verifiers.tags import THINK_CLOSE, THINK_OPEN
from r1jax.verifiers.verdict import SCORED, STATUSES, UNPARSABLE, Verdict

UNUSABLE = "unusable"  # the row's answer or tests can judge no response
TESTS = ("tests", "test", "entry_point", "test_list", "test_setup_code", "test_imports")


@dataclass(frozen=True)
class Row:
  """A response with what it is judged by; reference as `r1jax.verifiers.kinds` has it.

  unusable: why no response can be judged by the reference; "" where it can. expected: 1 for a right answer, 0 for a wrong
  one, None where the row does not say.
  """

  id: object
  question: str
  response: str
  reference: str
  unusable: str = ""
  expected: int | None = None


def read_rows(path: str | Path, kind: str) -> list[Row]:
  """The rows of a file, each {"id", "question", "answer", "response", "expected"}; of kind code with tests for "answer".

  "answer" of kind choice: the label, place or text of an option; options are read from "options" or from the question. Of
  kind logic: the puzzle's reference, an object or its JSON. id may be left out: the line's number then. expected may be left
  out. A row with an answer or with tests that cannot judge, or without any, is `unusable`.

  Raises:
    InputError: as files.read_rows; naming file and line for a row without a response; for a machine that cannot judge the
      kind.
  """
  kind_of(kind)
  found = files.read_rows(path, half_surrogates=True)  # a response is judged, whatever it holds
  rows = [_row(row, number, f"{path}:{number}", kind) for number, row in found]
  if not rows:
    raise InputError(str(path), "the file has no rows", "Give one JSON object a line.")
  check_machine([kind])
  return rows


def _row(row: dict, number: int, where: str, kind: str) -> Row:
  question, response, expected = row.get("question", ""), row.get("response"), row.get("expected")
  for name, value in (("question", question), ("response", response)):
    if not isinstance(value, str):
      raise InputError(f"{where}, field {name!r}", f"{value!r:.80}", "Give text.")
  if expected is not None and (not isinstance(expected, int | float) or expected not in (0, 1)):
    raise InputError(f"{where}, field 'expected'", f"{expected!r:.80}", "Give 1 for a right answer, 0 for a wrong one.")
  reference = unusable = ""
  try:
    reference = _reference(row, question, where, kind)
    kind_of(kind).check(reference, where)
  except InputError as error:
    unusable = str(error)
  return Row(row.get("id", number), question, response, reference, unusable, expected)


def _reference(row: dict, question: str, where: str, kind: str) -> str:
  if kind == "code":
    return json.dumps({name: row[name] for name in TESTS if name in row})
  answer = row.get("answer")
  if kind == "choice":
    try:
      return choice.reference(question, answer, row.get("options"))
    except InputError as error:
      raise InputError(f"{where}, {error.where}", error.found, error.remedy) from None
  if kind == "logic" and isinstance(answer, dict):
    return json.dumps(answer)
  if isinstance(answer, int | float) and not isinstance(answer, bool):
    answer = str(answer)
  if not isinstance(answer, str) or not answer.strip():
    raise InputError(f"{where}, field 'answer'", f"{answer!r:.80}", "Give the right answer as text.")
  return answer


def candidates(response: str, kind: str) -> list[str]:
  r"""The places where the answer of a response may stand, the first readable one counts.

  The `<answer>` block; without one the \boxed{..}; without that either all that follows the last `</think>`, then its
  last line, then (maths) its last number. Of kind code the response itself.
  """
  if kind_of(kind).whole_response:
    return [response]
  for how in (Extraction.TAGGED, Extraction.BOXED):
    found = extract_answer(response, how=how)
    if found is not None:
      return [found]
  text = response.rpartition(THINK_CLOSE)[2].partition(THINK_OPEN)[0].strip()
  places = [text, text.rpartition("\n")[2]]
  if kind == "maths":
    places.append(extract_answer(response, how=Extraction.LAST_NUMBER) or "")
  return list(dict.fromkeys(place for place in places if place))


def verify(kind: str, response: str, reference: str, question: str = "", pool: VerifierPool | None = None) -> Verdict:
  """(right, status) of a whole response: the answer is looked for where `candidates` says.

  pool: judges in its worker processes, each candidate under their deadline; by default it is judged here, without one.
  Raises InputError for an unknown kind.
  """
  judge, verdict = kind_of(kind).judge, (False, UNPARSABLE)
  for answer in candidates(response, kind):
    if pool is None:
      verdict = judge(answer, reference, question)
    else:
      verdict = pool.submit(answer, reference, kind, question).result()
    if verdict[1] != UNPARSABLE:
      break
  return verdict


@contextmanager
def ready_pool(workers: int, timeout_seconds: float) -> Iterator[VerifierPool]:
  """A pool whose workers have started, so that no row pays for that."""
  with VerifierPool(workers, timeout_seconds) as pool:
    for future in [pool.submit("1", "1") for _ in range(workers)]:
      future.result()
    yield pool


def score_rows(pool: VerifierPool, rows: list[Row], kind: str) -> Iterator[dict]:
  """{"id", "value", "parts", "status", "seconds"} of each row, in order, as soon as it and those before it are judged.

  value: 1.0 for a right answer, 0.0 for another. seconds: wall seconds of its verdict. An unusable row has the status
  "unusable" and the field "why".
  """
  def score(row: Row) -> dict:
    start = time.perf_counter()
    right, status = verify(kind, row.response, row.reference, row.question, pool) if not row.unusable else (False, UNUSABLE)
    value, seconds = float(right), time.perf_counter() - start
    result = {"id": row.id, "value": value, "parts": {"accuracy": value}, "status": status, "seconds": round(seconds, 4)}
    return result | ({"why": row.unusable} if row.unusable else {})

  with ThreadPoolExecutor(pool.workers) as threads:
    yield from threads.map(score, rows)


def throughput(rows: list[Row], kind: str, workers: int, timeout_seconds: float, repeats: int) -> dict:
  """Rows a second, judged `repeats` times over by workers that are warm: {"rows", ..., "rows_per_second": {...}}."""
  rates = []
  with ready_pool(workers, timeout_seconds) as pool:
    for _ in range(repeats + 1):
      start = time.perf_counter()
      results = list(score_rows(pool, rows, kind))
      rates.append(len(rows) / (time.perf_counter() - start))
  rates = sorted(rates[1:])  # the first round fills caches and measures the machine
  return {
    "kind": kind, "rows": len(rows), "workers": workers, "repeats": repeats,
    "right": sum(result["value"] for result in results) / len(rows),
    "rows_per_second": {"median": round(statistics.median(rates), 1), "min": round(rates[0], 1), "max": round(rates[-1], 1)},
  }


def summary(results: list[dict], seconds: float) -> str:
  """One line: how many rows, how many right, statuses, checks a second."""
  found = Counter(result["status"] for result in results)
  statuses = ", ".join(f"{found[status]} {status}" for status in (*STATUSES, UNUSABLE) if found[status] or status == SCORED)
  right = sum(result["value"] for result in results)
  return (f"{len(results)} rows, {right:.0f} right ({right / len(results):.1%}); {statuses}; "
          f"{seconds:.1f} s, {len(results) / seconds:.1f} rows a second")


def agreement(rows: list[Row], results: list[dict]) -> tuple[float, str] | None:
  """(share of the rows with `expected` whose value is that, a line that says it); None without such rows. An unusable row
  has the value 0: it pays for nothing."""
  pairs = [(row.expected, result) for row, result in zip(rows, results, strict=True) if row.expected is not None]
  if not pairs:
    return None
  accepts = [result["id"] for expected, result in pairs if result["value"] > expected]
  rejects = [result["id"] for expected, result in pairs if result["value"] < expected]
  share = 1 - (len(accepts) + len(rejects)) / len(pairs)
  return share, (f"agreement {share:.2%} of {len(pairs)} rows; {len(accepts)} false accepts{_some(accepts)}; "
                 f"{len(rejects)} false rejects{_some(rejects)}")


def _some(ids: list) -> str:
  return f" ({', '.join(str(each)[:60] for each in ids[:10])}{', ..' if len(ids) > 10 else ''})" if ids else ""
