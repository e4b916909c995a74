"""Questions that were trained on: found by ten words in a row, in what a run's config names."""
import json

import pytest

from r1jax.config import to_json
from r1jax.curation.datasets import Rows
from r1jax.curation.overlap import overlapping
from r1jax.data.questions import Generated, Jsonl, Question, Tfds, split_of
from r1jax.errors import InputError
from r1jax.evaluation.contamination import contaminated, file_source, texts_of, training_sets

TEN = "one two three four five six seven eight nine ten"


def test_ten_words_in_a_row_are_shared_or_the_whole_of_fewer():
  evaluated = [(f"well {TEN} eleven",), ("two words",), (TEN.replace("five", "5"),), ("other", f"a solution: {TEN}"), ("",)]
  training = [("x", f"He said: One, two -- three. {TEN[14:]}!"), ("y", "Two words."), ("z", "two words more"), ("z", "")]
  assert overlapping(evaluated, training) == {0: "x", 1: "y", 3: "x"}


def test_contamination_is_searched_in_questions_and_solutions():
  questions = [Question("a:1", TEN, "1"), Question("a:2", "short", "2")]
  assert contaminated(questions, {}, [("set", TEN)]) == {"a:1": "set"}
  assert contaminated(questions, {"a:2": TEN}, [("set", TEN)]) == {"a:1": "set", "a:2": "set"}


def test_the_training_sets_of_a_run_are_those_of_its_config(tmp_path):
  file = tmp_path / "train.jsonl"
  file.write_text("".join(json.dumps({"question": f"{TEN} {i}", "answer": "1"}) + "\n" for i in range(40)))
  rows = tmp_path / "datasets" / "rejection.jsonl"
  rows.parent.mkdir()
  rows.write_text(json.dumps({"question": "what?", "response": "because", "sample": 3}) + "\n")
  source = Jsonl(path=str(file), held_out=0.5)
  sums = Generated("sums", count=3)
  config = json.loads(json.dumps({"stages": [
    {"type": "SFT", "name": "base", "documents": {"type": "Corpus", "questions": to_json(sums)}},
    {"type": "GRPO", "name": "rl", "questions": [to_json(source), to_json(Tfds("nowhere", data_dir=str(tmp_path)))]},
    {"type": "Curate", "name": "curate", "evaluation": [to_json(Jsonl(path="benchmark.jsonl"))]},
    {"type": "SFT", "name": "sft", "documents": to_json(Rows(stage="rejection"))},
    {"type": "Compare", "name": "evaluation", "benchmarks": [to_json(Jsonl(path="other.jsonl"))]},
    {"type": "GRPO", "name": "later", "questions": to_json(Jsonl(path="later.jsonl"))}]}))
  sources, unknown = training_sets(config, "evaluation", tmp_path)
  assert unknown == ["Corpus", "nowhere (no such data set)"]
  assert [name for name, _ in sources] == ["sums (generated, seed 0)", str(file), str(rows)]
  texts = list(texts_of(sources))
  trained = [f"{TEN} {i}" for i in range(40) if split_of(f"{TEN} {i}", 0.5) == "train"]
  assert 5 < len(trained) < 35 and [text for name, text in texts if name == str(file)] == trained
  assert [text for name, text in texts if name == str(rows)] == ["what?", "because"]


def test_a_set_of_the_catalogue_is_searched(tmp_path, monkeypatch):
  monkeypatch.setattr("r1jax.evaluation.contamination.stored_files", lambda source: [])
  monkeypatch.setattr("r1jax.data.builders.read_questions", lambda source: [Question("s/train:1", TEN, "1")])
  source = Tfds("sums", held_out=1e-9)
  config = {"stages": [{"type": "GRPO", "name": "rl", "questions": to_json(source)}]}
  sources, unknown = training_sets(config, "rl", tmp_path)
  assert unknown == [] and list(texts_of(sources)) == [("sums/train (TFDS)", TEN)]


def test_a_training_set_that_is_not_there_is_named(tmp_path):
  with pytest.raises(InputError, match="--training .*nothing.jsonl: no such file"):
    file_source(str(tmp_path / "nothing.jsonl"))
