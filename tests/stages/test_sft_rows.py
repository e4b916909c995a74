"""SFT on a file of rows: what is wrong with the file is said by the check before a run, by its line."""
import pyarrow
import pytest
from pyarrow import parquet

from r1jax.curation.datasets import Rows
from r1jax.data.templates import Template
from r1jax.data.tokenizer import byte_level_tokenizer
from r1jax.errors import InputError
from r1jax.stages.sft import SFT
from r1jax.training.optimizer import AdamW

ROW = '{"question": "1+1?", "response": "2"}\n'


def check(file) -> None:
  SFT(documents=Rows(path=str(file)), optimizer=AdamW(lr=1e-3), batch_size=1, max_length=16, template=Template("{question}"),
      epochs=1).check_data(byte_level_tokenizer())


@pytest.mark.parametrize(("content", "said"), [
  ("", r"rows\.jsonl: the file has no rows"), (ROW + "\n" + '{"question": "2+2?"}\n', r"rows\.jsonl:3: no text 'response'"),
  (ROW + '{"question": "2+2?", "response": ""}\n', r"rows\.jsonl:2, field 'response': it is empty"),
  (ROW + '{"question": "2+2?", "response": "\\ud800"}\n', r"rows\.jsonl:2, field 'response': half of a surrogate"),
  ('{"question": "a question that is long", "response": "2"}\n' * 2, "2 rows, none within max_length 16")])
def test_a_bad_file_is_refused_by_its_line(tmp_path, content, said):
  (tmp_path / "rows.jsonl").write_text(content)
  with pytest.raises(InputError, match=said):
    check(tmp_path / "rows.jsonl")


def test_rows_of_parquet_are_taken(tmp_path):
  parquet.write_table(pyarrow.table({"question": ["1+1?"], "response": ["2"]}), tmp_path / "rows.parquet")
  check(tmp_path / "rows.parquet")
