"""Checkpoints by orbax: atomic, sharded, restored under the mesh of the moment, and believed only with their checksums.

checkpoints/<stage>/<step>/ holds the items params, opt_state and (where the stage has one) reference, and a JSON record
`progress` (data cursor and whatever else a stage resumes from). A step's folder appears whole or not at all.

OCDBT has checksums in the nodes of its tree, and none over the values that they point to; zarr 3 has a codec for those,
which orbax does not offer. So the files of a step are sealed (r1jax.files) in orbax's background thread, before their folder
gets its name.
"""
from pathlib import Path
from typing import Any

import absl.logging
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from r1jax.errors import InputError, WatchdogStop
from r1jax.files import CHECKSUMS, damage, seal
from r1jax.records import TrainState
from r1jax.run_dir import say, set_aside

absl.logging.set_verbosity(absl.logging.FATAL)  # orbax logs, trace by trace, what it raises too
ORBAX_METADATA = "_CHECKPOINT_METADATA"  # written again when the folder gets its name; nothing of it is read


def abstract(tree):
  """ShapeDtypeStructs with the shardings of the arrays in `tree`."""
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


@jax.jit
def _all_finite(leaves: list[jax.Array]) -> jax.Array:
  return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves]))


def finite(params: Any) -> bool:
  """Whether all numbers of a tree are finite."""
  return bool(_all_finite([x for x in jax.tree.leaves(params) if jnp.issubdtype(x.dtype, jnp.inexact)]))


class Checkpoints:
  """The checkpoints of one stage; the `keep` newest stay.

  A newest checkpoint whose bytes are not those that were written is set aside, and the newest sound one is used. read_only:
  the folder is left as it is, as a run may be writing there, and an unsound newest checkpoint is an InputError.
  """

  def __init__(self, folder: Path, keep: int = 2, read_only: bool = False):
    self._folder = Path(folder).absolute()
    self._newest, self._saving = self._newest_sound(read_only), None
    options = (ocp.CheckpointManagerOptions(create=False) if read_only else  # orbax's own read_only warns three times
               ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, cleanup_tmp_directories=True,
                                            async_options=ocp.options.AsyncOptions(post_finalization_callback=self._seal)))
    self._manager = ocp.CheckpointManager(self._folder, options=options)

  def _newest_sound(self, read_only: bool) -> int | None:
    steps = sorted((int(f.name) for f in self._folder.glob("*") if f.name.isdigit()), reverse=True)
    known = [step for step in steps if (self._folder / str(step) / CHECKSUMS).exists()]
    for step in steps:
      folder = self._folder / str(step)
      # Without checksums an older version has written it, as long as it has written the others too.
      wrong = damage(folder) if known or not all((folder / item).is_dir() for item in ("params", "progress")) else None
      if wrong is None:
        if not known:
          say(f"{folder}: an older version wrote it without checksums; it is not verified")
        return step
      if read_only:
        raise InputError(str(folder), f"damaged ({wrong})", "Start the run again: it goes on from the checkpoint before.")
      set_aside(folder, f"damaged ({wrong})")
    return None

  def _seal(self) -> None:
    """Called by orbax when all files of a step are written, and their folder is still a temporary one."""
    if jax.process_index() == 0:
      (folder,) = self._folder.glob(f"{self._saving}.orbax-checkpoint-tmp*")
      seal(folder, but=(ORBAX_METADATA,))

  def latest(self) -> int | None:
    """The step of the newest sound checkpoint."""
    return self._newest

  def save(self, state: TrainState, reference: Any, progress: dict) -> None:
    """Saves in the background; the arrays may be donated as soon as this returns.

    WatchdogStop, and the checkpoints stay as they are, if a parameter is NaN or infinite.
    """
    step = int(state.step)
    if not finite(state.params):
      raise WatchdogStop("not_a_number", step, "a parameter is NaN or infinite.")
    items = {"params": ocp.args.StandardSave(state.params), "opt_state": ocp.args.StandardSave(state.opt_state),
             "progress": ocp.args.JsonSave(progress)}
    if reference is not None:
      items["reference"] = ocp.args.StandardSave(reference)
    self._manager.wait_until_finished()  # _seal is told of one step at a time
    self._newest = self._saving = step
    self._manager.save(step, args=ocp.args.Composite(**items))

  def restore(self, like: TrainState, has_reference: bool) -> tuple[TrainState, Any, dict]:
    """(state, reference or None, progress) of the newest checkpoint, in the shapes and shardings of `like`."""
    items = {"params": ocp.args.StandardRestore(abstract(like.params)),
             "opt_state": ocp.args.StandardRestore(abstract(like.opt_state)), "progress": ocp.args.JsonRestore()}
    if has_reference:
      items["reference"] = ocp.args.StandardRestore(abstract(like.params))
    found = self._restore(items)
    state = TrainState(step=jnp.asarray(self._newest, jnp.int32), params=found["params"], opt_state=found["opt_state"])
    return state, found["reference"] if has_reference else None, found["progress"]

  def restore_params(self, like: Any) -> Any:
    """The parameters of the newest checkpoint alone; `like`: a tree of ShapeDtypeStructs with shardings."""
    return self._restore({"params": ocp.args.StandardRestore(like)})["params"]

  def progress(self) -> dict:
    """The progress record of the newest checkpoint alone."""
    return self._restore({"progress": ocp.args.JsonRestore()})["progress"]

  def _restore(self, items: dict) -> Any:
    if self._newest is None:
      raise InputError(str(self._folder), "no whole checkpoint here", "Run the stage that writes it first.")
    try:
      return self._manager.restore(self._newest, args=ocp.args.Composite(**items))
    except Exception as error:  # orbax raises whatever its storage does
      raise InputError(str(self._folder / str(self._newest)), f"cannot be read ({str(error).splitlines()[0]})",
                       "If the model is still the same, delete the folder: the checkpoint before is used.") from error

  def close(self) -> None:
    """Waits for the saves under way."""
    self._manager.wait_until_finished()
    self._manager.close()
