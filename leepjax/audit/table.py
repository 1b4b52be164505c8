"""A plain table, our own or anybody's: rows are tasks or models, columns scores and accuracies.

Cells stay the text they were, so that what is wrong with one can be said with its place, and how
many decimals were printed is known.
"""

import csv
import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MISSING = ("", "nan", "na", "n/a", "-", "—", "none", "null")


@dataclasses.dataclass(frozen=True)
class TextTable:
    """Columns of text, by name, of one length.

    Attributes:
      columns: ``{name: [n] str}``.
      lines: ``[n]`` the line of each row in its file, for messages.
      source: name of the file, for messages.
    """

    columns: dict[str, np.ndarray]
    lines: np.ndarray
    source: str = "table"

    def __len__(self) -> int:
        return len(self.lines)

    def text(self, name: str) -> np.ndarray:
        """Column ``[n]`` as it was written.

        Raises:
          ValueError: there is no such column.
        """
        if name not in self.columns:
            known = ", ".join(map(repr, self.columns))
            raise ValueError(f"{self.source}: no column {name!r}; wanted one of {known}")
        return self.columns[name]

    def numbers(self, name: str) -> np.ndarray:
        """Column ``[n]`` of float64; NaN where a cell is empty, ``nan``, ``NA`` or ``-``.

        Raises:
          ValueError: a cell is neither a finite number nor missing, or there is no such column; it
            names line and column.
        """
        values = np.full(len(self), np.nan)
        for i, cell in enumerate(self.text(name)):
            if _NUMBER.fullmatch(cell):
                values[i] = float(cell)
            elif cell.lower() not in _MISSING:
                raise ValueError(
                    f"{self.source}, line {self.lines[i]}, column {name!r}: wanted a number, got "
                    f"{cell!r}; write a finite number, or nothing where it is missing"
                )
        return values

    def half_unit(self, name: str) -> float:
        """Half a unit in the last decimal that any cell of the column shows.

        What was rounded to be printed was at most this far away. Trailing zeros may be cut, so it
        is the column's cell of most decimals that counts.
        """
        decimals = [len(cell.partition(".")[2]) for cell in self.text(name) if _plain(cell)]
        return 0.5 * 10.0 ** -max(decimals, default=0)

    def is_numeric(self, name: str) -> bool:
        """Whether most cells that are not missing are numbers, and there are any."""
        there = [cell for cell in self.text(name) if cell.lower() not in _MISSING]
        return 2 * sum(bool(_NUMBER.fullmatch(cell)) for cell in there) > len(there)

    def where(self, rows: np.ndarray) -> Self:
        """The table of some rows: ``rows`` is a mask ``[n]`` or indices."""
        columns = {name: cells[rows] for name, cells in self.columns.items()}
        return dataclasses.replace(self, columns=columns, lines=self.lines[rows])

    def find(self, wanted: str | None, what: str, likely: Callable[[str], bool]) -> str:
        """The column that was named, or, where none was, the only likely one.

        Args:
          wanted: its name, or None.
          what: what the column is for, and how to name it, for messages.
          likely: whether a name is one.

        Raises:
          ValueError: none or several are likely, or the one wanted is not there.
        """
        if wanted is not None:
            self.text(wanted)
            return wanted
        found = [name for name in self.columns if likely(name)]
        if len(found) != 1:
            got = ", ".join(map(repr, found)) or "none"
            known = ", ".join(map(repr, self.columns))
            raise ValueError(f"{self.source}: wanted one column of {what}, got {got} of {known}")
        return found[0]


def read_csv(path: Path) -> TextTable:
    """Read a CSV file with a header line.

    Raises:
      ValueError: it cannot be read as UTF-8 CSV, has no rows, a column twice or without a name, or
        a row with another number of cells than the header; it names the line.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True, skipinitialspace=True)
            rows = [(reader.line_num, [c.strip() for c in row]) for row in reader if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: wanted a CSV file in UTF-8, got {error}") from None
    source = Path(path).name
    if len(rows) < 2:
        raise ValueError(f"{source}: wanted a header and at least one row, got {len(rows)} lines")
    (_, header), *body = rows
    _check_header(source, header)
    for line, row in body:
        if len(row) != len(header):
            raise ValueError(
                f"{source}, line {line}: wanted {len(header)} cells like the header, got {len(row)}"
            )
    cells = np.array([row for _, row in body], dtype=object).T
    lines = np.array([line for line, _ in body])
    return TextTable(dict(zip(header, cells, strict=True)), lines, source)


def _check_header(source: str, header: Sequence[str]) -> None:
    for i, name in enumerate(header):
        if not name:
            raise ValueError(f"{source}: wanted a name of column {i + 1} in the header, got none")
        if name in header[:i]:
            raise ValueError(f"{source}: wanted each column once, got {name!r} twice")


def _plain(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell)) and "e" not in cell.lower()
