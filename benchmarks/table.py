"""Tables of benchmarks for the terminal and in Markdown."""

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


def print_table(table: Sequence[Sequence[str]], console: Console, names: int = 2) -> None:
    """Print lines of text: so many columns of names, then numbers; ours in bold.

    With two columns of names, a block for each of the first.
    """
    headings, *lines = table
    grid = Table(box=SIMPLE_HEAD)
    for i, heading in enumerate(headings):
        grid.add_column(heading, justify="left" if i < names else "right", no_wrap=True)
    for i, line in enumerate(lines):
        last = names > 1 and i + 1 < len(lines) and lines[i + 1][0] != line[0]
        ours = line[names - 1].startswith("leepjax")
        grid.add_row(*line, style="bold" if ours else None, end_section=last)
    console.print(grid)


def write_markdown(
    path: Path,
    title: str,
    table: Sequence[Sequence[str]],
    summary: Sequence[str],
    names: int = 2,
) -> None:
    """Write the title, the table and what it says, as Markdown."""
    headings, *lines = table
    rule = ["---"] * names + ["---:"] * (len(headings) - names)
    text = "\n".join(f"| {' | '.join(line)} |" for line in (headings, rule, *lines))
    path.write_text("\n\n".join([title, text, *summary]).replace(" *", " \\*") + "\n")


def duration(seconds: float) -> str:
    """Seconds as text, in a unit that suits them."""
    unit, scale = ("µs", 1e6) if seconds < 1e-3 else ("ms", 1e3) if seconds < 1 else ("s", 1)
    return f"{seconds * scale:.{1 if seconds * scale < 100 else 0}f} {unit}"
