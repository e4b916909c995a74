"""Measurements of a set of responses, with 95% intervals: the same code for the held-out questions of a stage, the
comparison at the end of a pipeline, and benchmarks."""
from collections.abc import Mapping, Sequence

import numpy as np

from r1jax.errors import InputError
from r1jax.evaluation.accuracy import Accuracy, mean_share, pass_at_1, pass_at_k
from r1jax.verifiers.verdict import CRASHED, TIMED_OUT, UNPARSABLE


def estimated(name: str, found: Accuracy) -> dict[str, float]:
  """An estimate as metrics: NAME, NAME_low, NAME_high."""
  return {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}


def share(name: str, values: Sequence[float], samples: int) -> dict[str, float]:
  """The mean of values in [0, 1] with its interval, from one value a response, question by question."""
  return estimated(name, mean_share(_by_question(name, values, samples)))


def accuracy(right: Sequence[float], samples: int) -> dict[str, float]:
  """pass@1 with its interval, from one 0 or 1 a response, question by question, `samples` of each."""
  return estimated("pass_at_1", pass_at_1(_by_question("right", right, samples)))


def several(right: Sequence[float], samples: int) -> dict[str, float]:
  """pass@k with its interval for k = 2, 4, 8, .. and for all the samples."""
  correct = _by_question("right", right, samples)
  ks = [1 << i for i in range(1, samples.bit_length()) if 1 << i < samples] + [samples] * (samples > 1)
  return {key: value for k in ks for key, value in estimated(f"pass_at_{k}", pass_at_k(correct, k)).items()}


def conduct(lengths: Sequence[int], stopped: Sequence[bool], statuses: Sequence[str] | None) -> dict[str, float]:
  """How responses ended and were judged: length, mean tokens; and as shares of all, truncated, unparsable (no answer that
  can be read in one that ended) and verifier_failures (the verifier was killed or died).

  statuses: of r1jax.verifiers.verdict; those of truncated responses do not count. None: nothing was judged by rule.
  """
  found = {"length": float(np.mean(lengths)), "truncated": 1 - float(np.mean(stopped))}
  if statuses is None:
    return found
  judged = [status for status, ended in zip(statuses, stopped, strict=True) if ended]
  return found | {"unparsable": judged.count(UNPARSABLE) / len(stopped),
                  "verifier_failures": (judged.count(TIMED_OUT) + judged.count(CRASHED)) / len(stopped)}


def _by_question(name: str, values: Sequence[float], samples: int) -> np.ndarray:
  values = np.asarray(values, float)
  if samples < 1 or values.ndim != 1 or not len(values) or len(values) % samples:
    raise InputError(name, f"{values.shape} values, {samples} samples a question", "Give one value for each sample.")
  return values.reshape(-1, samples)


def table(found: Mapping[str, Mapping[str, float]]) -> str:
  """Measurements as a Markdown table, a line for each metric, a column for each model; intervals in brackets."""
  names = [n for n in dict.fromkeys(name for row in found.values() for name in row)
           if not n.endswith(("_low", "_high", "/questions", "/samples"))]

  def cell(row: Mapping[str, float], name: str) -> str:
    value = f"{row[name]:.3f}" if name in row else ""
    return value + (f" ({row[name + '_low']:.3f} to {row[name + '_high']:.3f})" if f"{name}_low" in row else "")

  lines = ["| | " + " | ".join(found) + " |", "|" + "---|" * (len(found) + 1)]
  lines += [f"| {name} | " + " | ".join(cell(row, name) for row in found.values()) + " |" for name in names]
  return "\n".join(lines) + "\n"
