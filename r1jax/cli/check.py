"""The verb check: whether a run directory holds what was written into it."""
from r1jax.errors import InputError
from r1jax.run_dir import RunDir


def add(verbs) -> None:
  """Adds the verb."""
  verb = verbs.add_parser(
    "check", help="whether a run directory is as it was written",
    description="Compares checkpoints, data sets, built questions, log lines, config.json and summary.json with the "
    "checksums that were kept of them, and names what differs. Changes nothing. Exits with status 1 where something does.")
  verb.add_argument("run", metavar="RUN", help="a run directory")
  verb.set_defaults(call=_check)


def _check(args) -> int:
  run = RunDir(args.run)
  if not run.path.is_dir():
    raise InputError(args.run, "no such directory", "Name a run directory, for example runs/r1_zero_tiny.")
  faults = run.faults()
  print("\n".join(faults) if faults else f"{run.path}: sound")
  return int(bool(faults))
