"""JAX for the tests: CPU only, eight devices, no silent promotion of types or ranks, and few programs compiled twice."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"  # before the import, so that no accelerator is ever looked for

import jax

# Programs of tests are small and many: a fifth of the time to compile them is worth more than their speed. Here and in the
# commands that tests start, but for notebooks, which are compiled as users compile them. An XLA that does not know a flag
# aborts, so that it is asked first.
QUICK_COMPILES = ("--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
                  "--xla_cpu_use_fusion_emitters=false")
if "XLA_FLAGS" not in os.environ:
  known = subprocess.run([sys.executable, "-c", "import jax; jax.devices()"], capture_output=True,
                         env={**os.environ, "XLA_FLAGS": QUICK_COMPILES})
  os.environ["XLA_FLAGS"] = QUICK_COMPILES if known.returncode == 0 else ""

# By config, not by a variable: commands that tests start must not inherit it.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Compiled programs, kept for one session: for both workers and, by variables, for the commands that tests start. What comes
# out of it has the bits of what was put in (test_resume.py); an entry that a kill cut short is refused and compiled again.
OWNER = "PYTEST_XDIST_WORKER" not in os.environ
if OWNER:
  os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="r1jax_compiled")
COMPILED = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_compilation_cache_dir", str(COMPILED))
for name, value in (("jax_persistent_cache_min_compile_time_secs", 0), ("jax_persistent_cache_min_entry_size_bytes", -1)):
  jax.config.update(name, value)
  os.environ[name.upper()] = str(value)

# Files of minutes, the longest first: started last, one would keep one worker busy while the other has nothing to do.
LONG = ("stages/test_resume.py", "test_smoke.py", "test_notebooks.py", "stages/test_pipeline.py", "sampling/test_sampler.py",
        "test_experiments.py", "verifiers/test_hostile_programs.py", "test_bench.py", "stages/test_learning.py",
        "models/test_reference.py")


def pytest_configure(config):
  if hasattr(config.option, "loadscopereorder"):
    config.option.loadscopereorder = False  # xdist's own order begins with the files of most tests, which are quick ones


def pytest_collection_modifyitems(items):
  rank = {Path(__file__).parent / name: place for place, name in enumerate(LONG)}
  items.sort(key=lambda item: rank.get(item.path, len(rank)))


def pytest_unconfigure():
  if OWNER:
    shutil.rmtree(COMPILED, ignore_errors=True)
