"""Tables and numbers as text: the same in a terminal, a notebook, a page and a sentence."""

import math
from collections.abc import Collection, Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.table import Table


class Sheet(NamedTuple):
    """A table of text: its headings, and rows of as many cells.

    Names of nulls end in ``*``; what is to be read over stands in parentheses.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def starred(name: str, nulls: Collection[str]) -> str:
    """The name, with a star if it is a null's."""
    return f"{name} *" if name in nulls else name


def decimal(x: float) -> str:
    """``.85``, two decimals and no zero before the point; ``1.00``."""
    text = f"{x:.2f}".replace("-0.00", "0.00")
    return text.replace("0.", ".", 1) if abs(x) < 0.995 else text


def probability(p: float) -> str:
    """``.87``; ``> .99`` and ``< .01`` where two decimals would say certain; nothing of a NaN."""
    if math.isnan(p):
        return ""
    return "> .99" if p > 0.995 else "< .01" if p < 0.005 else decimal(p)


def grid(sheet: Sheet, left: Collection[str]) -> "Table":
    """The sheet for rich: columns of these headings to the left, nulls dim, no name cut."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape as plain
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for heading in sheet.headings:
        table.add_column(
            plain(heading),
            justify="left" if heading in left else "right",
            style="dim" if heading.endswith("*") or heading.startswith("(") else None,
            no_wrap=True,
        )
    for row in sheet.rows:
        table.add_row(*map(plain, row), style="dim" if row[0].endswith("*") else None)
    return table


def html_table(sheet: Sheet, heading: str = "<th>{}</th>") -> str:
    """The sheet in HTML, its text escaped; rows of nulls have the class ``null``."""
    head = "".join(heading.format(escape(text)) for text in sheet.headings)
    rows = "".join(
        f"<tr{' class=null' if row[0].endswith('*') else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in sheet.rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
