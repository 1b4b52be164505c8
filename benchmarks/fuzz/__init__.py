"""Metrics, readers and names fuzzed: what ends otherwise than in a result or a ``ValueError``?

    python -m benchmarks fuzz                       # a thousand cases of each target
    python -m benchmarks fuzz --minutes 120 --seed 7
    python -m benchmarks fuzz leep npz --cases 50000

Prints a table of what became of the cases, and the smallest failing case of each target in full.
The same seed and number of cases give the same cases.
"""

import dataclasses
import time
import traceback
from collections import Counter

import tyro
from rich.console import Console

from benchmarks.fuzz import configurations, files, names, scores, tables, texts
from benchmarks.fuzz.target import Found, Target, fuzz
from benchmarks.table import duration, print_table
from leepjax._progress import progress
from leepjax._store import keep_programs


@dataclasses.dataclass(frozen=True)
class Config:
    """Fuzz metrics, readers, and names on their way to terminals, pages and spreadsheets."""

    targets: tyro.conf.Positional[tuple[str, ...]] = ()
    """Which, by name or kind (metric, reader, names); default all."""
    cases: int = 1000
    """Of each target, in one round."""
    minutes: float = 0.0
    """Rounds of other cases until so many have passed; default one round."""
    seed: int = 0
    """Of the first round; the next has the next."""


def main(config: Config) -> None:
    """Fuzz round after round, and print what became of the cases."""
    if config.cases < 1:
        raise ValueError(f"--cases: wanted at least 1, got {config.cases}")
    chosen = choose(config.targets)
    keep_programs()
    found = {target.name: Found(Counter(), 0.0, None) for target in chosen}
    try:
        _rounds(config, chosen, found)
    except KeyboardInterrupt:  # the table of what has been tried is still wanted
        print()
    console = Console()
    console.width = max(console.width, 100)
    print_table(summary(chosen, found), console)
    failed = [name for name, of in found.items() if of.error is not None]
    if failed:
        raise ValueError(f"targets that failed: {', '.join(failed)}")


def _rounds(config: Config, chosen: list[Target], found: dict[str, Found]) -> None:
    end, seed = time.monotonic() + 60 * config.minutes, config.seed
    while seed == config.seed or time.monotonic() < end:
        for target in progress(chosen, desc=f"Seed {seed}", unit="task"):
            before = found[target.name]
            if before.error is None:  # one that failed is to be mended first
                now = fuzz(target, config.cases, seed)
                slowest = max(before.slowest, now.slowest)
                found[target.name] = Found(before.outcomes + now.outcomes, slowest, now.error)
                if now.error is not None:
                    _show(target, config.cases, seed, now.error)
        seed += 1


def every_target() -> list[Target]:
    """All there are."""
    modules = (scores, files, texts, tables, configurations, names)
    return [target for module in modules for target in module.targets()]


def choose(asked: tuple[str, ...]) -> list[Target]:
    """Targets of these names and kinds, or all."""
    every = every_target()
    known = {word for target in every for word in (target.kind, target.name)}
    for name in asked:
        if name not in known:
            raise ValueError(f"targets: wanted any of {', '.join(sorted(known))}; got {name!r}")
    return [t for t in every if not asked or {t.kind, t.name} & {*asked}]


def summary(chosen: list[Target], found: dict[str, Found]) -> list[list[str]]:
    """A line for each target, and the sums."""
    lines = [["kind", "target", "cases", "value", "refused", "failed", "slowest case"]]
    total = Counter[str]()
    for target in chosen:
        outcomes, slowest, error = found[target.name]
        counts = outcomes + Counter(failed=int(error is not None))
        total += counts
        lines.append([target.kind, target.name, *_cells(counts), duration(slowest)])
    return [*lines, ["all", "", *_cells(total), ""]]


def _cells(counts: Counter[str]) -> list[str]:
    columns = [counts.total(), *(counts[name] for name in ("value", "refused", "failed"))]
    return [f"{number:,}" for number in columns]


def _show(target: Target, cases: int, seed: int, error: BaseException) -> None:
    print(f"\n{target.name} fails: python -m benchmarks fuzz {target.name} ", end="")
    print(f"--cases {cases} --seed {seed}")
    print("".join(traceback.format_exception(error, limit=-6)))
