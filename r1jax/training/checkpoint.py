"""Checkpoints by orbax: atomic, sharded, restored under the mesh of the moment.

checkpoints/<stage>/<step>/ holds the items params, opt_state and (where the stage has one) reference, and a JSON record
`progress` (data cursor and whatever else a stage resumes from). A step's folder appears whole or not at all.
"""
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from r1jax.errors import InputError
from r1jax.records import TrainState


def abstract(tree):
  """ShapeDtypeStructs with the shardings of the arrays in `tree`."""
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


class Checkpoints:
  """The checkpoints of one stage; the `keep` newest stay. read_only: the folder is left as it is, as a run may be writing
  there."""

  def __init__(self, folder: Path, keep: int = 2, read_only: bool = False):
    options = (ocp.CheckpointManagerOptions(create=False) if read_only else  # orbax's own read_only warns three times
               ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, cleanup_tmp_directories=True))
    self._manager = ocp.CheckpointManager(Path(folder).absolute(), options=options)

  def latest(self) -> int | None:
    """The step of the newest whole checkpoint."""
    return self._manager.latest_step()

  def save(self, state: TrainState, reference: Any, progress: dict) -> None:
    """Saves in the background; the arrays may be donated as soon as this returns."""
    items = {"params": ocp.args.StandardSave(state.params), "opt_state": ocp.args.StandardSave(state.opt_state),
             "progress": ocp.args.JsonSave(progress)}
    if reference is not None:
      items["reference"] = ocp.args.StandardSave(reference)
    self._manager.save(int(state.step), args=ocp.args.Composite(**items))

  def restore(self, like: TrainState, has_reference: bool) -> tuple[TrainState, Any, dict]:
    """(state, reference or None, progress) of the newest checkpoint, in the shapes and shardings of `like`."""
    step = self.latest()
    items = {"params": ocp.args.StandardRestore(abstract(like.params)),
             "opt_state": ocp.args.StandardRestore(abstract(like.opt_state)), "progress": ocp.args.JsonRestore()}
    if has_reference:
      items["reference"] = ocp.args.StandardRestore(abstract(like.params))
    found = self._manager.restore(step, args=ocp.args.Composite(**items))
    state = TrainState(step=jnp.asarray(step, jnp.int32), params=found["params"], opt_state=found["opt_state"])
    return state, found["reference"] if has_reference else None, found["progress"]

  def restore_params(self, like: Any) -> Any:
    """The parameters of the newest checkpoint alone; `like`: a tree of ShapeDtypeStructs with shardings."""
    step = self.latest()
    if step is None:
      raise InputError(str(self._manager.directory), "no whole checkpoint here", "Run the stage that writes it first.")
    return self._manager.restore(step, args=ocp.args.Composite(params=ocp.args.StandardRestore(like)))["params"]

  def progress(self) -> dict:
    """The progress record of the newest checkpoint alone."""
    step = self.latest()
    if step is None:
      raise InputError(str(self._manager.directory), "no whole checkpoint here", "Run the stage that writes it first.")
    return self._manager.restore(step, args=ocp.args.Composite(progress=ocp.args.JsonRestore()))["progress"]

  def close(self) -> None:
    """Waits for the saves under way."""
    self._manager.wait_until_finished()
    self._manager.close()
