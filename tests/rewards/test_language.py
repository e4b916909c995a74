"""Language consistency: what counts as a word of which language, what is left out, and linear time."""

import itertools
import random
import time

import pytest

from r1jax.errors import InputError
from r1jax.rewards import language
from r1jax.rewards.language import (
  MAX_INLINE,
  NEUTRAL,
  check_target,
  consistency,
  language_reward,
  target_of,
  thought_of,
  without_notation,
)


@pytest.mark.parametrize(
  "text, chinese, english",
  [
    ("First we add 2 and 3.", 0, 4),
    ("我们先把两个数相加。", 9, 0),
    ("我们 first 相加，and then 再减。", 6, 3),
    ("We don't know; it\u2019s Alice's.", 0, 5),
    ("用 first principles 推导", 3, 2),
    ("naïve café", 0, 2),
  ],
)
def test_words_of_two_languages(text, chinese, english):
  total = chinese + english
  assert consistency(text, "zh") == pytest.approx(chinese / total)
  assert consistency(text, "en") == pytest.approx(english / total)


def test_other_scripts_are_neither():
  assert consistency("Он сказал да", "en") == consistency("Он сказал да", "zh") == 0.0
  assert consistency("so Он goes", "en") == pytest.approx(2 / 3)
  assert consistency("これは数です", "zh") == pytest.approx(1 / 3)  # a character, and two runs of kana


@pytest.mark.parametrize(
  "left_out",
  [
    "$x^2 + long name$", "$$\nF = m a\n$$", r"\(x\text{ if }y\)", r"\[ E = mc^2 \]", r"$v = 5\text{ km/h}$", "$area = 2 ab$",
    r"\boxed{42}", r"\alpha", r"\text{cm}", "\\begin{align}\nleft &= right\n\\end{align}", r"$\text{speed} = 5$",
    "`total_sum`",
    "`for x in range`", "```python\nfor x in range(3):\n  print(x)\n```", "```\nn = int(input())\nprint(n * 2)\n```",
    "`f(x)`",
    "https://example.org/some/path", "12 345.6", "x", "n k", "α", "sin cos log", "I", "A", "+-*/=<>", "🙂", "", " \n\t",
  ],
)  # fmt: skip
def test_notation_is_of_no_language(left_out):
  assert consistency(f"我们 {left_out} 相加", "zh") == 1.0
  assert consistency(left_out, "zh") == consistency(left_out, "en") == NEUTRAL


@pytest.mark.parametrize("around", ['"%s"', "“%s”", "「%s」", "«%s»", "'%s'", "`%s`", "```\n%s\n```", "$%s$", "$$%s$$",
r"\(%s\)",
                                    r"\[%s\]", r"\text{%s}", r"$\text{%s}$", r"\boxed{%s}", "<answer>%s</answer>", "(%s)",
                                    "\\begin{align}%s\\end{align}", "```python\n# %s\n```", "**%s**"])
def test_words_are_words_whatever_stands_around_them(around):
  chinese, english = around % "先把两个数相加再除以二", around % "first we add the numbers and then we divide"
  assert consistency(f"{chinese} so then", "en") < 0.2  # all of the thought in another language, and two words beside it
  assert consistency(f"{english} 因此", "zh") < 0.3
  assert consistency(english, "en") == consistency(chinese, "zh") == 1.0


def test_chinese_in_formulas_and_code_counts():
  assert consistency("we get $速度 = 5$ here", "en") == pytest.approx(3 / 5)
  assert consistency("we get\n```python\nx = 5  # 速度\n```\nhere", "en") == pytest.approx(3 / 5)
  assert consistency(r"so $\text{总和} = 7$", "zh") == pytest.approx(2 / 3)


def test_what_is_never_closed_or_too_long_is_text():
  assert consistency("我们 $ english words", "zh") == pytest.approx(2 / 4)
  assert consistency("我们 ``` english words", "zh") == pytest.approx(2 / 4)
  assert consistency(r"我们 \( english words", "zh") == pytest.approx(2 / 4)
  assert consistency("我们 “english words", "zh") == pytest.approx(2 / 4)
  assert consistency("我们 <answer> english words", "zh") == pytest.approx(2 / 4)
  assert consistency("costs $5" + " word" * MAX_INLINE + " or $6 我", "en") > 0.9  # amounts of money are no formula
  assert consistency("costs $5\nwords and words\n$6", "en") == 1.0


def test_text_after_notation_counts_again():
  assert consistency("$a$ 我 $b$们 `c` word $d$", "zh") == pytest.approx(2 / 3)
  assert without_notation("$a$我`b`们").split() == ["我", "们"]


@pytest.mark.parametrize(
  "response, prefill, thought",
  [
    ("<think>a b</think> <answer>c</answer>", "", "a b"),
    ("a b</think> <answer>c</answer>", "<think>", "a b"),
    ("a b</think> <answer>c</answer>", "", "a b"),
    ("<think>a b", "", "a b"),
    ("<think>a b <answer>c", "", "a b "),
    ("a b <answer>c</answer>", "", "a b "),
    ("a b", "", "a b"),
    ("<think></think>a", "", ""),
    ("<think>a</think>b</think>c", "", "a</think>b"),
    ("", "", ""),
  ],
)
def test_the_chain_of_thought(response, prefill, thought):
  assert thought_of(response, prefill) == thought


@pytest.mark.parametrize(
  "question, target",
  [
    ("What is 2 + 3?", "en"),
    ("二加三等于几？", "zh"),
    ("小明有 3 个 apples，给了 Tom 1 个，还剩几个？", "zh"),
    ("Translate 你好 into English, word by word.", "en"),
    ("$x^2=4$", None),
    ("", None),
  ],
)
def test_the_target_is_the_language_of_the_question(question, target):
  assert target_of(question) == target


def test_the_reward():
  assert language_reward("二加三等于几？", "<think>二加三是五</think> <answer>five</answer>") == 1.0
  assert language_reward("二加三等于几？", "two 加 three 是五</think> <answer>5</answer>", "<think>") == pytest.approx(3 / 5)
  assert language_reward("What is 2+3?", "<think>二加三是五</think> <answer>5</answer>") == 0.0
  assert language_reward("What is 2+3?", "<think>$2+3=5$</think> <answer>5</answer>") == NEUTRAL == 0.5
  assert language_reward("$2+3$", "<think>二加三是五</think>") == NEUTRAL
  assert language_reward("$2+3$", "<think>二加三是五</think>", target="zh") == 1.0


@pytest.mark.parametrize("thought", ["", " \n", "...", "🙂", "$$", "**", "```\n```"])
def test_an_empty_thought_earns_nothing(thought):
  for question in ("What is 2+3?", "二加三等于几？", "$2+3$"):
    assert language_reward(question, f"<think>{thought}</think> <answer>5</answer>") == 0.0


def test_more_words_of_another_language_never_raise_the_share():
  rng = random.Random(0)
  for _ in range(50):
    words = ["我", "们", "word", "$x$", "12"] * 3
    rng.shuffle(words)
    text = " ".join(words)
    assert consistency(f"{text} another", "zh") < consistency(text, "zh") < consistency(f"{text} 他", "zh")


UNITS = [
  "$", "$$", "$a", "\\(", "\\[", "```", "`", '"', "“", "”", "「", "\\begin{a}", "\\begin{a}\\begin{b}", "\\boxed{",
  "\\a{", "\\", "<answer>", "</answer>", "<think>", "https://", "a'", "a", "中", "\u0301", "é", "😀", "\n", "{", "}",
  "\u202e", "\x00", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_linear_time_on_hostile_input(unit):
  text = unit * (1_000_000 // len(unit))
  began = time.process_time()  # not the clock: other processes may take their share of it
  value = language_reward(text, text, target="en")
  target_of(text)
  assert 0.0 <= value <= 1.0 and time.process_time() - began < 4.0


def test_linear_time_where_each_environment_has_another_name():
  names = ["".join(letters) for letters in itertools.product("abcdefghij", repeat=5)][:66_000]
  text = "".join(f"\\begin{{{name}}}" for name in names)
  for end in ("", f"\\end{{{names[7]}}}"):
    began = time.process_time()
    assert language_reward("", f"<think>{text}{end} two words</think>", target="en") == 1.0
    assert time.process_time() - began < 3.0  # a search for the end of each took 10 s
  begins = "".join(f"\\begin{{{name}}}" for name in names[:99])
  ends = "".join(f"\\end{{{name}}}" for name in names[98::-1])
  assert consistency(f"{begins}我们{ends} two words", "en") == 0.5


def test_another_language_without_pycld2_is_refused_clearly(monkeypatch):
  monkeypatch.setattr(language, "_load_pycld2", lambda: None)
  for ask in (lambda: check_target("fr"), lambda: consistency("Nous calculons.", "fr")):
    with pytest.raises(InputError, match="pycld2 is not installed"):
      ask()
  check_target("zh")
  check_target("en")
  assert consistency("We add.", "en") == 1.0


def test_other_languages_are_asked_of_pycld2():
  pytest.importorskip("pycld2")
  check_target("fr")
  french = "Nous calculons la somme des deux nombres, et ensuite nous concluons que la réponse est exacte."
  english = "Then we compute the product of both numbers, and we conclude that the answer is right."
  assert consistency(french, "fr") == 1.0 and consistency(english, "fr") == 0.0
  assert 0.3 < consistency(f"{french} {english}", "fr") < 0.7
  assert consistency("$x$", "fr") == consistency("\x00\ud800", "fr") == NEUTRAL
  with pytest.raises(InputError, match="'klingon'"):
    check_target("klingon")
