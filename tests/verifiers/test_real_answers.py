"""Labelled answers of real models and hand-made ones, from the folder that R1JAX_CASES names; beside math-verify."""

import json
import logging
import os
from pathlib import Path

import pytest

from r1jax.verifiers.maths import extract_answer, judge

# Labels that are wrong, and why; those of other graders' suites are their authors' opinions.
WRONG_LABELS = {
  "echo-24": "16/20 is 4/5; the question, which it may have copied, is not in the row",
  "dl_base_math500-430": "nine divisors, and nine is right",
  "dl_base_math500-454": "2000 calories is right",
  "dl_math2-1196": "17 is right",
  "dl_math2-1216": "2 more people is right",
  "qwen1.5b_r1zero_gsm-3713": "says 37.5, where 81 is right",
  "qwen1.5b_r1zero_gsm-3896": "four pens is right",
  "tq_Mistral_7B_v0.1_5-7857": "the gold answer's last digit is not pi/4's",
  "olym_scoring-9695": "7.1 is not 7",
  "olym_scoring-9697": "0.002 is not 0.003",
  "mathverify_tests-9703": "a decimal comma, or two numbers",
  "mathverify_tests-9711": "two numbers",
  "mathverify_tests-9727": "9 is 9",
  "mathverify_tests-9751": "an open box",
  "mathverify_tests-9789": "1/3 is not nearly 1.3",
  "mathverify_tests-9799": "3+3 is not 2",
  "mathverify_tests-9891": "a gold answer with half a box",
  "mario_tests-9905": "125.663 has six digits of 40 pi",
  "mario_tests-9927": "1.732 is not the root of 3",
}


def rows_of(name):
  folder = os.environ.get("R1JAX_CASES")
  path = Path(folder or "") / f"{name}.jsonl"
  if not folder or not path.is_file():
    pytest.skip(f"R1JAX_CASES names no folder with {name}.jsonl")
  return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def verdict(row):
  answer = extract_answer(row["response"])
  return answer is not None and judge(answer, str(row["answer"]), row["question"])[0]


def disagreements(rows):
  return {row["id"] for row in rows if verdict(row) != bool(row["expected"])}


def test_hand_made_answers_are_judged_as_expected():
  assert disagreements(rows_of("maths")) - set(WRONG_LABELS) == set()


def test_real_answers_are_judged_as_labelled():
  rows = rows_of("real_answers")
  wrong = disagreements(rows)
  gsm = [row["id"] for row in rows if "gsm" in row["id"]]
  paid = {row["id"] for row in rows if row["id"] in wrong and not row["expected"]}
  assert len(wrong) <= 0.02 * len(rows) and sum(name in wrong for name in gsm) <= 0.03 * len(gsm)
  assert len(paid - set(WRONG_LABELS)) <= 4


@pytest.mark.slow
def test_side_by_side_with_math_verify():
  math_verify = pytest.importorskip("math_verify")
  logging.getLogger("math_verify").setLevel(logging.CRITICAL)
  rows = rows_of("real_answers")
  counts = dict.fromkeys(("r1jax", "math-verify", "only r1jax right", "only math-verify right"), 0)
  for row in rows:
    ours = verdict(row) == bool(row["expected"])
    gold, answer = (math_verify.parse(text) for text in (f"${row['answer']}$", extract_answer(row["response"]) or ""))
    theirs = bool(math_verify.verify(gold, answer)) == bool(row["expected"])
    for name, value in zip(counts, (ours, theirs, ours and not theirs, theirs and not ours), strict=True):
      counts[name] += value
  print({name: f"{count} ({count / len(rows):.1%})" for name, count in counts.items()})
  assert counts["r1jax"] > counts["math-verify"]
