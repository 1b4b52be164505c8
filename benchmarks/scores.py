"""How fast is each score, against other packages and the machine?

    python -m benchmarks scores --size large

times every score beside each peer that is installed (`pip install -e ".[bench]"`) and beside
NumPy and PyTorch versions written for speed (`benchmarks/peers`): in one process on the same
threads, warm, in turn, medians. Copy bandwidth and float32 matmul are measured in the same run, and
"roof" is the least time that they allow for a score's bytes and operations
(`benchmarks/roofline.py`) over its time. Values stand beside the times: `*` marks one further than
1e-4 max(1, |reference|) from the NumPy version in float64.
"""

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from benchmarks import command, memory, peers, roofline
from benchmarks.score_calls import MOMENTS, SIZES, TOGETHER, Data, contenders, make_data, reference
from benchmarks.table import duration, print_table, write_markdown
from benchmarks.timing import Timing, interleaved
from leepjax import report
from leepjax.metrics import METRICS

TIMED = ("leep", "nce", *MOMENTS, "gbc", "transrate", TOGETHER)
PEERS = ("numpy_scores", "sklearn_scores", "torch_scores", "transformer_ranker")
HEADINGS = ("score", "by", "time", "/ leepjax", "CPU time", "roof", "value", "memory")


@dataclasses.dataclass(frozen=True)
class Config(command.Shared):
    """Time scores beside peers, in one run, on the same threads."""

    size: Literal["small", "medium", "large"] = "medium"
    """small: 2,000 samples, 100 source classes, 64 features, 10 target classes; medium: 10,000,
    1,000, 512, 100; large: 50,000, 1,000, 2,048, 100."""
    metrics: tuple[str, ...] = TIMED
    """Which scores; "score" is one call for all that need only moments."""
    memory: bool = False
    """Also the peak of memory during a warm call, over the input's; a process each. Linux, CPU."""


def run(config: Config, console: Console) -> Path:
    """Time everything, print the table, write it as CSV and Markdown; return its directory."""
    modules = [peers.available(name, console) for name in PEERS] if config.peers else []
    modules = [module for module in modules if module]
    with report.open_run(
        "benchmark", config, output_dir=config.output_dir, overwrite=True
    ) as study:
        machine = roofline.measure()
        title = _title(config, machine)
        console.print(title, soft_wrap=True)
        data = make_data(config.size, config.seed)
        rows = []
        for metric in config.metrics:
            calls = contenders(metric, data, modules)
            timings, errors = interleaved(calls, config.repeats)
            for name, error in errors.items():
                console.print(f"{metric}, {name}: left out ({error})", soft_wrap=True, markup=False)
            expected = reference(metric, data) if config.peers else float("nan")
            timed = _rows(metric, timings, expected, machine, data)
            for row in timed:  # a long run shows how far it is
                console.print("  ".join(_cells(row)), style="dim", soft_wrap=True)
            rows += timed
        if not rows:
            raise ValueError("--metrics: wanted at least one that runs")
        if config.memory and not memory.measurable():
            console.print("--memory: left out (needs Linux, and scores on the CPU)")
        elif config.memory:
            where = {module.NAME: module.__name__ for module in modules}
            for row in rows:
                arguments = config, row["score"], row["by"], where.get(row["by"])
                row["memory"] = memory.in_fresh_process(_peak, *arguments)
        study.write_table("benchmark", rows)
        summary = _summary(rows, machine, data)
        lines = [_cells(row) for row in rows]
        table = [HEADINGS[: len(lines[0])], *lines]
        write_markdown(study.path / "benchmark.md", title, table, summary)
    print_table(table, console)
    console.print("\n".join([*summary, str(study.final)]), soft_wrap=True)
    return study.final


def _rows(
    metric: str,
    timings: dict[str, Timing],
    expected: float,
    machine: roofline.Machine,
    data: Data,
) -> list[dict[str, Any]]:
    ours = timings["leepjax"].seconds if "leepjax" in timings else float("nan")
    roof = machine.seconds(_work(metric, data))
    return [
        {
            "score": metric,
            "by": name,
            "seconds": timing.seconds,
            "ratio": timing.seconds / ours,
            "cpu_seconds": timing.cpu_seconds,
            "roof": roof / timing.seconds,
            "value": timing.value,
            "reference": expected,
            "fastest": min(timing.wall),
            "slowest": max(timing.wall),
            "first": timing.first,
        }
        for name, timing in timings.items()
    ]


def _work(metric: str, data: Data) -> roofline.Work:
    n, s, d, c = data.shape
    return roofline.work(MOMENTS if metric == TOGETHER else [metric], n=n, s=s, d=d, c=c)


def _cells(row: Mapping[str, Any]) -> list[str]:
    """A row as text, in the order of ``HEADINGS``; memory only where it was measured."""
    off = abs(row["value"] - row["reference"]) > 1e-4 * max(1, abs(row["reference"]))
    texts = [
        row["score"],
        row["by"],
        duration(row["seconds"]),
        "" if row["by"] == "leepjax" else f"{row['ratio']:.2f}".replace("nan", "?"),
        duration(row["cpu_seconds"]),
        f"{row['roof']:.0%}",
        f"{row['value']:.5g}{' *' if off else ''}",
    ]
    return [*texts, f"{row['memory']:+.2f}"] if "memory" in row else texts


def _title(config: Config, machine: roofline.Machine) -> str:
    n, s, d, c = SIZES[config.size]
    shape = f"n = {n:,}, s = {s:,}, d = {d:,}, c = {c}"
    return f"{config.size}: {shape}; {command.conditions(config)}; {machine}"


def _summary(rows: Sequence[Mapping[str, Any]], machine: roofline.Machine, data: Data) -> list[str]:
    seconds = {row["score"]: row["seconds"] for row in rows if row["by"] == "leepjax"}
    lines = ["`*`: further than 1e-4 max(1, |reference|) from NumPy in float64."]
    if "memory" in rows[0]:
        lines.append("memory: peak of a warm call above what was held before, over its input's.")
    if "leep" in seconds:
        rate = _work("leep", data).bytes / seconds["leep"]
        part = rate / max(machine.bandwidth.values())
        lines.append(f"leep reads its input twice, at {rate / 1e9:.1f} GB/s: {part:.0%} of a copy.")
    alone = {name: seconds[name] for name in MOMENTS if name in seconds}
    if TOGETHER in seconds and alone:
        slowest = max(alone, key=lambda name: alone[name])
        lines.append(
            f"score of {', '.join(MOMENTS)} together (values summed): "
            f"{seconds[TOGETHER] / alone[slowest]:.2f} times {slowest} alone."
        )
    return lines


def _peak(config: Config, metric: str, by: str, module: str | None) -> float:
    """The growth of memory at the peak of a call, over its input's; in a process of its own."""
    data = make_data(config.size, config.seed)
    modules = [importlib.import_module(module)] if module else []
    name = "features" if metric == TOGETHER else METRICS[metric].inputs[0]
    return memory.peak_growth(contenders(metric, data, modules)[by]) / data.host[name].nbytes


def main(config: Config) -> None:
    """Run the benchmark, on as many cores as it says."""
    unknown = sorted(set(config.metrics) - set(TIMED))
    if unknown:
        raise ValueError(f"--metrics: wanted names among {', '.join(TIMED)}, got {unknown}")
    command.start(config, run)
