"""What fields of configs may hold: each annotation against values by hand, and mutations of whole experiments."""
import dataclasses
import enum
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, MinLen
from mutations import mutated

from r1jax.config import Schedule
from r1jax.errors import InputError
from r1jax.experiment_file import load_experiment
from r1jax.fields import Count, Name, PartialShare, Positive, Seed, check_fields, validated
from r1jax.stages.runner import check_run

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


class Colour(enum.Enum):
  RED = "red"
  BLUE = "blue"


@dataclasses.dataclass(frozen=True)
class Inner:
  name: str = "inner"
  size: Count = 1


@dataclasses.dataclass(frozen=True)
class Outer:
  parts: tuple[Inner, ...] = (Inner(),)
  colour: Colour = Colour.RED
  table: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@pytest.mark.parametrize(("annotation", "value"), [
  (Count, 1), (Count | None, None), (float, 3), (float, 1e30), (str | None, "x"), (Colour, Colour.RED), (Any, object()),
  (tuple[str, ...], ()), (tuple[tuple[str, Positive], ...], (("a", 1),)), (Literal["a", "b"], "b"), (Name, "rl_2-b"),
  (Inner, Inner()), (Inner | None, None), (Schedule, Schedule({0: 1})), (Annotated[tuple[str, ...], MinLen(1)], ("a",)),
  (Seed, 2**63 - 1)])
def test_a_right_value_passes_as_it_is(annotation, value):
  assert validated(annotation, value, "field") == value


@pytest.mark.parametrize(("annotation", "value", "remedy"), [
  (Count, 0, "at least 1"), (Count, "12", "a whole number"), (Count, True, "a whole number"), (Count, 2.0, "a whole number"),
  (Count | None, 0, "at least 1"), (Count | None, "x", "a whole number or None"), (Positive, 0, "more than 0"),
  (float, math.nan, "finite"), (float, 2**70, "decimal point: 1.1805916207174113e+21"),
  (Count, 2**31, "at most 2,147,483,647"),
  (float, math.inf, "finite"), (float, True, "a number"), (bool, 1, "True or False"),
  (str, 3, "text"), (Colour, "red", "a Colour (RED, BLUE)"), (tuple[str, ...], ["a"], "a tuple"),
  (tuple[str, ...], "abc", "a tuple"),
  (tuple[tuple[str, float], ...], (("a", 1.0), ("b", math.inf)), "finite number, entry 1"),
  (Literal["a", "b"], "c", "Use 'a' or 'b'"), (Name, "../evil", "letters"), (Name, "a/b", "letters"), (Name, "", "letters"),
  (Inner, 3, "It must be Inner"), (Inner | Outer, 3, "It must be Inner or Outer"),
  (Inner, {"size": 1}, "It must be Inner"), (Schedule, 24, "a schedule such as {0: 1024"),
  (Annotated[tuple[Inner, ...], MinLen(1)], (Inner(), 3), "Entry 1 must be Inner"),
  (Annotated[tuple[str, ...], MinLen(1)], (), "at least 1"), (Annotated[int, Ge(2)], 1, "at least 2"),
  (PartialShare, 1, "less than 1"), (Seed, 10**20, "at most")])
def test_a_wrong_value_is_refused_with_what_would_be_right(annotation, value, remedy):
  with pytest.raises(InputError) as error:
    validated(annotation, value, "stages.a.field")
  assert str(error.value).startswith(f"stages.a.field: {value!r}") and remedy in str(error.value)


@pytest.mark.parametrize(("config", "where"), [
  (Outer(parts=(Inner(), Inner("second", 0))), "x.parts.second.size"), (Outer(parts=(3,)), "x.parts"),
  (Outer(colour="red"), "x.colour"), (Outer(table={"a": Inner(size=-1)}), "x.table.a.size")])
def test_every_depth_is_checked(config, where):
  check_fields(Outer(), "x")
  with pytest.raises(InputError) as error:
    check_fields(config, "x")
  assert error.value.where == where


# One experiment of each kind; their stages have every dataclass that a config can hold.
CHECKED = ("r1_tiny", "r1_zero_tiny", "r1_qwen2p5_32b", "r1_deepseek_v3")


@pytest.fixture(scope="module")
def experiments():
  return [load_experiment(str(EXPERIMENTS / f"{name}.py"), False, []) for name in CHECKED]


@pytest.mark.parametrize("seed", range(300))
def test_a_mutated_experiment_is_refused_by_name_or_passes_every_check(experiments, seed):
  try:
    found = mutated(experiments[seed % len(experiments)], seed)
    found.check() if found.weights == "" else check_run(found)
  except InputError as error:
    assert "\n" not in str(error)


MISTAKES = {
  "import r1jax.nothing": "line 1: ModuleNotFoundError",
  "from r1jax.config import Shedule": "line 1: ImportError",
  "from r1_tiny import r1_zero\nimport dataclasses\ndataclasses.replace(r1_zero, stepz=3)": "line 3: TypeError",
  "from r1jax.config import Schedule\nSchedule(24)": "Schedule: 24",
  "x = 1 / 0": "line 1: ZeroDivisionError",
  "def f(:": "line 1",
  "experiment = 3": "`experiment` is 3",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_an_experiment_file_is_one_line_with_its_place(text, tmp_path, monkeypatch):
  file = tmp_path / "mine.py"
  file.write_text(text)
  monkeypatch.syspath_prepend(str(EXPERIMENTS))
  with pytest.raises(InputError) as error:
    load_experiment(str(file), False, [])
  assert MISTAKES[text] in str(error.value) and "\n" not in str(error.value)
