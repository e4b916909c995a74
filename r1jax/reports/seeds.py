"""A folder of `r1jax run --seeds`: the runs of the seeds, and the table of claims over them."""
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r1jax.errors import InputError
from r1jax.reports.run import Run, read_run
from r1jax.reports.tables import Table

_SEED = re.compile(r"seed_(\d+)")
_CLAIM = "| claim |"  # how the table of claims in seeds.md begins
ABOUT = "Both sides of each claim on each seed, and whether it holds, as seeds.md has them."


@dataclass(frozen=True)
class Seeds:
  """What the report knows of such a folder. claims: None where there is no table of them. notes: what is missing."""

  path: Path
  runs: tuple[Run, ...]
  claims: Table | None
  notes: tuple[str, ...]


def read(path: Path) -> Run | Seeds:
  """A run, or the folder of several seeds. Raises InputError for a folder that holds neither."""
  folders = {int(found[1]): entry for entry in path.iterdir() if entry.is_dir() and (found := _SEED.fullmatch(entry.name))
             } if path.is_dir() else {}
  if not folders or any((path / name).exists() for name in ("config.json", "metrics.jsonl")):
    return read_run(path)
  runs, notes = [], []
  for seed, folder in sorted(folders.items()):
    try:
      runs.append(read_run(folder))
    except InputError:
      notes.append(f"Seed {seed} has no run yet: seed_{seed}.log may say why.")
  if not runs:
    raise InputError(f"report {path}", "none of its seeds has a run yet", "Look into its seed_N.log.")
  about = _about(path / "seeds.json", notes)
  listed = [seed for seed in about.get("seeds", ()) if isinstance(seed, int)]
  notes += [f"Seed {seed} is in seeds.json and has no folder." for seed in listed if seed not in folders]
  finished = about.get("finished")
  if isinstance(finished, list):
    notes += [f"Seed {seed} did not finish: seed_{seed}.log says why." for seed in listed if seed not in finished]
  return Seeds(path, tuple(runs), _claims(path / "seeds.md") or _held(about.get("claims")), tuple(notes))


def _about(file: Path, notes: list[str]) -> dict:
  """seeds.json, {} where it cannot be read."""
  if not file.is_file():
    notes.append(f"{file.name} is missing: the seeds are still being run, or that was stopped. Claims are not shown.")
    return {}
  try:
    found = json.loads(file.read_text(encoding="utf-8", errors="replace"))
  except ValueError:
    found = None
  if not isinstance(found, dict) or not isinstance(found.get("seeds", []), list):
    notes.append(f"{file.name} is damaged, or written by another version.")
    return {}
  return found


def _claims(file: Path) -> Table | None:
  """The table of claims in seeds.md."""
  if not file.is_file():
    return None
  lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
  start = next((i for i, line in enumerate(lines) if line.startswith(_CLAIM)), None)
  if start is None:
    return None
  end = next((i for i in range(start, len(lines)) if not lines[i].startswith("|")), len(lines))
  header, *rows = [_cells(line) for line in (lines[start], *lines[start + 2:end])]
  return Table("Claims", header, [row for row in rows if len(row) == len(header)], ABOUT)


def _cells(line: str) -> list[str]:
  return [cell.strip().replace("`", "").replace("**", "") for cell in line.strip().strip("|").split("|")]


def _held(claims: object) -> Table | None:
  """Whether claims hold by seeds.json alone, which does not have their values."""
  if not isinstance(claims, dict) or not claims:
    return None
  by_seed = {says: found for says, found in claims.items() if isinstance(found, dict)}
  seeds = list(dict.fromkeys(seed for found in by_seed.values() for seed in found))
  said = {True: "yes", False: "no"}
  return Table("Claims", ("claim", *(f"seed {seed}" for seed in seeds), "holds on"), [
    [says, *(said.get(found.get(seed), "not measured") for seed in seeds),
     f"{sum(value is True for value in found.values())} of {len(found)}"] for says, found in by_seed.items()],
    "As seeds.json has them; seeds.md, which has their values, is missing.")


def runs_of(found: Sequence[Run | Seeds]) -> list[Run]:
  """All runs, each folder once."""
  runs = [run for part in found for run in (part.runs if isinstance(part, Seeds) else (part,))]
  return list({run.path: run for run in runs}.values())
