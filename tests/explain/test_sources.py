"""Where fields come from: every number of the paper's map is found as the paper's, and what is ours is not."""
import re
from functools import cache
from pathlib import Path

import pytest
from all_experiments import ENTRIES, FOLDER, entry_of, label

from r1jax.config import Schedule
from r1jax.experiment_file import load_experiment, place_of
from r1jax.explain.sources import GIVEN, MODEL, OURS, PAPER, classify, fields_of

ROOT = Path(__file__).parents[2]


@cache
def fields(name: str, smoke: bool = False, settings: tuple[str, ...] = ()) -> dict:
  experiment = load_experiment(entry_of(name), smoke, settings)
  return {f.path: f for f in fields_of(experiment, *place_of(entry_of(name), smoke), [s.split("=")[0] for s in settings])}


def carried() -> list[tuple[str, str]]:
  """(experiment, path) of each field that experiments/paper_map.md says a number of the papers is in."""
  lines = (FOLDER / "paper_map.md").read_text(encoding="utf-8").splitlines()
  rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
  found = [(row[3], row[4]) for row in rows if len(row) == 5 and re.fullmatch(r"stages\.[\w.]+", row[4])]
  return sorted(set(found))


@pytest.mark.parametrize(("name", "path"), carried(), ids=lambda x: x)
def test_a_number_of_the_papers_map_is_the_papers(name, path):
  found = fields(name)
  if path not in found:  # an element of a tuple or a schedule: the field that holds it
    path = next(".".join(path.split(".")[:n]) for n in range(path.count("."), 0, -1)
                if ".".join(path.split(".")[:n]) in found)
  assert found[path].source == PAPER, found[path]
  assert found[path].why and "the same" not in found[path].why


@pytest.mark.parametrize("smoke", [False, True], ids=["whole", "smoke"])
@pytest.mark.parametrize("name", [label(entry) for entry in ENTRIES])
def test_every_field_has_a_place_that_names_it(name, smoke):
  found = fields(name, smoke)
  assert len(found) > 40
  set_in = [f for f in found.values() if re.search(r"\.py:\d+$", f.where)]
  assert len(set_in) > 10
  for field in set_in:
    name, line = field.where.split(":")
    file = ROOT / name if name.startswith("r1jax/") else FOLDER / name
    text = file.read_text(encoding="utf-8").splitlines()[int(line) - 1]
    last = field.path.split(".")[-1]
    # by its name, or by position: documents=Corpus(WORLD), Generated("sums"), Rows("rejection")
    assert f"{last}=" in text or f'"{last}"' in text or "(" in text or text.strip()[0] == '"', (field, text)


def test_sources_by_example():
  zero = fields("r1_zero_qwen2p5_32b")
  assert zero["stages.r1_zero.optimizer.lr"].source == PAPER
  assert zero["stages.r1_zero.optimizer.warmup_steps"].source == OURS  # "warm-up: ours" on the same line
  assert zero["stages.r1_zero.held_out.questions"].source == OURS
  assert zero["stages.r1_zero.held_out.samples"].why == "R1, arXiv 2501.12948v2, appendix D.1: k = 16 for MATH"
  assert zero["stages.r1_zero.held_out.sampling.temperature"].why == zero["stages.r1_zero.held_out.samples"].why
  assert zero["model.d_ff"].source == zero["model.rope_scaling"].source == MODEL
  assert zero["stages.r1_zero.decoding.slots"].source == OURS
  assert zero["stages.r1_zero.kl_estimator"].where == "default of GRPO"
  assert zero["stages.r1_zero.decoding.page"].why == "All numbers are ours."
  tiny = fields("r1_zero_tiny")
  field = tiny["stages.r1_zero.questions_per_step"]
  assert (field.value, field.source, field.why) == (16, OURS, "the paper's 32, halved for two cores")
  assert tiny["stages.r1_zero.clip_high"].source == PAPER and tiny["stages.r1_zero.max_length"].value == {0: 34, 60: 68}
  assert "cannot be worked out" in tiny["stages.r1_zero.max_length"].why


def test_fields_are_found_through_replace_imports_and_functions():
  found = fields("r1_deepseek_v3")
  assert found["stages.r1_zero.optimizer.lr"].where.startswith("r1_deepseek_v3.py:")
  assert found["stages.r1_zero.group_size"].where.startswith(("r1_qwen2p5_32b.py:", "default of GRPO"))
  assert found["stages.rl_2.steps"].where.startswith("r1_qwen2p5_32b.py:")
  slots = found["stages.cold_start_data.draws.decoding.slots"]
  assert slots.value == 128 and slots.where.startswith("r1_deepseek_v3.py:") and "16 sequences" in slots.why
  assert found["stages.cold_start_data.draws.count"].where.startswith("r1_qwen2p5_32b.py:")
  smoke = fields("r1_zero_tiny", smoke=True)["stages.base.steps"]
  assert smoke.value == 8 and smoke.source == OURS and smoke.why.startswith("Half a minute on a CPU")


def test_what_the_command_line_sets_is_said_to_be_its():
  found = fields("r1_zero_tiny", settings=("stages.r1_zero.optimizer.lr=1e-5", "stages.r1_zero.max_length={0: 40}"))
  for path, value in (("stages.r1_zero.optimizer.lr", 1e-5), ("stages.r1_zero.max_length", {0: 40})):
    assert (found[path].source, found[path].value, found[path].where) == (GIVEN, value, "--set")
  assert found["stages.r1_zero.optimizer.warmup_steps"].source == OURS


@pytest.mark.parametrize(("name", "why", "source"), [
  ("lr", "", OURS), ("lr", "ours", OURS), ("lr", "[N]", PAPER), ("lr", "R1, V2, appendix B.4.2", PAPER),
  ("lr", "R1, v2, appendix B.4.1; warm-up: ours", PAPER), ("warmup_steps", "R1, v2, appendix B.4.1; warm-up: ours", OURS),
  ("share", "in the last 400 steps [N]; the share is ours", OURS), ("group_size", "the paper's 16, halved", OURS),
  ("b1", "ours: that of DeepSeek-V3's pre-training", OURS), ("reduction", "DeepSeekMath eq. 3; R1 does not say", PAPER),
  ("clip_low", "[N] for R1's first RL stage; inferred for R1-Zero", PAPER), ("d_ff", "the hub's config.json of X", MODEL),
  ("mla", "DeepSeek-V3", OURS)])
def test_comments_are_read_as_they_are_meant(name, why, source):
  assert classify(name, why) == source


def test_values_are_those_of_the_experiment():
  experiment = load_experiment(FOLDER / "r1_tiny.py")
  found = fields("r1_tiny")
  for stage in experiment.stages:
    assert found[f"stages.{stage.name}.name"].value == stage.name
    optimizer = getattr(stage, "optimizer", None)
    if optimizer:
      assert found[f"stages.{stage.name}.optimizer.lr"].value == optimizer.lr
    length = getattr(stage, "max_length", None)
    if isinstance(length, Schedule):
      assert found[f"stages.{stage.name}.max_length"].value == dict(length.points)
