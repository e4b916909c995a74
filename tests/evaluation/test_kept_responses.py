"""Responses on disk: a kill in mid-line costs that line, other settings are refused, more samples are added."""
import pytest

from r1jax.errors import InputError
from r1jax.evaluation.responses import Kept, Responses

ABOUT = {"benchmark": "gsm8k", "temperature": 0.6}
FIRST, SECOND = Kept("a:1", 0, "one\u2028two", 3, True), Kept("a:1", 1, "three", 4, False)


def test_what_was_written_is_found_again(tmp_path):
  file = tmp_path / "of" / "gsm8k.responses.jsonl"
  Responses(file, ABOUT).add([FIRST])
  again = Responses(file, ABOUT)
  again.add([SECOND])
  assert Responses(file, ABOUT).found == again.found == {("a:1", 0): FIRST, ("a:1", 1): SECOND}


@pytest.mark.parametrize("cut", [1, 10])
def test_a_torn_line_is_dropped_and_written_over(tmp_path, cut):
  file = tmp_path / "responses.jsonl"
  Responses(file, ABOUT).add([FIRST, SECOND])
  file.write_bytes(file.read_bytes()[:-cut])
  again = Responses(file, ABOUT)
  assert again.found == {("a:1", 0): FIRST}
  again.add([SECOND])
  assert Responses(file, ABOUT).found == {("a:1", 0): FIRST, ("a:1", 1): SECOND}


def test_a_file_torn_in_its_first_line_starts_anew(tmp_path):
  file = tmp_path / "responses.jsonl"
  file.write_text('{"benchmark"')
  assert Responses(file, ABOUT).found == {}


def test_other_settings_and_other_files_are_refused(tmp_path):
  file = tmp_path / "responses.jsonl"
  Responses(file, ABOUT).add([FIRST])
  with pytest.raises(InputError, match="temperature: 0.6 -> 1.0"):
    Responses(file, {**ABOUT, "temperature": 1.0})
  file.write_text(file.read_text().split("\n")[0] + '\n{"question": "a"}\n')
  with pytest.raises(InputError, match="responses.jsonl:2: no response"):
    Responses(file, ABOUT)
