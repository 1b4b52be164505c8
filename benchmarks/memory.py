"""The peak of memory during a call, on Linux."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax

_RESET = Path("/proc/self/clear_refs")


def measurable() -> bool:
    """Whether the system can start the peak of a process anew, and arrays are in its memory."""
    return _RESET.exists() and jax.default_backend() == "cpu"


def in_fresh_process(function: Callable[..., float], *arguments: Any) -> float:
    """Call a module's function in a process of its own: nothing that ran before hides a peak."""
    # what is freed goes back to the system at once, so that a warm call asks for it again
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def peak_growth(call: Callable[[], Any]) -> int:
    """Bytes resident at the peak of a warm call above those before it."""
    jax.block_until_ready(call())
    time.sleep(0.5)  # XLA lets go of its last temporary after the result is there
    with peak_within() as growth:
        jax.block_until_ready(call())
    return growth()


@contextmanager
def peak_within() -> Iterator[Callable[[], int]]:
    """Bytes resident at the peak of a block above those before it; 0 where they are not known."""
    known = _RESET.exists()
    if known:
        _RESET.write_text("5")  # the peak starts from here
    before = _status("VmRSS") if known else 0
    yield lambda: _status("VmHWM") - before if known else 0


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
