"""Two more numbers in each line of a run's metrics.jsonl: the programs compiled so far, and the kinds of decoding.

A kind of decoding is the sizes of the cache, and how it is sampled from.
"""
import jax
from jax import monitoring

from r1jax.sampling import generate
from r1jax.training.metrics import RunLog


def count() -> None:
  """Lets this process log them."""
  compiled, decoded = [], set()
  write, segment = RunLog.metrics, generate.decode_segment

  def listen(event, duration, **_):
    if event == "/jax/core/compile/backend_compile_duration":  # also sent when the program was in a cache
      compiled.append(duration)

  def counted(log, step, values):
    write(log, step, {**values, "test/compiled": len(compiled), "test/decoded": len(decoded)})

  def noted(weights, cache, *arguments, **settings):
    decoded.add((*(x.shape for x in jax.tree.leaves(cache)), settings["sampling"]))
    return segment(weights, cache, *arguments, **settings)

  RunLog.metrics, generate.decode_segment = counted, noted
  monitoring.register_event_duration_secs_listener(listen)
