"""What the sample browser gets: a choice of samples, thinking and answer apart, as JSON that is safe inside a <script>."""
import json
import re
from collections.abc import Sequence

import numpy as np

from r1jax.reports.run import Run

MOST, MOST_CHARACTERS, LONGEST = 1_500, 5_000_000, 20_000  # samples on a page, their characters, those of one text
_END = re.compile(r"</think>")
_TAGS = re.compile(r"</?(?:think|answer)>")


def split_thinking(response: str) -> tuple[str, str]:
  """(thinking, answer). The template may have written <think> itself; without an end of thinking all of it is answer, or
  all thinking where it begins with the tag."""
  ends = list(_END.finditer(response))
  if ends:
    thinking, answer = response[:ends[-1].start()], response[ends[-1].end():]
  elif response.lstrip().startswith("<think>"):
    thinking, answer = response, ""
  else:
    thinking, answer = "", response
  return _TAGS.sub("", thinking).strip(), _TAGS.sub("", answer).strip()


def choose(runs: Sequence[Run], most: int = MOST) -> list[tuple[int, dict]]:
  """(number of the run, sample): at most `most`, the same share for each stage of each run, spread evenly over its steps."""
  by_stage: dict[tuple[int, str], list[dict]] = {}
  for number, run in enumerate(runs):
    for sample in run.samples:
      if isinstance(sample.get("response"), str):
        by_stage.setdefault((number, sample["stage"]), []).append(sample)
  found = []
  for i, ((number, _), samples) in enumerate(sorted(by_stage.items(), key=lambda item: len(item[1]))):
    share = (most - len(found)) // (len(by_stage) - i)  # what small stages leave goes to the larger ones
    places = np.unique(np.linspace(0, len(samples) - 1, min(share, len(samples))).round().astype(int)) if share else ()
    found += [(number, samples[place]) for place in places]
  order = {stage: i for run in runs for i, stage in enumerate(run.stages)}
  return sorted(found, key=lambda item: (item[0], order.get(item[1]["stage"], len(order)), item[1]["step"]))


def rows(chosen: Sequence[tuple[int, dict]]) -> list[dict]:
  """What the page shows of each sample, within MOST_CHARACTERS of text in all."""
  longest = min(LONGEST, max(400, MOST_CHARACTERS // max(len(chosen), 1)))
  found = []
  for number, sample in chosen:
    response = sample["response"]
    # The end of a text has the answer, and most loops.
    text = response if len(response) <= longest else (
      f"{response[:longest // 2]}\n[... {len(response) - longest:,} characters left out ...]\n{response[-longest // 2:]}")
    thinking, answer = split_thinking(text)
    found.append({
      "run": number, "stage": sample["stage"], "step": sample["step"], "question": str(sample.get("question", ""))[:longest],
      "gold": str(sample.get("answer", ""))[:400], "thinking": thinking, "answer": answer,
      **{name: _number(sample.get(name)) for name in ("reward", "advantage", "length")},
      "parts": {str(k): _number(v) for k, v in sample["parts"].items()} if isinstance(sample.get("parts"), dict) else {},
      "status": str(sample.get("status", "")), "stopped": sample.get("stopped") is not False})
  return found


def _number(value: object) -> float | None:
  return round(float(value), 4) if isinstance(value, int | float) and np.isfinite(value) else None


def to_script(value: object) -> str:
  """JSON that cannot end the <script> it stands in, nor open a comment there."""
  text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
  for letter in "<>&\u2028\u2029":
    text = text.replace(letter, f"\\u{ord(letter):04x}")
  return text.encode("utf-8", errors="replace").decode("utf-8")  # half a surrogate pair cannot be written
