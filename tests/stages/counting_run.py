"""`r1jax run` with one more number in each line of metrics.jsonl: the programs compiled so far. Run by test_resume.py."""
import sys

from jax import monitoring

from r1jax.launch import main
from r1jax.training.metrics import RunLog

compiled = 0


def listen(event, duration, **_):
  global compiled
  compiled += event == "/jax/core/compile/backend_compile_duration"  # also sent when the program was in a cache


write = RunLog.metrics
RunLog.metrics = lambda log, step, values: write(log, step, {**values, "test/compiled": compiled})
monitoring.register_event_duration_secs_listener(listen)
sys.exit(main(["run", *sys.argv[1:]]))
