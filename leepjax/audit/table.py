"""A plain table from any source: rows are tasks or models, columns scores and accuracies.

Cells stay text. So an error message can name the cell, and the number of printed decimals is known.
"""

import dataclasses
from collections.abc import Callable
from typing import Self

import numpy as np

from leepjax._names import nearest, normal
from leepjax.audit.numbers import read_column, shorten


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
        name = normal(name)
        if name not in self.columns:
            raise ValueError(f"{self.source}: no column {name!r}{nearest(name, self.columns)}")
        return self.columns[name]

    def numbers(self, name: str) -> np.ndarray:
        """Column ``[n]`` of float64; NaN where a cell is empty, ``nan``, ``NA`` or a dash.

        Numbers are read as people print them (``leepjax.audit.numbers``): ``−1,5``, ``71.2 ± 0.3``
        and ``85 %`` are -1.5, 71.2 and 85; ``11M`` is 1.1e7.

        Raises:
          ValueError: a cell is neither a finite number of one meaning nor missing, or there is no
            such column; it names line and column.
        """
        column = read_column([*self.text(name)])
        for i, wrong in column.errors.items():
            raise ValueError(f"{self.source}, line {self.lines[i]}, column {name!r}: {wrong}")
        return column.values

    def half_unit(self, name: str) -> float:
        """Half a unit in the last decimal that any cell of the column shows.

        The unrounded value was at most this far away. Trailing zeros may be cut, so the cell with
        the most decimals in the column counts.
        """
        return 0.5 * 10.0 ** -max(read_column([*self.text(name)]).decimals, default=0)

    def is_numeric(self, name: str) -> bool:
        """Whether most cells that are not missing are numbers, and there are any."""
        return read_column([*self.text(name)]).numeric

    def why_text(self, name: str) -> str:
        """Why a column does not count as numbers, by its first cell that is no number."""
        errors = read_column([*self.text(name)]).errors
        if not errors:
            return "no cell has a number"
        first = min(errors)
        got = shorten(self.columns[name][first])
        return f"text: {len(errors)} cells are no numbers, as {got} on line {self.lines[first]}"

    def where(self, rows: np.ndarray) -> Self:
        """The table of some rows: ``rows`` is a mask ``[n]`` or indices."""
        columns = {name: cells[rows] for name, cells in self.columns.items()}
        return dataclasses.replace(self, columns=columns, lines=self.lines[rows])

    def find(self, wanted: str | None, what: str, likely: Callable[[str], bool]) -> str:
        """The named column, or, if none was named, the only likely one.

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
