"""Models on benchmarks: sample what is missing, judge, measure. What `r1jax evaluate` does.

    questions -> requests that have no response yet -> Sampler -> responses on disk -> outcomes -> metrics -> tables

A response's random numbers depend on the seed, the benchmark, the question's row and the number of the sample alone, so a
model scores the same with any slots, mesh or other benchmarks, and when it was killed in between; only rounding differs.
"""
import sys
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax

from r1jax.curation.judges import PairJudge
from r1jax.data.prompts import prompt_ids
from r1jax.data.questions import Question
from r1jax.data.templates import Template
from r1jax.errors import InputError
from r1jax.evaluation import preference
from r1jax.evaluation.accuracy import ratio
from r1jax.evaluation.benchmarks import JUDGED, Benchmark, judgeable, load, solutions
from r1jax.evaluation.contamination import contaminated, texts_of, training_sets
from r1jax.evaluation.measure import accuracy, conduct, estimated, several, share, table
from r1jax.evaluation.outcomes import Outcome, consensus, outcome
from r1jax.evaluation.responses import Kept, Responses
from r1jax.evaluation.results import lm_eval_form, sanitized, write_json
from r1jax.files import sha256_of, write_atomically
from r1jax.hub import Model
from r1jax.records import Request
from r1jax.sampling.choice import Sampling
from r1jax.sampling.sampler import Decoding, Sampler
from r1jax.verifiers.pool import VerifierPool

PROGRESS_SECONDS = 10.0  # between lines that say how far it is
LONGEST = 32_768  # most tokens of a response (R1, V2, appendix D.1)


@dataclass(frozen=True)
class Asked:
  """A benchmark with its file, and how many samples of how many questions. in_file: questions before any were left out;
  left_out: those whose answers cannot judge."""

  benchmark: Benchmark
  file: Path
  questions: list[Question] = field(repr=False)
  samples: int
  in_file: int
  left_out: int = 0


@dataclass(frozen=True)
class Settings:
  """How models are asked and judged. bare: questions without the benchmark's instruction around them. judge and baseline: of
  benchmarks that another model judges. training: (name, source) of further training sets to search for their questions."""

  sampling: Sampling = Sampling(temperature=0.6, top_p=0.95)
  max_new: int = LONGEST
  seed: int = 0
  bare: bool = False
  decoding: Decoding = Decoding()
  workers: int = 1
  judge: PairJudge | None = None
  baseline: str | None = None
  training: tuple[tuple[str, Any], ...] = ()


def ask(benchmark: Benchmark, file: Path, samples: int | None, most: int | None, drop: bool) -> Asked:
  """A benchmark as it is to be asked; InputError for a bad file, before a model is loaded."""
  found = load(benchmark, file)
  kept = judgeable(found if drop else found[:most], drop)[:most]
  if not kept:
    raise InputError(str(file), f"none of its {len(found)} questions can be judged here",
                     "Without --drop_unusable it says why.")
  return Asked(benchmark, file, kept, samples or benchmark.samples, len(found), 0 if not drop else _before(found, kept))


def _before(found: Sequence[Question], kept: Sequence[Question]) -> int:
  """How many questions in front of the last one kept were left out."""
  return found.index(kept[-1]) + 1 - len(kept)


def check(asked: Sequence[Asked], settings: Settings) -> None:
  """InputError for what cannot be judged, before a model is loaded."""
  for each in asked:
    if each.benchmark.kind == JUDGED:
      if settings.judge is None:
        raise InputError("--judge", f"not given, and {each.benchmark.name} is judged by another model",
                         "Give the address of an OpenAI-style server (up to and with /v1) and --judge_model.")
      preference.baselines(each.questions, settings.baseline)


def evaluate(model: Model, asked: Sequence[Asked], settings: Settings, out: Path) -> dict[str, dict]:
  """Benchmark -> result of one model, also in OUT/MODEL: BENCHMARK.responses.jsonl, results.json, lm_eval.json.

  Responses that are there are not sampled again. Raises InputError for a prompt that the model cannot take, before anything
  is sampled, and for responses that were sampled with other settings.
  """
  folder = out / sanitized(model.name)
  requests = {each.benchmark.name: _requests(model, each, settings) for each in asked}
  found = {}
  with VerifierPool(settings.workers) as pool, jax.set_mesh(model.mesh):
    for each in asked:
      name = each.benchmark.name
      responses = Responses(folder / f"{name}.responses.jsonl", _about(model, each, settings))
      outcomes = _sample_and_judge(model, each, requests[name], settings, responses, pool)
      found[name] = _result(model, each, settings, responses, outcomes, pool, folder)
      write_json(folder / "results.json", found)
  write_json(folder / "lm_eval.json", lm_eval_form(model.name, found, time.time()))
  return found


def one_table(found: dict[str, dict[str, dict]]) -> str:
  """The results of several models, model -> benchmark -> result, as one Markdown table."""
  return table({model: {f"{name}/{metric}": value for name, result in results.items()
                        for metric, value in result["metrics"].items()} for model, results in found.items()})


def write_table(found: dict[str, dict[str, dict]], out: Path) -> Path:
  """Writes it; the file."""
  write_atomically(out / "table.md", one_table(found))
  return out / "table.md"


# ---- sampling


def _template(model: Model, benchmark: Benchmark, settings: Settings) -> Template:
  return model.template if settings.bare else benchmark.template(model.template)


def _requests(model: Model, asked: Asked, settings: Settings) -> list[Request]:
  """Every request of a benchmark; a request's question_id is the row of its question."""
  template, found = _template(model, asked.benchmark, settings), []
  for question in asked.questions:
    try:
      prompt = tuple(prompt_ids(question.text, template, model.tokenizer))
    except InputError as error:
      raise InputError(f"question {question.id}, {error.where}", error.found, error.remedy) from None
    room = model.context - len(prompt)
    if room < 1:
      raise InputError(f"question {question.id}",
                       f"its prompt has {len(prompt)} tokens, and the context of {model.name} ends at {model.context}",
                       "Evaluate a model with a longer context, or remove the question.")
    found += [Request(_row(question), sample, prompt, min(settings.max_new, room)) for sample in range(asked.samples)]
  return found


def _row(question: Question) -> int:
  return int(question.id.rpartition(":")[2])


def _about(model: Model, asked: Asked, settings: Settings) -> dict:
  """What decides the responses, beside the question and the number of the sample."""
  return {"benchmark": asked.benchmark.name, "sha256": sha256_of(asked.file), "model": _identity(model),
          "template": asdict(_template(model, asked.benchmark, settings)), **_said(settings), "dtype": model.compute.dtype}


def _said(settings: Settings) -> dict:
  return {**asdict(settings.sampling), "max_new": settings.max_new, "seed": settings.seed}


def _identity(model: Model) -> dict:
  """What tells a model from another one under the same name."""
  if model.trained is not None:
    return {"name": model.name, "stage": model.trained.name, "step": model.step}
  files = sorted(Path(model.name).expanduser().glob("*.safetensors"))
  return {"name": model.name, "weights": {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in files}}


def _sample_and_judge(model: Model, asked: Asked, requests: list[Request], settings: Settings, responses: Responses,
                      pool: VerifierPool) -> list[Outcome]:
  """The outcome of each request, in their order. Those that are on disk are judged while the others are sampled; () of
  benchmarks that another model judges."""
  questions = {_row(question): question for question in asked.questions}
  template = _template(model, asked.benchmark, settings)
  futures: dict[tuple[int, int], Future] = {}
  with ThreadPoolExecutor(pool.workers) as threads:
    def judged(kept: Kept) -> None:
      question = questions[int(kept.id.rpartition(":")[2])]
      if question.kind != JUDGED:
        futures[_row(question), kept.sample] = threads.submit(
          outcome, question, template.prefill + kept.text, not kept.stopped, pool)

    there = [kept for r in requests if (kept := responses.found.get((questions[r.question_id].id, r.sample)))]
    for kept in there:
      judged(kept)
    missing = [r for r in requests if (questions[r.question_id].id, r.sample) not in responses.found]
    done, told = len(there), time.monotonic()
    for fresh in _sample(model, asked.benchmark, missing, questions, settings):
      responses.add(fresh)
      for kept in fresh:
        judged(kept)
      done, now = done + len(fresh), time.monotonic()
      if now - told > PROGRESS_SECONDS or done == len(requests):
        told = now
        print(f"{model.name}: {asked.benchmark.name}: {done} of {len(requests)} responses", file=sys.stderr, flush=True)
    return [futures[r.question_id, r.sample].result() for r in requests] if futures else []


def _sample(model: Model, benchmark: Benchmark, requests: list[Request], questions: dict[int, Question], settings: Settings):
  """Yields responses as they end, some at a time."""
  if not requests:
    return
  key = jax.random.fold_in(jax.random.key(settings.seed), zlib.crc32(benchmark.name.encode()))
  sampler = Sampler(model.config, model.compute, model.mesh, settings.sampling, model.tokenizer.stop_ids, settings.decoding)
  for episodes in sampler.run(sampler.weights(model.params), key, requests):
    yield [Kept(questions[e.request.question_id].id, e.request.sample,
                model.tokenizer.response_text(e.tokens.tolist(), e.stopped), len(e.tokens), e.stopped) for e in episodes]


# ---- measuring


def _result(model: Model, asked: Asked, settings: Settings, responses: Responses, outcomes: list[Outcome],
            pool: VerifierPool, folder: Path) -> dict:
  """What is kept of a benchmark in results.json."""
  kept = [responses.found[q.id, sample] for q in asked.questions for sample in range(asked.samples)]
  statuses = [each.status for each in outcomes] or None
  metrics = (_judged_metrics(model, asked, settings, kept, folder) if asked.benchmark.kind == JUDGED else
             _metrics(asked, outcomes, pool))
  metrics |= conduct([k.tokens for k in kept], [k.stopped for k in kept], statuses)
  seen = _seen(model, asked, settings)
  if seen is not None:
    metrics["contaminated"] = len(seen["questions"]) / len(asked.questions)
    clean = [i for i, q in enumerate(asked.questions) if q.id not in seen["questions"]]
    if seen["questions"] and clean and outcomes:
      right = [outcomes[i * asked.samples + s].right for i in clean for s in range(asked.samples)]
      metrics |= {key.replace("pass_at_1", "pass_at_1_clean"): value
                  for key, value in accuracy(right, asked.samples).items()}
  return {"metrics": metrics, "questions": len(asked.questions), "questions_in_file": asked.in_file,
          "left_out": asked.left_out, "samples": asked.samples, "settings": _said(settings), "file": str(asked.file),
          "contamination": seen, "outcomes": [[k.id, k.sample, int(o.right), o.status]
                                              for k, o in zip(kept, outcomes, strict=True)] if outcomes else None}


def _metrics(asked: Asked, outcomes: list[Outcome], pool: VerifierPool) -> dict[str, float]:
  """pass@1, pass@k and cons@k with intervals; of instructions, the strict and loose shares of prompts and instructions."""
  right, samples = [each.right for each in outcomes], asked.samples
  found = accuracy(right, samples) | several(right, samples) | consensus(asked.questions, outcomes, samples, pool)
  if asked.benchmark.kind == "instructions":
    found |= share("prompt_level_loose_acc", [all(loose for _, loose in o.parts) for o in outcomes], samples)
    parts = [[part for o in outcomes[i:i + samples] for part in o.parts] for i in range(0, len(outcomes), samples)]
    for i, name in enumerate(("inst_level_strict_acc", "inst_level_loose_acc")):
      found |= estimated(name, ratio([sum(part[i] for part in of) for of in parts], list(map(len, parts))))
  return found


def _judged_metrics(model: Model, asked: Asked, settings: Settings, kept: list[Kept], folder: Path) -> dict[str, float]:
  """Of benchmarks that another model judges."""
  prefill = _template(model, asked.benchmark, settings).prefill
  questions = [q for q in asked.questions for _ in range(asked.samples)]
  texts = [preference.summary_of(prefill + k.text) if k.stopped else "" for k in kept]
  with settings.judge.connect(folder) as judge:
    verdicts = preference.games(questions, texts, preference.baselines(asked.questions, settings.baseline), judge)
  write_json(folder / f"{asked.benchmark.name}.verdicts.json",
             [[k.id, k.sample, *v] for k, v in zip(kept, verdicts, strict=True)])
  by_far = preference.BY_FAR if asked.benchmark.name == "arena_hard" else 1
  return preference.win_rate(verdicts, asked.samples, by_far)


def _seen(model: Model, asked: Asked, settings: Settings) -> dict | None:
  """Which questions were trained on, by question, and what could not be searched; None where no training set is known."""
  sources, unknown = [], []
  if model.trained is not None:
    sources, unknown = training_sets(model.trained.experiment, model.trained.name, model.trained.run_dir)
  sources = [*sources, *settings.training]
  if not sources and not unknown:
    return None
  found = contaminated(asked.questions, solutions(asked.benchmark, asked.file), texts_of(sources))
  return {"questions": found, "searched": [name for name, _ in sources], "not_searched": unknown}
