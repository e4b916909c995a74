"""Format reward: tables of well-formed and malformed responses, pre-filled or not."""

import time

import pytest

from r1jax.rewards.format import format_reward

GOOD = "<think>2 and 2</think> <answer>4</answer>"


@pytest.mark.parametrize(
  "response",
  [
    GOOD,
    "<think>2 and 2</think><answer>4</answer>",
    "\n <think>\n2 and 2\n</think>\n\n<answer>\n4\n</answer> \n",
    "<think></think> <answer></answer>",
    "<think>a < b, </ think>, <Answer> and <br></think> <answer>$x<3$</answer>",
    "<think>二加二\u3000是四 🙂</think>\u3000<answer>四</answer>\u2028",
  ],
)
def test_well_formed(response):
  assert format_reward(response) == 1.0


@pytest.mark.parametrize(
  "response",
  [
    "",
    "4",
    "<think>2 and 2</think>",
    "<answer>4</answer>",
    "<think>2 and 2 <answer>4</answer>",
    "2 and 2</think> <answer>4</answer>",
    "<think>2 and 2</think> <answer>4",
    "<think>2 and 2</think> 4</answer>",
    # repeated
    "<think>a</think> <think>b</think> <answer>4</answer>",
    "<think>a</think> <answer>4</answer> <answer>4</answer>",
    "<think>a</think> <answer><answer>4</answer>",
    "<think>a</think> <answer>4</answer></answer>",
    "<think><think>a</think> <answer>4</answer>",
    "<think>a</think></think> <answer>4</answer>",
    # wrong order
    "<answer>4</answer> <think>2 and 2</think>",
    "</think>2<think> <answer>4</answer>",
    "<think>a</think> </answer>4<answer>",
    "<think>a<answer></think>4</answer>",
    # nested
    "<think>a <answer>4</answer></think>",
    "<answer><think>a</think>4</answer>",
    # text outside
    "Sure. " + GOOD,
    GOOD + " Done.",
    "<think>2 and 2</think> so <answer>4</answer>",
    "<think>2 and 2</think> 二 <answer>4</answer>",
    # other spellings
    "<Think>2 and 2</Think> <Answer>4</Answer>",
    "<think >2 and 2</think> <answer>4</answer>",
  ],
)
def test_malformed(response):
  assert format_reward(response) == 0.0


def test_prefill_is_part_of_the_text():
  rest = "2 and 2</think> <answer>4</answer>"
  assert format_reward(rest, prefill="<think>") == 1.0
  assert format_reward(rest, prefill="<think>\n") == 1.0
  assert format_reward(rest, prefill=" <think>") == 1.0
  assert format_reward(rest) == 0.0
  assert format_reward(GOOD, prefill="<think>") == 0.0  # the model opened it a second time
  assert format_reward(GOOD, prefill="Assistant: ") == 0.0


@pytest.mark.parametrize("unit", ["<think>", "</think><answer>", "<", GOOD, " "])
def test_linear_time_on_hostile_input(unit):
  began = time.perf_counter()
  assert format_reward(unit * (1_000_000 // len(unit))) == 0.0
  assert format_reward("<think>" + " " * 1_000_000 + "x</answer>") == 0.0
  assert time.perf_counter() - began < 1.0
