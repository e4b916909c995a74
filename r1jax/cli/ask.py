"""`r1jax sample` and `r1jax chat`."""
import argparse
import importlib
import json
import sys

from r1jax.errors import InputError


def add(verbs) -> None:
  """Adds both verbs."""
  sample = verbs.add_parser(
    "sample", help="ask a model one question or a file of them",
    description="Asks a model and prints its responses as they are sampled; several are sampled together and printed in the "
    "order of the questions. The same seed gives the same responses.")
  add_model(sample)
  sample.add_argument("question", nargs="*", metavar="QUESTION", help="what to ask; several are asked one by one")
  sample.add_argument("--questions", metavar="FILE",
                      help="a .jsonl or .parquet file of rows, or a text file with a question a line")
  sample.add_argument("--field", default="question", help="the field of the rows that is asked (default: question)")
  sample.add_argument("--samples", type=int, default=1, metavar="K", help="responses to each question (default: 1)")
  sample.add_argument("--slots", type=int, default=32, help="responses sampled at a time (default: 32)")
  sample.add_argument("--json", action="store_true",
                      help="print a JSON row for each response as it ends: the question's own fields, response, sample, "
                      "stopped, length, with --logprobs also tokens and logprobs; `r1jax score` reads them")
  _add_sampling(sample)
  sample.set_defaults(call=_sample)
  chat = verbs.add_parser(
    "chat", help="talk to a model on the terminal",
    description="Reads questions from the terminal, or a line each from a pipe, and prints the answers as they are sampled. "
    "/new forgets what was said, /quit or the end of the input ends, Ctrl-C stops an answer.")
  add_model(chat)
  chat.add_argument("--history", action=argparse.BooleanOptionalAction,
                    help="whether a model is given what was said before (default: a Hugging Face folder's is; a run's is "
                    "not, as it was trained on single questions)")
  chat.add_argument("--system", metavar="TEXT", help="a system message that opens the conversation")
  _add_sampling(chat)
  chat.set_defaults(call=_chat)


def add_model(verb) -> None:
  """The arguments that say which model."""
  verb.add_argument("model", metavar="MODEL", help="a Hugging Face folder, RUN (its last finished policy) or RUN:STAGE")
  verb.add_argument("--tokenizer", metavar="DIR", help="use this tokenizer instead of the one that the run names")
  verb.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights (default: float32)")


def _add_sampling(verb) -> None:
  verb.add_argument("--temperature", type=float, default=0.6, help="0 takes the likeliest token (default: 0.6, the paper's)")
  verb.add_argument("--top_p", type=float, default=0.95, help="(default: 0.95, the paper's)")
  verb.add_argument("--top_k", type=int, help="only the K likeliest tokens (default: all)")
  verb.add_argument("--max_new", type=int, metavar="N", help="most tokens of a response (default: all that fit)")
  verb.add_argument("--seed", type=int, default=0, help="(default: 0)")
  verb.add_argument("--thinking", choices=("dim", "fold", "raw"), default="dim",
                    help="how <think> ... </think> is shown: dimmed, as its length, or as it is, with the tags")
  verb.add_argument("--logprobs", action="store_true",
                    help="also each token's log-prob, of the distribution that it was drawn from (at temperature 0: of the "
                    "model's own)")


def _speaker(args, decoding):
  """The model, loaded, with what was asked of its sampling."""
  from r1jax.hub import load
  from r1jax.sampling.choice import Sampling
  from r1jax.serving.responses import Speaker

  sampling = Sampling(args.temperature, args.top_p, args.top_k)
  if not 0 <= args.seed < 2**32:
    raise InputError("--seed", args.seed, "Give a number from 0 to 4294967295.")
  if args.max_new is not None and args.max_new < 1:
    raise InputError("--max_new", args.max_new, "It must be at least 1.")
  return Speaker(load(args.model, dtype=args.dtype, tokenizer=args.tokenizer), sampling, decoding, args.seed)


def _sample(args) -> None:
  from r1jax.sampling.sampler import Decoding
  from r1jax.serving.questions import read_questions
  from r1jax.serving.responses import STREAMED
  from r1jax.serving.text import starts_inside

  if bool(args.question) == bool(args.questions):
    raise InputError("QUESTION, --questions", "both are given" if args.questions else "neither is given", "Give one.")
  for name in ("samples", "slots"):
    if getattr(args, name) < 1:
      raise InputError(f"--{name}", getattr(args, name), "It must be at least 1.")
  rows = read_questions(args.questions, args.field) if args.questions else [{"question": q} for q in args.question]
  questions = [row[args.field if args.questions else "question"] for row in rows]
  one = len(rows) * args.samples == 1 and not args.json
  speaker = _speaker(args, STREAMED if one else Decoding(slots=args.slots))
  prompts = [speaker.model.prompt(question) for question in questions]
  requests = speaker.requests(prompts, args.samples, args.max_new)
  if args.json:
    _print_json(speaker, requests, rows, args.logprobs)
    return
  from rich.console import Console

  from r1jax.serving.terminal import print_responses

  tokenizer = speaker.model.tokenizer
  print_responses(
    speaker.stream(requests), [(r.question_id, r.sample) for r in requests], questions, Console(soft_wrap=True),
    args.thinking, starts_inside(tokenizer.decode(prompts[0])), tokenizer if args.logprobs else None)


def _print_json(speaker, requests, rows: list[dict], logprobs: bool) -> None:
  for growth in speaker.stream(requests):
    response = growth.response
    if response is None:
      continue
    numbers = {"tokens": response.tokens.tolist(), "logprobs": [round(float(x), 6) for x in response.logprobs]}
    print(json.dumps({**rows[response.number], "response": speaker.model.template.prefill + response.text,
                      "sample": response.sample, "stopped": response.stopped, "length": len(response.tokens),
                      **(numbers if logprobs else {})}, ensure_ascii=False), flush=True)


def _chat(args) -> None:
  from rich.console import Console

  from r1jax.serving.chat import HELP, Chat, converse, remembers
  from r1jax.serving.responses import STREAMED

  speaker = _speaker(args, STREAMED)
  history = remembers(speaker.model) if args.history is None else args.history
  if sys.stdin.isatty():
    importlib.import_module("readline")  # its import makes lines editable
    print(f"{speaker.model.name}. {HELP}" + ("" if history else " Each question stands alone."), file=sys.stderr)
  read = input if sys.stdin.isatty() else _line
  converse(Chat(speaker, Console(soft_wrap=True), args.thinking, history, args.system, args.max_new, args.logprobs), read)


def _line(prompt: str) -> str:
  """A line of a pipe, without a prompt among the answers."""
  line = sys.stdin.readline()
  if not line:
    raise EOFError
  return line
