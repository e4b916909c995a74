"""Checkpoints are believed with their checksums only."""
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.errors import InputError, WatchdogStop
from r1jax.files import CHECKSUMS
from r1jax.records import TrainState
from r1jax.training.checkpoint import Checkpoints


def state(step: int, value: float | None = None) -> TrainState:
  params = {"w": jnp.arange(64, dtype=jnp.float32) * step, "b": jnp.full((3,), step if value is None else value)}
  return TrainState(jnp.int32(step), params, {"count": jnp.int32(step)})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """Checkpoints of steps 2 and 4, of one that keeps two."""
  folder = tmp_path_factory.mktemp("saved") / "stage"
  checkpoints = Checkpoints(folder)
  for step in (1, 2, 4):
    checkpoints.save(state(step), state(step).params, {"cursor": step})
  checkpoints.close()
  return folder


def largest(folder):
  """Where the arrays are."""
  return max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)


def flipped(step):
  file = largest(step / "params")
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 4
  file.write_bytes(content)


def emptied(step):
  largest(step / "opt_state").write_bytes(b"")


def cut(step):
  file = largest(step / "reference")
  file.write_bytes(file.read_bytes()[:-1])


def without_a_file(step):
  largest(step / "params").unlink()


def without_checksums(step):
  (step / CHECKSUMS).unlink()


def broken_progress(step):
  (step / "progress" / "metadata").write_text('{"cursor": 3}')


def empty(step):
  shutil.rmtree(step)
  step.mkdir()


DAMAGES = [flipped, emptied, cut, without_a_file, without_checksums, broken_progress, empty]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_set_aside_and_the_one_before_is_used(saved, tmp_path, damage, capsys):
  shutil.copytree(saved, tmp_path / "stage")
  damage(tmp_path / "stage" / "4")
  with pytest.raises(InputError, match="4: damaged"):
    Checkpoints(tmp_path / "stage", read_only=True)
  checkpoints = Checkpoints(tmp_path / "stage")
  assert checkpoints.latest() == 2
  assert "4: damaged" in (said := capsys.readouterr().err) and "set aside as 4.unsound" in said
  found, reference, progress = checkpoints.restore(state(0), has_reference=True)
  assert progress == {"cursor": 2} and int(found.step) == 2
  for tree in (found.params, reference):
    assert np.array_equal(tree["w"], state(2).params["w"])
  checkpoints.save(state(4), None, {"cursor": 4})  # the run makes it once more
  checkpoints.close()
  assert Checkpoints(tmp_path / "stage").latest() == 4


def test_the_seal_covers_every_file_that_is_read(saved):
  assert Checkpoints(saved).latest() == 4 and sorted(f.name for f in saved.iterdir()) == ["2", "4"]
  sealed = (saved / "4" / CHECKSUMS).read_text()
  files = [f for f in (saved / "4").rglob("*") if f.is_file() and f.parent != saved / "4"]
  assert len(files) > 10 and all(f'"{f.relative_to(saved / "4")}"' in sealed for f in files)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_saved(saved, tmp_path, value):
  shutil.copytree(saved, tmp_path / "stage")
  checkpoints = Checkpoints(tmp_path / "stage")
  with pytest.raises(WatchdogStop, match="'not_a_number' at step 6"):
    checkpoints.save(state(6, value), None, {"cursor": 6})
  checkpoints.close()
  assert Checkpoints(tmp_path / "stage").latest() == 4


def test_those_of_an_older_version_are_used_and_said(saved, tmp_path, capsys):
  shutil.copytree(saved, tmp_path / "stage")
  for file in tmp_path.rglob(CHECKSUMS):
    file.unlink()
  assert Checkpoints(tmp_path / "stage").progress() == {"cursor": 4}
  assert "without checksums; it is not verified" in capsys.readouterr().err
  emptied(tmp_path / "stage" / "4")
  with pytest.raises(InputError, match="4: cannot be read"):
    Checkpoints(tmp_path / "stage").restore(state(0), has_reference=True)
