"""How fast are scores, fine-tuning and meta-learning, against other packages and the machine?

    python -m experiments.benchmark metrics --size large

times every score beside each peer that is installed (`pip install -e ".[bench]"`) and beside
NumPy and PyTorch versions written for speed (`experiments/_numpy_peers.py`, `_torch_peers.py`): in
one process on the same threads, warm, in turn, medians. Copy bandwidth and float32 matmul are
measured in the same run, and "roof" is the least time that they allow for a score's bytes and
operations (`experiments/_roofline.py`) over its time. Values stand beside the times: `*` marks one
further than 1e-4 max(1, |reference|) from the NumPy version in float64.

    python -m experiments.benchmark meta --shots 5

times meta-steps of second-order MAML beside PyTorch, a loop over tasks and `torch.func`:
`experiments/_benchmark_meta.py`.

    python -m experiments.benchmark fine_tune --threads 2

times the fine-tuning of many small tasks beside a loop over them in PyTorch, default layout and
channels last (on a GPU compiled too), in the same way: `experiments/_benchmark_fine_tune.py`.
"""

import dataclasses
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import jax
import numpy as np
import tyro
from rich.console import Console

from experiments import (
    _benchmark_fine_tune,
    _benchmark_meta,
    _benchmark_table,
    _benchmark_training,
    _memory,
    _numpy_peers,
    _peers,
    _roofline,
)
from experiments._timing import Timing, interleaved
from experiments.transfer_accuracy import cores_as_devices
from leepjax import metrics as leepjax_metrics
from leepjax import report
from leepjax.metrics import METRICS, score

SIZES = {  # n, s, d, c
    "small": (2_000, 100, 64, 10),
    "medium": (10_000, 1_000, 512, 100),
    "large": (50_000, 1_000, 2_048, 100),
}
TOGETHER = "score"  # all that need only moments, in one call
MOMENTS = ("h_score", "regularized_h_score", "logme", "lfc")
TIMED = ("leep", "nce", *MOMENTS, "gbc", "transrate", TOGETHER)
PEERS = ("_numpy_peers", "_sklearn_peers", "_torch_peers", "_ranker_peers")


@dataclasses.dataclass(frozen=True)
class Config:
    """Time scores, fine-tuning or meta-learning beside peers, in one run, on the same threads."""

    benchmark: tyro.conf.Positional[Literal["metrics", "fine_tune", "meta"]]
    """What is timed."""
    size: Literal["small", "medium", "large"] = "medium"
    """Of metrics. small: 2,000 samples, 100 source classes, 64 features, 10 target classes; medium:
    10,000, 1,000, 512, 100; large: 50,000, 1,000, 2,048, 100."""
    metrics: tuple[str, ...] = TIMED
    """Of metrics: which scores; "score" is one call for all that need only moments."""
    repeats: int = 5
    """Timings of each, in turn; the median is shown."""
    threads: int = 1
    """Cores that everything shares."""
    peers: bool = True
    """Time the peers too."""
    memory: bool = False
    """Of metrics: also the peak of memory during a warm call, over the input's; a process each.
    Linux, CPU."""
    tasks: int | None = None
    """Of fine_tune: how many, default 4; of meta: in a step, default 8."""
    shots: int = 1
    """Of meta: support images of a class."""
    width: int = 32
    """Of meta: channels of the Conv4."""
    epochs: int = 2
    """Of fine_tune."""
    strategies: tuple[Literal["loop", "vmap"], ...] = ("loop", "vmap")
    """Of fine_tune and meta: which of leepjax's."""
    chunk: int | None = None
    """Of fine_tune: tasks that a device holds at once with vmap; default 32."""
    seed: int = 0
    """Of the data, and of fine_tune's weights."""
    output_dir: Path | None = None
    """Where the tables go, over what is there; default runs/benchmark/KEY, KEY of the
    configuration."""


def run(config: Config, console: Console) -> Path:
    """Time everything, print the table, write it as CSV and Markdown; return its directory."""
    return (_run_metrics if config.benchmark == "metrics" else _run_training)(config, console)


def _run_training(config: Config, console: Console) -> Path:
    with report.open_run(
        "benchmark", config, output_dir=config.output_dir, overwrite=True
    ) as study:
        if config.benchmark == "meta":
            module, tasks = _benchmark_meta, config.tasks or 8
            problem = module.make_problem(tasks, config.shots, config.width, config.seed)
            options = {}
        else:
            module, tasks = _benchmark_fine_tune, config.tasks or 4
            problem = module.make_problem(tasks, config.epochs, config.seed)
            options = {"chunk": config.chunk}
        title = f"{module.title(problem)}; {_conditions(config)}"
        console.print(title, soft_wrap=True)
        calls = module.contenders(problem, config.strategies, config.peers, console, **options)
        work = module.UNIT, problem.amount
        rows = _benchmark_training.measure(calls, *work, config.repeats, console)
        table = _benchmark_training.table(rows, module.UNIT)
        notes = [*module.NOTES, _benchmark_training.NOTE]
        study.write_table("benchmark", rows)
        _benchmark_table.write_markdown(study.path / "benchmark.md", title, table, notes, names=1)
    _benchmark_table.print_table(table, console, names=1)
    console.print("\n".join([*notes, str(study.final)]), soft_wrap=True)
    return study.final


def _run_metrics(config: Config, console: Console) -> Path:
    chosen = _chosen(config, console)
    modules = [_peers.available(name, console) for name in PEERS] if config.peers else []
    modules = [module for module in modules if module]
    with report.open_run(
        "benchmark", config, output_dir=config.output_dir, overwrite=True
    ) as study:
        machine = _roofline.measure()
        title = _title(config, machine)
        console.print(title, soft_wrap=True)
        data = make_data(config)
        rows = []
        for metric in chosen:
            calls = contenders(metric, data, modules)
            timings, errors = interleaved(calls, config.repeats)
            for name, error in errors.items():
                console.print(f"{metric}, {name}: left out ({error})", soft_wrap=True, markup=False)
            timed = _rows(metric, timings, reference(metric, data, config), machine, data)
            for row in timed:  # a long run shows how far it is
                console.print("  ".join(_benchmark_table.cells(row)), style="dim", soft_wrap=True)
            rows += timed
        if not rows:
            raise ValueError("--metrics: wanted at least one that runs")
        if config.memory and not _memory.measurable():
            console.print("--memory: left out (needs Linux, and scores on the CPU)")
        elif config.memory:
            where = {module.NAME: module.__name__ for module in modules}
            for row in rows:
                arguments = config, row["score"], row["by"], where.get(row["by"])
                row["memory"] = _memory.in_fresh_process(_peak, *arguments)
        study.write_table("benchmark", rows)
        summary = _summary(rows, machine, data)
        table = _benchmark_table.table(rows)
        _benchmark_table.write_markdown(study.path / "benchmark.md", title, table, summary)
    _benchmark_table.print_table(table, console)
    console.print("\n".join([*summary, str(study.final)]), soft_wrap=True)
    return study.final


@dataclasses.dataclass(frozen=True)
class Data:
    """Arrays by name, on the host and on JAX's device, and the shape n, s, d, c."""

    host: dict[str, np.ndarray]
    device: dict[str, jax.Array]
    shape: tuple[int, int, int, int]


def make_data(config: Config) -> Data:
    """Labelled samples: rectified features around class centres, predictions that know a little."""
    n, s, d, c = SIZES[config.size]
    rng = np.random.default_rng(config.seed)
    labels = rng.permutation(np.arange(n, dtype=np.int32) % c)
    centres = rng.standard_normal((c, d), np.float32)
    features = centres[labels]
    features *= 0.5
    features += rng.standard_normal((n, d), np.float32)
    features *= np.geomspace(1, 0.1, d, dtype=np.float32)
    features += rng.standard_normal((n, 8), np.float32) @ rng.standard_normal((8, d), np.float32)
    np.maximum(features, 0, out=features)
    probs = rng.standard_normal((c, s), np.float32)[labels]
    probs += rng.standard_normal((n, s), np.float32)
    probs *= 2
    np.exp(probs, out=probs)
    probs /= probs.sum(1, keepdims=True)
    source_labels = probs.argmax(1).astype(np.int32)
    host = {"labels": labels, "features": features, "probs": probs, "source_labels": source_labels}
    return Data(host, jax.device_put(host), (n, s, d, c))


def contenders(
    metric: str, data: Data, modules: Sequence[ModuleType]
) -> dict[str, Callable[[], Any]]:
    """Calls that compute a score, by who does it; leepjax first. Inputs are where they belong."""
    if metric == TOGETHER:
        alone = [contenders(name, data, [])["leepjax"] for name in _moments()]
        together = partial(
            score,
            data.device["labels"],
            num_classes=data.shape[3],
            features=data.device["features"],
            metrics=_moments(),
        )
        return {"leepjax": together, "leepjax one by one": lambda: [call() for call in alone]}
    name, c = METRICS[metric].inputs[0], data.shape[3]
    options = {"num_source_classes": data.shape[1]} if name == "source_labels" else {}
    function = getattr(leepjax_metrics, metric)
    arrays = data.device[name], data.device["labels"]
    calls = {"leepjax": partial(function, *arrays, num_classes=c, **options)}
    for module in modules:
        if metric in module.PEERS:
            x, labels = (module.prepare(data.host[key]) for key in (name, "labels"))
            calls[module.NAME] = partial(module.PEERS[metric], x, labels, c)
    return calls


def reference(metric: str, data: Data, config: Config) -> float:
    """The value by NumPy in float64; NaN where peers are not wanted, or for several scores."""
    if metric not in _numpy_peers.PEERS or not config.peers:
        return float("nan")
    x = data.host[METRICS[metric].inputs[0]]
    x = x.astype(np.float64) if x.dtype.kind == "f" else x
    return _numpy_peers.PEERS[metric](x, data.host["labels"], data.shape[3])


def _rows(
    metric: str,
    timings: dict[str, Timing],
    expected: float,
    machine: _roofline.Machine,
    data: Data,
) -> list[dict[str, Any]]:
    ours = timings["leepjax"].seconds if "leepjax" in timings else float("nan")
    roof = machine.seconds(_work(metric, data))
    rows = []
    for name, timing in timings.items():
        seconds = timing.seconds
        row = {
            "score": metric,
            "by": name,
            "seconds": seconds,
            "ratio": seconds / ours,
            "cpu_seconds": timing.cpu_seconds,
            "roof": roof / seconds,
            "value": timing.value,
            "reference": expected,
            "fastest": min(timing.wall),
            "slowest": max(timing.wall),
            "first": timing.first,
        }
        rows.append(row)
    return rows


def _work(metric: str, data: Data) -> _roofline.Work:
    n, s, d, c = data.shape
    return _roofline.work(_moments() if metric == TOGETHER else [metric], n=n, s=s, d=d, c=c)


def _moments() -> list[str]:
    return [name for name in MOMENTS if name in METRICS]


def _check(config: Config) -> None:
    unknown = sorted(set(config.metrics) - set(TIMED))
    if unknown:
        raise ValueError(f"--metrics: wanted names among {', '.join(TIMED)}, got {unknown}")
    for name in ("repeats", "tasks", "epochs", "shots", "width"):
        if getattr(config, name) is not None and getattr(config, name) < 1:
            raise ValueError(f"--{name}: wanted at least 1, got {getattr(config, name)}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not 1 <= config.threads <= (cores or 1):
        raise ValueError(f"--threads: wanted 1 to {cores}, got {config.threads}")


def _chosen(config: Config, console: Console) -> list[str]:
    absent = [name for name in config.metrics if name not in METRICS and name != TOGETHER]
    for name in absent:
        console.print(f"{name}: not in leepjax.metrics.METRICS, skipped")
    return [name for name in config.metrics if name not in absent]


def _title(config: Config, machine: _roofline.Machine) -> str:
    n, s, d, c = SIZES[config.size]
    return (
        f"{config.size}: n = {n:,}, s = {s:,}, d = {d:,}, c = {c}; {_conditions(config)}; {machine}"
    )


def _conditions(config: Config) -> str:
    return f"{_roofline.processor()}, {config.threads} thread(s), median of {config.repeats}"


def _summary(
    rows: Sequence[Mapping[str, Any]], machine: _roofline.Machine, data: Data
) -> list[str]:
    seconds = {row["score"]: row["seconds"] for row in rows if row["by"] == "leepjax"}
    lines = ["`*`: further than 1e-4 max(1, |reference|) from NumPy in float64."]
    if "memory" in rows[0]:
        lines.append("memory: peak of a warm call above what was held before, over its input's.")
    if "leep" in seconds:
        rate = _work("leep", data).bytes / seconds["leep"]
        part = rate / max(machine.bandwidth.values())
        lines.append(f"leep reads its input twice, at {rate / 1e9:.1f} GB/s: {part:.0%} of a copy.")
    alone = {name: seconds[name] for name in _moments() if name in seconds}
    if TOGETHER in seconds and alone:
        slowest = max(alone, key=lambda name: alone[name])
        lines.append(
            f"score of {', '.join(_moments())} together (values summed): "
            f"{seconds[TOGETHER] / alone[slowest]:.2f} times {slowest} alone."
        )
    return lines


def _peak(config: Config, metric: str, by: str, module: str | None) -> float:
    """The growth of memory at the peak of a call, over its input's; in a process of its own."""
    data = make_data(config)
    modules = [importlib.import_module(module)] if module else []
    name = "features" if metric == TOGETHER else METRICS[metric].inputs[0]
    return _memory.peak_growth(contenders(metric, data, modules)[by]) / data.host[name].nbytes


def _pin(threads: int, arguments: Sequence[str]) -> None:
    """Start again on so many cores: libraries read their number of threads as they are imported."""
    if os.environ.get("LEEPJAX_BENCHMARK_THREADS") == str(threads):
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    names = ("LEEPJAX_BENCHMARK", "OMP_NUM", "OPENBLAS_NUM", "MKL_NUM")
    environment = {f"{name}_THREADS": str(threads) for name in names}
    environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # PyTorch shares the GPU
    command = [sys.executable, "-m", "experiments.benchmark", *arguments]
    os.execve(sys.executable, command, os.environ | environment)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, run, and turn bad input into one clear line."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    config = tyro.cli(Config, args=arguments)
    try:
        _check(config)
        _pin(config.threads, arguments)
        if config.benchmark == "fine_tune":
            cores_as_devices(str(config.threads))
        console = Console()
        console.width = max(console.width, 112)
        run(config, console)
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
