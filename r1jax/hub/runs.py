"""Run directories as a reader meets them: which stages trained a policy, of what architecture, and how far they got."""
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1jax.config import from_json
from r1jax.data.templates import Template
from r1jax.errors import InputError
from r1jax.models.config import Compute, ModelConfig
from r1jax.models.hub_config import read_json

POLICY_STAGES = ("SFT", "GRPO")  # the types of stages whose checkpoint is a policy


@dataclass(frozen=True)
class RunStage:
  """A stage of a run that trained a policy.

  experiment: the whole config, as config.json has it, and about: its hash and the versions of packages. summary: as
  summary.json has it, {} where there is none. stage: the stage's own config. finished: all of its steps are done. model,
  weights, template, compute, stop, tokenizer: what config.json says of it; weights: the folder that its first ancestor
  started from, None for random ones.
  """

  run_dir: Path
  name: str
  experiment: dict
  about: dict
  summary: dict
  stage: dict
  finished: bool
  model: ModelConfig
  weights: str | None
  template: Template
  compute: Compute
  stop: tuple[str, ...]
  tokenizer: str | tuple[str, ...]

  @property
  def checkpoints(self) -> Path:
    """The folder of its checkpoints."""
    return self.run_dir / "checkpoints" / self.name


def is_run(folder: Path) -> bool:
  """Whether a folder with a config.json is a run directory; else it is a Hugging Face folder."""
  values = read_json(folder / "config.json").values
  return isinstance(values.get("config"), dict) and isinstance(values["config"].get("stages"), list)


def find_stage(run_dir: Path, name: str | None = None) -> RunStage:
  """The stage `name` of a run, finished or not; None: the last finished one that trained a policy.

  InputError for a stage that is unknown, left no policy or no checkpoint, and for a config of another version.
  """
  file = run_dir / "config.json"
  values = read_json(file).values
  config = values["config"]
  summary = read_json(run_dir / "summary.json").values if (run_dir / "summary.json").exists() else {}
  finished = {n for n, s in summary.get("stages", {}).items() if s.get("status") == "finished"}
  try:
    stage = _named(config["stages"], name, finished, run_dir)
    base = _base(config, stage)
    parts = {"model": from_json(ModelConfig, base["model"], f"{file}: model"), "weights": base["weights"],
             "template": from_json(Template, stage["template"], f"{file}: stages.{stage['name']}.template"),
             "compute": from_json(Compute, config["compute"], f"{file}: compute")}
    words = config["tokenizer"] or base["weights"] or config["weights"]
  except (KeyError, TypeError, StopIteration) as error:
    raise InputError(str(file), f"not as this version writes it ({error!r})",
                     "Read the run with the version of r1jax that wrote it.") from None
  found = RunStage(
    run_dir=run_dir, name=stage["name"], experiment=config, summary=summary,
    about={"hash": values.get("hash"), "versions": values.get("versions", {})}, stage=stage,
    finished=stage["name"] in finished, stop=tuple(stage.get("stop", ())),
    tokenizer=tuple(words) if isinstance(words, list) else words, **parts)
  if not found.checkpoints.is_dir():
    raise InputError(f"{run_dir}:{found.name}", "the stage has left no checkpoint yet",
                     f"Run it, or name another: {', '.join(_with_checkpoints(config, run_dir)) or 'none has one'}.")
  return found


def _is_policy(stage: dict) -> bool:
  return stage["type"] in POLICY_STAGES


def _with_checkpoints(config: dict, run_dir: Path) -> list[str]:
  """Names of the stages that have the checkpoint of a policy."""
  return [s["name"] for s in config["stages"] if _is_policy(s) and (run_dir / "checkpoints" / s["name"]).is_dir()]


def _named(stages: list[dict], name: str | None, finished: set[str], run_dir: Path) -> dict:
  policies = [s for s in stages if _is_policy(s)]
  if name is None:
    done = [s for s in policies if s["name"] in finished]
    if not done:
      begun = _with_checkpoints({"stages": stages}, run_dir)
      remedy = (f"To use the newest checkpoint of an unfinished stage, name it: {run_dir}:{begun[-1]}." if begun else
                "Run it on until a stage has a checkpoint.")
      raise InputError(str(run_dir), "no stage of this run has finished training a policy", remedy)
    return done[-1]
  stage = next((s for s in stages if s["name"] == name), None)
  if stage is None or not _is_policy(stage):
    found = "no such stage" if stage is None else f"a stage of type {stage['type']}, which trains no policy"
    raise InputError(f"{run_dir}:{name}", found, f"Stages that train one: {', '.join(s['name'] for s in policies)}.")
  return stage


def _base(config: dict, stage: dict) -> dict[str, Any]:
  """What the stage's parameters came from before any training, {"model", "weights"}."""
  source = source_of(config, stage)
  return source if isinstance(source, dict) else _base(config, next(s for s in config["stages"] if s["name"] == source))


def source_of(config: dict, stage: dict) -> str | dict[str, Any]:
  """What a stage's parameters come from: the name of a stage, or {"model", "weights"}; as Experiment.source_of has it."""
  start, stages = stage["start"], config["stages"]
  if start is None:
    before = stages[:stages.index(stage)]
    start = next((s["name"] for s in reversed(before) if _is_policy(s)), "experiment")
  return {"model": config["model"], "weights": config["weights"]} if start == "experiment" else start
