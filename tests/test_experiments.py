"""Every experiment file is checked and lowered, and bad input ends in one line. Smoke variants run in test_smoke.py.

Lowering is from shapes alone: no weights, no data. Updates scan their layers, so that a 32B takes as long as a 1.5B; the
sampler's programs are unrolled, and are lowered with two layers in every run of the tests, with all of them in slow ones.
"""

import dataclasses
import pathlib

import jax
import pytest
from all_experiments import ENTRIES, FOLDER, entry_of, label
from jax.sharding import AbstractMesh, AxisType

from r1jax.errors import InputError
from r1jax.experiment_file import load_experiment, place_of
from r1jax.launch import main
from r1jax.models.params import shardings
from r1jax.plan.programs import COPIED, programs
from r1jax.plan.sampler import LAID_OUT
from r1jax.sharding import MESH_AXES, ROLLOUT_RULES, TRAIN_RULES, MeshShape, make_mesh
from r1jax.stages.compare import Compare
from r1jax.stages.context import Base
from r1jax.stages.grpo import GRPO
from r1jax.stages.reward_model import RewardModel
from r1jax.stages.runner import claim_run_dir
from r1jax.stages.sft import SFT

LAYERS = 2
ROOT = pathlib.Path(__file__).parent.parent
DECLARED = FOLDER / "r1_zero_qwen2p5_math_1p5b.py"

each_experiment = pytest.mark.parametrize("entry", ENTRIES, ids=label)


def declared(entry):
  """An experiment, with a name for the weights where the user must give one."""
  experiment = load_experiment(entry)
  return dataclasses.replace(experiment, weights="DIR") if experiment.weights == "" else experiment


# What is declared can work


@each_experiment
def test_says_what_it_claims_and_what_it_costs(entry):
  file, name = place_of(entry)
  module_docstring = file.read_text(encoding="utf-8").split('"""')[1]
  for word in ("Claim", f"python -m r1jax run experiments/{file.name}", "Expected"):
    assert word in module_docstring
  # Its run directory is named after it, and is nobody else's.
  assert load_experiment(entry).name == (file.stem if name == "experiment" else f"{file.stem}_{name}")


def test_an_experiment_of_several_in_a_file_goes_by_its_name(tmp_path):
  assert load_experiment(entry_of("distill:qwen7b"), smoke=True).name == "distill_qwen7b_smoke"
  assert load_experiment(entry_of("distill:llama8b"), settings=["seed=3"]).seed == 3
  with pytest.raises(InputError, match="defines no `experiment`.*distill.py:qwen1p5b, .*distill.py:llama70b") as error:
    load_experiment(FOLDER / "distill.py")
  assert "smoke" not in str(error.value)
  with pytest.raises(InputError, match="defines no `qwen8b`"):
    load_experiment(entry_of("distill:qwen8b"))
  with pytest.raises(InputError, match="no such file"):
    load_experiment(tmp_path / "gone.py:one")


@each_experiment
def test_is_a_geometry_that_its_own_slice_can_hold(entry):
  experiment = declared(entry)
  experiment.check()
  shape = experiment.mesh
  sizes = shape.resolve(1) if shape.fsdp == -1 else dataclasses.astuple(shape)
  mesh = AbstractMesh(sizes, MESH_AXES, axis_types=(AxisType.Explicit,) * len(MESH_AXES))
  for rules in (TRAIN_RULES, ROLLOUT_RULES):
    shardings(experiment.model, mesh, rules)
  for stage in experiment.stages:
    stage.check_mesh(mesh)


def mesh_of_eight(experiment):
  """Eight devices, or as many as can share the batches of an experiment that is declared for one."""
  # A model that two devices cannot share, such as SmolLM2 with 3 heads, is split over fsdp alone.
  tensor = 2 if experiment.model.num_kv_heads % 2 == 0 and experiment.model.vocab_size % 2 == 0 else 1
  for fsdp in (8 // tensor, 4, 2, 1):
    mesh = make_mesh(MeshShape(fsdp=fsdp, tensor=tensor), jax.devices()[:fsdp * tensor])
    try:
      for stage in experiment.stages:
        stage.check_mesh(mesh)
      return mesh
    except InputError:
      assert experiment.mesh == MeshShape(), "a declared slice must be able to have fewer devices"
  raise AssertionError("its batches cannot be split at all")


def cut(model):
  """Two layers of a model, of every kind that it has."""
  moe = model.moe and dataclasses.replace(model.moe, first_dense=min(1, model.moe.first_dense))
  return dataclasses.replace(model, num_layers=min(LAYERS, model.num_layers), moe=moe)


@each_experiment
def test_every_program_lowers_on_eight_devices(entry):
  experiment = declared(entry)
  stages = tuple(dataclasses.replace(stage, start=dataclasses.replace(stage.start, model=cut(stage.start.model)))
                 if isinstance(stage.start, Base) else stage for stage in experiment.stages)
  check_programs(dataclasses.replace(experiment, model=cut(experiment.model), stages=stages))


@pytest.mark.slow
@each_experiment
def test_every_program_lowers_with_all_its_layers(entry):
  check_programs(declared(entry))


UPDATE = {"init_optimizer", "zeros", "accumulate", "apply"}
SAMPLER = {"rollout_weights", "prefill", "admit", "decode"}


def check_programs(experiment):
  mesh, read = mesh_of_eight(experiment), set()
  for stage in experiment.stages:
    found = list(programs(stage, experiment, mesh))
    expected = {GRPO: UPDATE | SAMPLER | {"decode_held_out", "reference_logprobs"}, SFT: UPDATE,
                RewardModel: UPDATE | {"score"}}
    names = {program.name for program in found}
    if isinstance(stage, Compare):  # of several architectures each with the policy that it is for
      names |= {wanted for wanted in SAMPLER if any(name.startswith(f"{wanted}_") for name in names)}
    assert names >= expected.get(type(stage), SAMPLER)
    assert len({(program.name, program.length) for program in found}) == len(found)
    for program in found:
      call = program.call
      # Stages that sample or train alike have the same programs, which are lowered once.
      same = (call.function, tuple(sorted(call.static.items())), jax.tree.structure(call.args), *jax.tree.leaves(call.args))
      if call.function not in ONCE and same not in read:
        read.add(same)
        check_size(program, experiment.model_of(stage))


# Copies of parameters and of caches: no product in them, and nothing that another test would not see.
ONCE = (LAID_OUT, COPIED)


def check_size(program, model):
  """The layers of updates are scanned: unrolled, the 64 of the 32B would repeat the body as often. DeepSeek-V3 has two.
  Those of the sampler are unrolled, and nothing else is."""
  most = 300 if model.moe else 150
  if program.name in SAMPLER or program.name.startswith("decode"):
    most = 5 + model.num_layers * (60 if model.moe else 8)
  assert program.lower().as_text().count("stablehlo.dot_general") < most


def test_the_32b_uses_the_papers_numbers():
  # R1, arXiv 2501.12948v2, appendix B.4.1, and Nature, Methods, training details.
  (stage,) = declared(entry_of("r1_zero_qwen2p5_32b")).stages
  assert (stage.optimizer.lr, stage.kl_coef, stage.sampling.temperature) == (2e-6, 0.001, 1.0)
  assert (stage.questions_per_step, stage.group_size, stage.minibatches) == (32, 16, 16)
  assert stage.questions_per_step * stage.group_size * stage.minibatches == 8192
  assert stage.reference_every == 400 and stage.steps >= 10_000 and stage.max_length.values() == (32_768,)


# Bad input: exit status 2, one line that names the field, the value and the remedy, and nothing left behind


def refused(capfd, run_dir, *arguments, file=DECLARED, smoke=True) -> str:
  """The one line on stderr of a run that must be refused."""
  command = ["run", str(file), *(["--smoke"] if smoke else []), "--run_dir", str(run_dir), *arguments]
  assert main(command) == 2
  out, err = capfd.readouterr()
  assert out == ""
  assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1, err
  return err


def settings(*pairs):
  return [argument for pair in pairs for argument in ("--set", pair)]


JSONL = "stages.r1_zero.questions.path"


@pytest.mark.parametrize(("arguments", "said"), [
  (settings("stages.r1_zero.kl_coeff=0.1"), ["kl_coeff", "kl_coef,"]),
  (settings("stages.r1zero.kl_coef=0.1"), ["'r1zero'", "r1_zero"]),
  (settings("stages.r1_zero.steps=many"), ["stages.r1_zero.steps", "'many'", "a whole number"]),
  (settings("stages.r1_zero.steps"), ["stages.r1_zero.steps", "field.name=value"]),
  (settings("stages.r1_zero.advantage=best"), ["stages.r1_zero.advantage", "'best'", "leave_one_out"]),
  (settings("stages.r1_zero.microbatch_tokens=0"), ["stages.r1_zero.microbatch_tokens", "0", "at least 1"]),
  (settings("stages.r1_zero.decoding.slots=0"), ["stages.r1_zero.decoding.slots", "0", "at least 1"]),
  (settings("stages.r1_zero.decoding.slots=3"), ["stages.r1_zero.decoding.slots", "3 for 8", "a multiple of mesh.replica"]),
  (settings("stages.r1_zero.decoding.cache_tokens=64"), ["stages.r1_zero.decoding.cache_tokens", "64", "give at least"]),
  (settings("stages.r1_zero.correction=per_word"), ["stages.r1_zero.correction", "'per_word'", "per_sequence"]),
  (settings("stages.r1_zero.correction_limit=0"), ["stages.r1_zero.correction_limit", "0", "more than 0"]),
  (settings("stages.r1_zero.correction=per_token", "stages.r1_zero.old_logprobs=sampler"),
   ["stages.r1_zero.correction", "per_token", "old_logprobs=trainer"]),
  (settings("stages.r1_zero.ahead=true"), ["stages.r1_zero.ahead", "8 devices", "one device"]),
  (settings("stages.r1_zero.sampling.temperature=1e-30"), ["sampling.temperature: 1e-30", "at least"]),
  (settings("stages.r1_zero.optimizer.lr=inf"), ["stages.r1_zero.optimizer.lr", "inf", "a number"]),
  (settings("stages.r1_zero.optimizer.weight_decay=inf"), ["stages.r1_zero.optimizer.weight_decay", "inf", "a number"]),
  (settings("model.rope_theta=0"), ["model.rope_theta", "0", "more than 0"]),
  (settings("model.rms_norm_eps=-1"), ["model.rms_norm_eps", "-1", "more than 0"]),
  (settings("stages.r1_zero.group_size=1"), ["stages.r1_zero.group_size", "1", "at least 2"]),
  (settings("stages.r1_zero.held_out.samples=0"), ["stages.r1_zero.held_out.samples", "0", "at least 1"]),
  (settings("stages.r1_zero.max_prompt_length=48"), ["stages.r1_zero.max_length", "48", "max_prompt_length"]),
  (settings("stages.r1_zero.max_length={0: 128}"), ["stages.r1_zero.max_length", "128", "max_position 64"]),
  (settings("stages.r1_zero.max_prompt_length=8"), ["max_prompt_length is 8", "Set max_prompt_length to at"]),
  (settings("model.num_kv_heads=3"), ["model.num_kv_heads", "3", "divide num_heads"]),
  (settings("mesh.tensor=3"), ["mesh", "tensor 3", "8"]),
  (settings("mesh.fsdp=1", "mesh.tensor=8"), ["mesh.tensor", "8 devices", "weight embed"]),
  (settings("tokenizer=no_such_folder"), ["no_such_folder", "tokenizer.json"]),
  (settings("tokenizer=None"), ["tokenizer", "--set tokenizer=DIR"]),
  (settings("model.vocab_size=100"), ["model.vocab_size", "100", "258"]),
  (settings("weights=no_such_folder"), ["no_such_folder", "config.json"]),
  (["--stage", "sft"], ["--stage", "'sft'", "r1_zero"]),
], ids=lambda value: " ".join(value) if "--" in value[0] else "")
def test_refuses_a_bad_value(capfd, tmp_path, monkeypatch, arguments, said):
  monkeypatch.chdir(tmp_path)
  error = refused(capfd, tmp_path / "run", *arguments)
  for part in said:
    assert part in error
  assert list(tmp_path.iterdir()) == []


def test_refuses_weights_of_another_architecture(capfd, tmp_path):
  folder = ROOT / "tests" / "models" / "reference" / "llama3_scaled"
  error = refused(capfd, tmp_path / "run", "--set", f"weights={folder}")
  assert f"{folder}/config.json" in error and "family: llama -> qwen2" in error
  assert list(tmp_path.iterdir()) == []


def test_refuses_to_start_without_the_weights(capfd, tmp_path):
  assert "--set weights=DIR" in refused(capfd, tmp_path / "run", smoke=False)
  assert list(tmp_path.iterdir()) == []


@pytest.fixture
def file_of_questions(tmp_path):
  """An experiment file like the smoke variant, with questions out of questions.jsonl; (experiment, questions)."""
  experiment, questions = tmp_path / "experiment.py", tmp_path / "questions.jsonl"
  experiment.write_text(
    f"from dataclasses import replace\nfrom r1jax.data.questions import Jsonl\n"
    f"from r1jax.experiment_file import load_experiment\n"
    f"smoke = load_experiment({str(DECLARED)!r}, True, [])\n"
    f"(stage,) = smoke.stages\n"
    f"smoke = replace(smoke, stages=(replace(stage, questions=Jsonl(path={str(questions)!r})),))\n",
    encoding="utf-8")
  return experiment, questions


@pytest.mark.parametrize(("line", "said"), [
  (None, ["questions.jsonl"]),
  ('{"question": "1 + 1", "answer": ', ["questions.jsonl:2", "not JSON"]),
  ('{"question": "1 + 1", "result": "2"}', ["questions.jsonl:2", "'answer'", "answer_field"]),
  ('{"question": "' + "1 + " * 20 + '1", "answer": "21"}', ["questions.jsonl:2", "84 tokens", "is 40"]),
  ('{"question": "1 + 1", "answer": "it depends on ]] whom"}', ["questions.jsonl:2", "cannot be read as mathematics"]),
  ('{"question": "1 + 1", "answer": "2"}', ["Jsonl.held_out", "8 are to be measured on"]),
], ids=["no file", "broken line", "missing field", "too long", "no answer", "too few"])
def test_refuses_a_bad_file_of_questions(capfd, tmp_path, file_of_questions, line, said):
  experiment, questions = file_of_questions
  if line is not None:
    questions.write_text('{"question": "2 + 2", "answer": "4"}\n' + line + "\n", encoding="utf-8")
  error = refused(capfd, tmp_path / "run", file=experiment)
  for part in said:
    assert part in error
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "text", "said"), [
  ("gone.py", None, "no such file"),
  ("notes.md", "# notes\n", "not a Python file"),
  ("empty.py", "", "defines no `smoke`"),
  ("number.py", "smoke = 3\n", "Experiment"),
  ("broken.py", "x = 1\nsmoke = Experiment(\n", "line 2"),
])
def test_refuses_what_is_not_an_experiment_file(capfd, tmp_path, name, text, said):
  file = tmp_path / name
  if text is not None:
    file.write_text(text, encoding="utf-8")
  error = refused(capfd, tmp_path / "run", file=file)
  assert str(file) in error and said in error
  assert not (tmp_path / "run").exists()


def test_refuses_to_resume_under_another_config(capfd, tmp_path):
  run_dir = tmp_path / "run"
  claim_run_dir(load_experiment(str(DECLARED), True, []), run_dir)
  before = {file.name: file.read_bytes() for file in run_dir.iterdir()}
  error = refused(capfd, run_dir, *settings("stages.r1_zero.kl_coef=0.01", "seed=1"))
  assert "config.json" in error and "seed: 0 -> 1; stages.r1_zero.kl_coef: 0.001 -> 0.01" in error
  assert "--run_dir" in error
  assert {file.name: file.read_bytes() for file in run_dir.iterdir() if file.name != "lock"} == before


def test_refuses_a_folder_that_holds_something_else(capfd, tmp_path):
  (tmp_path / "letter.txt").write_text("dear")
  assert "--run_dir" in refused(capfd, tmp_path)
  assert [file.name for file in tmp_path.iterdir()] == ["letter.txt"]
