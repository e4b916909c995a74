"""Multiple choice: letters, texts and values of options; contradictions are wrong."""

import json
import os
import time
from pathlib import Path

import pytest

from r1jax.errors import InputError
from r1jax.verifiers.choice import LETTERS, check_reference, judge, read_options, reference
from r1jax.verifiers.verdict import SCORED, UNPARSABLE

METRES = reference("How far?", "B", ["4 m", "5 m", "6 m", "None of the above"])
CAPITALS = reference("Capital of Italy?", "B", ["Paris", "Rome", "Madrid", "Berlin"])


@pytest.mark.parametrize(
  "answer",
  [
    "B", "(B)", "B.", "B)", "[B]", "b", "(b)", "Option B", "option B.", "**B**", "$B$", " B \n",
    r"\boxed{B}", r"\boxed{\text{B}}", r"\boxed{B} that is \boxed{B}", r"$\text{(B)}$",
    "The answer is B", "The answer is (B) 5 m.", "The answer is: B", "So the correct answer is option B.",
    "Therefore, the answer is B.", "B is correct", "B because it is 5 m", "B) because A is too small",
    "B. 5 m", "(B) 5 m", "B: 5 m", "B - 5 m", "B. $5$ m",
    "5 m", "5 m.", "$5$ m", "5", "5.0 m", r"5\text{ m}",
    "答案是B", "选B", "故选：B", "（Ｂ）", "Ｂ", "选项B正确", "B。",
  ],
)  # fmt: skip
def test_the_right_option_in_any_writing(answer):
  assert judge(answer, METRES) == (True, SCORED)


@pytest.mark.parametrize(
  "answer",
  [
    "A", "(C)", "c", "E", "The answer is D", "选A", "6 m", "6", "none of the above", "4.0 m",
    # two options
    "B or C", "(B) or (C)", "B, C", "B and C", "B/C", "B & C", "(A)(B)(C)(D)", "B, not C", "either B or D", "Option A or B",
    r"\boxed{B} \boxed{C}", r"\boxed{B}, \boxed{5 m}", "B和C", "B、C", "The answer is B. The answer is C.) or (C)",
    # the letter of one with the text of another
    "B. 6 m", "(B) 4 m", "C. 5 m", "B: None of the above", "A) 5 m",
    "not B", "The answer is not B.", "It isn't (B)", "不选B",
  ],
)  # fmt: skip
def test_other_options_and_contradictions_are_wrong(answer):
  assert judge(answer, METRES)[0] is False


@pytest.mark.parametrize(
  "answer", ["", " ", "7 m", "A B C D", "BC", "A cell", "x", "I think so", "B" * 5000, "\x00", "()", "🙂"]
)
def test_what_names_no_option_is_unparsable(answer):
  assert judge(answer, METRES) == (False, UNPARSABLE)


@pytest.mark.parametrize(
  "answer",
  [
    "It is B", '"B"', "B!", "B选项", "B (5 m)", "It must be B.", "I think B", "I think it's B", "I'd go with B",
    "My answer: B", "B it is", "B, obviously", "Definitely B", "The right one is B", "I would pick option b.",
    "**Final Answer:** (B)",
    "Ans: B", "B✅", "=> B", "Hence B is right.", "B seems right", "B – 5 m", "B\n5 m", "The distance is 5 m.",
    "5 m is the distance",
    "答案为 B。", "应选B", "B是正确答案", "“B”", "<b>B</b>", r"\boxed {B}", r"\fbox{B}", r"\boxed B",
    r"The answer is \boxed{B}.",
    "B, since 4 m is too short", "(B) due to gravity", "There is no doubt, it is B", "The answer is (b).", "B. 5.0 m",
  ],
)  # fmt: skip
def test_sentences_that_state_the_option(answer):
  assert judge(answer, METRES) == (True, SCORED)


@pytest.mark.parametrize(
  "answer",
  [
    "A or B", "A/B", "Options A and B", "either B or C", "B or 6 m", "5 m or 6 m", "4 m (B)", "B (6 m)", "B\n6 m", "B 6 m",
    "It is not B", "It can't be B", "B?", "Is it B?", "B is wrong", "Anything but B", "everything except B", "B isn't it",
    "A rather than B", "neither A nor B", "instead of B, C", "I rule out B", "B if not C", "B vs C", "(A) and (B)", "A与B",
    "B不对", "B是错的", "除了B", "B选项错误", r"\boxed{A} or \boxed{B}", r"not \boxed{B}", "None of the above (B)", "D. 5 m",
    "It is 4 m", "15 m", "-5 m", "0.5 m", "5 mm", "vitamin B", "plan B", "B cells", "hepatitis B virus", "B+C", "A-B",
    "\ue001",
    "The answer is B. It is not B.",
  ],
)  # fmt: skip
def test_sentences_that_do_not(answer):
  assert judge(answer, METRES)[0] is False


@pytest.mark.parametrize(
  "right, wrong",
  [
    (["The capital of Italy is Rome.", "Rome is the capital of Italy.", "It's Rome!", "b) rome", "B (Rome)",
      "Rome (B)", "Rome, because Paris is in France", "选B（Rome）", "I believe it is Rome"],
     ["Paris (B)", "Rome (A)", "Rome or Paris", "not Rome", "Rome, not Paris", "Rome?", "Rome is wrong", "Ancient Rome fell",
      "Romeo", "Rome/Paris", "B. Paris", "Rome is not the capital", "Madrid. Rome."]),
  ],
)  # fmt: skip
def test_sentences_that_state_the_text_of_an_option(right, wrong):
  assert [answer for answer in right if not judge(answer, CAPITALS)[0]] == []
  assert [answer for answer in wrong if judge(answer, CAPITALS)[0]] == []


def test_articles_and_texts_that_sound_like_words():
  shapes = reference("Which?", "B", ["square", "triangle", "circle"])
  assert all(judge(answer, shapes)[0] for answer in ("A triangle", "a triangle", "It is a triangle.", "B triangle"))
  assert not any(judge(answer, shapes)[0] for answer in ("A square", "A", "A. triangle", "A) square", "an acute triangle"))
  truth = reference("?", "B", ["True", "False"])
  assert judge("The statement is false.", truth)[0] and judge("False because it is not bounded", truth)[0]
  assert not judge("It is not True", truth)[0] and not judge("true or false", truth)[0]
  operators = reference("?", "A", ["**", "//", "is", "not in"])
  assert judge("The answer is A.", operators)[0] and judge("is", operators) == (False, SCORED)


@pytest.mark.parametrize(
  "question, answer, options, right, wrong",
  [
    ("", "K", list("abcdefghijkl"), ["K", "k", "I think K"], ["A", "L", "I"]),
    ("pick a) red b) blue c) green", "b", None, ["blue", "B", "(b)", "b) blue"], ["a", "red", "b) red"]),
    ("pick (i) red (ii) blue", "ii", None, ["ii", "(ii)", "II", "blue", "The answer is ii."], ["i", "(i) or (ii)",
    "(ii) red"]),
    ("", "b", {"a": "red", "b": "blue"}, ["B", "b", "blue"], ["a", "A"]),
    ("", "2", [{"label": "1", "text": "red"}, {"label": "2", "text": "blue"}], ["2", "(2)", "blue"], ["1", "red"]),
    ("", "B", {"label": ["A", "B"], "text": ["red", "blue"]}, ["B", "blue"], ["A"]),
    ("", 1, {"A": 4, "B": 8}, ["B", "8"], ["A", "4", "1"]),
    ("", 2, ["2", "4", "8", "16"], ["C", "8"], ["A", "2", "B"]),
    ("", "2", ["red", "blue"], ["B"], ["A"]),
    ("2 * 2?", "2", ["2", "4", "8", "16"], ["B", "4"], ["A", "2"]),
    ("", "B. Rome", ["Paris", "Rome"], ["B"], ["A"]),
    ("True? A) Yes B) No", "A", None, ["Yes", "A"], ["No"]),
  ],
)  # fmt: skip
def test_labels_and_options_in_any_form(question, answer, options, right, wrong):
  text = reference(question, answer, options)
  check_reference(text)
  assert [each for each in right if not judge(each, text)[0]] == []
  assert [each for each in wrong if judge(each, text)[0]] == []


@pytest.mark.parametrize(
  "options", ["AB", 7, {"AB": "x"}, {"a": "x", "A": "y"}, ["x"] * 27, [{"text": "x"}], {"label": "A", "text": [1, 2]}])
def test_options_that_cannot_be_read_are_refused(options):
  with pytest.raises(InputError, match="options of a multiple-choice question"):
    reference("", "A", options)


def test_a_number_that_is_a_place_and_a_text_is_refused():
  with pytest.raises(InputError, match="'2', which may be A or B"):
    reference("2 * 2?", "2", {"A": "2", "B": "4", "C": "8", "D": "16"})


def test_options_that_differ_only_in_case():
  genotypes = reference("Which genotype?", "C", ["AA", "Aa", "aa", "BB"])
  assert judge("aa", genotypes) == (True, SCORED) and judge("AA", genotypes) == (False, SCORED)
  assert judge("aA", genotypes)[0] is False


def test_options_that_name_options():
  both = reference("Which?", "D", ["cats", "dogs", "mice", "A and B"])
  assert judge("D. A and B", both)[0] and judge("A and B", both)[0] and judge("D", both)[0]
  assert not judge("A", both)[0] and not judge("C. A and B", both)[0]


def test_a_capital_letter_is_a_label_before_it_is_a_text():
  elements = reference("Which element?", "D", {"A": "As", "B": "P", "C": "Sb", "D": "B"})
  assert judge("D", elements)[0] and not judge("B", elements)[0]
  assert judge("D. B", elements)[0] and not judge("B. B", elements)[0]


def test_values_of_options():
  values = reference("", 2, [r"\frac{1}{3}", "0.25", r"$\frac{\sqrt{2}}{2}$", "x^2+2x+1"])
  assert judge(r"\frac{1}{\sqrt{2}}", values) == (True, SCORED)
  assert judge("1/4", values) == (False, SCORED)
  assert judge("(x+1)^2", values) == (False, SCORED)
  assert judge(r"C. $\frac{1}{\sqrt{2}}$", values)[0] and not judge("C. 1/4", values)[0]
  assert not judge("A. -1/3", reference("", "A", ["1/3", "-1/3", "3"]))[0]


def test_a_reference_of_the_letter_alone():
  assert judge("(B) five metres", "B") == (True, SCORED)
  assert judge("(C)", "B") == (False, SCORED)
  assert judge("five metres", "B") == (False, UNPARSABLE)
  assert judge("A", "B") == (False, SCORED)


def test_references():
  assert json.loads(METRES) == {
    "answer": "B", "options": {"A": "4 m", "B": "5 m", "C": "6 m", "D": "None of the above"}}  # fmt: skip
  asked = "How far?\n(A) 4 m\n(B) 5 m\n(C) 6 m"
  assert json.loads(reference(asked, "B")) == {"answer": "B", "options": {"A": "4 m", "B": "5 m", "C": "6 m"}}
  assert reference(asked, "5 m") == reference(asked, 1) == reference(asked, "(b)") == reference(asked, "B")
  assert reference("How far?", "B") == "B"
  labelled = ["A)4 m", "B)5 m", "C)6 m"]
  assert reference("", "B", labelled) == reference("", "B", {"A": "4 m", "B": "5 m", "C": "6 m"})
  for text in (METRES, "B", '{"answer": "A", "options": {}}'):
    check_reference(text)


@pytest.mark.parametrize("answer", ["E", "7 m", "", 9, -1, True, None, 1.0])
def test_an_answer_that_is_no_option_is_refused(answer):
  with pytest.raises(InputError, match="multiple-choice"):
    reference("", answer, ["4 m", "5 m", "6 m"])


@pytest.mark.parametrize(
  "text", ["", "Ä", "AB", "{}", '{"answer": "AB"}', '{"answer": "C", "options": {"A": "1", "B": "2"}}', "[1]", "null", "4 m"]
)
def test_a_reference_that_cannot_be_used_is_refused(text):
  with pytest.raises(InputError, match="multiple-choice"):
    check_reference(text)


@pytest.mark.parametrize(
  "question, options",
  [
    ("Which? (A) one, (B) two; (C) three", {"A": "one", "B": "two", "C": "three"}),
    ("Pick.\nA. x\nB. y\nC. z\n", {"A": "x", "B": "y", "C": "z"}),
    ("Pick.\nA) x\nB) y\nC) z", {"A": "x", "B": "y", "C": "z"}),
    ("选择：A．一 B．二 C．三 D．四", {"A": "一", "B": "二", "C": "三", "D": "四"}),
    ("Triangle (A) (B) (C): (A) 1 (B) 2 (C) 3", {"A": "1", "B": "2", "C": "3"}),
    ("A point A. Then B. What?", {}),
    ("nothing", {}),
    ("", {}),
  ],
)
def test_options_are_read_from_the_question(question, options):
  assert read_options(question) == options


@pytest.mark.parametrize("unit", ["(A)", "A. B. C. ", "(", "B or ", "选", r"\boxed{", "not B ", "the answer is ", "A)", " "])
def test_linear_time_on_hostile_input(unit):
  judge("1", METRES)  # imports outside the measurement
  began = time.process_time()
  for size in (3_900, 1_000_000):
    many = unit * (size // len(unit))
    judge(many, METRES)
    read_options(many)
  assert time.process_time() - began < 3.0


def rows():
  """(options, place of the right one) of every question of the data sets with choices; skips without them."""
  folder = os.environ.get("R1JAX_DATA")
  paths = [Path(folder or "") / name / "test.jsonl" for name in ("mmlu_stem", "aqua")]
  if not folder or not all(path.is_file() for path in paths):
    pytest.skip("R1JAX_DATA names no folder with mmlu_stem and aqua")
  mmlu, aqua = (
    [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line] for path in paths
  )
  with_letters = [(row["options"], LETTERS.index(row["correct"])) for row in aqua]
  return [(row["choices"], row["answer"]) for row in mmlu] + with_letters


def test_every_option_of_mmlu_and_aqua_is_judged_right():
  """Texts are left out where two options have the right one's, and where a text is a single capital letter."""
  wrong = []
  for options, right in rows():
    text = reference("", right, options)
    known = json.loads(text)["options"]
    for letter, option in known.items():
      same = option == known[LETTERS[right]] or option in LETTERS
      for answer in (letter, f"({letter})", f"The answer is {letter}.", f"{letter}. {option}", rf"\boxed{{{letter}}}"):
        if judge(answer, text)[0] != (letter == LETTERS[right]):
          wrong.append((answer, text))
      if not same and judge(option, text)[0] != (letter == LETTERS[right]):
        wrong.append((option, text))
  assert wrong == []
