"""For every column of a table: what it is used for, or why it is not used."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from leepjax._names import without_partner
from leepjax.audit.table import TextTable


class Use(NamedTuple):
    """A column of a file, or a row of it that is named, and what it is used for.

    If the column is not used, ``used`` is empty and ``note`` says why. Else ``note`` says what is
    missing.
    """

    file: str
    column: str
    used: str
    note: str = ""


def uses(table: TextTable, used: Mapping[str, str], known: Collection[str] = ()) -> list[Use]:
    """Each column of a table, with what it is used for.

    Args:
      table: the table.
      used: ``{column: use}`` of those that are used.
      known: columns of numbers that are known not to be scores.
    """
    found = []
    for column in table.columns:
        use = used.get(column, "")
        if use == "score" or use == "null":
            missing = int(np.isnan(table.numbers(column)).sum())
            note = f"missing in {missing} of {len(table)} rows" if missing else ""
        elif use:
            note = ""
        elif column in known:
            note = "known to be no score"
        elif table.is_numeric(column):
            note = "numbers, but not asked for"
        else:
            note = table.why_text(column)
        found.append(Use(table.source, column, use, note))
    return found


def facts_of(names: np.ndarray, models: TextTable) -> tuple[dict[str, np.ndarray], list[Use]]:
    """Facts ``{name: [n]}`` of the models of n rows, and the use of each column of their file.

    Raises:
      ValueError: a model of the table is not in the file, or is there twice with two values; or
        no column holds numbers.
    """
    given = models.text("model")
    missing = without_partner(names, set(given))
    if missing:
        raise ValueError(
            f"{models.source}, column 'model': wanted every model of the table by its very name, "
            f"got none of {missing}"
        )
    columns = {
        c: models.numbers(c) for c in models.columns if c != "model" and models.is_numeric(c)
    }
    if not columns:
        raise ValueError(f"{models.source}: wanted a column of numbers beside 'model', got none")
    check_once(models, columns)
    rows = {name: i for i, name in enumerate(given)}
    index = np.array([rows[name] for name in names])
    used = {"model": "name of the model"} | dict.fromkeys(columns, "null")
    others = without_partner(given, set(names))
    notes = uses(models, used)
    notes += [Use(models.source, "rows", "", f"not in the table: {others}")] if others else []
    return {name: column[index] for name, column in columns.items()}, notes


def check_once(models: TextTable, columns: Mapping[str, np.ndarray]) -> None:
    """A model that occurs twice has the same numbers in both rows.

    Raises:
      ValueError: it has two values; the message names both lines.
    """
    seen: dict[str, int] = {}
    for i, name in enumerate(models.text("model")):
        first = seen.setdefault(name, i)
        for column, values in columns.items():
            if not np.array_equal(values[i], values[first], equal_nan=True):
                raise ValueError(
                    f"{models.source}, line {models.lines[i]}, column {column!r}: wanted one value "
                    f"of {name!r}, got {values[i]:g}, and {values[first]:g} on line "
                    f"{models.lines[first]}"
                )
