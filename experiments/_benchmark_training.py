"""Timings of training beside PyTorch, as rows and as a table."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console

from experiments._benchmark_table import duration
from experiments._timing import interleaved

NOTE = "/ PyTorch: times the rate of its fastest; the first call compiles."


def measure(
    calls: Mapping[str, Callable[[], float]], unit: str, amount: int, repeats: int, console: Console
) -> list[dict[str, Any]]:
    """Time calls that each work on so many units, in turn: a row for each that does not fail."""
    timings, errors = interleaved(calls, repeats)
    for name, error in errors.items():
        console.print(f"{name}: left out ({error})", soft_wrap=True, markup=False)
    if not timings:
        raise ValueError("benchmark: wanted at least one that runs; see above")
    rates = {name: amount / timing.seconds for name, timing in timings.items()}
    fastest = max((r for n, r in rates.items() if n.startswith("PyTorch")), default=float("nan"))
    return [
        {
            "by": name,
            f"{unit}_per_second": rates[name],
            "ratio": rates[name] / fastest,
            "seconds": timing.seconds,
            "cpu_seconds": timing.cpu_seconds,
            "loss": timing.value,
            "fastest": min(timing.wall),
            "slowest": max(timing.wall),
            "first": timing.first,
        }
        for name, timing in timings.items()
    ]


def table(rows: Sequence[Mapping[str, Any]], unit: str) -> list[Sequence[str]]:
    """The headings, and a line of text for each row."""
    headings = ("by", f"{unit}/s", "/ PyTorch", "time", "CPU time", "first call", "loss")
    lines: list[Sequence[str]] = [headings]
    for row in rows:
        seconds = [duration(row[name]) for name in ("seconds", "cpu_seconds", "first")]
        ratio = f"{row['ratio']:.2f}".replace("nan", "?")
        rate = row[f"{unit}_per_second"]
        shown = f"{rate:,.0f}" if rate >= 100 else f"{rate:.2f}"
        lines.append([row["by"], shown, ratio, *seconds, f"{row['loss']:.7g}"])
    return lines
