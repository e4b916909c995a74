"""What programs cost at least: bounds by products, memory and links, and how often each runs in a step of its stage.

Bounds are sums over a program, the largest of the three being a lower bound of its time where all else is hidden behind it.
What a run takes follows from them by assumptions, which are stated beside every figure.
"""
import math
from dataclasses import dataclass
from functools import singledispatch

from r1jax.plan.topology import Slice
from r1jax.sharding import BATCH, MESH_AXES, MeshShape
from r1jax.stages.context import Experiment
from r1jax.stages.curate import Curate
from r1jax.stages.draws import Draws
from r1jax.stages.grpo import GRPO
from r1jax.stages.preferences import Preferences, SafetyLabels
from r1jax.stages.reward_model import RewardModel
from r1jax.stages.sft import SFT
from r1jax.training.pack import rows_for

PAPER = {"R1-Zero": 101_000, "SFT data": 5_000, "R1": 41_000}  # H800-hours, at $2: $294K (R1, Nature)
PAPER_PRICE = 2.0
ROLLOUT = ("rollout_weights", "prefill", "admit", "decode", "lengthen_layer", "halve_layer")
# What goes over the links for each byte of the whole array: an all-reduce is a reduce-scatter and an all-gather.
ON_LINKS = {"all-reduce": 2.0}


@dataclass(frozen=True)
class Assumptions:
  """utilisation: share of the bound that is reached. price: dollars a chip-hour. mean_length: tokens of a sequence on
  average, as a share of the greatest length."""

  utilisation: float = 0.5
  price: float = PAPER_PRICE
  mean_length: float = 0.25

  def __str__(self):
    return (f"{self.utilisation:.0%} of each program's bound is reached; sequences have {self.mean_length:.0%} of the "
            f"greatest length on average, decoded as if the cache always had its longest shape; ${self.price:g} a chip-hour")


def bounds(said: dict, found: Slice) -> dict[str, float]:
  """Seconds of one call: {"compute", "hbm", "ici"}, each as if it alone took time."""
  chip = found.chip
  links = sum(ON_LINKS.get(c["kind"], 1.0) * c["bytes"] * c["times"] for c in said["collectives"])
  return {"compute": said["flops"] / said["devices"] / chip.flops, "hbm": said["traffic"]["all"] / chip.hbm,
          "ici": links / chip.ici}


@singledispatch
def calls(stage, experiment: Experiment, devices: int, assumed: Assumptions) -> dict[str, float]:
  """program -> how often it runs in a step of the stage, or in all where it has no steps; others hardly run."""
  return {}


@singledispatch
def steps(stage) -> int | None:
  """Steps of the stage; None where the data decide."""
  return None


def _parts(mesh: MeshShape, devices: int) -> int:
  sizes = dict(zip(MESH_AXES, mesh.resolve(devices), strict=True))
  return math.prod(sizes[axis] for axis in BATCH)


def _sampling(decoding, layers: int, prompts: float, responses: float, prompt: int, sampled: float) -> dict[str, float]:
  """Of a rollout."""
  fills = prompts / decoding.prefill_rows
  return {"rollout_weights": 1, "prefill": fills * -(-prompt // min(prompt, decoding.prefill_chunk)), "admit": fills,
          "decode": responses * sampled / decoding.slots / decoding.segment, "lengthen_layer": layers,
          "halve_layer": 3 * layers}


@calls.register
def _(stage: GRPO, experiment: Experiment, devices: int, assumed: Assumptions) -> dict[str, float]:
  length = int(max(stage.max_length.values()))
  mean = assumed.mean_length * length
  sampled = max(1.0, mean - stage.max_prompt_length)
  responses = stage.questions_per_step * stage.group_size
  rows = responses * mean / length / rows_for(stage.microbatch_tokens, length, _parts(experiment.mesh, devices))
  rollout = _sampling(stage.decoding, experiment.model_of(stage).num_layers, stage.questions_per_step * stage.minibatches,
                      responses * stage.minibatches, stage.max_prompt_length, sampled)
  found = {name: times / stage.minibatches for name, times in rollout.items()}
  measured = stage.held_out.questions * stage.held_out.samples * sampled / stage.decoding.slots / stage.decoding.segment
  share = max(stage.general.share.values()) if stage.general else 0.0
  scored = {f"score_{m.kind}": share * rows / 2 for m in stage.general.models} if stage.general else {}
  return found | scored | {
    "reference_logprobs": rows, "logprobs": rows, "zeros": 1, "accumulate": rows, "apply": 1,
    "copy_reference": 1 / stage.reference_every, "decode_held_out": measured / (stage.held_out.every or stage.steps)}


@calls.register
def _(stage: SFT, experiment: Experiment, devices: int, assumed: Assumptions) -> dict[str, float]:
  rows = rows_for(stage.microbatch_tokens, stage.max_length, _parts(experiment.mesh, devices), of=stage.batch_size)
  return {"teacher_logprobs": stage.batch_size / rows, "zeros": 1, "accumulate": stage.batch_size / rows, "apply": 1}


@calls.register
def _(stage: RewardModel, experiment: Experiment, devices: int, assumed: Assumptions) -> dict[str, float]:
  rows = rows_for(stage.microbatch_tokens, stage.row_length, _parts(experiment.mesh, devices))
  return {"zeros": 1, "accumulate": stage.batch_size * assumed.mean_length / rows, "apply": 1}


@calls.register(Curate)
@calls.register(Preferences)
@calls.register(SafetyLabels)
def _(stage, experiment: Experiment, devices: int, assumed: Assumptions) -> dict[str, float]:
  draws: Draws = stage.draws
  sampled = max(1.0, assumed.mean_length * draws.max_length - draws.max_prompt_length)
  return _sampling(draws.decoding, experiment.model_of(stage).num_layers, draws.count, draws.count * draws.samples,
                   draws.max_prompt_length, sampled)


@steps.register(GRPO)
@steps.register(SFT)
def _(stage) -> int | None:
  return stage.steps


@steps.register(Curate)
@steps.register(Preferences)
@steps.register(SafetyLabels)
def _(stage) -> int:
  return 1


def step_of(stage, experiment: Experiment, said: list[dict], found: Slice, assumed: Assumptions) -> dict | None:
  """What a step of a stage takes, of the completed programs of its greatest length; None where one of them is not known or
  no program has a count. seconds: by phase; rollout: its share; hours, dollars: chip-hours of the stage, None where the data
  decide how many steps it has."""
  known = {}
  for one in sorted(said, key=lambda one: one["length"]):
    if one["stage"] == stage.name:
      known[one["program"]] = one
  often = {name: times for name, times in calls(stage, experiment, found.chips * found.chip.cores, assumed).items()
           if name in known and times}
  if not often or any("bounds_seconds" not in known[name] for name in often):
    return None
  seconds = {name: times * max(known[name]["bounds_seconds"].values()) / assumed.utilisation
             for name, times in often.items()}
  total, number = sum(seconds.values()), steps(stage)
  hours = None if number is None else total * number * found.chips / 3600
  return {"stage": stage.name, "seconds": seconds, "step_seconds": total, "calls": often,
          "rollout": sum(seconds.get(name, 0.0) for name in ROLLOUT) / total, "steps": number, "chip_hours": hours,
          "dollars": None if hours is None else hours * assumed.price}
