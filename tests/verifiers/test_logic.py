"""Puzzles: each verifier takes what is right in any writing, and nothing else."""

import json
import time

import pytest

from r1jax.errors import InputError
from r1jax.verifiers import logic
from r1jax.verifiers.logic import (
  check_reference,
  code_output,
  countdown,
  judge,
  knights_and_knaves,
  numbers_in,
  sudoku,
  zebra,
)
from r1jax.verifiers.verdict import SCORED, UNPARSABLE

RIGHT, WRONG, UNREADABLE = (True, SCORED), (False, SCORED), (False, UNPARSABLE)
MAKE_26 = countdown([3, 5, 7], 26)
GRID = [
  "53..7....", "6..195...", ".98....6.", "8...6...3", "4..8.3..1", "7...2...6", ".6....28.", "...419..5", "....8..79",
]  # fmt: skip
SOLVED = [
  "534678912", "672195348", "198342567", "859761423", "426853791", "713924856", "961537284", "287419635", "345286179",
]  # fmt: skip
TRIO = knights_and_knaves({"Alice": "knight", "Bob": "knave", "Carol": "knight"})
WHO = knights_and_knaves({"Alice": "knight", "Bob": "knave", "Carol": "knave"})


@pytest.mark.parametrize(
  "answer",
  [
    "3*7+5", "5 + 7*3", "(3*7)+5", "((3)*(7))+5", "3*7+5 = 26", "26 = 3*7+5", "3*7+5=26.", "3*7+5 = 21+5 = 26",
    "3×7+5", "3 · 7 + 5", r"3 \times 7 + 5", r"$3 \cdot 7 + 5$", r"\(3 \cdot 7 + 5\)", r"\left(3 \cdot 7\right) + 5",
    r"\boxed{3*7+5}", r"\boxed{3*7+5} = \boxed{3*7+5}", "[3*7]+5", "３*７+５", "（3×7）＋5", "`3*7+5`", "5-(-3)*7",
  ],
)  # fmt: skip
def test_countdown_takes_arithmetic_that_makes_the_target(answer):
  assert judge(answer, MAKE_26) == RIGHT


@pytest.mark.parametrize(
  "answer, verdict",
  [
    ("26", WRONG), ("26 = 26", WRONG), ("3*7", WRONG), ("3*5+7", WRONG), ("3*7+5+0", WRONG), ("3*7+5-5+5", WRONG),
    ("13*2", WRONG), ("3*7+5 = 27", WRONG), ("25+1 = 3*7+5-1", WRONG), ("(3-3)+26", WRONG), ("7/0+3*5", WRONG),
    (r"\boxed{3*7+5} \boxed{26}", WRONG), (r"-\boxed{3*7+5}", UNREADABLE), (r"2\cdot\boxed{3*7+5}", UNREADABLE),
    (r"\boxed{3*7+5} - 1", UNREADABLE), (r"not \boxed{3*7+5}", UNREADABLE),
    ("3(7)+5", UNREADABLE), ("3**7", UNREADABLE), ("3^7", UNREADABLE), ("9**9**9", UNREADABLE), ("3.0*7+5", UNREADABLE),
    ("37+5-", UNREADABLE), ("(3*7+5", UNREADABLE), ("3*7+5)", UNREADABLE), ("3 7 5", UNREADABLE), ("", UNREADABLE),
    ("three times seven plus five", UNREADABLE), ("3*7+5 or 26", UNREADABLE), ("3*7+5 = x", UNREADABLE),
    ("__import__('os').system('true')", UNREADABLE), ("1" * 5000, UNREADABLE), ("(" * 5000, UNREADABLE),
    ("-" * 5000 + "1", UNREADABLE), ("3*" * 5000 + "7", UNREADABLE), ("10^{9}!", UNREADABLE), ("٣*٧+٥", UNREADABLE),
  ],
)  # fmt: skip
def test_countdown_refuses_everything_else(answer, verdict):
  assert judge(answer, MAKE_26) == verdict


def test_countdown_is_exact_and_counts_the_numbers():
  make_24 = countdown([1, 5, 5, 5], 24)
  assert judge("5*(5-1/5)", make_24) == judge(r"5 \cdot \left(5 - \frac{1}{5}\right)", make_24) == RIGHT
  assert judge("5*5-1", make_24) == WRONG  # one 5 too few
  assert judge("1/3*3", countdown([1, 3, 3], 1)) == RIGHT
  assert judge("1/3", countdown([1, 3], "1/3")) == RIGHT and judge("1/3", countdown([1, 3], "1/4")) == WRONG
  some = countdown([2, 3, 4], 4, "some")
  assert judge("4", some) == RIGHT  # one of the numbers
  assert judge("2*2", some) == WRONG  # there is only one 2
  assert judge("2*3-4+2", some) == WRONG
  assert judge("8/2", countdown([2, 3, 8], 4, "some")) == RIGHT


def as_text(rows, between="", line="\n"):
  return line.join(between.join(row) for row in rows)


@pytest.mark.parametrize(
  "text",
  [
    as_text(SOLVED), as_text(SOLVED, " "), as_text(SOLVED, ", ", ";"), as_text(SOLVED, "", ""),
    json.dumps([[int(c) for c in row] for row in SOLVED]), "```\n" + as_text(SOLVED, " ") + "\n```",
    "\n".join(f"| {' '.join(row[:3])} | {' '.join(row[3:6])} | {' '.join(row[6:])} |" for row in SOLVED) + "\n+---+---+",
  ],
)  # fmt: skip
def test_sudoku_takes_the_grid_in_any_layout(text):
  assert judge(text, sudoku(GRID)) == RIGHT


def test_sudoku_holds_the_rules_and_the_given_digits():
  reference = sudoku(GRID)
  swapped = as_text(SOLVED).translate(str.maketrans("12", "21"))  # a right sudoku, of another puzzle
  assert judge(swapped, reference) == WRONG
  assert judge(swapped, sudoku(["0" * 9] * 9)) == RIGHT  # any completion is one
  one_cell = as_text(SOLVED).replace("534", "532", 1)
  assert judge(one_cell, reference) == WRONG
  assert judge(as_text(SOLVED[:8]), reference) == UNREADABLE
  assert judge(as_text(SOLVED) + "1", reference) == UNREADABLE
  assert judge("The solution is " + as_text(SOLVED), reference) == UNREADABLE
  assert judge(as_text(["123456789"] * 9), reference) == WRONG
  latin = as_text(["123456789"[i:] + "123456789"[:i] for i in range(9)])
  assert judge(latin, sudoku(["0" * 9] * 9)) == WRONG  # rows and columns alone


def test_sudoku_of_other_sizes():
  assert judge("1 2 3 4\n3 4 1 2\n2 1 4 3\n4 3 2 1", sudoku(["1...", "....", "....", "...1"])) == RIGHT
  six = ["123456", "456123", "231564", "564231", "312645", "645312"]
  assert judge(as_text(six), sudoku(["......"] * 6, box=(2, 3))) == RIGHT
  assert judge(as_text(six), sudoku(["......"] * 6, box=(3, 2))) == WRONG
  with pytest.raises(InputError, match="box"):
    sudoku(["......"] * 6)


@pytest.mark.parametrize(
  "answer",
  [
    "Alice is a knight, Bob is a knave, and Carol is a knave.", "Alice is a knight; Bob and Carol are knaves",
    "Bob, Carol: knaves. Alice: knight", "Knights: Alice. Knaves: Bob, Carol", "knights: Alice\nknaves: Bob and Carol",
    '{"Alice": "knight", "Bob": "knave", "Carol": "knave"}', "ALICE = KNIGHT, BOB = KNAVE, CAROL = KNAVE",
    "Alice is a knight and so is nothing else. Bob is a knave. Carol is a knave. Bob is a knave.",
  ],
)  # fmt: skip
def test_knights_and_knaves_takes_one_role_for_everybody(answer):
  assert judge(answer, WHO) == RIGHT


@pytest.mark.parametrize(
  "answer, verdict",
  [
    ("Alice is a knave, Bob is a knave, Carol is a knave", WRONG), ("Alice, Bob and Carol are knights", WRONG),
    ("Alice is a knight, Alice is a knave, Bob and Carol are knaves", WRONG),
    ("Knights: Alice, Bob. Knaves: Bob, Carol", WRONG),
    ("Alice is a knight, Bob is a knave", UNREADABLE), ("Alice is a knight", UNREADABLE), ("", UNREADABLE),
    ("Alice is a knight/knave, Bob is a knave, Carol is a knave", UNREADABLE),
    ("Alice is a knight or a knave, Bob and Carol are knaves", UNREADABLE),
    ("Alice is not a knave, Bob and Carol are knaves", UNREADABLE),
    ("If Alice is a knight, Bob and Carol are knaves", UNREADABLE),
    ("knave", UNREADABLE), ("Alice, Bob, Carol", UNREADABLE),
    ("Malice is a knight, Bob and Carol are knaves", UNREADABLE),
  ],
)  # fmt: skip
def test_knights_and_knaves_refuses_everything_else(answer, verdict):
  assert judge(answer, WHO) == verdict


@pytest.mark.parametrize(
  "answer",
  [
    "Alice is a knight, while Bob is a knave and Carol is a knight",
    "Alice and Carol are both knights, whereas Bob is a knave.",
    "Alice must be a knight; Bob must be a knave; Carol must be a knight", "Alice is knight, Bob is knave, Carol is knight",
    "Therefore, Alice is a knight, Bob is a knave, and Carol is a knight.",
    "The answer is: Alice: knight, Bob: knave, Carol: knight", "- Alice: knight\n- Bob: knave\n- Carol: knight",
    "1. Alice - knight\n2. Bob - knave\n3. Carol - knight", "The knights are Alice and Carol. The knave is Bob.",
    "Knights: Alice, Carol; Knaves: Bob", "Alice → knight, Bob → knave, Carol → knight",
    "Alice's role is knight, Bob's role is knave, Carol's role is knight",
    '{"Alice": "knight", "Bob": "knave", "Carol": "knight"}',
    '```json\n{"Alice": "knight", "Bob": "knave", "Carol": "knight"}\n```',
    "**Alice** is a **knight**, **Bob** is a **knave**, **Carol** is a **knight**",
    "So Alice is a knight because Bob lies; Bob is a knave; Carol is a knight",
    "Alice (knight), Bob (knave), Carol (knight)", "alice=knight bob=knave carol=knight",
    r"\boxed{Alice is a knight, Bob is a knave, Carol is a knight}",
    "Alice turns out to be a knight, Bob a knave, Carol a knight",
    "Bob is a knave. The others follow. Alice and Carol are knights.",
    "We conclude that Alice is a knight, Bob is a knave, and Carol is a knight.",
    "| Alice | knight |\n| Bob | knave |\n| Carol | knight |",
  ],
)  # fmt: skip
def test_statements_in_other_words(answer):
  assert judge(answer, TRIO) == RIGHT


@pytest.mark.parametrize(
  "said_of_alice",
  [
    "Alice is never a knight", "Alice pretends to be a knight", "Alice is the opposite of a knight",
    "Alice is hardly a knight", "Alice is a fake knight", "Alice seems a knight", "It is false that Alice is a knight",
    "Alice is a knight?", "Alice is a so-called knight", "Alice is far from a knight", "Alice is an ex-knight",
    "Alice says she is a knight", "Nobody thinks Alice is a knight", "Alice is unlike a knight",
    "Alice dreams of being a knight", "Alice lacks being a knight", "Alice isn't a knight", "Alice is a knight's servant",
    "Alice is no knight", "Alice used to be a knight", "Alice hates knights", "Alice is a half-knight",
    "Alice poses as a knight", "Alice is a non-knight", "Alice pretends to be a knight", "Alice claims to be a knight",
    "Alice is anything but a knight", "Alice is a knight-like knave",
  ],
)  # fmt: skip
def test_what_turns_a_statement_round_is_unparsable(said_of_alice):
  assert judge(f"{said_of_alice}; Bob is a knave; Carol is a knight", TRIO) == UNREADABLE


@pytest.mark.parametrize(
  "answer",
  [
    "All but Bob are knights; Bob is a knave. Alice, Carol: knaves", "Alice is a knight; Bob is a knave; Carol is a knave",
    "Alice is a knight; Bob is a knave", "Alice is a knight, Bob is a knave, Carol is a knight. All of this is wrong.",
    r"not \boxed{Alice is a knight, Bob is a knave, Carol is a knight}",
  ],
)  # fmt: skip
def test_other_wrong_statements(answer):
  assert judge(answer, TRIO)[0] is False


def test_other_words_for_the_roles_and_other_scripts():
  heroes = knights_and_knaves({"Al": "hero", "Alan": "villain"}, ("hero", "villain"))
  assert judge("Al is a hero, and Alan is a villain.", heroes) == RIGHT
  assert judge("Alan is a hero, and Al is a villain.", heroes) == WRONG
  chinese = knights_and_knaves({"小明": "骑士", "小红": "无赖"}, ("骑士", "无赖"))
  assert judge("小明是骑士，小红是无赖。", chinese) == RIGHT
  assert judge("小明是无赖，小红是骑士。", chinese) == WRONG
  assert judge("小明不是无赖，小红是无赖。", chinese) == UNREADABLE


def test_zebra():
  name = zebra("Arnold")
  for answer in ("Arnold", "arnold", "Arnold.", r"\boxed{\text{Arnold}}", "The answer is Arnold.", "**Arnold**"):
    assert judge(answer, name) == RIGHT
  for answer in ("Bob", "Arnold or Bob", "not Arnold", "Arnold, Bob", "Arnoldo"):
    assert judge(answer, name) == WRONG
  assert judge("", name) == UNREADABLE
  whole = zebra(solution={"1": {"name": "Arnold", "pet": "zebra"}, "2": {"name": "Bob", "pet": "dog"}})
  assert judge('{"2": {"pet": "Dog", "name": "bob"}, "1": {"name": "arnold", "pet": "zebra"}}', whole) == RIGHT
  assert judge('{"1": {"name": "Bob", "pet": "zebra"}, "2": {"name": "Arnold", "pet": "dog"}}', whole) == WRONG
  assert judge('{"1": {"name": "Arnold", "pet": "zebra"}}', whole) == WRONG
  assert judge("Arnold has the zebra", whole) == UNREADABLE


@pytest.mark.parametrize(
  "value, right, wrong",
  [
    ([1, 2], ["[1, 2]", "[1,2]", "(1, 2)", " [1, 2] ", "```json\n[1, 2]\n```", "[1.0, 2]"],
     ["[2, 1]", "[1]", "1, 2, 3", "{}"]),
    (True, ["true", "True"], ["1", "false", '"true"', "1.0"]),
    (1, ["1", "1.0"], ["true", '"1"', "2", "[1]"]),
    (None, ["null", "None"], ["0", "false", '""', "[]"]),
    (0.1, ["0.1", "0.10000000000000001", "1e-1"], ["0.1001", "0", '"0.1"']),
    (2**70, [str(2**70)], [str(2**70 + 1), "true"]),
    ({"root": 20.283685442927837}, ['{"root": 20.283685442927837}', "{'root': 20.283685442927837}"],
     ['{"root": 20.28}', '{"Root": 20.283685442927837}', '{"root": 20.283685442927837, "x": 1}', "20.283685442927837"]),
    ({"1": [True]}, ["{1: [True]}", '{"1": [true]}'], ["{1: [1]}", "{2: [True]}"]),
    ("a b", ["a b", '"a b"', "'a b'"[1:-1], "a b\n", "a b  "], ["ab", "A b", '["a b"]', ""]),
    ("x\ny", ["x\ny", "x  \ny\n", '"x\\ny"'], ["x y", "y\nx", "x"]),
    ("", ["", '""', "''"], ["x", "0", "null"]),
    ("abc", ["'abc'", "`abc`", "```\nabc\n```", "The output is abc", "Output: 'abc'", "'abc'\n", "It prints abc"],
     ["'ab'", "['abc']", "b'abc'", "'abc", "not abc", "The output is not abc", "abc or abd"]),
    ("1", ["'1'", "1", "The output is '1'"], ["'2'", "[1]", "1.0"]),
    ("'x'", ["'x'", "\"'x'\""], ["x"]),
    ("It is 5", ["It is 5", "'It is 5'"], ["5"]),
    (5, ["The output is 5.", "It returns 5", "Result: 5", "`5`"], ["'5'", "five", "not 5", "The output is 6", "5 or 6"]),
    ([1, "a"], ["[1, 'a']", "Output: [1, 'a'].", r"\boxed{[1, 'a']}"], ["[1, a]", r"-\boxed{[1, 'a']}", "['a', 1]"]),
  ],
)  # fmt: skip
def test_code_output(value, right, wrong):
  reference = code_output(value)
  assert [judge(answer, reference) for answer in right] == [RIGHT] * len(right)
  assert [judge(answer, reference)[0] for answer in wrong] == [False] * len(wrong)


@pytest.mark.parametrize(
  "answer",
  [
    "[1, 2", '{"a": 1, "a": 2}', "{'a': 1, 'a': 2}", "[" * 100 + "]" * 100, "[" * 10_000,
    "-" * 10_000 + "1", "9**9**9", "- " * 5000 + "1", "9" * 10_000, "nan" * 5, "\x00",
    "[i for i in (1, 2)]", "lambda: 1", "", "__import__('os')",
  ],
)  # fmt: skip
def test_code_output_evaluates_nothing(answer):
  began = time.process_time()
  assert judge(answer, code_output([1, 2])) == UNREADABLE
  assert time.process_time() - began < 1.0


def test_of_reasoning_gym():
  """Entries as reasoning-gym 0.1.25 writes them."""
  def entry(name, answer, question="", **metadata):
    return {"question": question, "answer": answer, "metadata": {"source_dataset": name, **metadata}}

  terms = {"knight": "angel", "knave": "devil"}
  entries = [
    entry("countdown", "82 + 20 + 67 - 50", numbers=[67, 50, 20, 82], target=119),
    entry("puzzle24", "4*8 - 6 - 2", numbers=[4, 8, 6, 2]),
    entry("mini_sudoku", "2 4 1 3\n3 1 4 2\n4 2 3 1\n1 3 2 4",
          puzzle=[[0, 0, 1, 0], [0, 0, 4, 2], [4, 0, 0, 0], [0, 3, 2, 4]]),
    entry("knights_knaves", "Joseph is an angel, and Zoey is a devil.", names=["Joseph", "Zoey"], solution=(True, False),
          knight_knave_terms=terms),
    entry("zebra_puzzles", "arnold"),
    entry("codeio", '{"root": 20.283685442927837}', question="Can you predict the output without writing any code?"),
  ]  # fmt: skip
  references = [logic.of_reasoning_gym(each) for each in entries]
  verdicts = [[judge(each["answer"], reference)[0] for each in entries] for reference in references]
  assert verdicts == [[i == j for j in range(len(entries))] for i in range(len(entries))]
  for refused in (entry("codeio", "{}", question="Can you predict a feasible input?"), entry("rush_hour", "F+1")):
    with pytest.raises(InputError, match="reasoning-gym"):
      logic.of_reasoning_gym(refused)


def test_numbers_of_a_question():
  question = "Using the numbers [3, 5, 7], make 26. Use each number exactly once, with the operations +, -, * and /."
  assert judge("3*7+5", countdown(numbers_in(question), 26)) == RIGHT
  assert numbers_in("Make 26 of 3, 5 and 7.") == numbers_in("") == numbers_in("[]") == []


@pytest.mark.parametrize(
  "text",
  [
    "", "26", "null", "[]", "{}", '{"puzzle": "chess"}', '{"puzzle": "countdown"}',
    '{"puzzle": "countdown", "numbers": [], "target": 1}', '{"puzzle": "countdown", "numbers": [1.5], "target": 1}',
    '{"puzzle": "countdown", "numbers": [1], "target": "x"}',
    '{"puzzle": "countdown", "numbers": [1], "target": 1, "use": "one"}',
    '{"puzzle": "sudoku", "grid": [[0, 0], [0]], "box": [1, 2]}',
    '{"puzzle": "sudoku", "grid": [[0, 9], [0, 0]], "box": [1, 2]}',
    '{"puzzle": "knights_and_knaves", "roles": {}, "terms": ["a", "b"]}',
    '{"puzzle": "knights_and_knaves", "roles": {"A": "c"}, "terms": ["a", "b"]}',
    '{"puzzle": "knights_and_knaves", "roles": {"A": "a"}, "terms": ["a", "b"]}',
    '{"puzzle": "zebra", "answer": ""}', '{"puzzle": "zebra"}', '{"puzzle": "zebra", "solution": {"1": "x"}}',
    '{"puzzle": "code_output"}', '{"puzzle": "code_output", "answer": ' + "[" * 50 + "]" * 50 + "}", "[" * 100_000,
  ],
)  # fmt: skip
def test_a_reference_that_cannot_be_used_is_refused(text):
  with pytest.raises(InputError, match="reference of a puzzle"):
    check_reference(text)


@pytest.mark.parametrize(
  "unit", ["(", "[", "-", "3*", "1", "Alice ", "knight ", "Alice is a knight, ", '{"a":', "\\frac{1}{", "`", "\n", "="]
)
@pytest.mark.parametrize("reference", [MAKE_26, sudoku(GRID), WHO, zebra("Arnold"), code_output([1]), code_output("x")])
def test_bounded_time_on_hostile_input(unit, reference):
  began = time.process_time()
  for size in (logic.MAX_LENGTH, 1_000_000):
    assert judge(unit * (size // len(unit)), reference)[0] is False
  assert time.process_time() - began < 1.5
