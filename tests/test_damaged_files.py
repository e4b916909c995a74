"""Input files that are damaged in 60 seeded ways: each is refused in one line before anything is written, or works."""
import dataclasses
import gzip
import json
import os
import random
import shutil
from pathlib import Path

import jax
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import FAMILIES, one_device, random_params

from r1jax.curation.datasets import Rows
from r1jax.data.questions import Jsonl
from r1jax.data.tokenizer import word_level_tokenizer
from r1jax.errors import InputError
from r1jax.models.huggingface import export
from r1jax.stages import runner
from r1jax.stages.context import EXPERIMENT
from r1jax.stages.evaluate import HeldOut
from r1jax.stages.runner import run_experiment

NUMBERS = [str(i) for i in range(20)]
MODEL = dataclasses.replace(FAMILIES["llama"], num_layers=1, rope_scaling=None)
ODD = (None, True, 0, -1, 1.5, 10**400, "", "\u2028", "x" * 300, [], [1], {}, {"a": [None]}, "\ud800")
FILES = ("rows.jsonl", "packed.jsonl.gz", "questions.parquet", "model/config.json", "model/tokenizer.json",
         "model/tokenizer_config.json", "model/generation_config.json", "model/model.safetensors")


class Accepted(Exception):
  """The first stage begins."""


def write_inputs(folder: Path) -> Path:
  """Every kind of file that a run reads: rows, questions, weights, a tokenizer."""
  rows = [{"question": f"{a} + {b}", "response": f"{a + b}"} for a in range(5) for b in range(4)]
  sums = [{"question": f"{a} + {b}", "answer": str(a + b)} for a in range(6) for b in range(7)]
  text = "".join(json.dumps(row) + "\n" for row in rows)
  (folder / "rows.jsonl").write_text(text)
  (folder / "packed.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
  pq.write_table(pa.Table.from_pylist(sums), folder / "questions.parquet")
  export(random_params(MODEL, one_device()), MODEL, folder / "model", word_level_tokenizer(["+", *NUMBERS]))
  return folder


def experiment_of(folder: Path):
  """Two supervised stages and RL, of two steps each, which read those files."""
  from tiny_run import experiment as tiny  # beside the tests of stages

  sft, rl = tiny.stages
  sft = dataclasses.replace(sft, name="jsonl", documents=Rows(path=str(folder / "rows.jsonl")), steps=None, epochs=1,
                            batch_size=10, max_length=16, train_on_prompt=False)
  packed = dataclasses.replace(sft, name="packed", documents=Rows(path=str(folder / "packed.jsonl.gz")), start=EXPERIMENT)
  rl = dataclasses.replace(rl, questions=Jsonl(folder / "questions.parquet", held_out=0.3), start="packed", steps=2,
                           held_out=HeldOut(questions=2))
  return dataclasses.replace(tiny, tokenizer=None, weights=str(folder / "model"), stages=(sft, packed, rl),
                             model=runner.config_from_folder(folder / "model"))


# What is done to a file: (its bytes, a source of chance) -> its bytes


def cut(content, rng):
  return content[:rng.randrange(len(content))]


def emptied(content, rng):
  return b""


def flipped(content, rng):
  content = bytearray(content)
  content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
  return bytes(content)


def not_utf8(content, rng):
  at = rng.randrange(len(content))
  return content[:at] + b"\xff\xfe\xc3" + content[at:]


def doubled(content, rng):
  return content * 2


def in_utf16(content, rng):
  return content.decode("latin-1").encode("utf-16")


def packed_again(content, rng):
  return gzip.compress(content, mtime=0)


def of_other_types(content, rng):
  """A value in it is of another type, or its name is gone: of JSON, JSONL packed or not, and Parquet."""
  if content[:4] == b"PAR1":
    columns = pq.read_table(pa.BufferReader(content)).to_pydict()
    name = rng.choice(list(columns))
    column = rng.choice(([1] * 42, [None] * 42, ["7 7"] * 42, [["7"]] * 42, [1.5] * 42, None))
    columns = {k: v for k, v in columns.items() if k != name} | ({name: column} if column else {})
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()
  if content[:2] == b"\x1f\x8b":
    return gzip.compress(of_other_types(gzip.decompress(content), rng), mtime=0)
  try:
    lines = [json.loads(content)]
  except ValueError:
    lines = [json.loads(line) for line in content.decode().splitlines()]
  parent = rng.choice(list(parents(rng.choice(lines))))
  key = rng.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
  if rng.random() < 0.3:
    del parent[key]
  else:
    parent[key] = rng.choice(ODD)
  return "".join(json.dumps(line) + "\n" for line in lines).encode()


def parents(value):
  """Every object and list in a JSON value that holds something."""
  if isinstance(value, dict | list) and value:
    yield value
    for item in value.values() if isinstance(value, dict) else value:
      yield from parents(item)


CONTENTS = (cut, emptied, flipped, not_utf8, doubled, in_utf16, packed_again)
NEVER_RIGHT = ("folder", "loop", "forbidden", "emptied", "in_utf16")


def damage(folder: Path, seed: int) -> str:
  """Damages one of the files: the way, one of CONTENTS by its name."""
  rng = random.Random(seed)
  file = folder / FILES[seed % len(FILES)]
  ways = ["gone", "folder", "loop", *CONTENTS] + ([] if file.suffix == ".safetensors" else 6 * [of_other_types])
  ways += [] if os.geteuid() == 0 else ["forbidden"]
  way = rng.choice(ways)
  if callable(way):
    file.write_bytes(way(file.read_bytes(), rng))
  elif way == "forbidden":
    file.chmod(0)
  else:
    file.unlink()
    if way == "folder":
      file.mkdir()
    elif way == "loop":
      file.symlink_to(file)
  return way if isinstance(way, str) else way.__name__


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def folder(written, tmp_path):
  """A copy of the files."""
  return shutil.copytree(written, tmp_path / "inputs")


@pytest.fixture
def on_one_device(monkeypatch):
  make_mesh = runner.make_mesh
  monkeypatch.setattr(runner, "make_mesh", lambda shape: make_mesh(shape, jax.devices()[:1]))
  monkeypatch.syspath_prepend(str(Path(__file__).parent / "stages"))


def begins(folder: Path, monkeypatch) -> bool:
  """Whether a run of these files begins; AssertionError where it is refused otherwise than in one line, leaving nothing."""
  def begin(*of):
    raise Accepted
  with monkeypatch.context() as patch:
    patch.setattr(runner, "_run_stage", begin)
    try:
      run_experiment(experiment_of(folder), folder / "run")
    except Accepted:
      return True
    except InputError as error:
      assert "\n" not in str(error) and not (folder / "run").exists(), error
      return False
  raise AssertionError("no stage has begun")


def test_undamaged_files_are_run(folder, on_one_device, monkeypatch):
  assert begins(folder, monkeypatch)


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_file_is_refused_in_one_line_before_anything_is_written_or_can_be_used(
    folder, on_one_device, monkeypatch, seed):
  way = damage(folder, seed)
  assert not (begins(folder, monkeypatch) and way in NEVER_RIGHT)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_file_that_is_accepted_can_be_trained_on(folder, on_one_device, monkeypatch, seed):
  """No refusal comes late, when stages have trained."""
  way = damage(folder, seed)
  if begins(folder, monkeypatch):
    shutil.rmtree(folder / "run")
    assert run_experiment(experiment_of(folder), folder / "run")["status"] == "finished", way


def test_an_unknown_word_in_a_row_is_named_with_its_file(folder, on_one_device):
  rows = ({"question": "1 + 1", "response": response} for response in ("2", "2", "two"))
  (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  with pytest.raises(InputError, match="rows.jsonl, row 3, tokenizer: unknown word 'two'"):
    run_experiment(experiment_of(folder), folder / "run")
