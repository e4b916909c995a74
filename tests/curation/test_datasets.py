"""Data sets that are made unit by unit."""
import json
from collections import Counter

import pytest

from r1jax.curation.datasets import Rows, Units, read_rows
from r1jax.errors import InputError


def test_units_outlast_a_kill_and_a_torn_one_is_done_again(tmp_path):
  units = Units(tmp_path, "made")
  units.append([{"a": 1}], Counter(kept=1))
  units.append([{"a": 2}, {"a": 3}], Counter(kept=2, wrong=1))
  file = tmp_path / "datasets" / "made.partial.jsonl"
  whole = file.read_text()
  file.write_text(whole + '{"rows": [{"a": 4')
  again = Units(tmp_path, "made")
  assert (again.done, again.rows, again.counts) == (2, [{"a": 1}, {"a": 2}, {"a": 3}], Counter(kept=3, wrong=1))
  assert file.read_text() == whole
  again.finish("made", again.rows, {"rows": 3})
  assert not file.exists()
  assert read_rows(tmp_path, "made") == again.rows
  assert json.loads((tmp_path / "datasets" / "made.json").read_text()) == {"rows": 3}


def test_a_data_set_that_is_not_there_names_the_stage(tmp_path):
  with pytest.raises(InputError, match="Run the stage 'made' first"):
    Rows("made").read(tmp_path)


def test_a_damaged_line_is_named(tmp_path):
  file = tmp_path / "rows.jsonl"
  file.write_text('{"a": 1}\n[2]\n')
  with pytest.raises(InputError, match=r"rows.jsonl:2: not a JSON object"):
    list(Rows(path=str(file)).read(tmp_path))


@pytest.mark.parametrize("of", [{}, {"stage": "a", "path": "b"}])
def test_rows_are_of_a_stage_or_of_a_file(of):
  with pytest.raises(InputError, match="Give one of the two"):
    Rows(**of)
