"""One experiment on several seeds: a run of each, and one table of what holds on all of them."""
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from r1jax.errors import InputError
from r1jax.evaluation.claims import claims_table, examine, spread_table
from r1jax.files import write_atomically
from r1jax.stages.context import Experiment


def run_seeds(experiment: Experiment, arguments: Sequence[str], seeds: Sequence[int], folder: Path, at_once: int,
              reuse: Path | None = None) -> bool:
  """Runs or resumes the experiment on each seed in FOLDER/seed_N, each in a process of its own, `at_once` side by side.

  arguments: of `r1jax run`, but for --set seed, --run_dir and --reuse. reuse: another experiment's folder of such runs, of
  which each seed takes over the stages that its own has finished. What a process prints goes to FOLDER/seed_N.log. Writes
  FOLDER/seeds.md and seeds.json: the claims and every measurement over the seeds. Whether every seed ran to its end and
  every claim holds on each.

  Raises:
    InputError: fewer than one at once, or a folder that holds a run already.
  """
  if at_once < 1:
    raise InputError("--at_once", at_once, "Run at least 1 seed at a time.")
  if (folder / "config.json").exists():
    raise InputError(f"--run_dir {folder}", "holds a run of one seed", "Name another folder: each seed has its own in it.")
  missing = [] if reuse is None else [seed for seed in seeds if not (reuse / f"seed_{seed}" / "summary.json").is_file()]
  if missing:
    raise InputError(f"--reuse {reuse}", f"no run of seed {', '.join(map(str, missing))}",
                     "Name a folder that --seeds made.")
  folder.mkdir(parents=True, exist_ok=True)

  def run(seed: int) -> int:
    command = [sys.executable, "-m", "r1jax", "run", *arguments, "--set", f"seed={seed}",
               "--run_dir", str(folder / f"seed_{seed}")]
    if reuse is not None:
      command += ["--reuse", str(reuse / f"seed_{seed}")]
    with open(folder / f"seed_{seed}.log", "ab") as log:
      status = subprocess.run(command, stdout=log, stderr=log, check=False, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    ended = f"failed with status {status.returncode}, see {log.name}" if status.returncode else "finished"
    print(f"seed {seed}: {ended}", file=sys.stderr, flush=True)
    return status.returncode

  with ThreadPoolExecutor(at_once) as pool:
    statuses = dict(zip(seeds, pool.map(run, seeds), strict=True))
  return _write_tables(experiment, folder, statuses)


def _write_tables(experiment: Experiment, folder: Path, statuses: dict[int, int]) -> bool:
  files = {seed: folder / f"seed_{seed}" / "summary.json" for seed in statuses}
  summaries = {seed: json.loads(file.read_text(encoding="utf-8")) for seed, file in files.items() if file.is_file()}
  found = {claim.says: {seed: examine(claim, summary).holds for seed, summary in summaries.items()}
           for claim in experiment.claims}
  whole = [seed for seed, status in statuses.items() if status == 0]
  seconds = {seed: summary["seconds"] for seed, summary in summaries.items()}
  about = {"experiment": experiment.name, "seeds": list(statuses), "finished": whole, "claims": found, "seconds": seconds}
  write_atomically(folder / "seeds.json", json.dumps(about, indent=1))
  text = f"# {experiment.name} on seeds {', '.join(map(str, statuses))}\n\n"
  text += "".join(f"Seed {seed} did not finish: seed_{seed}.log says why.\n\n" for seed in statuses if seed not in whole)
  text += "Minutes of training: " + ", ".join(f"{s / 60:.1f}" for s in seconds.values()) + ".\n\n" if seconds else ""
  text += "\n".join(part for part in (claims_table(experiment.claims, summaries), spread_table(summaries)) if part)
  write_atomically(folder / "seeds.md", text)
  return len(whole) == len(statuses) and all(all(seeds.values()) for seeds in found.values())
