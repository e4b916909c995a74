"""The model card of an export: what it is, how it came about, what it scores, and how to ask it."""
import json
from collections.abc import Iterator
from pathlib import Path

from r1jax.files import sha256_of
from r1jax.hub.model import Model
from r1jax.hub.runs import RunStage, source_of
from r1jax.models.params import count_params

CARD = """---
library_name: transformers
pipeline_tag: text-generation
tags:
- r1jax
---

# {title}

{size} parameters, {dtype}: the policy that stage `{stage}` of the experiment `{experiment}` left at step {step}{unfinished}.
Trained with r1jax; its base is {base}.

## How it was trained

Experiment `{experiment}`, config {hash}. The stages up to this one, in order:

| stage | type | starts from | steps or rows | config and inputs | pass@1 before | after |
|---|---|---|---|---|---|---|
{stages}

{data}
{versions}

## How to ask it

The chat template writes the prompt that the policy was trained on, around a single question:

```
{prompt}
```

It was trained to answer single questions. Generation ends at {stop}; temperature 0.6 and top-p 0.95 are R1's own settings.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}")
model = AutoModelForCausalLM.from_pretrained("{folder}")
inputs = tokenizer.apply_chat_template(
  [{{"role": "user", "content": "..."}}], add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=512)[0]))
```
"""


def model_card(model: Model, dtype: str, folder: str) -> str:
  """The card as Markdown. It names no folder of this machine but the exported one, by its last part."""
  found = model.trained
  stop = ", ".join(f"`{json.dumps(model.tokenizer.decode([i]), ensure_ascii=False)}`" for i in model.tokenizer.stop_ids)
  return CARD.format(
    title=folder, folder=folder, size=f"{count_params(model.config):,}", dtype=dtype, stage=found.name, step=model.step,
    experiment=found.experiment["name"], unfinished="" if found.finished else ", before it was finished",
    base=_base(found.weights),
    hash=found.about["hash"] or "unknown", stages="\n".join(_stage_rows(found)), data=_data(found.run_dir),
    versions="Versions: " + ", ".join(f"{name} {version}" for name, version in found.about["versions"].items()) + ".",
    prompt=model.template.text + model.template.prefill, stop=stop)


def _stage_rows(found: RunStage) -> Iterator[str]:
  """A row of the table for each stage up to the exported one."""
  for stage in found.experiment["stages"]:
    result = found.summary.get("stages", {}).get(stage["name"], {})
    amount = f"{result['rows']} rows" if "rows" in result else f"{result['steps']} steps" if "steps" in result else "-"
    source = source_of(found.experiment, stage)
    start = _base(source["weights"]) if isinstance(source, dict) else source
    cells = (stage["name"], stage["type"], start, amount, result.get("hash", "not finished"),
             _score(result.get("before", {})), _score(result.get("after", {})))
    yield f"| {' | '.join(cells)} |"
    if stage["name"] == found.name:
      return


def _base(weights: str | None) -> str:
  """Where parameters come from that no stage has trained, without the folder above: that is the user's own business."""
  return f"the folder `{Path(weights).name}`" if weights else "a random initialisation"


def _score(measured: dict) -> str:
  """pass@1 with its interval, as a stage has measured it on held-out questions."""
  if "eval/pass_at_1" not in measured:
    return "-"
  low, high = (measured.get(f"eval/pass_at_1_{end}", float("nan")) for end in ("low", "high"))
  return f"{measured['eval/pass_at_1']:.3f} ({low:.3f} to {high:.3f})"


def _data(run_dir: Path) -> str:
  """The data sets in the run directory: those that stages made, by SHA-256, and the questions, by the hash in their name."""
  made = [f"- `{file.name}`: SHA-256 {sha256_of(file)}" for file in sorted((run_dir / "datasets").glob("*.jsonl"))
          if not file.name.endswith(".partial.jsonl")]
  asked = [f"- `{folder.name}`: questions, named by a hash of their source and how it was read"
           for folder in sorted((run_dir / "data").glob("*_questions/*-*"))]
  if not made and not asked:
    return "Its data sets are not in the run directory.\n"
  return "\n".join(["Data:", "", *asked, *made, ""])
