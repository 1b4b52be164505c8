"""What benchmarks beside peers have in common: flags, and the cores that all of them share."""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import roofline


@dataclasses.dataclass(frozen=True)
class Shared:
    """Flags that all of them have."""

    repeats: int = 5
    """Timings of each, in turn; the median is shown."""
    threads: int = 1
    """Cores that everything shares."""
    peers: bool = True
    """Time the peers too."""
    seed: int = 0
    """Of the data, and of a network's weights."""
    output_dir: Path | None = None
    """Where the tables go, over what is there; default runs/benchmark/KEY, KEY of the
    configuration."""


def start(config: Any, run: Callable[[Any, Console], Path]) -> None:
    """Check what all have, and run on as many cores as it says."""
    for name in ("repeats", "tasks", "epochs", "shots", "width"):
        if getattr(config, name, 1) < 1:
            raise ValueError(f"--{name}: wanted at least 1, got {getattr(config, name)}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not 1 <= config.threads <= (cores or 1):
        raise ValueError(f"--threads: wanted 1 to {cores}, got {config.threads}")
    _pin(config.threads)
    console = Console()
    console.width = max(console.width, 112)
    run(config, console)


def _pin(threads: int) -> None:
    """Start again on so many cores: libraries read their number of threads as they are imported."""
    if os.environ.get("LEEPJAX_BENCHMARK_THREADS") == str(threads):
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    names = ("LEEPJAX_BENCHMARK", "OMP_NUM", "OPENBLAS_NUM", "MKL_NUM")
    environment = {f"{name}_THREADS": str(threads) for name in names}
    environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # PyTorch shares the GPU
    os.execve(sys.executable, sys.orig_argv, os.environ | environment)


def conditions(config: Shared) -> str:
    """Where and how often things are timed."""
    return f"{roofline.processor()}, {config.threads} thread(s), median of {config.repeats}"
