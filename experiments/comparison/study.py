"""Every setting of a grid run in a directory of its own, and their scores compared."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape

from experiments.command import ClusterConfig, show_sections, start
from experiments.comparison.grid import GRIDS, NOTES, Setting, identity, missing
from experiments.comparison.tables import plan, sections
from experiments.comparison.verdicts import compare
from leepjax import report
from leepjax._store import digest

FINISHED = "finished"


@dataclasses.dataclass(frozen=True)
class Config(ClusterConfig):
    """LEEP against NCE and the H-score in a grid of settings, with intervals and nulls."""

    preset: Literal["smoke", "default"] = "default"
    """smoke: two tiny settings of Glyphs (a minute; its results mean nothing)."""
    grid: Literal["glyphs", "real", "leep2020"] = "glyphs"
    """Which settings: embedded data, CIFAR-10 ResNets on real data, or those of the LEEP
    article."""
    only: tuple[str, ...] = ()
    """Run only these settings of the grid (--dry-run names them); others that are finished are
    read."""
    dry_run: bool = False
    """Print every setting with its command and what is missing, and run nothing."""
    weights_dir: Path = Path()
    """Folder of the safetensors of imported sources."""
    devices: str = "all"
    """How many devices share the work: a number, or all; on a CPU each core can be one."""
    overwrite: bool = False
    """Start again if the same settings have already run; with --only, only these settings."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """The identity of a comparison: the command of each of its settings."""

    grid: str
    settings: dict[str, str]


def run(config: Config, console: Console) -> Path:
    """Run the unfinished settings, compare, and show the comparison; return its directory."""
    console.width = max(console.width, 170)  # lines may wrap, but names must not be cut
    settings = _settings(config)
    grid = Grid(config.grid, identity(settings))
    directory = config.output_dir or Path("runs") / "comparison" / digest(grid)
    places = {setting.name: directory / "settings" / setting.name for setting in settings}
    if config.dry_run:
        lacking = {s.name: missing(s, config.data_dir) for s in settings}
        done = {name for name, place in places.items() if _finished(place)}
        if config.grid in NOTES:
            _say(console, NOTES[config.grid])
        for line in plan(settings, lacking, done):
            _say(console, line)
        return directory
    # Beside the settings' own runs, which are complete at any moment and are not moved.
    table = directory / "comparison"
    again = config.overwrite or _incomplete(table, grid)
    with report.open_run("comparison", grid, output_dir=table, overwrite=again) as study:
        if not study.finished:
            states = _run_settings(study, settings, places, config, console)
            _write(study, settings, places, states, config.grid)
    files = "* null. Tables, and a page that has every score"
    show_sections(sections, study.final, console, files)
    return directory


def _settings(config: Config) -> list[Setting]:
    smoke = config.preset == "smoke"
    if smoke and config.grid != "glyphs":
        raise ValueError(f"--preset: smoke is of --grid glyphs, got --grid {config.grid}")
    settings = GRIDS["smoke" if smoke else config.grid](config.weights_dir, config.seed)
    unknown = set(config.only) - {setting.name for setting in settings}
    if unknown:
        known = ", ".join(setting.name for setting in settings)
        raise ValueError(f"--only: wanted some of {known}; got {', '.join(sorted(unknown))}")
    return settings


def _finished(place: Path) -> bool:
    return (place / "results.csv").exists()  # a run directory takes its name at the end


def _incomplete(table: Path, grid: Grid) -> bool:
    """Whether a comparison of this grid exists and lacks settings; another grid's is refused."""
    if not (table / "config.json").exists():
        return False
    with report.open_run("comparison", grid, output_dir=table) as study:
        states = report.read_table(study.path / "settings.csv")
        return any(row["state"] != FINISHED for row in states)


def _run_settings(
    study: report.Run,
    settings: Sequence[Setting],
    places: dict[str, Path],
    config: Config,
    console: Console,
) -> dict[str, str]:
    """Run every setting that is wanted and can run; return the state of each."""
    states = {}
    for i, setting in enumerate(settings, start=1):
        name, began = setting.name, time.perf_counter()
        wanted = not config.only or name in config.only
        done = _finished(places[name])
        if not wanted and not done:
            states[name] = "not run yet (--only)"
            continue
        _say(console, f"setting {i} of {len(settings)}: {name}{' (saved)' if done else ''}")
        where: dict[str, Any] = {"output_dir": places[name], "data_dir": config.data_dir}
        where |= {"devices": config.devices, "overwrite": config.overwrite and wanted}
        where |= {"cluster": config.cluster}
        lacking = [] if done else missing(setting, config.data_dir)
        states[name] = FINISHED
        try:
            if lacking:
                raise ValueError("; ".join(problem.why for problem in lacking))
            # If it is finished this reads it, and checks that it is the same setting.
            full = dataclasses.replace(setting.config, **where)
            setting.experiment.run(full, Console(quiet=True))
        except ValueError as error:
            states[name] = str(error)
            _say(console, f"    cannot run: {error}")
            continue
        # A journal keeps the folder of an interrupted comparison, so that another grid is refused.
        (study.path / "settings.journal").touch()
        if not done:
            seconds = round(time.perf_counter() - began, 1)
            study.log(event="setting", setting=name, seconds_of_setting=seconds)
            _say(console, f"    {seconds} s")
    return states


def _say(console: Console, line: str) -> None:
    console.print(escape(line), soft_wrap=True, highlight=False)


def _write(
    study: report.Run,
    settings: Sequence[Setting],
    places: dict[str, Path],
    states: dict[str, str],
    grid: str,
) -> None:
    finished = [name for name, state in states.items() if state == FINISHED]
    if not finished:
        raise ValueError("no setting could run; --dry-run lists what each one needs")
    found = compare({name: places[name] / "results.csv" for name in finished})
    rows = [
        {"setting": name, "state": states[name], "command": line}
        for name, line in identity(settings).items()
    ]
    study.write_table("settings", rows)
    study.write_table("comparison", found.correlations)
    study.write_table("differences", found.differences)
    study.write_table("verdicts", found.verdicts)
    title = f"LEEP, NCE and H-score compared: {grid}"
    page = sections(study.path, whole=True, note=NOTES.get(grid, ""))
    report.write_page(study.path / "page.html", title, list(page))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from its command line."""
    start(Config, run, {}, arguments)
