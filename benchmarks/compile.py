"""What does another platform's compiler make of leepjax's programs?

    pip install -e ".[tpu-compile]" && python -m benchmarks compile leep h_score

The TPU's compiler needs no TPU. Its program says how many bytes come from and go to main memory,
how much of it is taken beside the arguments, and what devices send each other: an account, not a
measurement. For CUDA programs are lowered (`jax.export`), which needs no GPU and says whether they
can be.
"""

import dataclasses
import importlib.util
import os
import re
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import export
from jax.experimental import topologies
from jax.sharding import Mesh
from rich.console import Console

from benchmarks.programs import Program, Sizes, placed, programs
from benchmarks.table import print_table, write_markdown
from benchmarks.traffic import memory_traffic
from leepjax import report
from leepjax.metrics import platform

# What the TPU's runtime would ask the machines of a cloud for.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
COLLECTIVE = re.compile(
    r"= (\(?)(?P<shapes>[^=]*?)\s(?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all|"
    r"collective-permute)(-start)?\("
)
SHAPE = re.compile(r"(pred|[a-z]+(\d+))\[([\d,]*)\]")
HEADINGS = [
    *("program", "compile", "CPU s", "bytes / least", "temporary", "Gflop", "estimate", "sent, kB")
]


@dataclasses.dataclass(frozen=True)
class Config:
    """Compile programs for a platform that need not be here, and show what its compiler says."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Programs; none: all of them."""
    platform: Literal["tpu", "cuda", "cpu", "here"] = "tpu"
    """tpu and cpu: compiled; cuda: lowered; here: compiled for what JAX runs on."""
    topology: str = "v5e:2x2"
    """Of the TPU, as its compiler names it."""
    chips: int = 1
    """Over how many the samples of scores are spread."""
    n: int = 65_536
    """Samples of the scores; 1,000 source classes, 512 dimensions, 100 target classes."""
    output_dir: Path | None = None
    """Where the tables go, over what is there; default runs/compile/KEY, KEY of the
    configuration."""


def devices_of(config: Config) -> list[Any]:
    """The devices that programs are for; of a TPU they need not be here.

    Raises:
      ValueError: its compiler is not installed, another process holds it, or it knows no such
        topology.
    """
    if config.platform != "tpu":
        return list(jax.devices(None if config.platform == "here" else "cpu"))
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError(
            "--platform: tpu needs its compiler, the package libtpu (Linux, x86-64): "
            'pip install -e ".[tpu-compile]"'
        )
    os.environ |= {k: os.environ.get(k, v) for k, v in ENVIRONMENT.items()}
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=config.topology)
    except Exception as error:  # of the plugin, which raises what it likes
        line = next((x.strip() for x in str(error).splitlines() if x.strip()), type(error).__name__)
        raise ValueError(f"--topology: libtpu refused {config.topology!r}: {line:.160}") from None
    return list(found.devices)


def account(program: Program, mesh: Mesh, target: str) -> dict[str, Any]:
    """What the compiler says of a program on one of the devices, by name."""
    arguments = placed(program, mesh)
    least = sum(map(_bytes, jax.tree.leaves(arguments))) / (mesh.size if program.rows else 1)
    start, used = time.perf_counter(), _cpu()
    with platform.programs_for(target):
        traced = program.jitted.trace(*arguments)
        kind = "cuda" if target == "gpu" else target
        lowered = traced.lower(lowering_platforms=(kind,))
    compiled = lowered.compile()
    seconds, used = time.perf_counter() - start, _cpu() - used
    cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
    text = compiled.as_text()
    kinds, sent = _collectives(text)
    moved, loops = memory_traffic(text)
    estimate = cost.get("optimal_seconds", np.nan)
    return {
        "seconds": seconds,
        "cpu_seconds": used,
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "bytes": moved,
        "loops_counted_once": loops,
        "compiler_bytes": cost.get("bytes accessed", np.nan),
        "least_bytes": least,
        "flops": cost.get("flops", np.nan),
        "estimate": estimate if estimate > 0 else np.nan,  # a loop hides its count
        "collectives": kinds,
        "sent_bytes": sent,
    }


def lower_for_cuda(program: Program) -> dict[str, Any]:
    """Lower a program for CUDA: seconds, and the bytes of what would be sent to a machine."""
    start = time.perf_counter()
    with platform.programs_for("gpu"):
        exported = export.export(program.jitted, platforms=("cuda",))(*program.arguments)
    size = len(exported.mlir_module_serialized)
    return {"seconds": time.perf_counter() - start, "program_bytes": size}


def _bytes(x: jax.ShapeDtypeStruct) -> int:
    size = 8 if jnp.issubdtype(x.dtype, jax.dtypes.extended) else x.dtype.itemsize
    return int(np.prod(x.shape)) * size


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _collectives(text: str) -> tuple[str, int]:
    """What devices send each other: kinds with their numbers, and bytes of the arrays named."""
    counts: dict[str, int] = {}
    sent = 0
    for match in COLLECTIVE.finditer(text):
        counts[match["kind"]] = counts.get(match["kind"], 0) + 1
        for _, bits, dims in SHAPE.findall(match["shapes"]):
            sent += int(np.prod([int(x) for x in dims.split(",") if x])) * int(bits or 8) // 8
    return " ".join(f"{number} {kind}" for kind, number in sorted(counts.items())), sent


def run(config: Config, console: Console) -> Path:
    """Compile the programs, print the table, write CSV, Markdown and a figure; return where."""
    if config.n < 1:
        raise ValueError(f"--n: wanted at least 1, got {config.n}")
    if config.platform == "cuda" and config.chips > 1:
        raise ValueError(f"--chips: wanted 1 with --platform cuda, got {config.chips}")
    devices = devices_of(config)
    if not 1 <= config.chips <= len(devices):
        raise ValueError(f"--chips: wanted 1 to {len(devices)}, got {config.chips}")
    mesh = Mesh(np.array(devices[: config.chips]), ("data",))
    there = programs(Sizes(config.n, 1000, 512, 100), mesh)
    unknown = sorted(set(config.names) - set(there))
    if unknown:
        raise ValueError(f"names: wanted programs among {', '.join(there)}; got {unknown}")
    names = config.names or tuple(there)
    rows: list[dict[str, Any]] = []
    with report.open_run("compile", config, output_dir=config.output_dir, overwrite=True) as study:
        for i, name in enumerate(names, start=1):
            row = {"program": name} | _one(there[name], mesh, config.platform)
            rows.append(row)
            cells = "  ".join(_cells(row))
            console.print(f"{i}/{len(names)}  {cells}", style="dim", soft_wrap=True, markup=False)
        study.write_table("compile", rows)
        title = f"{config.platform} {config.topology if config.platform == 'tpu' else ''}".strip()
        title += f", {config.chips} device(s), jax {jax.__version__}; n = {config.n:,}, "
        title += "s = 1,000, d = 512, c = 100"
        table = [HEADINGS, *map(_cells, rows)]
        write_markdown(study.path / "compile.md", title, table, [NOTE], names=1)
        if config.platform != "cuda" and not all(row["failed"] for row in rows):
            _draw(rows, study.path, title)
    console.print(title)
    print_table(table, console, names=1)
    console.print("\n".join([NOTE, str(study.final)]), soft_wrap=True)
    return study.final


def _one(build: Callable[[], Program], mesh: Mesh, kind: str) -> dict[str, Any]:
    """A program's account, or why there is none: others are compiled all the same."""
    try:
        target = {"cuda": "gpu", "here": jax.default_backend()}.get(kind, kind)
        with platform.programs_for(target):
            program = build()
        found = lower_for_cuda(program) if kind == "cuda" else account(program, mesh, target)
        return found | {"failed": ""}
    except Exception as error:  # whatever a compiler raises
        line = next((x.strip() for x in str(error).splitlines() if x.strip()), "")
        return {"failed": f"{type(error).__name__}: {line:.200}"}
    finally:
        jax.clear_caches()


def _cells(row: dict[str, Any]) -> list[str]:
    """A row as text, in the order of ``HEADINGS``."""
    if row["failed"]:
        return [row["program"], row["failed"], *[""] * (len(HEADINGS) - 2)]

    def text(value: float, form: str = ".1f") -> str:
        number, _, unit = form.partition(" ")
        return f"{value:{number}} {unit}".strip() if np.isfinite(value) else ""

    nothing = float("nan")
    least, given = row.get("least_bytes", nothing), row.get("argument_bytes", nothing)
    return [
        row["program"],
        f"{row['seconds']:.1f} s",
        text(row.get("cpu_seconds", nothing)),
        text(row.get("bytes", nothing) / least, ".2f") + "+" * bool(row.get("loops_counted_once")),
        text(row.get("temporary_bytes", nothing) / given, ".1%"),
        text(row.get("flops", nothing) / 1e9),
        text(row.get("estimate", nothing) * 1e3, ".2f ms"),
        text(row.get("sent_bytes", 0) / 1e3) if row.get("collectives") else "",
    ]


NOTE = (
    "A compiler's account, not a measurement. Bytes: from and to main memory, over those of the "
    "arguments, on one device; +: a loop whose length depends on data, counted once; temporary: "
    "memory beside the arguments, in % of them; operations and estimate: the compiler's, which "
    "takes every loop once; sent: results of collectives."
)


def _draw(rows: Sequence[dict[str, Any]], path: Path, title: str) -> None:
    """``compile.svg``: seconds and bytes of each program."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if not row["failed"]]
    names = [row["program"] for row in rows][::-1]
    figure = Figure(figsize=(9, 1 + 0.24 * len(rows)), layout="constrained")
    figure.suptitle(title, fontsize=9)
    left, right = figure.subplots(1, 2, sharey=True)
    left.barh(names, [row["cpu_seconds"] for row in rows][::-1], color="#0072B2")
    left.set_xlabel("CPU seconds to compile")
    right.barh(names, [row["bytes"] / row["least_bytes"] for row in rows][::-1], color="#D55E00")
    right.axvline(1, color="black", linewidth=0.8)
    right.set_xlabel("bytes from and to main memory, over those of the arguments")
    for axis in (left, right):
        axis.set_xscale("log")
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(axis="y", labelsize=7)
    figure.savefig(path / "compile.svg")


def main(config: Config) -> None:
    """Run the benchmark."""
    if config.platform == "tpu":
        jax.config.update("jax_platforms", "cpu")  # libtpu compiles; it must not look for a TPU
    console = Console()
    console.width = max(console.width, 112)
    run(config, console)
