"""`r1jax run` with two more numbers in each line of metrics.jsonl: the programs compiled so far, and the kinds of decoding
(sizes of the cache, and how it is sampled from). Run by test_resume.py."""
import sys

import jax
from jax import monitoring

from r1jax.launch import main
from r1jax.sampling import generate
from r1jax.training.metrics import RunLog

compiled = 0
decoded = set()


def listen(event, duration, **_):
  global compiled
  compiled += event == "/jax/core/compile/backend_compile_duration"  # also sent when the program was in a cache


write = RunLog.metrics
RunLog.metrics = lambda log, step, values: write(
  log, step, {**values, "test/compiled": compiled, "test/decoded": len(decoded)})
segment = generate.decode_segment


def noted(weights, cache, *arguments, **settings):
  decoded.add((*(x.shape for x in jax.tree.leaves(cache)), settings["sampling"]))
  return segment(weights, cache, *arguments, **settings)


generate.decode_segment = noted
monitoring.register_event_duration_secs_listener(listen)
sys.exit(main(["run", *sys.argv[1:]]))
