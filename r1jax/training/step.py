"""One step builder for every stage: gradients summed over microbatches, one optimizer update."""
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from r1jax.records import TrainState


def init_state(params, optimizer: optax.GradientTransformation) -> TrainState:
  """A state at step 0; the optimizer's moments take the sharding of the parameters."""
  opt_state = jax.jit(optimizer.init)(params)
  return TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state=opt_state)


def make_update(loss_fn: Callable, optimizer: optax.GradientTransformation) -> Callable:
  """update(state, batch) -> (state, metrics), jitted, the old state donated.

  loss_fn(params, microbatch) -> (loss, metrics), where loss and metrics are weighted sums, so that those of the
  microbatches add up to those of the batch; metrics whose name ends in `_max` are maxima. batch: a pytree of
  [M, N / M, ...] arrays, M microbatches. Gradients are accumulated in float32.
  """
  gradient = jax.value_and_grad(loss_fn, has_aux=True)

  def combine(name, a, b):
    return jnp.maximum(a, b) if name.endswith("_max") else a + b

  def accumulate(params, batch):
    first = jax.tree.map(lambda x: x[0], batch)
    (loss, metrics), grads = gradient(params, first)

    def body(carry, microbatch):
      loss, metrics, grads = carry
      (more_loss, more_metrics), more_grads = gradient(params, microbatch)
      metrics = {name: combine(name, metrics[name], more_metrics[name]) for name in metrics}
      return (loss + more_loss, metrics, jax.tree.map(jnp.add, grads, more_grads)), None

    rest = jax.tree.map(lambda x: x[1:], batch)
    if jax.tree.leaves(rest)[0].shape[0]:
      (loss, metrics, grads), _ = jax.lax.scan(body, (loss, metrics, grads), rest)
    return loss, metrics, grads

  def update(state: TrainState, batch) -> tuple[TrainState, dict]:
    loss, metrics, grads = accumulate(state.params, batch)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes floats with its int32 counts
      updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {**metrics, "loss": loss, "grad_norm": optax.tree.norm(grads)}
    return TrainState(step=state.step + 1, params=params, opt_state=opt_state), metrics

  return jax.jit(update, donate_argnums=0)


def microbatched(batch, microbatches: int):
  """Host arrays [N, ...] -> [microbatches, N / microbatches, ...], in order."""
  return jax.tree.map(lambda x: x.reshape(microbatches, x.shape[0] // microbatches, *x.shape[1:]), batch)
