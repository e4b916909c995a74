"""The notebooks in colab/: they define nothing, and run from top to bottom to what they are committed with.

All four run in one folder, where the later ones find the base model that the first has trained.
"""
import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NAMES = ("01_r1_zero_in_ten_minutes", "02_grpo_step_by_step", "03_your_model_your_questions", "04_read_a_run")


def committed(name: str):
  return nbformat.read(ROOT / "colab" / f"{name}.ipynb", as_version=4)


def sources(notebook) -> list[str]:
  return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def printed(notebook) -> str:
  """What the cells have printed and shown, as text."""
  texts = []
  for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
    assert output.output_type != "error", output
    data = output.get("data", {})
    if output.output_type != "stream":
      texts.append(data.get("text/markdown") or data.get("text/plain", ""))
    elif output.name == "stdout":
      texts.append(output.text)
  return "\n".join(texts)


def numbers(pattern: str, text: str) -> list[float]:
  """The groups of the only place that a pattern fits."""
  [found] = re.findall(pattern, text)
  return [float(number) for number in ([found] if isinstance(found, str) else found)]


def check_ten_minutes(text: str) -> None:
  before, after, short, long = numbers(r"accuracy ([\d.]+) -> ([\d.]+), length ([\d.]+) -> ([\d.]+) tokens", text)
  assert before < 0.5 and after > 0.75 and long > short + 2
  assert text.count("&lt;answer>") > 12


def check_step(text: str) -> None:
  ours, grpo, update = numbers(r"by hand (\S+), grpo_loss (\S+), the jitted update (\S+): equal", text)
  assert abs(ours - grpo) < 1e-5 and abs(ours - update) < 1e-4 and ours != 0
  first, ratio, kl = numbers(r"loss (\S+), mean ratio (\S+), KL (\S+), gradient norm", text)
  assert abs(first) < 0.2 and (ratio, kl) == (1.0, 0.0)
  up, down = numbers(r"change: (\S+) where the advantage is positive, (\S+) where it is negative", text)
  assert up > 0 > down
  [cut] = numbers(r"the clip acts on (\d+) of", text)
  assert cut > 0
  assert "gradient by hand and by JAX: equal" in text


def check_your_model(text: str) -> None:
  before, after = numbers(r"pass@1 ([\d.]+) -> ([\d.]+)", text)
  assert after > before + 0.1
  assert "the exported model gives the same responses as the run" in text and "# my_trained_model" in text


def check_read_a_run(text: str) -> None:
  assert "Entropy collapses (step" in text and "| policy/entropy |" in text
  assert re.search(r"report\.html: \d+ KB, \d\d figures", text) and "| chip-hours |" in text
  assert re.search(r"\| 40 \| .* &lt;think>", text)


CHECKS = dict(zip(NAMES, (check_ten_minutes, check_step, check_your_model, check_read_a_run), strict=True))


def test_there_are_no_others():
  assert sorted(file.stem for file in (ROOT / "colab").glob("*.ipynb")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_defines_nothing(name):
  found = [line for source in sources(committed(name)) for line in source.splitlines()
           if re.search(r"^\s*(async\s+def|def|class)\b|\blambda\b", line)]
  assert not found
  install, *code = sources(committed(name))
  assert 'find_spec("r1jax") is None' in install and "pip install" in install
  assert any("from r1jax" in source for source in code)
  for source in code:
    ast.parse("\n".join(line for line in source.splitlines() if not line.startswith("%%")))


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_outputs_are_those_of_one_pass_from_top_to_bottom(name):
  notebook = committed(name)
  counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
  assert counts == list(range(1, len(counts) + 1))
  CHECKS[name](printed(notebook))
  assert str(Path.home()) not in nbformat.writes(notebook)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """colab/ beside experiments/, as in the repository, and nothing in it yet."""
  root = tmp_path_factory.mktemp("checkout")
  (root / "experiments").symlink_to(ROOT / "experiments")
  (root / "colab").mkdir()
  return root / "colab"


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name, folder, monkeypatch):
  monkeypatch.delenv("XLA_FLAGS")
  notebook = committed(name)
  for cell in notebook.cells:
    if cell.cell_type == "code":
      cell.outputs, cell.execution_count = [], None
  NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
  CHECKS[name](printed(notebook))
