"""Calls timed beside each other, in one process, in turn."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax


@dataclasses.dataclass
class Timing:
    """Seconds of each repeat, on the wall and of the CPU; of the first call; and the value."""

    wall: list[float]
    cpu: list[float]
    first: float
    value: float

    @property
    def seconds(self) -> float:
        """The median on the wall."""
        return statistics.median(self.wall)

    @property
    def cpu_seconds(self) -> float:
        """The median of the CPU."""
        return statistics.median(self.cpu)


def interleaved(
    calls: Mapping[str, Callable[[], Any]], repeats: int
) -> tuple[dict[str, Timing], dict[str, str]]:
    """Time calls in turn, forwards and backwards; one that raises is left out, with its error."""
    timings: dict[str, Timing] = {}
    errors: dict[str, str] = {}
    for name, call in calls.items():
        start = time.perf_counter()
        try:
            value = _value(call())
        except Exception as error:  # whatever a package may raise
            errors[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        timings[name] = Timing([], [], time.perf_counter() - start, value)
    for repeat in range(repeats):
        for name in list(timings)[:: 1 if repeat % 2 == 0 else -1]:
            count, start, cpu = 0, time.perf_counter(), time.process_time()
            while count == 0 or time.perf_counter() - start < 0.05:  # short calls, many times
                jax.block_until_ready(calls[name]())
                count += 1
            timings[name].wall.append((time.perf_counter() - start) / count)
            timings[name].cpu.append((time.process_time() - cpu) / count)
    return timings, errors


def _value(result: Any) -> float:
    return sum(float(value) for value in jax.tree.leaves(result))  # score(...): their sum
