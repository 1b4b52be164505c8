"""Settings of the whole suite: what is kept compiled, what shares a worker, how many workers."""

import gc
import os
import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

# A worker is a core's share: NumPy's threads would wait for one another. Before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Most of the suite's work is compiling, so XLA compiles for the compiler's sake: in one thread,
# without optimising, by the older, plainer emitters where it has them. XLA_FLAGS of the caller's
# are kept as they are: --xla_backend_optimization_level=3 gives the programs that users get.
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
    QUICK += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", QUICK)

from leepjax._store import cache_dir  # noqa: E402

# The suite is many small programs: keep all of them compiled, for the next run.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir("xla")))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

WORKER = 1.5 * 2**30  # bytes of memory that a worker may need


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """``-n auto``: a worker for each core, as far as memory goes."""
    del config
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return int(max(1, min(cores or 1, memory() // WORKER)))


def memory(root=Path("/")):
    """Bytes that can still be had: of the machine, and of the container it may be."""
    limits = [float("inf")]
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        available = dict(line.split(":") for line in lines)["MemAvailable"]
        limits.append(1024 * int(available.split()[0]))
        used, most = (
            (root / "sys/fs/cgroup" / name).read_text() for name in ("memory.current", "memory.max")
        )
        limits.append(int(most) - int(used))
    except (OSError, KeyError, ValueError):  # not Linux, or no limit
        pass
    return min(limits)


def group(nodeid):
    """Tests that share compiled programs: of one metric's contract, else of one module."""
    module, _, test = nodeid.partition("::")
    if "test_contract" in module:
        from leepjax.metrics import METRICS  # after the settings above

        return next((word for word in re.split(r"[\[\]-]", test) if word in METRICS), module)
    return module


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Groups stay together: two workers that share one would compile its programs twice."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group(nodeid)

    config.option.loadscopereorder = False
    return Groups(config, log) if config.getoption("dist") == "load" else None


def pytest_collection_modifyitems(items):
    """Modules first, which differ in length; the metrics, which are alike, even out the end."""
    names = [group(item.nodeid) for item in items]
    first = {name: names.index(name) for name in {*names}}
    order = {id(item): first[name] for item, name in zip(items, names, strict=True)}
    items.sort(key=lambda item: ("test_contract" in item.nodeid, order[id(item)]))  # stable


def pytest_runtest_teardown(item, nextitem):
    """Forget the programs of a group after it: they are memory that grows."""
    if "jax" in sys.modules and (nextitem is None or group(nextitem.nodeid) != group(item.nodeid)):
        sys.modules["jax"].clear_caches()
        gc.collect()


@pytest.fixture
def x64():
    """Compute the test in float64."""
    import jax  # after the settings above

    enable = getattr(jax, "enable_x64", None)
    if enable is None:  # jax < 0.8
        from jax.experimental import enable_x64 as enable
    with enable(True):
        yield
