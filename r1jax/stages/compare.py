"""The evaluation at the end of a pipeline: every policy on the same held-out questions, as one table with intervals."""
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, MinLen

from r1jax.curation.datasets import folder
from r1jax.data.prompts import Source, check_source, check_split, encode_prompts, load_questions, read_all
from r1jax.data.questions import TEST, Question
from r1jax.data.requests import KnownPreference
from r1jax.data.templates import Template
from r1jax.data.tokenizer import Tokenizer, stop_ids
from r1jax.errors import InputError
from r1jax.evaluation.accuracy import mean_score
from r1jax.evaluation.measure import accuracy, conduct, share, table
from r1jax.fields import Count, Name, Workers
from r1jax.files import write_atomically
from r1jax.rewards.language import BY_SCRIPT, language_reward
from r1jax.rewards.rules import GENERAL, RuleRewards
from r1jax.sampling.choice import Sampling
from r1jax.sampling.sampler import Decoding
from r1jax.sharding import DATA, batch_parts
from r1jax.stages.context import POLICY, REPORT, Base, Context, Experiment
from r1jax.stages.general import ModelReward, load_model_rewards, true_value
from r1jax.stages.rollout import Policy, policy_params
from r1jax.training.metrics import RunLog

READABLE = 0.95  # share of the question's language from which on a chain of thought counts as one of one language; ours


@dataclass(frozen=True)
class Benchmark:
  """Held-out questions of a source, `samples` responses each. Temperature 0.6, top-p 0.95: R1, V2, appendix D.1."""

  name: Name
  source: Source
  questions: Annotated[Count, Ge(2)]  # whose spread makes intervals
  samples: Count = 1
  sampling: Sampling = Sampling(temperature=0.6, top_p=0.95)  # R1, V2, appendix D.1


@dataclass(frozen=True)
class Compare:
  """One stage that measures policies on benchmarks and leaves RUN_DIR/datasets/NAME.json and a table in NAME.md.

  Questions with rules: pass@1. Questions of kind helpful or safety: the true preference and the share of violations, where
  `known` says them, and the mean score of reward models, where `models` names them. All: format, the share of the
  question's language in the chain of thought, and how many of them are in one language. Each with a 95% interval.
  """

  policies: Annotated[tuple[str, ...], MinLen(1)]
  benchmarks: tuple[Benchmark, ...]
  template: Template
  max_length: Count
  max_prompt_length: Count
  name: Name = "evaluation"
  split: Literal["validation", "test"] = TEST  # tables report tests, choices are made on "validation"
  start: str | Base | None = None
  known: KnownPreference | None = None
  models: tuple[ModelReward, ...] = ()
  stop: tuple[str, ...] = ()
  decoding: Decoding = Decoding()
  verifier_workers: Workers = 1
  kind = REPORT

  def inputs(self) -> tuple[str, ...]:
    """The policies and the reward models."""
    return (*self.policies, *(model.stage for model in self.models))

  def check(self, experiment: Experiment) -> None:
    """InputError for an impossible geometry or source."""
    where = f"stages.{self.name}"
    for name in self.policies:
      if experiment.stage(name).kind != POLICY:
        raise InputError(f"{where}.policies", repr(name), "Name stages that train a policy.")
      longest = experiment.model_of(experiment.stage(name)).max_position
      if not self.max_prompt_length < self.max_length <= longest:
        raise InputError(f"{where}.max_length", self.max_length, "Make it more than max_prompt_length "
                         f"({self.max_prompt_length}), and at most max_position of {name} ({longest}).")
    for benchmark in self.benchmarks:
      check_source(benchmark.source)

  def check_mesh(self, mesh) -> None:
    """InputError if the slots cannot be shared by the data-parallel devices."""
    self.decoding.check(f"stages.{self.name}.decoding", self.max_length, batch_parts(mesh, DATA))

  def check_data(self, tokenizer: Tokenizer) -> None:
    """InputError for bad questions, too few of them held out, or a stop text that is not one token."""
    stop_ids(tokenizer, self.stop)
    for benchmark in self.benchmarks:
      encode_prompts(read_all(benchmark.source), self.template, tokenizer, self.max_prompt_length)
      check_split(benchmark.source, benchmark.questions, self.split)

  def run(self, context: Context) -> dict:
    """Measures policy after policy; one that a killed run has measured is not measured again."""
    file = folder(context.run_dir) / f"{self.name}.partial.json"
    file.parent.mkdir(exist_ok=True)
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    models = load_model_rewards(self.models, context) if self.models else None
    with RuleRewards({"accuracy": 1.0, "format": 1.0}, workers=self.verifier_workers) as rewards, closing(
        RunLog(context.run_dir, self.name, len(self.policies), len(found) or None, context.watch)) as log:
      for name in self.policies:
        if name not in found:
          found[name] = self._measure(context, name, rewards, models)
          log.metrics(len(found), {f"eval/{name}/{metric}": value for metric, value in found[name].items()})
          log.sync()
          write_atomically(file, json.dumps(found))
    write_atomically(file.with_name(f"{self.name}.json"), json.dumps(found, indent=1))
    write_atomically(context.run_dir / f"{self.name}.md", table(found))
    file.unlink()
    return {"steps": len(self.policies), "before": {}, "after": found}

  def _measure(self, context: Context, name: str, rewards: RuleRewards, models) -> dict[str, float]:
    experiment = context.experiment
    params = policy_params(experiment, name, context.mesh, context.run_dir)
    metrics: dict[str, float] = {}
    for benchmark in self.benchmarks:
      policy = Policy(context.model_of(name), experiment.compute, context.tokenizer, self.template, self.max_prompt_length,
                      context.mesh, benchmark.sampling, self.decoding, self.stop)
      held_out = load_questions(benchmark.source, self.split, context.run_dir / "data")
      questions = [held_out[i] for i in range(benchmark.questions)]
      rollout = policy.rollout(params, context.key, list(range(len(questions))), questions, benchmark.samples,
                               self.max_length, rewards)
      asked, samples = zip(*((r.question, r.sample(self.template.prefill)) for r in rollout.responses), strict=True)
      scores = rollout.scores()
      if models is not None:
        scores = models.add(scores, [s.response for s in samples], asked, rollout.stopped)
      measured = self._metrics(benchmark, asked, samples, scores)
      ruled = "pass_at_1" in measured
      measured |= conduct(rollout.lengths, rollout.stopped, [s.status for s in scores] if ruled else None)
      metrics |= {f"{benchmark.name}/{name}": value for name, value in measured.items()}
    return metrics

  def _metrics(self, benchmark: Benchmark, asked: Sequence[Question], samples: Sequence,
               scores: Sequence) -> dict[str, float]:
    """Every metric of a benchmark with its interval, from one entry a response."""
    k = benchmark.samples
    found = {"questions": benchmark.questions, "samples": len(samples)}
    if all("accuracy" in s.parts for s in scores):
      found |= accuracy([s.parts["accuracy"] for s in scores], k)
    found |= share("format", [s.parts["format"] for s in scores], k)
    if all(q.language in BY_SCRIPT for q in asked):
      shares = [language_reward(s.question, s.response, s.prefill, s.language, neutral=1.0) for s in samples]
      found |= share("language", shares, k) | share("one_language", [float(part >= READABLE) for part in shares], k)
    kinds = {q.kind for q in asked}
    if self.known is not None and kinds in ({"helpful"}, {"safety"}):
      true = [true_value(self.known, q, s) for q, s in zip(asked, samples, strict=True)]
      found |= share("helpfulness", true, k) if kinds == {"helpful"} else share("violations", [1 - t for t in true], k)
    for kind in kinds & set(GENERAL):
      if all(kind in s.parts for s in scores):
        values = np.array([s.parts[kind] for s in scores]).reshape(-1, benchmark.samples)
        found |= zip(("model_score", "model_score_low", "model_score_high"), mean_score(values), strict=True)
    return found
