"""Made-up logs of stages, in the format of r1jax.training.metrics, with and without a planted failure."""

import json
import random

import numpy as np

WORDS = ["we", "add", "the", "first", "number", "then", "look", "at", "what", "is", "left", "over",
         "so", "it", "must", "hold", "for", "every", "case", "in", "turn", "of", "them", "all"]
HAN = "我们先把两个数加起来再看看剩下多少所以它对每一种情况都成立"


def text(rng: random.Random, words: int = 60) -> str:
  """A thought of random words and numbers, and an answer."""
  thought = " ".join(rng.choice([*WORDS, str(rng.randint(2, 99))]) for _ in range(words))
  return f"<think> {thought} </think> <answer> 7 </answer>"


def looping(rng: random.Random) -> str:
  """A thought that ends in a loop."""
  return text(rng, 20).split("</think>")[0] + "so it must hold " * 60


def mixed(rng: random.Random) -> str:
  """A thought in two languages."""
  return "<think> " + " ".join(rng.choice([*WORDS, *HAN]) for _ in range(60)) + " </think> <answer> 7 </answer>"


def healthy(seed: int, steps: int = 300, every: int = 1, noise: float = 0.03,
            kind: str = "learning") -> tuple[dict, list[dict]]:
  """(metric -> values at steps 1, 1 + every, ..., samples) of a stage that goes well.

  kind: learning; flat (a reward that does not move); converged (all solved, as it was from the start).
  """
  rng, x = np.random.default_rng(seed), np.arange(1, steps + 1, every)
  z = 1 / (1 + np.exp(-(x - 0.35 * steps) / (0.1 * steps)))
  z = {"learning": z, "flat": 0 * z, "converged": 0 * z + 1}[kind]
  accuracy = {"learning": 0.12 + 0.7 * z, "flat": 0.3 + 0 * z, "converged": 0.97 + 0 * z}[kind]
  log = {
    "step": x, "reward/accuracy": accuracy, "reward/format": 0.55 + 0.43 * z, "policy/entropy": 0.7 - 0.45 * z,
    "length/mean": 200 + 300 * z, "length/max": 1024 + 0 * z, "policy/kl": 0.05 * z, "policy/loss": 0 * z,
    "policy/grad_norm": 1 + 0 * z, "reward/equal_groups": {"learning": 0.45 - 0.6 * z * (1 - z), "flat": 0.3 + 0 * z,
                                                           "converged": 0.92 + 0 * z}[kind],
    "verifier/scored": 512 + 0 * z, "verifier/timed_out": 0 * z, "verifier/crashed": 0 * z,
    "time/rollout": 20 + 0 * z, "time/update": 10 + 0 * z,
  }
  for name in ("reward/accuracy", "reward/format", "reward/equal_groups"):
    log[name] = np.clip(log[name] + noise * rng.standard_normal(len(x)), 0, 1)
  for name in ("length/mean", "policy/entropy"):
    log[name] = log[name] * (1 + noise * rng.standard_normal(len(x)))
  log["reward/mean"] = log["reward/accuracy"] + log["reward/format"]
  words = random.Random(seed)
  return log, [{"step": int(s), "question": "how many are left", "response": text(words)} for s in x for _ in range(2)]


def ramp(log: dict, onset: int, over: int = 30) -> np.ndarray:
  """0 before the onset, 1 from `over` steps after it."""
  return np.clip((log["step"] - onset) / over, 0, 1)


def plant(failure: str, log: dict, samples: list[dict], onset: int, seed: int) -> None:
  """Lets a failure begin at a step."""
  up, rng, frozen = ramp(log, onset), random.Random(seed), log["step"] >= onset
  at = log["reward/accuracy"][~frozen][-10:].mean() if (~frozen).any() else 0.1
  still = np.clip(at + 0.02 * np.random.default_rng(seed).standard_normal(len(up)), 0, 1)
  if failure in ("hacking", "length", "entropy"):  # accuracy stops rising
    log["reward/accuracy"] = np.where(frozen, still, log["reward/accuracy"])
  if failure == "hacking":
    log["reward/helpful"] = 0.2 + 0.8 * up + 0.03 * np.random.default_rng(seed).standard_normal(len(up))
    log["reward/accuracy"] = np.clip(log["reward/accuracy"] - 0.15 * up, 0, 1)
  elif failure == "length":
    before = log["length/mean"][~frozen][-10:].mean()
    log["length/mean"] = np.where(frozen, before * (1 + (0.7 if seed % 2 else -0.5) * up), log["length/mean"])
    log["reward/format"] = np.where(frozen, log["reward/format"][~frozen][-5:].mean(), log["reward/format"])
  elif failure == "format":
    log["reward/format"] = 0.3 + 0.65 * up
    log["reward/accuracy"] = np.clip(0.06 + 0.02 * np.random.default_rng(seed).standard_normal(len(up)), 0, 1)
  elif failure == "entropy":
    before = log["policy/entropy"][~frozen][-5:].mean()
    log["policy/entropy"] = np.where(frozen, before * (1 - 0.9 * up), log["policy/entropy"])
  elif failure == "dead_groups":
    log["reward/equal_groups"] = np.maximum(log["reward/equal_groups"], 0.97 * up)
    log["reward/accuracy"] = np.minimum(log["reward/accuracy"], 0.8)
  elif failure == "verifier":
    log["verifier/crashed" if seed % 2 else "verifier/timed_out"] = 60 * up
  elif failure == "not_a_number":
    log["policy/loss"] = np.where(log["step"] >= onset, np.nan, log["policy/loss"])
  elif failure == "outlier":
    name = "policy/grad_norm" if seed % 2 else "policy/kl"
    log[name] = np.where(log["step"] == log["step"][frozen][0], 30.0, log[name])
  elif failure == "slow":
    log["time/update"] = np.where(log["step"] == log["step"][frozen][0], 400.0, log["time/update"])
  elif failure in ("repetition", "language"):
    broken = {"repetition": (looping, lambda rng: text(rng) + "!!!!!!!!"), "language": (mixed, mixed)}[failure][seed % 2]
    for sample in samples:
      if sample["step"] >= onset and rng.random() < 0.7:
        sample["response"] = broken(rng)


def write(run_dir, log: dict, samples: list[dict], stage: str = "r1_zero", **files: dict) -> None:
  """Writes a run directory; files: config, summary as JSON objects."""
  run_dir.mkdir(parents=True, exist_ok=True)
  columns = {k: [None if np.isnan(x) else float(x) for x in v] for k, v in log.items() if k != "step"}
  lines = [{"stage": stage, "step": int(step), **{k: v[i] for k, v in columns.items()}}
           for i, step in enumerate(log["step"])]
  (run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
  (run_dir / "samples.jsonl").write_text("".join(
    json.dumps({"stage": stage, **sample}, ensure_ascii=False) + "\n" for sample in samples), encoding="utf-8")
  for name, content in files.items():
    (run_dir / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
