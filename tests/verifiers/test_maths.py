"""Answers: where they are, the fast path for plain numbers, and equality."""

import json
import os
import time
from pathlib import Path

import pytest
from fresh_pairs import PAIRS as FRESH
from perturbed import perturbed
from tricky_pairs import EQUAL, PAIRS, UNEQUAL

from r1jax.verifiers import maths
from r1jax.verifiers.maths import Extraction, extract_answer, judge, usable_gold, verify_maths, verify_plain
from r1jax.verifiers.verdict import SCORED, UNPARSABLE


@pytest.mark.parametrize(
  "response, expected",
  [
    ("<think>a</think> <answer>4</answer>", "4"),
    ("<answer> \n 4 \n</answer>", "4"),
    ("<answer>1</answer> <answer>2</answer>", "2"),
    ("<answer>1</answer> <answer>2", "1"),
    ("<answer>1 <answer>2</answer>", "2"),
    ("<answer>1</answer> 2</answer>", "1"),
    (r"<answer>\boxed{\frac{1}{2}}</answer>", r"\boxed{\frac{1}{2}}"),
    (r"<answer>It is $\boxed{4}$.</answer>", r"It is $\boxed{4}$."),
    (r"<answer>\boxed{4</answer>", r"\boxed{4"),
    (r"<answer>\boxed{1} or \boxed{2}</answer>", r"\boxed{1} or \boxed{2}"),
    (r"\boxed{5} <answer>4</answer>", "4"),
    ("<answer>四</answer>", "四"),
    ("4", None),
    ("<answer>4", None),
    ("4</answer>", None),
    ("</answer>4<answer>", None),
    ("<answer> \n</answer>", None),
    (r"<answer>\boxed{ }</answer>", None),
    ("<think>so <answer>4</answer></think> unknown", None),
    ("so <answer>4</answer></think> unknown", None),
    ("<think>so <answer>4</answer>", None),
    ("<think>a</think> <answer>4</answer> <think>or <answer>5</answer></think>", "4"),
    ("<think>a</think> <answer>4</answer> User: b <think>c</think> <answer>5</answer>", "5"),
  ],
)
def test_extract_answer(response, expected):
  assert extract_answer(response) == expected


def test_extract_answer_with_prefill():
  assert extract_answer("4</answer>", prefill="<think>short</think> <answer>") == "4"
  assert extract_answer("a</think> <answer>4</answer>", prefill="<think>") == "4"


@pytest.mark.parametrize("unit", ["<answer>", "</answer>", "<answer></answer", r"\boxed{", "{", "\\"])
def test_extraction_in_linear_time(unit):
  began = time.process_time()
  many = unit * (500_000 // len(unit))
  extract_answer(many)
  extract_answer(rf"<answer>\boxed{{{many}</answer>")
  assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
  "answer, gold, expected",
  [
    ("4", "4", True),
    (" 4\n", "4", True),
    ("4.", "4", True),
    ("+4", "4", True),
    ("-0", "0", True),
    ("007", "7", True),
    ("5.0", "5", True),
    (".5", "0.5", True),
    ("1,234,567.50", "1234567.5", True),
    (r"1{,}234", "1,234", True),
    (r"10,\!000", r"10\,000", True),
    ("$12$", "12", True),
    ("$12", "12", True),
    (r"-\$5.00", "-5", True),
    ("\u22125", "-5", True),
    ("50%", r"50\%", True),
    ("9" * 60, "9" * 60, True),
    (r"\text{Evelyn}", r"\text{Evelyn}", True),
    ("4", "5", False),
    ("-4", "4", False),
    ("0.333", "0.3333", False),
    ("0.30000000000000001", "0.3", False),
    ("9" * 60, "9" * 59 + "8", False),
    ("49%", "50%", False),
    # left to judge
    ("0.333333", "1/3", None),
    ("50%", "0.5", None),
    ("1,23", "123", None),
    ("1,2345", "12345", None),
    ("12 7", "127", None),
    ("1e5", "100000", None),
    ("$5%", "5", None),
    ("", "5", None),
    (".", "5", None),
    ("", "", None),
    ("٣", "3", None),
    ("9" * 70, "9" * 69 + "8", None),
    ("five", "5", None),
  ],
)
def test_fast_path(answer, gold, expected):
  assert verify_plain(answer, gold) is expected


@pytest.mark.parametrize(
  "answer, gold",
  [
    ("1/2", r"\frac{1}{2}"),
    ("0.5", r"\frac12"),
    (r"-\frac{1}{2}", "-0.5"),
    (r"\frac{-1}{2}", "-0.5"),
    (r"2\frac{1}{2}", "2.5"),
    (r"\dfrac{14}{3}", r"\frac{14}{3}"),
    (r"50\%", "0.5"),
    (r"12.5\%", r"\frac{1}{8}"),
    (r"3 \times 10^{6}", "3000000"),
    ("x = 28", "28"),
    ("12+7=19+9=28", "28"),
    ("28 cm", "28"),
    ("The answer is $28$.", "28"),
    (r"5^\circ", "5"),
    (r"2\sqrt{2}", r"\sqrt{8}"),
    ("(x+1)^2", "x^2 + 2x + 1"),
    ("0.5x + 1", r"\frac{x}{2} + 1"),
    ("(0.5, 1)", r"\left(\frac{1}{2}, 1\right)"),
    ("[0.1, 2.5]", "[1/10, 5/2]"),
    (r"(-\infty, 3)", r"(-\infty,3)"),
    (r"\{0.5, 1\}", r"\{1, \frac12\}"),
    ("2,1", "1,2"),
    ("1/2", "x=0.5"),
    (r"\begin{pmatrix} 0.5 \\ 1 \end{pmatrix}", r"\begin{pmatrix} \frac{1}{2} \\ 1 \end{pmatrix}"),
    ("B", r"\text{(B)}"),
    ("1\n+ x", "x + 1"),
  ],
)
def test_equal(answer, gold):
  assert judge(answer, gold) == (True, SCORED)
  assert verify_maths(answer, gold)


@pytest.mark.parametrize(
  "answer, gold",
  [
    ("0.333333", "1/3"),
    ("0.333333", r"\frac{1}{3}"),
    (r"\frac{1}{3}", "0.333333"),
    ("3.141593", r"\pi"),
    ("(0.333333, 1)", r"(\frac13, 1)"),
    ("(1, 2)", "(2, 1)"),
    ("[1, 2)", "[1, 2]"),
    ("x^2", "x^3"),
    # a plain number is asked for: work left undone, and several answers at once
    ("12+7+9", "28"),
    ("28=12+7+9", "28"),
    ("3(4)", "7"),
    (r"4 \times 7", "28"),
    ("10/2", "5"),
    (r"\frac{10}{2}", "5"),
    (r"\sqrt{25}", "5"),
    ("2^{10}", "1024"),
    (r"\binom{8}{2}", "28"),
    ("28 or 29", "28"),
    ("x=3, y=28", "28"),
    (r"\boxed{27} \boxed{28}", "28"),
    ("$27$ $28$", "28"),
  ],
)
def test_not_equal(answer, gold):
  assert judge(answer, gold) == (False, SCORED)
  assert not verify_maths(answer, gold)


@pytest.mark.parametrize(
  "answer", [r"\sqrt{ 2", "(a + 2", "12 7 9", "?", "(" * 300 + "1" + ")" * 300, "x+" * 1500 + "1"]
)
def test_unparsable_answers_are_refused_quickly(answer):
  began = time.process_time()
  assert judge(answer, "2") == (False, UNPARSABLE)
  assert time.process_time() - began < 2.0


def test_check_gold():
  good = ["4", "1,234", r"\$5", r"\frac{1}{2}", "x+1", r"\text{Evelyn}", "[1, 2)", "$x^2$"]
  bad = ["", " ", "?", r"\sqrt{ 2", r"\frac{1}{", "{" * 5000,
         "proof", "N/A", "None", "nan", "minimum at $x=2$", "hello world!",
         r"\text{see the solution of the first part}", "12 apples or so", "The point $(1,2)$ lies on it"]
  assert [gold for gold in good + bad if usable_gold(gold) is None] == good


@pytest.mark.parametrize(
  "response, boxed, last_number",
  [
    (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}", r"\frac{1}{2}"),
    (r"\boxed{3} hm <think>\boxed{4}</think> It is \boxed{5}, that is 5.", "5", "5"),
    (r"\boxed{3}, and again \boxed{3}", "3", "3"),
    (r"\boxed{3} or rather \boxed{4}", "3, 4", "4"),
    (r"\boxed{\boxed{7}}", "7", "7"),
    (r"\boxed {42} and \fbox{42}", "42", "42"),
    (r"so \boxed 7.", "7", "7"),
    (" ".join(rf"\boxed{{{i}}}" for i in range(1, 19)), ", ".join(map(str, range(1, 19))), "18"),
    (r"\boxed{3} and \boxed{4", "3", "4"),
    ("He pays $1,234.50 in all.", None, "$1,234.50"),
    ("From 12 down to -3.", None, "-3"),
    ("A share of 3/8, the rest 50%", None, "50%"),
    ("A share of 3/8.", None, "3/8"),
    ("共２５元", None, "25"),
    ("答案是-7。", None, "-7"),
    ("x2 and A4 are names", None, None),
    ("nothing", None, None),
    ("", None, None),
    (r"\boxed{ }", None, None),
  ],
)
def test_extraction_from_a_box_and_of_the_last_number(response, boxed, last_number):
  assert extract_answer(response, how=Extraction.BOXED) == boxed
  assert extract_answer(response, how=Extraction.LAST_NUMBER) == last_number


@pytest.mark.parametrize("how", [Extraction.BOXED, Extraction.LAST_NUMBER])
@pytest.mark.parametrize("unit", [r"\boxed{1}", r"\boxed{", "}", "1,234,", "1/", "9", "-", r"\frac{1}", "</think>"])
def test_other_extractions_in_linear_time(how, unit):
  began = time.process_time()
  extract_answer(unit * (300_000 // len(unit)), how=how)
  assert time.process_time() - began < 2.0


def test_contradicting_boxes_are_wrong():
  response = r"It is \boxed{27}. No, \boxed{28}."
  answer = extract_answer(response, how=Extraction.BOXED)
  assert judge(answer, "28") == judge(answer, "27") == (False, SCORED)
  assert judge(answer, "27, 28") == (True, SCORED)  # for a question with two answers these are two


def test_tricky_pairs():
  """At least 99% agree, which is what is promised; that all do is what is true today, and so it is held."""
  assert len(PAIRS) >= 200 and len({pair[:2] for pair in PAIRS}) == len(PAIRS)
  assert min(len(EQUAL), len(UNEQUAL)) >= 100 and all(why for *_, why in PAIRS)
  wrong = [(answer, gold, why) for answer, gold, equal, why in PAIRS if judge(answer, gold)[0] != equal]
  assert wrong == []


def test_fresh_pairs():
  """Every kind of issue 11, each with forms that it does not name."""
  assert len(FRESH) >= 300 and len(set(FRESH)) == len(FRESH)
  wrong = [pair for pair in FRESH if judge(pair[0], pair[1], pair[3])[0] != pair[2]]
  assert wrong == []


def test_equality_does_not_depend_on_what_was_judged_before():
  pairs = PAIRS[::7]
  first = [judge(answer, gold) for answer, gold, *_ in pairs]
  maths._form.cache_clear()
  assert [judge(answer, gold) for answer, gold, *_ in reversed(pairs)] == first[::-1]


@pytest.mark.parametrize(
  "answer", [r"2^{100000000}", "9^{9^{9}}", "9**9**9", "10^{9}!", r"\binom{10^9}{10^8}", r"\int_0^1 x^x dx"]
)
def test_what_is_no_number_cannot_hang_a_question_about_a_number(answer):
  began = time.process_time()
  for gold in ("28", r"\frac{1}{3}", "1.5"):
    assert not judge(answer, gold)[0]
  assert time.process_time() - began < 1.0


def golds_of(name):
  """The gold answers of a data set in the folder that R1JAX_DATA names; skips without it."""
  folder = os.environ.get("R1JAX_DATA")
  path = Path(folder or "") / name / "test.jsonl"
  if not folder or not path.is_file():
    pytest.skip(f"R1JAX_DATA names no folder with {name}/test.jsonl")
  # Not splitlines(): some rows hold U+2028.
  rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
  return [row["answer"].rsplit("#### ", 1)[-1] for row in rows]


# Perturbed answers that are equal all the same, and why.
STILL_EQUAL = {
  ("-0", "0"): "zero has no sign",
  (r"0 \cdot 10^{3}", "0"): "zero in scientific notation",
  (r"\$18.9", r"\$18.90"): "a final zero",
}


def is_still_equal(answer, gold):
  notation = answer == gold.replace("^", "") and "circ" in gold  # 90\circ for 90^\circ: a slip of the pen
  convention = answer + "%" == gold  # a percent sign may be left out
  return notation or convention or (answer, gold) in STILL_EQUAL


def test_the_boxes_of_all_solutions_of_math500_are_right():
  folder = os.environ.get("R1JAX_DATA")
  golds = golds_of("math500")
  text = (Path(folder) / "math500" / "test.jsonl").read_text(encoding="utf-8")
  solutions = [json.loads(line)["solution"] for line in text.split("\n") if line]
  boxed = [extract_answer(solution, how=Extraction.BOXED) for solution in solutions]
  assert [pair for pair in zip(boxed, golds, strict=True) if judge(*pair) != (True, SCORED)] == []


@pytest.mark.parametrize("name, count", [("math500", 500), ("gsm8k", 1319), ("cmath", 600)])
def test_gold_answers_equal_themselves_and_nothing_else(name, count):
  golds = golds_of(name)
  assert len(golds) == count
  boxed = [gold for gold in golds if judge(rf"Thus $\boxed{{{gold}}}$", gold) != (True, SCORED)]
  spaced = [gold for gold in golds if judge(f"The answer is ${gold} $.", gold) != (True, SCORED)]
  assert boxed == spaced == []
  assert all(usable_gold(gold) is None for gold in golds)
  accepted = set()
  for gold in dict.fromkeys(golds):
    wrong = perturbed(gold, 20)
    assert len(wrong) == 20 and gold not in wrong
    accepted |= {(answer, gold) for answer in wrong if judge(answer, gold)[0]}
  assert {pair for pair in accepted if not is_still_equal(*pair)} == set()
