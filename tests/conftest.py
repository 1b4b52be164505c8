"""Settings of the whole suite."""

import os
from itertools import count
from pathlib import Path

import pytest

from leepjax._cache import cache_dir

# The suite is many small programs: keep all of them compiled, for the next run.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir("xla")))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

MAPS, TESTS = Path("/proc/self/maps"), count(1)


@pytest.fixture(autouse=True)
def few_programs():
    """Forget compiled programs before Linux's limit of memory maps, 65,530: past it XLA crashes."""
    yield
    if next(TESTS) % 10 == 0 and MAPS.exists() and MAPS.read_bytes().count(b"\n") > 30_000:
        import jax  # after the settings above

        jax.clear_caches()


@pytest.fixture
def x64():
    """Compute the test in float64."""
    import jax  # after the settings above

    enable = getattr(jax, "enable_x64", None)
    if enable is None:  # jax < 0.8
        from jax.experimental import enable_x64 as enable
    with enable(True):
        yield
