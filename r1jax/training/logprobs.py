"""Log-probs of given tokens without ever holding the logits of all positions, and with a gradient of their own."""
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import reshard

from r1jax.models.config import Compute, ModelConfig
from r1jax.models.linear import by_device, by_row, over_chunks, transposed_product
from r1jax.models.transformer import forward, logits, stored_head
from r1jax.sharding import DATA

LOCAL = jax.P(DATA, None, None)  # what each data-parallel device has of its own


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _logprobs(hidden, head, targets, how):
  return _forward(hidden, head, targets, how)[0]


def _tempered_logits(hidden, head, how):
  """Logits [P, c, V] float32 at the temperature, of a chunk of hidden states [P, c, D]."""
  temperature, num_tokens, *_ = how
  return logits(hidden, head, num_tokens) / temperature


def _hits(tempered, targets):
  """[P, c, V] bool: where the target is. For masked sums instead of gathers: they run on a vocabulary that is split over
  devices without collecting it."""
  ids = jax.lax.broadcasted_iota(jnp.int32, tempered.shape, 2, out_sharding=jax.typeof(tempered).sharding)
  return ids == targets[:, :, None]


def _mean_logit(tempered, norm):
  """[P, c]: the mean logit of each distribution. As a product, which a CPU makes 40 times as fast as a sum of exponentials
  times logits: there XLA takes the exponentials one by one."""
  return jnp.einsum("pcv,pcv->pc", jnp.exp(tempered - norm[:, :, None]), tempered, precision=jax.lax.Precision.HIGHEST,
                    out_sharding=jax.P(DATA, None))


def _used(head, how):
  """The head [D, V] as it is used: in the compute dtype, whole over fsdp, split over tensor."""
  return reshard(head.astype(how[3]), jax.P(None, "tensor"))


def _forward(hidden, head, targets, how):
  _, _, chunk, _, with_entropy = how
  used = _used(head, how)

  def block(_, chunked):
    hidden, targets = chunked
    tempered = _tempered_logits(hidden, used, how)
    norm = jax.nn.logsumexp(tempered, axis=-1)
    chosen = jnp.sum(jnp.where(_hits(tempered, targets), tempered, 0.0), axis=-1)
    entropy = norm - _mean_logit(tempered, norm) if with_entropy else None
    return None, (chosen - norm, entropy, norm)

  _, (logprobs, entropy, norm) = over_chunks(block, None, chunk, hidden, targets)
  return (logprobs, entropy), (hidden, head, targets, norm)


def _backward(how, kept, gradients):
  hidden, head, targets, norm = kept
  _, num_tokens, chunk, dtype, _ = how
  temperature = how[0]
  used = _used(head, how)
  # An id beyond the tokenizer has no gradient, even if it is asked for.
  targets = targets if num_tokens is None else jnp.where(targets < num_tokens, targets, -1)

  def block(total, chunked):
    hidden, targets, norm, gradient = chunked
    tempered = _tempered_logits(hidden, used, how)
    hit = _hits(tempered, targets).astype(jnp.float32)
    slope = (hit - jnp.exp(tempered - norm[:, :, None])) * (gradient / temperature)[:, :, None]
    # The barrier keeps the slope from being computed again inside both products.
    slope = jax.lax.optimization_barrier(slope.astype(dtype))
    back = jnp.einsum("pcv,dv->pcd", slope, used, out_sharding=LOCAL)
    # Every device sums its own positions; they come together once, after the loop.
    return total + transposed_product(hidden, slope), back

  parts, _, D = hidden.shape
  total = jnp.zeros((parts, D, head.shape[1]), jnp.float32, out_sharding=jax.P(DATA, None, "tensor"))
  total, back = over_chunks(block, total, chunk, hidden, targets, norm, gradients[0])
  return back.astype(hidden.dtype), _over_devices(total).astype(head.dtype), None


def _over_devices(parts):
  """The sum [D, V] of what each device of rows and positions has found [P, D, V], split over fsdp along D."""
  def local(x):
    return jax.lax.psum(jax.lax.psum_scatter(x[0], "fsdp", tiled=True), ("replica", "sequence"))
  return jax.shard_map(local, in_specs=jax.P(DATA, None, "tensor"), out_specs=jax.P("fsdp", "tensor"))(parts)


_logprobs.defvjp(_forward, _backward)


def chunked_logprobs(hidden, head, targets, *, temperature: float, chunk: int, dtype: str, num_tokens: int | None = None,
                     entropy: bool = False) -> tuple[jax.Array, jax.Array | None]:
  """Log-prob of each target, and, if asked for, the entropy of each distribution (without a gradient): [B, T] float32.

  hidden [B, T, D]; head [D, V] as it is stored; targets [B, T]. Each device takes `chunk` of its positions at a time, the
  rows laid end to end, so [chunk, V] logits are the most that exist. They are made again in the backward pass, which forms
  softmax - onehot from them directly. Chunks run along positions and not along the vocabulary, as one pass then gives the
  log-sum-exp, and a vocabulary that is split over the tensor axis stays where it is.
  """
  T = hidden.shape[1]
  how = (float(temperature), num_tokens, chunk, dtype, entropy)
  logprobs, entropies = _logprobs(by_device(hidden), head, by_device(targets), how)
  return by_row(logprobs, T), jax.lax.stop_gradient(by_row(entropies, T)) if entropy else None


def token_logprobs(params, config: ModelConfig, compute: Compute, tokens, positions, segment_ids, *,
                   temperature: float = 1.0, entropy: bool = False) -> tuple[jax.Array, jax.Array | None]:
  """(logprobs, entropy or None), each [B, T] float32 and aligned with tokens: [:, t] is about tokens[:, t] given those
  before it in its segment.

  Slot 0 of a row has nothing before it and is 0; the first slot of a later segment and padding carry meaningless (finite)
  numbers and must be masked out. segment_ids [B, T], or None: a row is a segment.
  """
  hidden = forward(params, config, compute, tokens, positions, segment_ids)
  with jax.named_scope("head"):
    # Slot t's hidden state is about the token of slot t + 1; the last slot's is about none.
    targets = jnp.roll(tokens, -1, axis=1)
    found = chunked_logprobs(hidden, stored_head(params, config), targets, temperature=temperature,
                             chunk=compute.logprob_chunk, dtype=compute.dtype, num_tokens=config.num_tokens, entropy=entropy)
  return jax.tree.map(lambda x: jnp.pad(x[:, :-1], ((0, 0), (1, 0))), found)


@partial(jax.jit, static_argnames=("config", "compute", "temperature"))
def logprobs(params, tokens, positions, segment_ids, *, config: ModelConfig, compute: Compute,
             temperature: float) -> jax.Array:
  """token_logprobs without gradients: old and reference log-probs [B, T] float32."""
  return token_logprobs(params, config, compute, tokens, positions, segment_ids, temperature=temperature)[0]
