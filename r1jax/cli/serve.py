"""`r1jax serve`."""
import contextlib
import importlib.util
import os
import sys
from pathlib import Path

from r1jax.cli.ask import add_model
from r1jax.errors import InputError


def add(verbs) -> None:
  """Adds the verb."""
  verb = verbs.add_parser(
    "serve", help="serve a model over HTTP, as OpenAI's API does",
    description="Serves /v1/models, /v1/completions (with echo and logprobs) and /v1/chat/completions (with "
    "reasoning_content), streaming or not, and /health and /metrics. Requests join the batch that is running, whatever "
    "their temperatures. Ctrl-C takes no more requests, and ends when those in hand are answered.")
  add_model(verb)
  verb.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine alone)")
  verb.add_argument("--port", type=int, default=8000, help="0: any that is free (default: 8000)")
  verb.add_argument("--name", help="what clients call the model (default: the last part of MODEL)")
  verb.add_argument("--key_variable", metavar="NAME", help="the environment variable with the key that clients have to show")
  verb.add_argument("--slots", type=int, default=16, help="most responses sampled at a time (default: 16)")
  verb.add_argument("--queue", type=int, default=256, help="most responses that wait for a slot (default: 256)")
  verb.add_argument("--context", type=int, metavar="N",
                    help="most tokens of a prompt and its response together (default: what the model can take)")
  verb.add_argument("--cache_tokens", type=int, metavar="N",
                    help="keep keys and values in pages, N tokens in all (default: a row for each slot)")
  verb.add_argument("--max_body_mb", type=float, default=2.0, metavar="MB", help="largest request (default: 2)")
  verb.add_argument("--temperature", type=float, default=0.6, help="of requests that name none (default: 0.6, the paper's)")
  verb.add_argument("--top_p", type=float, default=0.95, help="of requests that name none (default: 0.95, the paper's)")
  verb.add_argument("--grace", type=float, default=30.0, metavar="SECONDS",
                    help="time for the requests in hand when the server is stopped (default: 30)")
  verb.set_defaults(call=_serve)


def _serve(args) -> None:
  if importlib.util.find_spec("uvicorn") is None or importlib.util.find_spec("starlette") is None:
    raise InputError("r1jax serve", "starlette and uvicorn are not installed", "pip install 'r1jax[serve]'")
  from r1jax.server.run import bind, serve

  key = _check(args)
  listener = bind(args.host, args.port)
  with listener:
    service = _service(args, key)
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
    with contextlib.suppress(KeyboardInterrupt):  # before it listens: uvicorn heeds signals itself
      service.engine.warm()
      serve(service, listener, args.grace,
            lambda: print(f"{service.name} at {address} (Ctrl-C stops)", file=sys.stderr, flush=True))


def _check(args) -> str | None:
  """The key; InputError for arguments that cannot work, before a model is loaded."""
  for name, least in (("slots", 1), ("queue", 0), ("grace", 0), ("max_body_mb", 0.001), ("context", 2)):
    value = getattr(args, name)
    if value is not None and not value >= least:
      raise InputError(f"--{name}", value, f"It must be at least {least}.")
  if not 0 <= args.port < 2**16:
    raise InputError("--port", args.port, "It must be from 0 (any that is free) to 65535.")
  if args.key_variable is None:
    if args.host not in ("127.0.0.1", "localhost", "::1"):
      print(f"warning: anybody who can reach {args.host} can use this server; --key_variable NAME asks for a key",
            file=sys.stderr)
    return None
  if not os.environ.get(args.key_variable):
    raise InputError("--key_variable", f"the environment has no {args.key_variable}", "Export it, or name another.")
  return os.environ[args.key_variable]


def _service(args, key: str | None):
  from r1jax.hub import load
  from r1jax.sampling.choice import Sampling
  from r1jax.sampling.sampler import Decoding
  from r1jax.server.app import Limits, Service
  from r1jax.server.engine import Engine
  from r1jax.serving.responses import Speaker
  from r1jax.sharding import batch_parts

  sampling = Sampling(args.temperature, args.top_p)
  model = load(args.model, dtype=args.dtype, tokenizer=args.tokenizer)
  longest = min(args.context or model.context, model.context)
  # Prompts come one by one, so each is prefilled by itself.
  decoding = Decoding(slots=args.slots, segment=8, prefill_rows=1, cache_tokens=args.cache_tokens)
  speaker = Speaker(model, sampling, decoding)
  speaker.sampler.decoding.check("--", longest, batch_parts(model.mesh))
  engine = Engine(speaker, speaker.sampler.decoding.slots + args.queue, longest)
  name = args.name or Path(args.model).name
  return Service(model, engine, name, sampling, key,
                 Limits(body=int(args.max_body_mb * 1e6), requests=engine.most + 64))
