"""AdamW with warm-up, decay and clipping, by optax."""
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import optax
from annotated_types import Ge, Lt

from r1jax.errors import InputError
from r1jax.fields import Count, Natural, NonNegative, Positive, check_fields
from r1jax.models.config import DType

Beta = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True)
class AdamW:
  """Optimizer of a stage. Rates per update.

  moments: the dtype that both moments are kept in between updates, "float32" or "bfloat16" (half the memory; what is
  computed with them stays float32). offload: keep them in the host's memory between updates, where the platform can.

  The papers state the peak rates only; betas, eps, weight decay, warm-up and clipping in RL are ours: 0.9 / 0.95 and
  clipping at 1.0 are those of DeepSeek-V3's pre-training.
  """

  lr: Positive
  warmup_steps: Natural = 0
  decay_steps: Count | None = None  # cosine from lr to final_lr over this many steps, warm-up included; None: constant
  cosine: bool = False  # as decay_steps, over all steps of the stage, for a stage that counts them itself (epochs)
  final_lr: NonNegative = 0.0
  b1: Beta = 0.9  # ours: that of DeepSeek-V3's pre-training, as the papers state none
  b2: Beta = 0.95  # the same
  eps: Positive = 1e-8
  weight_decay: NonNegative = 0.0
  max_grad_norm: Positive = 1.0  # ours: that of DeepSeek-V3's pre-training
  moments: DType = "float32"
  offload: bool = False

  def __post_init__(self):
    check_fields(self, "optimizer")
    if self.cosine and self.decay_steps is not None:
      raise InputError("optimizer.cosine", f"True with decay_steps {self.decay_steps}", "Give one of the two.")
    if self.decay_steps is not None and self.decay_steps <= self.warmup_steps:
      raise InputError("optimizer.decay_steps", self.decay_steps,
                       f"It counts the warm-up too: make it more than warmup_steps ({self.warmup_steps}).")

  def over(self, steps: int) -> "AdamW":
    """The optimizer of a stage of so many steps: cosine becomes decay_steps."""
    if not self.cosine:
      return self
    return dataclasses.replace(self, cosine=False, decay_steps=steps, warmup_steps=min(self.warmup_steps, steps - 1))

  def schedule(self) -> optax.Schedule:
    """Learning rate by number of updates done."""
    if self.decay_steps is not None:
      return optax.warmup_cosine_decay_schedule(
        self.lr / max(1, self.warmup_steps), self.lr, self.warmup_steps, self.decay_steps, self.final_lr)
    if self.warmup_steps:
      return optax.linear_schedule(self.lr / self.warmup_steps, self.lr, self.warmup_steps)
    return optax.constant_schedule(self.lr)

  def build(self) -> optax.GradientTransformation:
    """The optax transformation: clip by global norm, then AdamW. InputError where `offload` is not possible."""
    transformation = optax.chain(
      optax.clip_by_global_norm(self.max_grad_norm),
      optax.adamw(self.schedule(), b1=self.b1, b2=self.b2, eps=self.eps, weight_decay=self.weight_decay))
    if self.moments != "float32":
      transformation = _kept(transformation, lambda x: x.astype(self.moments), lambda x: x.astype(jnp.float32))
    if self.offload:
      _require_host_memory()
      transformation = _kept(transformation, lambda x: jax.device_put(x, jax.memory.Space.Host),
                             lambda x: jax.device_put(x, jax.memory.Space.Device))
    return transformation


def _kept(inner: optax.GradientTransformation, put_away: Callable, take_out: Callable) -> optax.GradientTransformation:
  """`inner`, its moments in another form between updates; counts stay as they are."""
  def each(f, state):
    return jax.tree.map(lambda x: f(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, state)

  def update(grads, state, params=None):
    updates, state = inner.update(grads, each(take_out, state), params)
    return updates, each(put_away, state)

  return optax.GradientTransformation(lambda params: each(put_away, inner.init(params)), update)


def _require_host_memory() -> None:
  device = jax.devices()[0]
  kinds = sorted({memory.kind for memory in device.addressable_memories()})
  if "pinned_host" not in kinds:
    raise InputError("optimizer.offload", f"True on {device.platform}, whose memories are {', '.join(kinds)}",
                     "Set it to False: this platform cannot reach the host's memory.")
