"""load(): which stage of a run is found, what comes back, and every way in which it can be refused."""
import dataclasses
import importlib
import json
import pkgutil
from pathlib import Path

import jax
import numpy as np
import pytest
from all_experiments import ENTRIES, label
from made_run import experiment_of, make_run
from tiny import FAMILIES, one_device, random_params

import r1jax.stages
from r1jax.config import from_json, to_json
from r1jax.data.tokenizer import word_level_tokenizer
from r1jax.errors import InputError
from r1jax.experiment_file import load_experiment
from r1jax.hub import load
from r1jax.hub.runs import POLICY_STAGES, _base, find_stage, source_of
from r1jax.models.huggingface import export
from r1jax.stages.context import POLICY, Base

SMALL, PIPELINE = experiment_of("small_run"), experiment_of("small_pipeline")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """(run directory, its parameters): `base` has finished, `rl` has begun."""
  folder = tmp_path_factory.mktemp("runs") / "small"
  return folder, make_run(SMALL, folder, finished=("base",), begun=("r1_zero",))


def files(folder: Path) -> dict:
  return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(folder.rglob("*"))}


def assert_same(found, wanted):
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), found, wanted)


def test_a_run_is_its_last_finished_policy_and_is_only_read(run):
  folder, saved = run
  (folder / "checkpoints" / "base" / "4.orbax-checkpoint-tmp").mkdir()  # as of a run that is writing one
  before = files(folder)
  model = load(folder, mesh=one_device())
  assert files(folder) == before
  assert (model.trained.name, model.trained.finished, model.step) == ("base", True, 3)
  assert_same(model.params, saved["base"])
  assert (model.config, model.template) == (SMALL.model, SMALL.stage("base").template)
  assert model.tokenizer.decode(model.prompt("1 + 2")) == "1 + 2"


def test_a_stage_that_has_only_begun_is_found_by_its_name(run):
  model = load(f"{run[0]}:r1_zero", mesh=one_device(), dtype="bfloat16")
  assert not model.trained.finished and model.compute.dtype == "bfloat16"
  assert_same(model.params, jax.tree.map(lambda x: x.astype("bfloat16"), run[1]["r1_zero"]))


def test_parameters_are_the_same_over_all_devices(run):
  assert_same(load(run[0]).params, run[1]["base"])


def test_stop_texts_of_a_stage_are_stop_ids(tmp_path):
  stage = dataclasses.replace(SMALL.stage("r1_zero"), stop=("</answer>",))
  make_run(dataclasses.replace(SMALL, stages=(SMALL.stage("base"), stage)), tmp_path / "run", ("r1_zero",))
  model = load(tmp_path / "run", mesh=one_device())
  assert [model.tokenizer.decode([i]) for i in model.tokenizer.stop_ids] == ["<end>", "</answer>"]


def test_a_hugging_face_folder_without_chat_template_asks_the_bare_question(tmp_path):
  config = FAMILIES["llama"]
  params = random_params(config, one_device())
  words = word_level_tokenizer(["a", "b"])
  export(params, config, tmp_path / "model", words)
  model = load(tmp_path / "model", mesh=one_device())
  assert_same(model.params, params)
  assert model.trained is None and model.prompt("b a") == (3, 2) == model.conversation([{"role": "user", "content": "b a"}])
  assert model.config == dataclasses.replace(config, num_tokens=4)


def test_every_stage_that_trains_a_policy_is_known_and_no_other():
  kinds = {}
  for module in pkgutil.iter_modules(r1jax.stages.__path__):
    for name, value in vars(importlib.import_module(f"r1jax.stages.{module.name}")).items():
      if dataclasses.is_dataclass(value) and isinstance(value, type) and hasattr(value, "kind"):
        kinds[name] = value.kind
  assert {name for name, kind in kinds.items() if kind == POLICY} == set(POLICY_STAGES)
  assert len(kinds) > 5


@pytest.mark.parametrize("entry", ENTRIES, ids=label)
def test_models_are_those_that_the_experiment_says(entry):
  experiment = load_experiment(entry)
  config = json.loads(json.dumps(to_json(experiment)))
  for stage, values in zip(experiment.stages, config["stages"], strict=True):
    if stage.kind == POLICY:
      source, found = experiment.source_of(stage), source_of(config, values)
      assert found == source if isinstance(source, str) else found["weights"] == source.weights
      assert from_json(type(experiment.model), _base(config, values)["model"], "model") == experiment.model_of(stage)


def test_a_student_has_its_own_model(tmp_path):
  make_run(PIPELINE, tmp_path / "run", ("base", "student"))
  model = load(tmp_path / "run", mesh=one_device())
  start = PIPELINE.stage("student").start
  assert isinstance(start, Base) and model.config == start.model != PIPELINE.model


def changed(folder: Path, change) -> Path:
  file = folder / "config.json"
  values = json.loads(file.read_text())
  change(values["config"])
  file.write_text(json.dumps(values))
  return folder


@pytest.mark.parametrize(("change", "says"), [
  (lambda c: c["model"].update(gated=True), "unknown gated"),
  (lambda c: c["model"].pop("d_ff"), "missing d_ff"),
  (lambda c: c.pop("compute"), "not as this version"),
  (lambda c: c["stages"][0].pop("template"), "not as this version"),
  (lambda c: c["model"].update(d_ff=96), "cannot be read"),
  (lambda c: c.update(tokenizer="moved/away"), "--tokenizer DIR"),
  (lambda c: c.update(tokenizer=[f"w{i}" for i in range(99)]), "99 ids"),
])
def test_a_run_of_another_version_is_refused_by_name(tmp_path, change, says):
  make_run(SMALL, tmp_path / "run", ("base",))
  with pytest.raises(InputError, match=says):
    load(changed(tmp_path / "run", change), mesh=one_device())


def test_a_field_that_came_later_takes_its_default(tmp_path):
  make_run(SMALL, tmp_path / "run", ("base",))
  model = load(changed(tmp_path / "run", lambda c: c["model"].pop("mla")), mesh=one_device())
  assert model.config.mla is None


@pytest.mark.parametrize(("stage", "says"), [
  (":r1_zero", "no checkpoint yet"), (":evaluation", "no such stage"), (":", "no such stage")])
def test_a_stage_that_left_no_policy_is_refused(tmp_path, stage, says):
  make_run(SMALL, tmp_path / "run", ("base",))
  with pytest.raises(InputError, match=says):
    load(f"{tmp_path / 'run'}{stage}", mesh=one_device())


def test_a_stage_of_another_kind_is_named_as_such(tmp_path):
  make_run(PIPELINE, tmp_path / "run", ("base",))
  with pytest.raises(InputError, match="type RewardModel, which trains no policy"):
    load(f"{tmp_path / 'run'}:helpful")


def test_a_run_without_a_finished_policy_says_what_it_has(tmp_path):
  make_run(SMALL, tmp_path / "run", begun=("base",))
  with pytest.raises(InputError, match="no stage of this run has finished .* name it: .*run:base"):
    load(tmp_path / "run")
  (tmp_path / "run" / "summary.json").unlink()  # killed in its first stage
  assert find_stage(tmp_path / "run", "base").summary == {}


def test_what_is_no_model_is_refused(tmp_path):
  for name, says in (("nothing", "no such folder"), (".", "no config.json")):
    with pytest.raises(InputError, match=says):
      load(tmp_path / name)
  (tmp_path / "config.json").write_text("{half")
  with pytest.raises(InputError, match="not readable as JSON"):
    load(tmp_path)
  (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
  with pytest.raises(InputError, match="gpt2"):
    load(tmp_path)
