"""`r1jax plan`: a tiny experiment through the compiler, limits, results that are kept, and bad input in one line."""
import json
from dataclasses import replace

import pytest
from all_experiments import FOLDER
from slices import needs_libtpu

from r1jax.errors import InputError
from r1jax.experiment_file import load_experiment
from r1jax.launch import main
from r1jax.plan import compile as compiling
from r1jax.plan.changes import candidates, slices_of
from r1jax.plan.compile import FITS, TOO_LARGE, UNKNOWN, Job, Limits, compile_program
from r1jax.plan.cost import Assumptions, bounds, calls, step_of
from r1jax.plan.plan import nearest, plan, suggested, wanted
from r1jax.plan.report import completed
from r1jax.plan.table import main as print_table
from r1jax.plan.topology import slice_of
from r1jax.stages.context import Base

ZERO = str(FOLDER / "r1_zero_qwen2p5_math_1p5b.py")
CHUNKS = ("--set", "compute.attention=chunks")  # the kernel takes no rows as short as those of smoke variants


def run(capsys, *arguments):
  status = main(["plan", *arguments])
  out, err = capsys.readouterr()
  return status, out, err


@needs_libtpu
def test_a_program_of_a_tiny_experiment_is_planned_and_kept(tmp_path, capsys):
  file, kept = tmp_path / "plan.json", tmp_path / "kept"
  arguments = (ZERO, "--smoke", "--topology", "v5e:2x2", "--program", "zeros", "--json", str(file), "--cache", str(kept),
               *CHUNKS)
  status, out, _ = run(capsys, *arguments)
  found = json.loads(file.read_text())
  (program,) = found["programs"]
  assert status == 0 and found["fits"] and program["outcome"] == FITS
  assert (program["stage"], program["program"], program["length"]) == ("r1_zero", "zeros", 48)
  assert (found["chips"], found["mesh"], program["devices"]) == (4, "fsdp 4", 4)
  assert "zeros" in out and "fits" in out and "Assumed" not in out, "a single program has no cost of a step"
  assert program["bytes"].keys() >= {"parameters", "optimizer", "reference", "gradients"}
  (entry,) = kept.iterdir()
  assert json.loads(entry.read_text())["memory"] == program["memory"]


@needs_libtpu
@pytest.mark.parametrize(("arguments", "said"), [
  (("--topology", "v5p-128"), ["--topology", "'v5p-128'", "v5p:AxBxC"]),
  (("--topology", "v5e:2x2", "--length", "0"), ["--length", "0", "at least 1"]),
  (("--topology", "v5e:2x2", "--set", "mesh.tensor=3"), ["mesh", "there are 4"]),
  (("--topology", "v5e:2x2", "--program", "prefills", *CHUNKS), ["--program", "prefills", "accumulate 48"]),
  (("--topology", "v5e:2x2", "--program", "accumulate", "--set", "compute.attention=splash"),
   ["compute.attention", "splash on rows of 48 slots"]),
], ids=["slice", "length", "mesh", "program", "kernel"])
def test_bad_input_is_one_line(capsys, arguments, said):
  status, out, err = run(capsys, ZERO, "--smoke", *arguments)
  assert status == 2 and out == "" and err.count("\n") == 1 and all(part in err for part in said), err


@pytest.mark.parametrize(("arguments", "said"), [
  (("--stage", "r1"), "Stages of this experiment: r1_zero"), (("--price", "0"), "--price: 0"),
  (("--json", "/no/such/folder/file"), "--json"), (("--set", "seed"), "no '='"),
])
def test_what_needs_no_compiler_is_refused_before_it_is_looked_for(capsys, monkeypatch, arguments, said):
  monkeypatch.setattr(compiling, "_process", lambda *_: pytest.fail("started"))
  status, out, err = run(capsys, ZERO, "--smoke", "--topology", "v5e:2x2", *arguments)
  assert status == 2 and said in err and err.count("\n") == 1


def test_without_libtpu_it_says_how_to_get_it_and_another_version_is_refused(capsys, monkeypatch):
  def missing(name):
    raise compiling.libtpu_version.__globals__["importlib"].metadata.PackageNotFoundError(name)
  monkeypatch.setattr("importlib.metadata.version", missing)
  status, _, err = run(capsys, ZERO, "--smoke", "--topology", "v5e:2x2")
  assert status == 2 and "pip install 'r1jax[tpu]'" in err and err.count("\n") == 1
  monkeypatch.setattr("importlib.metadata.version", lambda name: "1.7.3")
  assert "version 1.7.3" in run(capsys, ZERO, "--smoke", "--topology", "v5e:2x2")[2]


JOB = Job(ZERO, "v5e:2x2", smoke=True, stage="r1_zero", program="zeros", length=48)


@pytest.mark.parametrize(("limits", "why"), [
  ({"seconds": 0.5}, "not compiled after 0 s"), ({"gib": 0.01}, "more than 0.01 GiB"),
], ids=["time", "memory"])
def test_what_runs_out_of_time_or_memory_is_unknown_and_neither_passes_nor_fails(tmp_path, limits, why):
  said = compile_program(JOB, Limits(**limits, folder=tmp_path))
  assert said["outcome"] == UNKNOWN and why in said["why"]


def test_a_compiler_that_crashes_leaves_its_program_unknown(tmp_path, monkeypatch):
  monkeypatch.setattr(compiling.sys, "executable", "/bin/false")
  said = compile_program(JOB, Limits(folder=tmp_path))
  assert said["outcome"] == UNKNOWN and "status 1" in said["why"]


# What follows from programs, with a compiler that is made up


def made_up(program="accumulate", outcome=FITS, length=48, **facts):
  return {"stage": "r1_zero", "program": program, "length": length, "outcome": outcome, "why": "needs 9 of 8 GiB",
          "seconds": 1.0, "devices": 4, "memory": {}, "flops": 4e12, "ideal_flops": 2e12,
          "traffic": {"all": 8.2e9, "loops": 0},
          "collectives": [{"kind": "all-reduce", "bytes": 1e9, "times": 2, "loop": True},
                          {"kind": "all-gather", "bytes": 1e9, "times": 1, "loop": False}], **facts}


def test_bounds_are_work_by_what_a_chip_can_do():
  found = bounds(made_up(), slice_of("v5e:2x2"))
  assert found == {"compute": pytest.approx(1e12 / 197e12), "hbm": pytest.approx(0.01),
                   "ici": pytest.approx(5e9 / 200e9)}, "an all-reduce crosses the links twice"


def test_a_step_is_the_sum_of_its_programs_as_often_as_they_run():
  experiment = load_experiment(ZERO)
  (stage,) = experiment.stages
  found, assumed = slice_of("v6e:2x4"), Assumptions(utilisation=0.5, price=3.0, mean_length=0.25)
  said = [completed(made_up(name, length=length, flops=flops), found)
          for name, length, flops in (("decode", 4_096, 4e12), ("accumulate", 4_096, 4e12), ("decode", 2_048, 1e30))]
  step = step_of(stage, experiment, said, found, assumed)
  # 512 responses of 512 sampled tokens beside prompts of 512: over 512 slots in segments of 128.
  assert step["calls"] == {"decode": 4, "accumulate": 16}
  each = max(bounds(made_up(), found).values()) / 0.5
  assert step["step_seconds"] == pytest.approx(20 * each) and step["rollout"] == pytest.approx(0.2)
  assert step["chip_hours"] == pytest.approx(20 * each * 800 * 8 / 3600) and step["dollars"] == 3 * step["chip_hours"]
  assert step_of(stage, experiment, [{"stage": "r1_zero", "program": "decode", "length": 4_096, "outcome": UNKNOWN}], found,
                 assumed) is None, "nobody knows"


def test_a_plan_ends_with_the_cost_of_its_steps(monkeypatch):
  monkeypatch.setattr("r1jax.plan.plan.program_names", lambda job, limits: [
    Job(ZERO, "v6e:2x4", stage="r1_zero", program=name, length=4_096) for name in ("decode", "accumulate")])
  monkeypatch.setattr("r1jax.plan.plan.compile_program", lambda job, limits: made_up(job.program, length=job.length))
  found = plan(Job(ZERO, "v6e:2x4"), Limits(), Assumptions(), lambda text: None, 1)
  (step,) = found["steps"]
  assert found["fits"] and step["seconds"].keys() == {"decode", "accumulate"} and step["dollars"] > 0
  assert all(p["bounds_seconds"].keys() == {"compute", "hbm", "ici"} for p in found["programs"])


def test_the_nearest_change_is_the_first_that_compiles(monkeypatch):
  tried = []

  def compiler(job, limits):
    tried.append(job.settings)
    return made_up("decode", FITS if "128" in str(job.settings) else TOO_LARGE)
  monkeypatch.setattr("r1jax.plan.plan.compile_program", compiler)
  said = made_up("decode", TOO_LARGE, 4_096)
  text = nearest(Job(ZERO, "v6e:2x4"), said, Limits(), lambda text: None, 4)
  assert "it fits with --set stages.r1_zero.decoding.slots=128" in text and len(tried) == 2
  monkeypatch.setattr("r1jax.plan.plan.compile_program", lambda job, limits: made_up("decode", TOO_LARGE))
  assert "tried and not enough: " in nearest(Job(ZERO, "v6e:2x4"), said, Limits(), lambda text: None, 2)


def test_changes_are_settings_that_the_experiment_takes():
  experiment = load_experiment(ZERO)
  (stage,) = experiment.stages
  for program in ("decode", "accumulate", "apply"):
    changes = list(candidates(experiment, stage, program, slice_of("v6e:2x4"), 9))
    assert changes
    for settings in changes:
      load_experiment(ZERO, settings=settings)


def test_the_smallest_slice_on_which_everything_fits_is_suggested(monkeypatch):
  monkeypatch.setattr("r1jax.plan.plan.program_names", lambda job, limits: [JOB])
  monkeypatch.setattr("r1jax.plan.plan.wanted", lambda job, *_: (job, [Job(ZERO, job.topology, program="decode", length=1)]))
  monkeypatch.setattr("r1jax.plan.plan.compile_program", lambda job, limits: made_up(
    outcome=FITS if slice_of(job.topology).chips >= 16 else TOO_LARGE))
  assert suggested(Job(ZERO, "v5e:2x2"), Limits(), slices_of("v5e"), lambda text: None) == "v5e:4x4"
  assert suggested(Job(ZERO, "v5e:2x2"), Limits(), iter(["v5e:2x2"]), lambda text: None) is None


def test_every_slice_that_is_tried_has_a_form_that_is_known():
  for kind in ("v5e", "v6e", "v5p", "tpu7x"):
    names = list(slices_of(kind))
    chips = [slice_of(name).chips for name in names]
    assert chips == sorted(set(chips))


@needs_libtpu
def test_a_length_that_is_not_in_the_schedule_is_planned():
  asked = Job(ZERO, "v5e:2x2", smoke=True, program="logprobs", length=64)
  job, jobs = wanted(asked, load_experiment(ZERO, True, []), Limits())
  assert [(one.program, one.length) for one in jobs] == [("logprobs", 64)]
  assert job.settings == ("stages.r1_zero.max_length={0: 64}",)


def test_layers_are_those_of_the_stages_own_model():
  experiment = load_experiment(str(FOLDER / "r1_tiny.py"), True, ())
  stage = replace(experiment.stage("r1_zero"), start=Base(replace(experiment.model, num_layers=7)))
  assert calls(stage, experiment, 1, Assumptions())["lengthen_layer"] * stage.minibatches == 7


@needs_libtpu
def test_prompts_are_prefilled_at_every_length():
  for length in (48, 64):  # of the schedule, and not
    _, jobs = wanted(Job(ZERO, "v5e:2x2", smoke=True, length=length), load_experiment(ZERO, True, ()), Limits())
    assert {one.length for one in jobs if one.program != "prefill"} == {length}
    assert [one.program for one in jobs].count("prefill") == 1


def test_a_table_of_plans_names_the_fullest_program_and_what_does_not_fit(tmp_path, capsys):
  programs = [{"stage": "a", "program": name, "length": 64, "total_bytes": size * 2**30, "outcome": outcome}
              for name, size, outcome in (("decode", 3.0, FITS), ("accumulate", 5.25, FITS), ("apply", 1.0, UNKNOWN))]
  programs[1]["flops_of_ideal"] = 1.375
  plan = {"topology": "v5e:2x2", "mesh": "fsdp 4", "limit_gib": 15.75, "settings": ["stages.a.steps=2"],
          "programs": programs}
  file = tmp_path / "small.json"
  file.write_text(json.dumps(plan))
  print_table([str(file)])
  assert capsys.readouterr().out.splitlines()[2] == (
    "| small (a.steps=2) | v5e:2x2 | fsdp 4 | 64 | a accumulate | 5.2 of 15.75 | 1.38 | apply unknown |")
  file.write_text("[]")
  with pytest.raises(InputError, match="small.json.*no plan"):
    print_table([str(file)])
