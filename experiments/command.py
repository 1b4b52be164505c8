"""Shared by experiments: flags, devices, presets, and a run that is made once and then shown."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import tyro
from rich.console import Console

from leepjax import report
from leepjax._seed import check_seed
from leepjax._store import keep_programs
from leepjax.cluster import connect
from leepjax.data import Dataset, check_bank, load, shrink
from leepjax.metrics import metrics_of


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """The flags of every experiment; an experiment can redefine a flag."""

    preset: str = "default"
    """Sizes."""
    seed: int = 0
    """Random seed of source training, tasks and learners."""
    output_dir: Path | None = None
    """Where results go; default runs/EXPERIMENT/KEY, KEY computed from the configuration."""
    data_dir: Path | None = None
    """TFDS data directory; default TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    devices: str = "1"
    """How many devices share the work: a number, or all; on a CPU each core can be one."""
    overwrite: bool = False
    """Start again if the same command has already run."""


@dataclasses.dataclass(frozen=True)
class ClusterConfig(StudyConfig):
    """The flags of experiments whose tasks can be divided over a cluster."""

    cluster: str | None = None
    """Divide the tasks that networks are trained on, or adapted to, over a Ray cluster: local:N
    (workers on this machine), auto (the one this machine belongs to) or HOST:PORT."""


@dataclasses.dataclass(frozen=True)
class _Preset:
    preset: str = "default"  # which there are, the experiment's own configuration says


Config = TypeVar("Config", bound=StudyConfig)
Presets = Mapping[str, Mapping[str, Any]]  # by name, what they set


def start(
    config_class: type[Config],
    run: Callable[[Config, Console], Path],
    presets: Presets,
    arguments: Sequence[str] | None = None,
) -> None:
    """Parse a command line of these flags, run, and turn bad input into one clear line.

    Args:
      config_class: the flags, with their defaults.
      run: the experiment.
      presets: values that replace defaults, by the name that ``--preset`` gives.
      arguments: default those of the process.
    """
    preset = tyro.cli(_Preset, args=arguments, return_unknown_args=True, add_help=False)[0].preset
    known = preset in presets
    default = config_class(preset=preset, **presets[preset]) if known else config_class()
    spec = sys.modules[run.__module__].__spec__  # None of a script; of a file by -m, its name
    prog = f"python -m {spec.name.removesuffix('.study')}" if spec else None
    config = tyro.cli(config_class, args=arguments, default=default, prog=prog)
    try:
        cores_as_devices(config.devices)
        keep_programs()
        console = Console()
        console.width = max(console.width, 112)  # lines may wrap, but names must not be cut
        run(config, console)
    except (OSError, ValueError) as error:  # OSError: as of a full disk
        sys.exit(f"error: {error}")


def run_study(
    name: str,
    config: Config,
    console: Console,
    work: Callable[[report.Run, Config, Sequence[Any], Console], None],
    show: Callable[[Path, Console], None],
) -> Path:
    """Run a study, or show the saved result; return its directory.

    Args:
      name: of the experiment.
      config: its configuration, checked.
      console: to print to.
      work: writes the run, given its directory, the configuration and devices.
      show: prints a run that is finished.
    """
    check_seed("--seed", config.seed)
    devices = devices_of(config.devices)
    options = {"output_dir": config.output_dir, "overwrite": config.overwrite}
    with report.open_run(name, config, **options) as study:
        if not study.finished:
            with connect(getattr(config, "cluster", None)):
                work(study, config, devices, console)
    show(study.final, console)
    return study.final


def show_sections(
    sections: Callable[[Path], Iterable[report.Section]],
    path: Path,
    console: Console,
    files: str = "Tables and figures",
) -> None:
    """Print the results of a study, from its directory, and where its files are."""
    for section in sections(path):
        report.print_section(section, console)
    console.print(f"{files}: {path}", soft_wrap=True)


def cores_as_devices(text: str) -> None:
    """Let CPU cores be devices, as many as ``--devices`` asks for, before JAX initialises."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = cores or 1 if text == "all" else int(text) if text.isdecimal() else 1
    if wanted > 1 and "device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # JAX is initialised: its devices count
            jax.config.update("jax_num_cpu_devices", min(wanted, cores or 1))


def devices_of(text: str) -> Sequence[Any]:
    """The devices that ``--devices`` asks for."""
    available = jax.devices()
    if text == "all":
        return available
    if not text.isdecimal() or not 1 <= int(text) <= len(available):
        raise ValueError(f"--devices: wanted 1 to {len(available)}, or all, got {text!r}")
    return available[: int(text)]


def undivided(devices: Sequence[Any]) -> Sequence[Any]:
    """The devices for scores and heads: the first one on a CPU, else all.

    CPU cores are separate devices only to train networks. For the rest one device uses all cores,
    because XLA's CPU backend can deadlock if devices that share its threads solve triangular
    systems.
    """
    return devices[:1] if devices[0].platform == "cpu" else devices


def named(flag: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function; its error names the flag."""
    try:
        return function(*arguments, **options)
    except ValueError as error:
        raise ValueError(f"{flag}: {error}") from None


def load_small(flag: str, name: str, data_dir: Path | None) -> Dataset:
    """A data set for small networks: images of more than 32 pixels shrunk to 28."""
    dataset = named(flag, load, name, data_dir=data_dir)
    check_bank(flag, dataset.train)
    return shrink(dataset, 28) if max(dataset.train.images.shape[1:3]) > 32 else dataset


def metric_names(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The names that ``--metrics`` stands for."""
    known = metrics_of("features", "logits", "labels", "key")
    if wanted == ("all",):
        return known
    if not wanted or not set(wanted) <= set(known):
        got = ", ".join(name for name in wanted if name not in known) or "none"
        raise ValueError(f"--metrics: wanted all, or names among {', '.join(known)}; got {got}")
    return wanted
