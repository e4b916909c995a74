"""`r1jax plan`: whether an experiment fits on a slice of TPUs, and what it would cost there, without one."""
import json
import sys
from pathlib import Path

from r1jax.errors import InputError


def add(verbs) -> None:
  """Adds the verb."""
  verb = verbs.add_parser(
    "plan", help="whether an experiment fits on a slice of TPUs, without one",
    description="Compiles every program of every stage with the TPU compiler, from shapes alone, at each length of the "
    "schedule: memory by cause with all that is held beside a program, FLOPs against those that the work takes, bounds by "
    "products, memory and links, collectives, and what a run would cost. Needs libtpu (pip install 'r1jax[tpu]'), no TPU. "
    "Each program has a process with limits on time and memory; results are kept and not compiled again. Status: 1 where a "
    "program does not fit, or nobody knows.")
  verb.add_argument("experiment", metavar="EXPERIMENT", help="an experiment file, or FILE:NAME of a file with several")
  verb.add_argument("--topology", required=True, metavar="SLICE", help="for example v5p:8x8x8, v6e:2x4")
  verb.add_argument("--smoke", action="store_true", help="the file's smallest variant")
  verb.add_argument("--stage", help="this stage alone")
  verb.add_argument("--program", help="this program alone, for example accumulate or decode")
  verb.add_argument("--length", type=int, metavar="N", help="at this length alone, of the schedule or another")
  verb.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field (may be repeated)")
  verb.add_argument("--suggest", action="store_true", help="find the smallest slice of this version that the dearest "
                    "programs fit on; fsdp takes what is there")
  verb.add_argument("--tries", type=int, default=4, metavar="N",
                    help="changes that are compiled for a program that does not fit (default: 4)")
  verb.add_argument("--json", metavar="FILE", help="write all of it into this file")
  verb.add_argument("--price", type=float, default=2.0, metavar="DOLLARS", help="of a chip-hour (default: 2, the paper's)")
  verb.add_argument("--utilisation", type=float, default=0.5, metavar="SHARE",
                    help="share of a program's bound that is reached (default: 0.5)")
  verb.add_argument("--mean_length", type=float, default=0.25, metavar="SHARE",
                    help="mean length of sequences, of the greatest (default: 0.25)")
  verb.add_argument("--seconds", type=float, default=1_800, metavar="N", help="for one program (default: 1800)")
  verb.add_argument("--gib", type=float, default=20, metavar="N", help="of the memory here, for one program (default: 20)")
  verb.add_argument("--cache", metavar="DIR", help="where results are kept (default: ~/.cache/r1jax/plan)")
  verb.set_defaults(call=_plan)


def _plan(args) -> int:
  from rich.console import Console

  from r1jax.files import write_atomically
  from r1jax.plan.compile import FOLDER, Job, Limits
  from r1jax.plan.cost import Assumptions
  from r1jax.plan.plan import plan, suggested
  from r1jax.plan.report import show

  for name in ("price", "utilisation", "mean_length", "seconds", "gib"):
    if not getattr(args, name) > 0:
      raise InputError(f"--{name}", getattr(args, name), "Give a number greater than 0.")
  if args.length is not None and args.length < 1:
    raise InputError("--length", args.length, "Give at least 1 token.")
  file = args.json and Path(args.json)
  if file and not file.parent.is_dir():
    raise InputError(f"--json {file}", "its folder does not exist", "Make the folder, or name another file.")
  job = Job(args.experiment, args.topology, args.smoke, tuple(args.set), args.stage, args.program, args.length)
  limits = Limits(args.seconds, args.gib, Path(args.cache) if args.cache else FOLDER)

  def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

  if args.suggest:
    return _suggest(job, limits, suggested, tell)
  found = plan(job, limits, Assumptions(args.utilisation, args.price, args.mean_length), tell, args.tries)
  if file:
    write_atomically(file, json.dumps(found, indent=1) + "\n")
  show(found, Console(width=None if sys.stdout.isatty() else 240))
  return int(not found["fits"])


def _suggest(job, limits, suggested, tell) -> int:
  from r1jax.plan.changes import slices_of
  from r1jax.plan.topology import slice_of

  slice_of(job.topology)  # refuses another form
  kind = job.topology.partition(":")[0]
  name = suggested(job, limits, slices_of(kind), tell)
  print(f"the smallest slice that fits: {name}" if name else f"no {kind} slice that was tried fits")
  return int(name is None)
