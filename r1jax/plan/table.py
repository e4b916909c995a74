"""The table of several plans: `python -m r1jax.plan.table PLAN.json...` prints it as Markdown."""
import json
import sys
from pathlib import Path

from r1jax.errors import InputError
from r1jax.plan.topology import GIB

COLUMNS = ("plan", "slice", "mesh", "lengths", "fullest program", "GiB of a chip", "update, FLOPs of ideal", "result")


def row(name: str, plan: dict) -> tuple[str, ...]:
  """A plan as the command's --json writes it, in the order of COLUMNS."""
  known = [p for p in plan["programs"] if p.get("total_bytes")]
  updates = [f"{p['flops_of_ideal']:.2f}" for p in known if p["program"] == "accumulate" and "flops_of_ideal" in p]
  fullest = max(known, key=lambda p: p["total_bytes"], default=None)
  lengths = sorted({p["length"] for p in known if p["program"] in ("decode", "accumulate")})
  others = [f"{p['program']} {p['outcome']}" for p in plan["programs"] if p["outcome"] != "fits"]
  settings = " ".join(setting.removeprefix("stages.") for setting in plan["settings"])
  return (f"{name}{f' ({settings})' if settings else ''}", plan["topology"], plan["mesh"],
          ", ".join(f"{length:,}" for length in lengths),
          f"{fullest['stage']} {fullest['program']}" if fullest else "",
          f"{fullest['total_bytes'] / GIB:.1f} of {plan['limit_gib']}" if fullest else "", ", ".join(dict.fromkeys(updates)),
          ", ".join(dict.fromkeys(others)) or f"all {len(plan['programs'])} programs fit")


def table(plans: dict[str, dict]) -> str:
  """Markdown, one line for each plan by its name."""
  lines = [COLUMNS, ("---",) * len(COLUMNS), *(row(name, plan) for name, plan in plans.items())]
  return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(files: list[str]) -> None:
  """Prints the table of the files, in their order. InputError for one that holds no plan."""
  plans = {}
  for file in map(Path, files):
    try:
      plans[file.stem] = json.loads(file.read_text(encoding="utf-8"))
      row(file.stem, plans[file.stem])
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise InputError(str(file), f"no plan: {error!r}", "Name files that `r1jax plan --json` has written.") from None
  print(table(plans))


if __name__ == "__main__":
  try:
    main(sys.argv[1:])
  except InputError as error:
    sys.exit(f"error: {error}")
