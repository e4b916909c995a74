"""The one loop of supervised training: batch -> update -> checkpoint."""
from collections.abc import Callable
from contextlib import closing
from typing import Any

import jax
import numpy as np

from r1jax.records import PackedRows, TrainState
from r1jax.run_dir import RunDir
from r1jax.stages.context import Context
from r1jax.training.checkpoint import Checkpoints
from r1jax.training.metrics import RunLog, Timers
from r1jax.training.step import Step

Batch = Callable[[int], tuple[list[PackedRows], int]]  # cursor -> (microbatches on the devices, the next cursor)


def train(stage, context: Context, step: Step, state: TrainState, steps: int, batch: Batch, line: Callable[[dict], dict],
          measure: Callable[[Any], dict] | None = None, about: dict | None = None) -> dict:
  """Trains `stage` from `state`, or resumes it; the progress record of its last checkpoint, which has the cursor.

  line: an update's metrics -> what is logged of them. measure: of the parameters before and after, if anything, in the
  record as `before` and `after`. about: what else the record is to say.
  """
  progress = {"cursor": 0, **(about or {})}
  with closing(Checkpoints(RunDir(context.run_dir).checkpoints(stage.name))) as checkpoints:
    if checkpoints.latest() is not None:
      state, _, progress = checkpoints.restore(state, has_reference=False)
    with closing(RunLog(context.run_dir, stage.name, steps, checkpoints.latest(), context.watch,
                        progress.get("log"))) as log:
      if checkpoints.latest() is None and measure is not None:
        progress["before"] = measure(state.params)
        log.metrics(0, progress["before"])
      done, timers, following = int(state.step), Timers(), None
      context.ending.saves = True
      while done < steps:
        with timers("batch"):
          microbatches, progress["cursor"] = following or batch(progress["cursor"])
        with timers("update"):
          state, metrics = step.update(state, microbatches)
          done += 1
          following = batch(progress["cursor"]) if done < steps else None  # made while the device works
          metrics = jax.device_get(metrics)
        finite = np.isfinite([metrics["loss"], metrics["grad_norm"]]).all()
        if done % stage.log_every == 0 or done in (1, steps) or not finite:
          log.metrics(done, {**line(metrics), **timers.take()})  # here a watchdog stops what is not finite
        if done == steps and measure is not None:
          # In the last checkpoint, whole or not at all: it belongs to these very parameters.
          progress["after"] = measure(state.params)
          log.metrics(done, progress["after"])
        if done % stage.checkpoint_every == 0 or done == steps or context.ending.asked:
          progress["log"] = log.sync()
          checkpoints.save(state, None, dict(progress))  # written in the background, while progress goes on
        context.ending.check()
  return progress
