"""The results of an evaluation as files: r1jax's own, and the JSON that lm-eval writes, for the tools that read it."""
import json
import re
from collections.abc import Mapping
from pathlib import Path

from r1jax.evaluation.benchmarks import BENCHMARKS
from r1jax.files import write_atomically

# What lm-eval calls the main metric of a kind. Its standard errors are ours: half an interval over 1.96.
LM_EVAL_NAMES = {"maths": "exact_match", "choice": "acc", "code": "pass@1", "instructions": "prompt_level_strict_acc"}
_Z = 1.959964
LOWER_IS_BETTER = ("length", "truncated", "unparsable", "verifier_failures", "judge_failures", "contaminated")


def lm_eval_form(model: str, found: Mapping[str, Mapping], date: float) -> dict:
  """The object that lm-eval writes as results_*.json. found: benchmark -> its result as `r1jax evaluate` keeps it. date:
  Unix seconds."""
  results, higher = {}, {}
  for name, result in found.items():
    metrics, kind = result["metrics"], BENCHMARKS[name].kind
    results[name] = {"alias": name}
    names = {key: LM_EVAL_NAMES[kind] if key == "pass_at_1" else key
             for key in metrics if not key.endswith(("_low", "_high"))}
    for key, called in names.items():
      width = metrics[f"{key}_high"] - metrics[f"{key}_low"] if f"{key}_low" in metrics else None
      results[name][f"{called},none"] = metrics[key]
      results[name][f"{called}_stderr,none"] = "N/A" if width is None else width / (2 * _Z)
    higher[name] = {called: key not in LOWER_IS_BETTER for key, called in names.items()}
  return {
    "results": results, "group_subtasks": {name: [] for name in found},
    "configs": {name: {"task": name, "output_type": "generate_until", "num_fewshot": 0, "repeats": result["samples"],
                       "generation_kwargs": result["settings"]} for name, result in found.items()},
    "versions": dict.fromkeys(found, 1), "n-shot": dict.fromkeys(found, 0), "higher_is_better": higher,
    "n-samples": {name: {"original": result["questions_in_file"], "effective": result["questions"]}
                  for name, result in found.items()},
    "config": {"model": "r1jax", "model_args": {"pretrained": model}}, "date": date, "model_name": model,
    "model_name_sanitized": sanitized(model)}


def sanitized(model: str) -> str:
  """A model's name as a folder's."""
  return "__".join(part for part in re.split(r"[:/\\]", model) if part not in ("", ".", "..", "~"))


def write_json(file: Path, value) -> None:
  """Writes JSON whole."""
  file.parent.mkdir(parents=True, exist_ok=True)
  write_atomically(file, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
