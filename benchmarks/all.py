"""Everything about speed, by one command, for whoever has a machine to measure.

    python -m benchmarks all --output-dir runs/gpu

Each part is a benchmark of this folder in a process of its own, so that none holds another's memory
and one that fails does not end the others: scores beside their peers on the same device (LEEP
against the bandwidth of a copy among them), the compiling of every program, many small fine-tunes
beside a loop in PyTorch (`torch.compile` on a GPU), and MAML's steps beside `torch.func`. Peers
that are not installed are left out, each with a line that says so.
"""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from leepjax import report

Flags = Mapping[str, Sequence[str]]
FULL: Flags = {
    "scores": ("--size", "large"),
    "compile": ("--platform", "here"),
    "fine_tune": ("--tasks", "100"),
    "meta": (),
}
SMOKE: Flags = {
    "scores": ("--size", "small", "--repeats", "1", "--metrics", "leep"),
    "compile": ("--platform", "here", "--n", "512", "leep"),
    "fine_tune": ("--tasks", "1", "--epochs", "1", "--repeats", "1"),
    "meta": ("--tasks", "1", "--width", "4", "--repeats", "1"),
}
PRESETS: Mapping[str, Flags] = {"full": FULL, "smoke": SMOKE}
# Several networks at once are not for a CPU.
ON_CPU: Flags = {"fine_tune": ("--strategies", "loop"), "meta": ("--strategies", "loop")}


@dataclasses.dataclass(frozen=True)
class Config:
    """Run the benchmarks of speed, one after the other, and gather their tables in one file."""

    parts: Annotated[tuple[str, ...], tyro.conf.Positional] = tuple(FULL)
    """Which: scores, compile, fine_tune, meta."""
    preset: Literal["full", "smoke"] = "full"
    """smoke: as little as shows that all of it runs."""
    threads: int = 1
    """Cores that everything shares, but compiling."""
    peers: bool = True
    """Time the peers too."""
    output_dir: Path | None = None
    """Where the tables go, a folder each and all.md, over what is there; default
    runs/benchmarks/KEY, KEY of the configuration."""


def command_of(part: str, config: Config, backend: str, folder: Path) -> list[str]:
    """The command line of a part."""
    flags = [*PRESETS[config.preset][part], *(ON_CPU.get(part, ()) if backend == "cpu" else ())]
    if part != "compile":
        flags += ["--threads", str(config.threads), *([] if config.peers else ["--no-peers"])]
    return [sys.executable, "-m", "benchmarks", part, *flags, "--output-dir", str(folder)]


def run(config: Config, console: Console) -> Path:
    """Run the parts, write ``all.md``; return its directory."""
    unknown = sorted(set(config.parts) - set(FULL))
    if unknown or not config.parts:
        raise ValueError(f"parts: wanted some of {', '.join(FULL)}; got {unknown or 'none'}")
    # In a process of its own too: this one is not to hold a device.
    ask = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    backend = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.split()[-1]
    sections, failed = [], []
    with report.open_run(
        "benchmarks", config, output_dir=config.output_dir, overwrite=True
    ) as study:
        for i, part in enumerate(config.parts, start=1):
            command = command_of(part, config, backend, study.path / part)
            console.print(f"{i}/{len(config.parts)}  {part}", style="bold")
            code = subprocess.run(command, check=False, env=_environment()).returncode
            text = f"failed, exit status {code}" if code else _tables(study.path / part)
            failed += [part] * bool(code)
            sections.append(f"## {part}\n\n`{' '.join(command[1:-2])}`\n\n{text}")
        (study.path / "all.md").write_text("\n\n".join(sections) + "\n")
    console.print(str(study.final / "all.md"), soft_wrap=True)
    if failed:
        raise ValueError(f"{', '.join(failed)}: wanted exit status 0; the other parts are written")
    return study.final


def _environment() -> dict[str, str]:
    """Without what says that a benchmark has been started on its cores already."""
    return {k: v for k, v in os.environ.items() if k != "LEEPJAX_BENCHMARK_THREADS"}


def _tables(folder: Path) -> str:
    return "\n\n".join(path.read_text().strip() for path in sorted(folder.glob("*.md")))


def main(config: Config) -> None:
    """Run the benchmarks."""
    run(config, Console())
