"""A plan as JSON and as tables: what fits, what memory is for, what is computed and moved, what a run costs."""
from typing import Any

from rich.console import Console
from rich.table import Table

from r1jax.plan.compile import FITS, total_bytes
from r1jax.plan.cost import PAPER, PAPER_PRICE, bounds
from r1jax.plan.record import CAUSES
from r1jax.plan.topology import GIB, Slice

ACTIVATIONS, LAYOUT = "activations", "layout"  # the compiler's temporaries; what tiles of arrays waste
MOVES_CACHE = ("prefill", "lengthen_layer", "halve_layer")  # programs whose work is to copy a cache, or much of one


def by_cause(said: dict) -> dict[str, float]:
  """Bytes on a device by cause, of a program and of all that is held beside it; they add up to the compiler's total."""
  found = dict.fromkeys((*CAUSES, ACTIVATIONS, LAYOUT), 0.0)
  for part in ("arguments", "resident"):
    for cause, size in said[part].items():
      found[cause] += size
  if "memory" in said:
    memory = said["memory"]
    found[ACTIVATIONS] = memory["temp"]
    found[said["makes"]] += memory["output"] - memory["alias"]
    found[LAYOUT] = memory["argument"] - sum(said["arguments"].values())
  elif said["needs"] is not None:
    found[ACTIVATIONS] = said["needs"] - sum(said["arguments"].values())
  return {cause: size for cause, size in found.items() if size}


def by_kind(said: dict) -> dict[str, float]:
  """Bytes of collectives in one call, by kind and by whether they are in a loop."""
  found: dict[str, float] = {}
  for c in said["collectives"]:
    name = c["kind"] + (" in loops" if c["loop"] else "")
    found[name] = found.get(name, 0.0) + c["bytes"] * c["times"]
  return dict(sorted(found.items(), key=lambda x: -x[1]))


def completed(said: dict, found: Slice) -> dict:
  """A program's result with what is derived from it: of collectives their bytes by kind in place of each one."""
  more: dict[str, Any] = {}
  if "arguments" in said:
    more |= {"total_bytes": total_bytes(said), "bytes": by_cause(said)}
  if "memory" in said:
    more |= {"bounds_seconds": bounds(said, found), "collective_bytes": by_kind(said)}
    if said["ideal_flops"]:
      more["flops_of_ideal"] = said["flops"] / said["ideal_flops"]
  return {name: value for name, value in said.items() if name != "collectives"} | more


def show(plan: dict, console: Console) -> None:
  """Prints a plan."""
  console.print(f"[bold]{plan['experiment']}[/] on {plan['topology']}: {plan['chips']} chips, {plan['limit_gib']} GiB for a "
                f"program on each; mesh {plan['mesh']}", highlight=False)
  console.print(_memory(plan), highlight=False)
  console.print(_work(plan), highlight=False)
  for text in findings(plan):
    console.print(text, highlight=False, markup=False)
  if plan["steps"]:
    console.print(_cost(plan), highlight=False)
    console.print(f"Assumed: {plan['assumed']}. {of_the_paper(plan)}", highlight=False, markup=False)
  for change in plan["changes"]:
    console.print(change, highlight=False, markup=False)


def _memory(plan: dict) -> Table:
  causes = [c for c in (*CAUSES, ACTIVATIONS, LAYOUT)
            if any(p.get("bytes", {}).get(c, 0) >= 0.005 * GIB for p in plan["programs"])]
  table = Table(title="Memory of a device, GiB, with all that is held beside the program", title_justify="left", box=None,
                padding=(0, 1))
  for name in ("stage", "program", "length"):
    table.add_column(name, no_wrap=True)
  for name in (*causes, "total", "of limit"):
    table.add_column(name, justify="right")
  table.add_column("")
  for p in plan["programs"]:
    sizes = [f"{p['bytes'].get(c, 0) / GIB:.2f}" if "bytes" in p and p["bytes"].get(c) else "" for c in causes]
    total = p.get("total_bytes")
    ends = ["?", "?"] if total is None else [f"{total / GIB:.2f}", f"{total / GIB / plan['limit_gib']:.0%}"]
    table.add_row(p["stage"], p["program"], f"{p['length']:,}", *sizes, *ends,
                  p["outcome"] if p["outcome"] == FITS else f"{p['outcome'].upper()}: {p['why']}")
  return table


def _work(plan: dict) -> Table:
  table = Table(title="One call: products, bounds, and what crosses links on a device", title_justify="left", box=None,
                padding=(0, 1))
  for name in ("stage", "program"):
    table.add_column(name, no_wrap=True)
  for name in ("TFLOP", "of ideal", "compute ms", "HBM ms", "links ms"):
    table.add_column(name, justify="right")
  table.add_column("collectives, GB")
  for p in plan["programs"]:
    if "bounds_seconds" not in p:
      continue
    ideal = f"{p['flops_of_ideal']:.2f}" if "flops_of_ideal" in p else ""
    kinds = ", ".join(f"{kind} {size / 1e9:.3g}" for kind, size in p["collective_bytes"].items() if size > 1e6)
    table.add_row(p["stage"], p["program"], f"{p['flops'] / 1e12:,.3g}", ideal,
                  *(f"{1e3 * p['bounds_seconds'][name]:,.3g}" for name in ("compute", "hbm", "ici")), kinds)
  return table


def findings(plan: dict) -> list[str]:
  """What is wrong with programs that may fit all the same."""
  found = []
  for p in plan["programs"]:
    name = f"{p['stage']} {p['program']}"
    if p.get("weight_gathers"):
      size = sum(c["bytes"] * c["times"] for c in p["weight_gathers"])
      found.append(f"{name}: gathers weights inside the decode loop, {size / 1e9:.3g} GB a segment on each device")
    if p.get("copied_cache") and p["program"] not in MOVES_CACHE:
      found.append(f"{name}: copies the cache, {p['copied_cache'] / 1e9:.3g} GB a call on each device, for example at "
                   f"{p['copies'][0]['where'] or p['copies'][0]['opcode']}")
    for whole in p.get("whole", ()):
      found.append(f"{name}: {whole['what']} at once, {whole['shape']}, at {whole['where']}")
    if p["program"] == "accumulate" and p.get("flops_of_ideal", 0) > 1.4:
      found.append(f"{name}: does {p['flops_of_ideal']:.2f} times the FLOPs that its work takes")
  return found


def _cost(plan: dict) -> Table:
  table = Table(title="A step of each stage, or the stage where it has none", title_justify="left", box=None, padding=(0, 1))
  for name in ("stage", "seconds", "rollout", "steps", "chip-hours", "dollars", "most of it"):
    table.add_column(name, justify="left" if name in ("stage", "most of it") else "right")
  for s in plan["steps"]:
    most = sorted(s["seconds"].items(), key=lambda x: -x[1])[:3]
    number = "as the data fill" if s["steps"] is None else f"{s['steps']:,}"
    ends = ["", ""] if s["chip_hours"] is None else [f"{s['chip_hours']:,.0f}", f"{s['dollars']:,.0f}"]
    table.add_row(s["stage"], f"{s['step_seconds']:,.3g}", f"{s['rollout']:.0%}", number, *ends,
                  ", ".join(f"{name} {seconds:,.3g} s" for name, seconds in most))
  return table


def of_the_paper(plan: dict) -> str:
  """The run beside what R1 took."""
  hours = sum(s["chip_hours"] or 0.0 for s in plan["steps"])
  dollars = sum(s["dollars"] or 0.0 for s in plan["steps"])
  paper = sum(PAPER.values())
  parts = " + ".join(f"{hours / 1e3:.0f}K for {name}" for name, hours in PAPER.items())
  return (f"In all {hours:,.0f} chip-hours, ${dollars:,.0f}; the paper: {paper / 1e3:.0f}K H800-hours ({parts}), "
          f"${paper * PAPER_PRICE / 1e3:.0f}K, for a model of 671B parameters.")
