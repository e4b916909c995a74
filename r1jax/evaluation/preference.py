"""Responses that another model judges beside a baseline's: the forms of Arena-Hard and AlpacaEval.

The judge sees the final summary alone, never the chain of thought (R1, arXiv V2, appendix D.1), and each pair in both
orders, for judges prefer what stands first. The score is the share of games that are won, a tie being half. As Arena-Hard
counts, a game that one side wins by far counts three times, which for two sides is what its Bradley-Terry fit gives;
AlpacaEval's counts once, and is its plain win rate, not the one that a regression corrects for length. The judge and its
words are ours (r1jax.curation.judges), so scores compare with others by the same judge only.
"""
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from r1jax.curation.judges import VERDICTS, Comparison
from r1jax.data.questions import Question
from r1jax.errors import InputError
from r1jax.evaluation.accuracy import ratio
from r1jax.evaluation.measure import estimated
from r1jax.files import read_rows
from r1jax.rewards.language import after_thought
from r1jax.verifiers.tags import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN

BY_FAR = 3  # games that a verdict ">>" counts for (Arena-Hard)
LOST = -VERDICTS["A>>B"]  # of a response without a summary, without asking


def summary_of(response: str) -> str:
  """What the judge sees: what follows the chain of thought, without answer tags; all of a response without a thought,
  nothing of one whose thought never ends."""
  if not any(tag in response for tag in (THINK_OPEN, THINK_CLOSE)):
    text = response
  else:
    text = after_thought(response)
  return text.replace(ANSWER_OPEN, "").replace(ANSWER_CLOSE, "").strip()


def baselines(questions: Sequence[Question], file: str | os.PathLike[str] | None) -> dict[str, str]:
  """Question's id -> what its responses are compared with: in the question itself (AlpacaEval), or a row of a JSONL file
  with the question's uid (Arena-Hard's model answers), or with its id (the responses of another evaluation).

  InputError for questions without one.
  """
  own = {q.id: json.loads(q.answer) for q in questions}
  given = _answers(Path(file)) if file is not None else {}
  found = {key: about.get("baseline") or given.get(about.get("uid", "")) or given.get(key) for key, about in own.items()}
  missing = [key for key, text in found.items() if not text]
  if missing:
    where = f"--baseline {file}" if file is not None else "--baseline"
    raise InputError(where, f"no answer to compare with for {len(missing)} of {len(found)} questions, first {missing[0]}",
                     'Give a JSONL file with {"uid", "answer"} for each question, or the responses of another evaluation.')
  return {key: summary_of(text) for key, text in found.items()}


def _answers(file: Path) -> dict[str, str]:
  """uid or id -> answer of a file of answers."""
  found = {}
  for _, row in read_rows(file):
    key = next((row[name] for name in ("uid", "question_id", "id") if name in row), None)
    if key is not None:
      found.setdefault(str(key), _answer(row))
  return {key: text for key, text in found.items() if text}


def _answer(row: Mapping) -> str | None:
  """The answer in a row: plain, in Arena-Hard's "messages", or in the "choices" of its version 0.1."""
  try:
    plain = next((row[name] for name in ("answer", "output", "text") if isinstance(row.get(name), str)), None)
    if plain is not None:
      return plain
    if "messages" in row:
      content = row["messages"][-1]["content"]
      return content["answer"] if isinstance(content, dict) else content
    return row["choices"][0]["turns"][0]["content"]
  except (KeyError, IndexError, TypeError):
    return None


def games(questions: Sequence[Question], texts: Sequence[str], compared: Mapping[str, str],
          judge: Callable[[Sequence[Comparison]], list[float | None]]) -> list[tuple[float | None, float | None]]:
  """The verdicts of the two orders for the response to each question, for the response; None: no usable verdict.

  texts: summaries, one for each of `questions` (a question may come several times); an empty one has lost both. compared:
  by id, as `baselines` has it.
  """
  asked = [i for i, text in enumerate(texts) if text]
  pairs = [(texts[i], compared[questions[i].id]) for i in asked]
  first = judge([Comparison(questions[i], a, b, 0) for i, (a, b) in zip(asked, pairs, strict=True)])
  second = judge([Comparison(questions[i], b, a, 0) for i, (a, b) in zip(asked, pairs, strict=True)])
  verdicts = {i: (x, None if y is None else -y) for i, x, y in zip(asked, first, second, strict=True)}
  return [verdicts.get(i, (LOST, LOST)) for i in range(len(texts))]


def win_rate(verdicts: Sequence[tuple[float | None, float | None]], samples: int, by_far: int) -> dict[str, float]:
  """win_rate with its interval, and judge_failures, the share of games without a verdict; from `games` of `samples`
  responses to each question. by_far: how often a game counts that one side wins by far. InputError where no game has a
  verdict."""
  played = [[v for v in pair if v is not None] for pair in verdicts]
  weights = [[by_far if abs(v) > 1 else 1 for v in pair] for pair in played]
  won = [sum(w * (0.5 + 0.5 * np.sign(v)) for v, w in zip(pair, ws, strict=True))
         for pair, ws in zip(played, weights, strict=True)]
  if not any(played):
    raise InputError("judge", f"no usable verdict in {2 * len(verdicts)} games", "Look at the judge's replies.")
  counted = np.array([sum(ws) for ws in weights], float).reshape(-1, samples).sum(axis=1)
  right = np.array(won, float).reshape(-1, samples).sum(axis=1)
  failures = 1 - sum(map(len, played)) / (2 * len(verdicts))
  return {**estimated("win_rate", ratio(right[counted > 0], counted[counted > 0])), "judge_failures": failures}
