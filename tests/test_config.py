"""Schedules, --set, and what a config is when it is written down and compared."""

import dataclasses
import enum
import json
import pathlib
from typing import Any

import pytest

from r1jax.config import Schedule, config_hash, differences, integers_of, override, to_json
from r1jax.errors import InputError


class Kind(enum.Enum):
  PLAIN = "plain"
  FANCY = "fancy"


@dataclasses.dataclass(frozen=True)
class Part:
  rate: float = 0.5
  count: int = 3
  limit: int | None = None
  kind: Kind = Kind.PLAIN

  def __post_init__(self):
    if self.count < 1:
      raise InputError("part.count", self.count, "It must be at least 1.")


@dataclasses.dataclass(frozen=True)
class Named:
  name: str
  part: Part = Part()
  length: Schedule = Schedule({0: 8, 5: 16})
  shares: tuple[tuple[str, float], ...] = (("a", 1.0),)
  on: bool = False


@dataclasses.dataclass(frozen=True)
class Config:
  stages: tuple[Any, ...] = (Named("first"), Named("second"))
  folder: str | None = None
  words: str | tuple[str, ...] | None = None
  seed: int = 0


CONFIG = Config()


# Schedule


def test_a_schedule_changes_at_its_steps():
  schedule = Schedule({0: 32_768, 8_200: 65_536, 9_000: 10})
  steps = {0: 32_768, 1: 32_768, 8_199: 32_768, 8_200: 65_536, 8_999: 65_536, 9_000: 10, 10**9: 10}
  assert {step: schedule.at(step) for step in steps} == steps
  assert schedule.values() == (32_768, 65_536, 10)


def test_a_schedule_is_its_points_in_any_order():
  one, other = Schedule({0: 1, 7: 2}), Schedule({7: 2, 0: 1})
  assert one == other and hash(one) == hash(other) and one != Schedule({0: 1, 7: 3})


@pytest.mark.parametrize("points", [{}, {1: 5}, {-1: 5, 0: 5}, {0: "5"}, {0: 5, "7": 6}, {0: 5, 1.5: 6}, {0: None}], ids=str)
def test_a_schedule_needs_a_number_at_step_0_and_at_whole_steps(points):
  with pytest.raises(InputError, match="Give a number at step 0"):
    Schedule(points)


# --set


@pytest.mark.parametrize(("path", "text", "value"), [
  ("seed", "7", 7),
  ("folder", "some/folder", "some/folder"),
  ("folder", "123", "123"),  # a name that looks like a number stays a name
  ("folder", "None", None),
  ("words", "bytes", "bytes"),
  ("stages.second.name", "third", "third"),
  ("stages.second.part.rate", "1e-4", 1e-4),
  ("stages.second.part.rate", "2", 2.0),
  ("stages.second.part.limit", "12", 12),
  ("stages.second.part.limit", "None", None),
  ("stages.second.part.kind", "fancy", Kind.FANCY),
  ("stages.second.on", "true", True),
  ("stages.second.on", "False", False),
  ("stages.second.length", "{0: 4, 9: 5}", Schedule({0: 4, 9: 5})),
  ("stages.second.shares", "(('a', 0.5), ('b', 2.0))", (("a", 0.5), ("b", 2.0))),
  ("stages.second.shares", "[('a', 0.5)]", (("a", 0.5),)),
])
def test_a_field_is_set_by_its_dotted_path_and_nothing_else_is(path, text, value):
  new, old = override(CONFIG, path, text), CONFIG
  for part in path.split("."):
    new, old = ((new[1], old[1]) if part == "second" else (getattr(new, part), getattr(old, part)))
  assert new == value and type(new) is type(value)
  changed = differences(to_json(CONFIG), to_json(override(CONFIG, path, text)))
  assert all(line.startswith(path) for line in changed) and bool(changed) == (new != old)
  assert Config() == CONFIG


def test_an_element_without_a_name_is_set_by_its_index():
  config = override(Config(words=("a", "b")), "words.1", "c")
  assert config.words == ("a", "c")


@pytest.mark.parametrize(("path", "text", "said"), [
  ("sead", "1", ["--set sead", "Config has no field 'sead'", "seed"]),
  ("stages.third.on", "1", ["'third'", "first, second"]),
  ("stages.first.part.rat", "1", ["Part has no field 'rat'", "rate"]),
  ("stages.first.part.rate.x", "1", ["'x' is not reachable", "0.5"]),
  ("stages.first.part.rate", "fast", ["stages.first.part.rate", "'fast'", "a number"]),
  ("stages.first.part.count", "1.5", ["1.5", "a whole number"]),
  ("stages.first.part.count", "True", ["True", "a whole number"]),
  ("stages.first.part.count", "None", ["None", "a whole number"]),
  ("stages.first.part.count", "0", ["part.count", "0", "at least 1"]),  # the config's own check
  ("stages.first.part.limit", "many", ["'many'", "a whole number or None"]),
  ("stages.first.part.kind", "best", ["'best'", "plain, fancy"]),
  ("stages.first.part", "3", ["3", "Part"]),
  ("stages.first", "3", ["--set stages.first", "'3'", "name, part, length"]),
  ("stages.first.on", "1", ["1", "True or False"]),
  ("stages.first.length", "64", ["64", "{0: "]),
  ("stages.first.length", "{0: 'long'}", ["long", "Give a number at step 0"]),
])
def test_a_wrong_setting_is_refused_with_what_would_be_right(path, text, said):
  with pytest.raises(InputError) as error:
    override(CONFIG, path, text)
  for part in said:
    assert part in str(error.value)


# Written down


def test_the_json_of_a_config_says_everything():
  assert to_json(Named("n", part=Part(kind=Kind.FANCY))) == {
    "type": "Named", "name": "n", "on": False, "shares": [["a", 1.0]],
    "part": {"type": "Part", "rate": 0.5, "count": 3, "limit": None, "kind": "fancy"},
    "length": {"type": "Schedule", "points": [[0, 8], [5, 16]]}}
  assert to_json({"path": pathlib.PurePosixPath("a/b"), 3: (Kind.PLAIN,)}) == {"path": "a/b", "3": ["plain"]}


def test_the_hash_is_the_same_in_every_run():
  # A literal, since run directories keep it: change it only together with what the JSON of a config is.
  assert config_hash(CONFIG) == config_hash(Config()) == "db93bcfa2273ce7f"
  assert len({config_hash(c) for c in (CONFIG, Config(seed=1), override(CONFIG, "stages.first.on", "true"))}) == 3


def test_differences_name_the_fields_and_both_values():
  new = override(override(CONFIG, "seed", "1"), "stages.second.part.rate", "0.25")
  assert differences(to_json(CONFIG), to_json(new)) == ["seed: 0 -> 1", "stages.second.part.rate: 0.5 -> 0.25"]
  assert differences(to_json(CONFIG), json.loads(json.dumps(to_json(CONFIG)))) == []


def test_differences_tell_of_fields_and_elements_that_come_and_go():
  assert differences({"a": 1, "b": 2}, {"a": 1, "c": 3}) == ["b: 2 -> absent", "c: absent -> 3"]
  assert differences({"a": [1, 2]}, {"a": [1]}) == ["a: [1, 2] -> [1]"]
  assert differences({"a": [1, 2]}, {"a": [1, 3]}) == ["a.1: 2 -> 3"]
  assert differences({"a": None}, {"a": {"x": 1}}) == ["a: None -> {'x': 1}"]


def test_integers_of_reads_numbers_and_ranges():
  assert integers_of("--seeds", "101-105") == (101, 102, 103, 104, 105) and integers_of("--seeds", "7, 2,2-3") == (7, 2, 3)
  for text in ("", "5-1", "a", "1,", "-3", "1-2-3"):
    with pytest.raises(InputError, match="--seeds"):
      integers_of("--seeds", text)
