"""What explain says of a stage, against numbers by hand and against the loop that runs it."""
import dataclasses
from pathlib import Path

import pytest
from all_experiments import ENTRIES, entry_of, label

from r1jax.config import Schedule
from r1jax.experiment_file import load_experiment
from r1jax.explain.geometry import account, changes_of, reference_steps, rollout_starts
from r1jax.models.params import count_params
from r1jax.sharding import MeshShape
from r1jax.stages.context import Experiment
from r1jax.stages.grpo import GRPO, OldLogprobs

SMALL = [str(file) for file in sorted((Path(__file__).parents[1] / "stages").glob("small_[rp]*.py"))]


def experiment_of(name: str) -> Experiment:
  return load_experiment(entry_of(name))


def test_r1_zeros_geometry_is_the_papers():
  experiment = experiment_of("r1_deepseek_v3")
  said = account(experiment.stage("r1_zero"), experiment)
  wanted = {"questions of a rollout": 512, "responses to each": 16, "responses of a rollout": 8_192,
            "minibatches of a rollout, one update each": 16, "questions of a minibatch": 32, "responses of a minibatch": 512,
            "rollouts": 650, "updates": 10_400, "questions asked in all": 332_800,
            "staleness of the policy that sampled, updates": "0 to 15",
            "reference": "replaced 26 times, after updates 400, 800, 1200, 1600, 2000, 2400 ... 10400"}
  assert {name: said.geometry[name] for name in wanted} == wanted
  (change,) = said.changes
  # 8,200 is no multiple of 16: rollout 513 starts at 8,208.
  assert (change.step, change.acts_at, change.before, change.after) == (8_200, 8_208, 32_768, 65_536)
  assert said.cost["tokens"] == 512 * 65_536


def test_microbatches_are_shared_by_the_data_parallel_devices():
  experiment = dataclasses.replace(experiment_of("r1_zero_tiny"), mesh=MeshShape(replica=2, fsdp=2))
  stage = dataclasses.replace(experiment.stage("r1_zero"), microbatch_tokens=68 * 8 + 5)
  said = account(stage, dataclasses.replace(experiment, stages=(experiment.stages[0], stage))).geometry
  assert said["microbatch"] == "8 rows of 68 slots over 4 data-parallel devices"
  assert said["microbatches of a minibatch"].startswith("16 at most")


def test_flops_of_a_small_update_by_hand():
  experiment = experiment_of("r1_zero_tiny")
  stage, model = experiment.stage("r1_zero"), experiment.model
  said = account(stage, experiment).cost
  norms = (2 * 2 + 1) * 128  # not multiplied with anything as a matrix
  taken = count_params(model) - norms
  assert said["parameters that a token is multiplied with"] == taken
  body, head, pairs = taken - 34 * 128, 34 * 128, 68 * 69 // 2
  forward = 128 * (2 * body * 68 + 2 * head * 57 + 2 * 2 * 4 * 64 * pairs)
  assert said["FLOPs, update"] == 3 * forward and said["FLOPs, reference log-probs"] == forward
  assert "FLOPs, old log-probs" not in said  # one minibatch: the update's own
  assert said["FLOPs"] == sum(value for name, value in said.items() if name.startswith("FLOPs, "))


@pytest.mark.parametrize(("points", "steps", "minibatches"), [
  ({0: 1, 6: 2}, 12, 2), ({0: 1, 5: 2, 6: 3, 7: 4}, 20, 3), ({0: 1, 19: 2}, 20, 4), ({0: 1, 30: 2}, 20, 4), ({0: 1}, 5, 2)])
def test_a_change_acts_where_the_loop_first_sees_it(points, steps, minibatches):
  stage = dataclasses.replace(experiment_of("r1_zero_tiny").stage("r1_zero"), steps=steps, minibatches=minibatches)
  schedule = Schedule(points)
  # As the loop has it: what is in force where a rollout starts holds for all of its updates.
  in_force = [schedule.at(start) for start in rollout_starts(stage) for _ in range(minibatches)][:steps]
  found, value = [], points[0]
  changes = changes_of("x", schedule, rollout_starts(stage))
  for step in range(steps):
    value = next((c.after for c in reversed(changes) if c.acts_at == step), value)
    found.append(value)
  assert found == in_force
  assert [c.acts_at for c in changes if c.acts_at is None] == [None] * sum(s > rollout_starts(stage)[-1] for s in points)


@pytest.mark.parametrize(("steps", "minibatches", "every"), [(12, 2, 4), (13, 4, 5), (20, 3, 3), (7, 8, 2), (9, 2, 100)])
def test_references_are_replaced_where_the_loop_replaces_them(steps, minibatches, every):
  stage = dataclasses.replace(experiment_of("r1_zero_tiny").stage("r1_zero"), steps=steps, minibatches=minibatches,
                              reference_every=every)
  replaced, step = [], 0
  while step < steps:  # GRPO.run's arithmetic
    previous, step = step, step + min(minibatches, steps - step)
    if previous // every < step // every:
      replaced.append(step)
  assert reference_steps(stage) == replaced


def test_where_old_log_probs_come_from():
  experiment = experiment_of("r1_zero_tiny")
  stage = experiment.stage("r1_zero")

  def said(changed):
    return account(changed, dataclasses.replace(experiment, stages=(experiment.stages[0], changed))).geometry

  for changes, says in (({}, "the update's own"), ({"minibatches": 2}, "computed by the trainer"),
                        ({"old_logprobs": OldLogprobs.SAMPLER, "minibatches": 2}, "those of the sampler")):
    changed = dataclasses.replace(stage, **changes)
    assert said(changed)["old log-probs"].startswith(says)
  ahead = said(dataclasses.replace(stage, ahead=True, minibatches=4))
  assert ahead["staleness of the policy that sampled, updates"].startswith("4 to 7, but 0 to 3")


def test_the_learning_rate_in_words():
  experiment = experiment_of("r1_zero_tiny")
  rates = [account(stage, experiment).geometry["learning rate"] for stage in experiment.stages[:2]]
  assert rates == ["rises to 0.003 until update 50, then falls along a cosine to 0.0001 at update 1500",
                   "rises to 0.0002 until update 10, then stays"]
  other = experiment_of("r1_qwen2p5_32b")
  falls = account(other.stage("sft"), other).geometry["learning rate"]
  assert falls.endswith("then falls along a cosine to 5e-06 at the end")


@pytest.mark.parametrize("smoke", [False, True], ids=["whole", "smoke"])
@pytest.mark.parametrize("entry", [*ENTRIES, *SMALL], ids=label)
def test_every_stage_has_an_account(entry, smoke):
  if smoke and label(entry) == "small_pipeline":
    pytest.skip("has none")
  experiment = load_experiment(entry, smoke)
  for stage in experiment.stages:
    said = account(stage, experiment)
    assert said.geometry and said.cost["FLOPs"] > 0
    assert not isinstance(stage, GRPO) or said.geometry["updates"] == stage.steps
