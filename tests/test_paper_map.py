"""experiments/paper_map.md: every number of the papers that a config carries, compared with the config."""
import os
import re
from functools import cache
from pathlib import Path

import pytest
from all_experiments import entry_of

from r1jax.config import Schedule
from r1jax.experiment_file import load_experiment

ROOT = Path(__file__).parent.parent
MAP = ROOT / "experiments" / "paper_map.md"
DIGEST = Path(os.environ.get("R1JAX_PAPER", ""))
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?[Kk]?(?!\w)")


def rows(columns: int) -> list[list[str]]:
  """The lines of the table with so many columns."""
  lines = [line for line in MAP.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
  cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
  return [row for row in cells if len(row) == columns and re.match(r"\d", row[0])]


CARRIED, LEFT_OUT = rows(5), rows(3)


def value_of(number: str) -> float:
  """"8,192" and "8.2k" as numbers."""
  plain = number.replace(",", "")
  return round(float(plain[:-1]) * 1_000) if plain[-1] in "Kk" else float(plain)


@cache
def experiment(name: str):
  return load_experiment(entry_of(name))


def field(config, path: str):
  """A field by its dotted path; elements of tuples by name, index, or as the key of a pair."""
  for part in path.split("."):
    if isinstance(config, tuple):
      named = {getattr(item, "name", None): item for item in config}
      pairs = {item[0]: item[1] for item in config if isinstance(item, tuple) and len(item) == 2}
      config = config[int(part)] if part.isdigit() else named.get(part, pairs.get(part))
    else:
      config = getattr(config, part)
  if isinstance(config, Schedule):
    (config,) = config.values()
  return config


def carried(name: str, expression: str) -> float:
  """The value of fields and numbers joined by * + - / //."""
  whole = re.sub(r"stages[\w.]*\w", lambda m: repr(field(experiment(name), m[0])), expression)
  assert re.fullmatch(r"[\d\s*+\-/._e]+", whole), whole
  return float(eval(whole))


@pytest.mark.parametrize("row", CARRIED, ids=lambda row: f"{row[0]} {row[2]}")
def test_the_config_has_the_papers_number(row):
  _, number, _, name, expression = row
  assert carried(name, expression) == pytest.approx(value_of(number), rel=1e-12)


def test_every_section_that_a_config_can_carry_is_there():
  sections = {row[0] for row in CARRIED}
  assert {"1.3", "1.4", "2.2", "4.1", "4.2", "4.3", "4.4", "4.5", "5", "6.1", "6.3", "8.1"} <= sections
  assert all(row[2] for row in LEFT_OUT)


def digest() -> dict[str, list[str]]:
  """Section -> its numbers, those of sources in square brackets aside; of sections 1 to 6 and 8."""
  found = {}
  parts = re.split(r"^#{2,3} (\d+(?:\.\d+)?)[. ][^\n]*$", DIGEST.read_text(encoding="utf-8"), flags=re.MULTILINE)
  for section, body in zip(parts[1::2], parts[2::2], strict=True):
    if section.split(".")[0] in "1 2 3 4 5 6 8".split():  # noqa: SIM905
      found[section] = [number.rstrip(",") for number in NUMBER.findall(re.sub(r"\[[^\]]*\]", "", body))]
  return found


@pytest.mark.skipif(not DIGEST.is_file(), reason="needs R1JAX_PAPER, the digest of the papers")
def test_no_number_of_the_papers_is_unmatched():
  mapped = {(row[0], value_of(row[1])) for row in CARRIED}
  whole = {row[0] for row in LEFT_OUT if row[1] == "all"}
  mapped |= {(row[0], value_of(number)) for row in LEFT_OUT if row[1] != "all" for number in row[1].split(", ")}
  numbers = digest()
  assert len(numbers) > 20 and sum(map(len, numbers.values())) > 400
  unmatched = [(section, number) for section, all_of in numbers.items() if section not in whole
               for number in all_of if (section, value_of(number)) not in mapped]
  assert not unmatched


@pytest.mark.skipif(not DIGEST.is_file(), reason="needs R1JAX_PAPER, the digest of the papers")
def test_a_number_of_the_map_stands_in_its_section():
  text = DIGEST.read_text(encoding="utf-8")
  parts = re.split(r"^#{2,3} (\d+(?:\.\d+)?)[. ][^\n]*$", text, flags=re.MULTILINE)
  bodies = dict(zip(parts[1::2], parts[2::2], strict=True))
  derived = {"804,745", "626,933", "1e-5", "8e-6", "7e-6", "6e-6", "5e-6", "2e-6", "4"}  # sums, tenths, and numbers in words
  for section, number, what, *_ in CARRIED:
    if number not in derived and not what.startswith("weight"):
      found = {value_of(n.rstrip(",")) for n in NUMBER.findall(bodies[section])}
      assert value_of(number) in found, (section, number)
