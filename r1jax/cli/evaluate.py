"""`r1jax evaluate`."""
import argparse
import os
from pathlib import Path

from r1jax.errors import InputError


def add(verbs) -> None:
  """Adds the verb."""
  verb = verbs.add_parser(
    "evaluate", help="measure models on benchmarks in local files",
    description="Samples each model on each benchmark, judges by rule (arena_hard and alpaca_eval: by another model, which "
    "sees the summaries alone), and prints one table: pass@1, pass@k, cons@k, each with a 95%% interval over questions, "
    "and the shares of responses that were cut, had no readable answer or failed their verifier. Keeps everything in OUT: "
    "started again, it goes on where it was killed, and asks for more samples or questions only for those. "
    "Benchmarks: gsm8k, math500, aime, cmath, mmlu_stem, gpqa, aqua, humaneval, mbpp, livecodebench, ifeval, arena_hard, "
    "alpaca_eval; and own, a file of yours with question (or problem) and answer.")
  verb.add_argument("models", nargs="+", metavar="MODEL",
                    help="a Hugging Face folder, RUN (its last finished policy) or RUN:STAGE")
  verb.add_argument("--benchmark", action="append", required=True, metavar="NAME[=FILE]", help="may be repeated")
  verb.add_argument("--data", metavar="PATH",
                    help="a folder with the benchmarks (gsm8k/test.jsonl, ...), or the file of one")
  verb.add_argument("--samples", type=int, metavar="K",
                    help="responses to each question (default: the paper's: 64 of aime and gpqa, 16 of math500, 8 of "
                    "livecodebench; 4 of others)")
  verb.add_argument("--questions", type=int, metavar="N", help="only the first N of each benchmark (default: all)")
  verb.add_argument("--drop_unusable", action="store_true",
                    help="leave out questions that cannot be judged here instead of refusing them")
  verb.add_argument("--bare", action="store_true",
                    help="ask the question alone, without the benchmark's instruction (\"... within \\boxed{}\"): for "
                    "policies whose own template asks for a format")
  verb.add_argument("--out", default="evaluations", metavar="DIR", help="(default: evaluations)")
  verb.add_argument("--training", action="append", default=[], metavar="FILE.jsonl",
                    help="search this training set too for the benchmark's questions; a run's own are always searched")
  _add_sampling(verb)
  _add_judge(verb)
  verb.set_defaults(call=_evaluate)


def _add_sampling(verb: argparse.ArgumentParser) -> None:
  verb.add_argument("--temperature", type=float, default=0.6, help="(default: 0.6, the paper's)")
  verb.add_argument("--top_p", type=float, default=0.95, help="(default: 0.95, the paper's)")
  verb.add_argument("--max_new", type=int, default=32_768, metavar="N",
                    help="most tokens of a response (default: 32768, the paper's, or what fits into the context)")
  verb.add_argument("--seed", type=int, default=0, help="(default: 0)")
  verb.add_argument("--slots", type=int, default=32, help="responses sampled at a time (default: 32)")
  verb.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights (default: float32)")
  verb.add_argument("--tokenizer", metavar="DIR", help="use this tokenizer instead of the one that the run names")
  verb.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that judge (default: one a core)")


def _add_judge(verb: argparse.ArgumentParser) -> None:
  verb.add_argument("--judge", metavar="URL", help="an OpenAI-style server, up to and with /v1")
  verb.add_argument("--judge_model", metavar="NAME", help="the model that it is to use")
  verb.add_argument("--judge_key_variable", metavar="VARIABLE", help="the environment variable that holds its key")
  verb.add_argument("--baseline", metavar="FILE.jsonl", help="what arena_hard's responses are compared with: "
                    '{"uid", "answer"} rows, or the responses.jsonl of another evaluation')


def _evaluate(args) -> None:
  for name in ("samples", "questions", "max_new", "slots", "workers"):
    if getattr(args, name) is not None and getattr(args, name) < 1:
      raise InputError(f"--{name}", getattr(args, name), "It must be at least 1.")
  if not 0 <= args.seed < 2**32:
    raise InputError("--seed", args.seed, "Give a number from 0 to 4294967295.")
  if len(set(args.models)) < len(args.models):
    raise InputError("MODEL", "one is named twice", "Name each once.")
  from r1jax.evaluation.benchmarks import named

  benchmarks = [named(text, args.data) for text in args.benchmark]
  names = [benchmark.name for benchmark, _ in benchmarks]
  if len(set(names)) < len(names):
    raise InputError("--benchmark", f"{max(names, key=names.count)} is named twice", "Name each once.")
  from r1jax import evaluate
  from r1jax.hub import load

  settings = _settings(args)
  asked = [evaluate.ask(*each, args.samples, args.questions, args.drop_unusable) for each in benchmarks]
  evaluate.check(asked, settings)
  out, found = Path(args.out), {}
  for name in args.models:
    model = load(name, dtype=args.dtype, tokenizer=args.tokenizer)
    found[name] = evaluate.evaluate(model, asked, settings, out)
    del model  # before the next one's parameters are read
  print(evaluate.one_table(found))
  print(f"table:   {evaluate.write_table(found, out)}")


def _settings(args):
  from r1jax.curation.endpoint import Endpoint
  from r1jax.curation.judges import EndpointPairJudge
  from r1jax.evaluate import Settings
  from r1jax.evaluation.contamination import file_source
  from r1jax.sampling.choice import Sampling
  from r1jax.sampling.sampler import Decoding

  if (args.judge is None) != (args.judge_model is None):
    raise InputError("--judge, --judge_model", "one of them is missing", "Give both, or neither.")
  judge = args.judge and EndpointPairJudge(Endpoint(args.judge, args.judge_model, args.judge_key_variable))
  return Settings(
    sampling=Sampling(args.temperature, args.top_p), max_new=args.max_new, seed=args.seed, bare=args.bare,
    decoding=Decoding(slots=args.slots), workers=args.workers, judge=judge, baseline=args.baseline,
    training=tuple(map(file_source, args.training)))
