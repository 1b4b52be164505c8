"""Whether a program fits in the memory of its device, asked before it runs."""

from typing import Any


def check_fits(compiled: Any, chunk: int, devices: list[Any]) -> None:
    """Check that a compiled program of ``chunk`` jobs a device, its arguments there, can run.

    Args:
      compiled: from ``jax.jit(...).lower(...).compile()``.
      chunk: jobs on a device.
      devices: the devices that run it; CPUs share their memory.

    Raises:
      ValueError: it has not; the message names a chunk that does fit.
    """
    usage = compiled.memory_analysis()
    free = free_bytes(devices)
    if usage is None or free is None:
        return
    needs = usage.temp_size_in_bytes + usage.output_size_in_bytes - usage.alias_size_in_bytes
    if needs > free:
        fits = int(chunk * free / needs)  # the others' arguments make room too
        advice = f"chunk={fits} would fit" if fits else "no chunk would fit; use smaller batches"
        raise ValueError(
            f"chunk: wanted what fits in memory; {chunk} tasks at once need {needs / 2**30:.1f} "
            f"GiB more a device, {free / 2**30:.1f} GiB are free; {advice}"
        )


def free_bytes(devices: list[Any]) -> int | None:
    """Bytes that each of the devices has left; None where nothing says so."""
    stats = devices[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    if devices[0].platform != "cpu":
        return None
    try:
        with open("/proc/meminfo") as file:
            kib = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        return None
    return kib * 1024 // len(devices)
