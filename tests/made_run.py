"""A run directory as the runner leaves it, with random parameters in place of trained ones: seconds, no training."""
import json
from pathlib import Path

import jax
import jax.numpy as jnp
from tiny import one_device, random_params

from r1jax.experiment_file import load_experiment
from r1jax.records import TrainState
from r1jax.stages.context import POLICY, Experiment
from r1jax.stages.runner import claim_run_dir
from r1jax.training.checkpoint import Checkpoints


def experiment_of(name: str) -> Experiment:
  """The experiment in tests/stages/NAME.py."""
  return load_experiment(str(Path(__file__).parent / "stages" / f"{name}.py"), smoke=False, settings=[])


def make_run(experiment: Experiment, run_dir, finished=(), begun=(), params=None) -> dict:
  """Writes config.json, summary.json and a checkpoint of every policy in `finished` or `begun`; stage -> parameters.

  params: of all of them, instead of random ones.
  """
  claim_run_dir(experiment, run_dir)
  stages = {name: {"status": "finished", "seconds": 1.0, "steps": 3, "hash": f"hash of {name}", "before": {},
                   "after": {"eval/pass_at_1": 0.5, "eval/pass_at_1_low": 0.25, "eval/pass_at_1_high": 0.75}}
            for name in finished}
  (run_dir / "summary.json").write_text(json.dumps({"experiment": experiment.name, "status": "running", "stages": stages}))
  saved = {}
  with jax.set_mesh(one_device()):
    for number, name in enumerate((*finished, *begun)):
      if experiment.stage(name).kind != POLICY:
        continue
      model = experiment.model_of(experiment.stage(name))
      saved[name] = random_params(model, one_device(), seed=number) if params is None else params
      checkpoints = Checkpoints(run_dir / "checkpoints" / name)
      checkpoints.save(TrainState(jnp.int32(3), saved[name], {"count": jnp.int32(3)}), None, {"cursor": 0})
      checkpoints.close()
  return saved
