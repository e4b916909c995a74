"""What a run refuses before it compiles or writes anything; a directory that it was to make is not there afterwards."""
import dataclasses
import shutil
from collections import namedtuple

import jax
import pytest
from tiny_run import experiment

from r1jax.config import override
from r1jax.data.questions import Jsonl
from r1jax.errors import InputError
from r1jax.models.huggingface import export
from r1jax.models.params import init_params, num_params
from r1jax.sampling.choice import Sampling
from r1jax.sampling.sampler import Decoding
from r1jax.sharding import MeshShape, make_mesh
from r1jax.stages.context import Base
from r1jax.stages.grpo import OldLogprobs
from r1jax.stages.runner import run_experiment

BASE = dataclasses.replace(experiment.stages[0], batch_size=8)
RL = dataclasses.replace(experiment.stages[1], decoding=Decoding(slots=8))  # for the eight devices of the tests
experiment = dataclasses.replace(experiment, stages=(BASE, RL))
LATER = dataclasses.replace(BASE, name="later")  # what is wrong with it shows before the stages in front of it train


def refused(tmp_path, wrong, match: str) -> None:
  with pytest.raises(InputError, match=match):
    run_experiment(wrong, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def with_later(**changes):
  return dataclasses.replace(experiment, stages=(*experiment.stages, dataclasses.replace(LATER, **changes)))


@pytest.mark.parametrize(("field", "text", "match"), [
  ("stages.r1_zero.verifier_seconds", "-1", "more than 0"),
  ("stages.r1_zero.verifier_seconds", "1e9", "at most 3,600"),
  ("stages.r1_zero.kl_coef", "-0.1", "at least 0"),
  ("stages.r1_zero.clip_low", "1e999", "finite"),
  ("stages.r1_zero.group_size", "1", "at least 2"),
  ("stages.r1_zero.logged_samples", "-3", "at least 0"),
  ("stages.r1_zero.reduction_constant", "-1", "more than 0"),
  ("stages.r1_zero.optimizer.b1", "2", "less than 1"),
  ("stages.base.steps", "'12'", "a whole number"),
  ("seed", "-1", "at least 0"),
  ("stages.r1_zero.rewards", "(('accuracy', 1.0), ('accuracy', 1.0))", "each part once"),
  ("stages.r1_zero.rewards", "()", "at least 1"),
  ("stages.r1_zero.rewards", "(('accuracy', -1.0),)", "more than 0"),
  ("stages.r1_zero.max_length", "{0: 14.7}", "whole numbers"),
  ("stages.r1_zero.stop", "('7 +',)", "2 tokens"),
  ("name", "../evil", "letters, digits"),
])
def test_a_field_that_cannot_be(tmp_path, field, text, match):
  with pytest.raises(InputError, match=match):
    run_experiment(override(experiment, field, text), tmp_path / "run")
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["", "a/b", "../../evil", "-x", "a b"])
def test_a_stage_name_that_is_no_folder(tmp_path, name):
  refused(tmp_path, with_later(name=name), "letters, digits")
  assert list(tmp_path.parent.glob("evil")) == []


def test_log_probs_of_a_cut_distribution_are_no_old_log_probs(tmp_path):
  cut = dataclasses.replace(RL, old_logprobs=OldLogprobs.SAMPLER, sampling=Sampling(temperature=1.0, top_p=0.9))
  refused(tmp_path, dataclasses.replace(experiment, stages=(BASE, cut)), "ratio would not start at 1")


def test_a_later_stage_whose_weights_are_cut(tmp_path):
  mesh = make_mesh(MeshShape())
  params = init_params(jax.random.key(0), experiment.model, mesh)
  file = export(params, experiment.model, tmp_path / "weights") / "model.safetensors"
  start = Base(experiment.model, str(tmp_path / "weights"))
  file.write_bytes(file.read_bytes()[:-100])
  refused(tmp_path, with_later(start=start), "not a whole safetensors file")


def test_a_disk_without_room_for_the_checkpoints(tmp_path, monkeypatch):
  # Two kept and one being written of each stage's parameters and moments, and of RL's reference.
  size = num_params(experiment.model)
  needed = 2 * 12 * size + 2 * 16 * size + 16 * size
  usage = namedtuple("usage", "free")
  monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(needed - 1))
  refused(tmp_path, experiment, "GB are free, and the checkpoints take")


def test_a_data_file_of_a_later_stage_that_is_missing(tmp_path):
  later = dataclasses.replace(RL, name="later", start="base", questions=Jsonl(str(tmp_path / "none.jsonl")))
  refused(tmp_path, dataclasses.replace(experiment, stages=(BASE, later)), "none.jsonl")
