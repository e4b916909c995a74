"""One step builder for every stage: gradients summed over microbatches by a loop on the host, one optimizer update.

No shape depends on the number of microbatches, so a minibatch of any size runs through the same two programs.
"""
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from r1jax.errors import InputError
from r1jax.records import PackedRows, TrainState
from r1jax.sharding import put_batch, reused_memory


def init_state(params, optimizer: optax.GradientTransformation) -> TrainState:
  """A state at step 0; the optimizer's moments take the sharding of the parameters."""
  opt_state = jax.jit(optimizer.init)(params)
  return TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state=opt_state)


@dataclass(frozen=True)
class Step:
  """The programs of one kind of update, each jitted. Sums: {"grads": as params, float32, "metrics": {name: scalar}}.

  zeros(params, microbatch) -> sums of no microbatch.
  accumulate(params, sums, microbatch) -> sums with that microbatch's loss, metrics and gradients in them; sums are donated.
  apply(state, sums) -> (state, metrics): one optimizer update; state is donated.
  """

  zeros: Callable[[Any, PackedRows], dict]
  accumulate: Callable[[Any, dict, PackedRows], dict]
  apply: Callable[[TrainState, dict], tuple[TrainState, dict]]

  def update(self, state: TrainState, microbatches: Iterable[PackedRows]) -> tuple[TrainState, dict]:
    """One update on all microbatches, which have one shape: host arrays, or arrays on the devices. Call under
    jax.set_mesh.

    Returns the next state and metrics as scalars on the devices: `loss`, `grad_norm` and those of the loss, summed (their
    maximum where the name ends in `_max`). Nothing here waits for devices, but for a CPU. InputError for no microbatch.
    """
    sums = None
    with reused_memory():
      for microbatch in microbatches:
        if any(isinstance(x, np.ndarray) for x in jax.tree.leaves(microbatch)):
          microbatch = put_batch(jax.sharding.get_mesh(), microbatch)
        sums = self.zeros(state.params, microbatch) if sums is None else sums
        sums = self.accumulate(state.params, sums, microbatch)
      if sums is None:
        raise InputError("update: microbatches", "none", "Give at least one.")
      return self.apply(state, sums)


def make_step(loss_fn: Callable, optimizer: optax.GradientTransformation) -> Step:
  """The Step of a loss.

  loss_fn(params, microbatch) -> (loss, metrics), where loss and metrics are weighted sums, so that those of the
  microbatches add up to those of the minibatch; metrics whose name ends in `_max` are maxima.
  """
  gradient = jax.value_and_grad(loss_fn, has_aux=True)

  def zeros(params, microbatch):
    _, metrics = jax.eval_shape(loss_fn, params, microbatch)
    return {"grads": jax.tree.map(lambda x: jnp.zeros_like(x, jnp.float32), params),
            "metrics": {name: jnp.full((), -jnp.inf if name.endswith("_max") else 0, jnp.float32)
                        for name in ("loss", *metrics)}}

  def accumulate(params, sums, microbatch):
    (loss, metrics), grads = gradient(params, microbatch)
    found = {"loss": loss, **metrics}
    return {"grads": jax.tree.map(jnp.add, sums["grads"], grads),
            "metrics": {name: jnp.maximum(total, found[name]) if name.endswith("_max") else total + found[name]
                        for name, total in sums["metrics"].items()}}

  def apply(state, sums):
    grads = sums["grads"]
    # optax mixes floats with its int32 counts
    with jax.named_scope("optimizer"), jax.numpy_dtype_promotion("standard"):
      updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
      params = optax.apply_updates(state.params, updates)
      metrics = {**sums["metrics"], "grad_norm": optax.tree.norm(grads)}
    return TrainState(step=state.step + 1, params=params, opt_state=opt_state), metrics

  return Step(zeros=jax.jit(zeros), accumulate=jax.jit(accumulate, donate_argnums=1),
              apply=jax.jit(apply, donate_argnums=0))
