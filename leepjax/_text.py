"""Tables and numbers as text: the same in a terminal, a notebook, a page, a file and a sentence."""

import csv
import io
import math
import re
from collections.abc import Collection, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rich.table import Table


# The full-width ones are executed too, by spreadsheets in some languages.
_EXECUTED = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
# Controls, such as those that begin a terminal's escapes; line and paragraph separators; what turns
# the direction of all that follows; halves of characters, which no encoding has.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
LEAST = 24  # characters of words that stay in one line
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|-inf")


class Sheet(NamedTuple):
    """A table of text: its headings, and rows of as many cells.

    Names of nulls end in ``*``; what is to be read over stands in parentheses. ``words`` are the
    headings of columns of words, which stand to the left; without any the first column is one.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Collection[str] = ()

    @property
    def of_words(self) -> list[bool]:
        """Which columns are of words."""
        return [heading in (self.words or self.headings[:1]) for heading in self.headings]


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


def duration(seconds: float) -> str:
    """``0.04 s``, ``3.2 s``, ``41 s``, ``4 min 10 s``, ``2 h 5 min``; nothing of a NaN.

    >>> print(duration(0.037), duration(41.4), duration(249.7), duration(7499), sep=", ")
    0.04 s, 41 s, 4 min 10 s, 2 h 5 min
    """
    if math.isnan(seconds):
        return ""
    for below, digits in ((0.095, 2), (9.95, 1), (59.5, 0)):
        if seconds < below:
            return f"{seconds:.{digits}f} s"
    unit, large, small = (1, "min", "s") if seconds < 3599.5 else (60, "h", "min")
    whole, rest = divmod(round(seconds / unit), 60)
    return f"{whole:,} {large} {rest} {small}"


def printable(text: str) -> str:
    r"""The text with what a terminal or a page would obey spelt out: ``\x1b``, ``\u202e``."""
    return _UNSEEN.sub(lambda match: ascii(match[0])[1:-1], text)


def for_spreadsheet(text: str) -> str:
    """A cell of a CSV file that no spreadsheet executes: ``=1+1`` is written as ``'=1+1``.

    Numbers stay as they are. :func:`from_spreadsheet` gives the text back.
    """
    return f"'{text}" if _EXECUTED.match(text) and not _NUMBER.fullmatch(text) else text


def from_spreadsheet(cell: str) -> str:
    """The text that :func:`for_spreadsheet` was given."""
    return cell[1:] if cell.startswith("'") and _EXECUTED.match(cell) else cell


def grid(sheet: Sheet) -> "Table":
    """The sheet for rich: columns of words to the left, folded where too long; nulls dim."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD)
    columns = zip(*sheet.rows, strict=True) if sheet.rows else [()] * len(sheet.headings)
    for heading, words, column in zip(sheet.headings, sheet.of_words, columns, strict=True):
        longest = max(map(len, column), default=0)
        table.add_column(
            Text(printable(heading)),
            justify="left" if words else "right",
            style="dim" if _faint(heading) else None,
            no_wrap=not words,
            overflow="fold" if words else "ellipsis",
            min_width=min(longest, LEAST) if words else None,
        )
    for row in sheet.rows:
        table.add_row(
            *(Text(printable(cell)) for cell in row), style="dim" if _faint(row[0]) else None
        )
    return table


def _faint(name: str) -> bool:
    return name.endswith("*") or name.startswith("(")


def in_html(text: str) -> str:
    """The text in HTML, as text."""
    return escape(printable(text))


def html_table(sheet: Sheet, heading: str = "{}") -> str:
    """The sheet in HTML, its text escaped, each heading in the given tags.

    Rows of nulls have the class ``null``, cells of words ``words``, those to be folded ``long``.
    """

    def row(tag: str, cells: Sequence[str], form: str = "{}") -> str:
        parts = []
        for cell, words in zip(cells, sheet.of_words, strict=True):
            kind = " class=words" if words else ""
            if words and len(cell) > LEAST:
                kind = ' class="words long"'
            parts.append(f"<{tag}{kind}>{form.format(in_html(cell))}</{tag}>")
        return "".join(parts)

    rows = "".join(
        f"<tr{' class=null' if cells[0].endswith('*') else ''}>{row('td', cells)}</tr>"
        for cells in sheet.rows
    )
    head = row("th", sheet.headings, heading)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def table_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV, one row for each mapping; what a row has not stays empty.

    Names that a spreadsheet would execute get an apostrophe, which :func:`read_table` takes off.
    """

    def plain(cell: Any) -> Any:
        return for_spreadsheet(cell) if isinstance(cell, str) else cell

    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(map(plain, columns))
    writer.writerows([plain(row.get(name, "")) for name in columns] for row in rows)
    return text.getvalue()


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write :func:`table_text` as UTF-8; what is no text in a name becomes ``\\udcXX``."""
    path.write_bytes(table_text(rows).encode("utf-8", "backslashreplace"))


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as written by :func:`write_table`."""
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    names = [*map(from_spreadsheet, header)]
    return [dict(zip(names, map(from_spreadsheet, row), strict=True)) for row in rows]
