"""Training timed beside PyTorch: what the benchmarks of fine-tuning and meta-learning share."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.command import Shared, conditions
from benchmarks.table import duration, print_table, write_markdown
from benchmarks.timing import interleaved
from leepjax import report

NOTE = "/ PyTorch: times the rate of its fastest; the first call compiles."


def race(
    config: Shared,
    title: str,
    unit: str,
    amount: int,
    contenders: Callable[[Console], Mapping[str, Callable[[], float]]],
    note: str,
    console: Console,
) -> Path:
    """Time calls that each work on so many units: print the table, write it as CSV and Markdown."""
    with report.open_run(
        "benchmark", config, output_dir=config.output_dir, overwrite=True
    ) as study:
        title = f"{title}; {conditions(config)}"
        console.print(title, soft_wrap=True)
        rows = measure(contenders(console), unit, amount, config.repeats, console)
        lines, notes = table(rows, unit), [note, NOTE]
        study.write_table("benchmark", rows)
        write_markdown(study.path / "benchmark.md", title, lines, notes, names=1)
    print_table(lines, console, names=1)
    console.print("\n".join([*notes, str(study.final)]), soft_wrap=True)
    return study.final


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
