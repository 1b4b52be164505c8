"""Text that is read: numbers as people print them, JSON records and journals.

Numbers are made by a grammar and must be read as they were meant, or refused; what is then damaged
must be read as what was written, or refused.
"""

import dataclasses
import json
import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from benchmarks.fuzz.damage import corrupt, corruptions, written
from benchmarks.fuzz.target import Target, refusal
from leepjax._store import Journal, read_record, write_record
from leepjax.audit.numbers import read_column


@dataclasses.dataclass(frozen=True)
class Style:
    """How a column prints its numbers."""

    decimal: str = "."
    thousands: str = ""
    minus: str = "-"
    decimals: int = 2
    before: str = ""
    after: str = ""


STYLES = st.builds(
    Style,
    decimal=st.sampled_from([".", ","]),
    thousands=st.sampled_from(["", "", ",", ".", " ", "\u2009", "\u00a0", "'", "_"]),
    minus=st.sampled_from(["-", "\u2212", "\u2013", "\uff0d"]),
    decimals=st.integers(0, 6),
    before=st.sampled_from(["", "**", "$", "\\textbf{", " ", "\u200b", "$\\mathbf{"]),
    after=st.sampled_from(
        [
            "",
            " ± 0.3",
            "\u202f%",
            "%",
            " (0.3)",
            "*",
            "$_{\\pm 0.1}$",
            "**",
            "}",
            "}$",
            " [1, 2]",
            "\u2020",
        ]
    ),
).filter(
    lambda style: (
        style.decimal != style.thousands
        # 1.000 alone is one: that is documented.
        and (style.thousands != "." or style.decimals)
    )
)


def printed(value: int, style: Style) -> str:
    """A number of so many units in the last decimal, in a style."""
    digits = str(abs(value)).rjust(style.decimals + 1, "0")
    cut = len(digits) - style.decimals
    whole, fraction = digits[:cut], digits[cut:]
    groups = [whole[max(end - 3, 0) : end] for end in range(len(whole), 0, -3)][::-1]
    text = (style.thousands if style.thousands else "").join(groups)
    text += f"{style.decimal}{fraction}" if fraction else ""
    return f"{style.before}{style.minus if value < 0 else ''}{text}{style.after}"


def check_numbers(case: tuple[Style, list[int]]) -> str:
    """Every cell is read as the number that it was made of, or refused."""
    style, values = case
    cells = [printed(value, style) for value in values]
    column = read_column(cells)
    for i, value in enumerate(values):
        wanted = value / 10**style.decimals
        read = column.values[i]
        assert math.isclose(read, wanted, rel_tol=1e-12) or i in column.errors, (
            f"{cells[i]!r} of {cells} is read as {read}"
        )
    return "refused" if column.errors else "value"


# Pieces of cells, in any order: whatever they mean, they are read or refused.
PIECES = st.sampled_from(
    [
        *"0123456789.,-+()[]{}%$*_~'\\ eEkM/",
        "\u0663",
        "\u00b2",
        "\uff11",
        "\u2212",
        "±",
        "nan",
        "inf",
        "\\pm",
        "+/-",
        "1" * 400,
        "e999",
        "e-400",
        "\u200b",
        "\u00a0",
        "\n",
        "**",
        "{,}",
        "th",
        "\ud800",
    ]
)
CELLS = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=12)


def check_cells(cells: list[str]) -> str:
    """Any text: a finite number, nothing, or an error for the cell."""
    column = read_column(cells)
    assert not np.isinf(column.values).any(), column
    assert all(np.isnan(column.values[i]) for i in column.errors), column
    for i, said in column.errors.items():
        assert said, cells[i]
    return "refused" if column.errors else "value"


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 3, 224, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308]),
    st.sampled_from([math.nan, math.inf, -math.inf]),
    st.text(max_size=6),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
RECORDS = st.dictionaries(st.text(max_size=5), JSON, max_size=4)
DEEP = 100_000  # brackets, more than any parser follows


def deep(content: bytes, where: int) -> bytes:
    """The content with very many brackets somewhere; nowhere if ``where`` is negative."""
    return content if where < 0 else content[:where] + b"[" * DEEP + content[where:]


def check_record(case: tuple[dict[str, Any], tuple[tuple[str, int], ...], int]) -> str:
    """A record is what was written, or refused."""
    record, damage, where = case
    with written(b"", "r.json") as path:
        write_record(path, record)
        before = read_record(path)
        content = path.read_bytes()
        path.write_bytes(deep(corrupt(content, damage), where))
        read, _ = refusal(lambda: read_record(path))
        if read is None:
            return "refused"
        refusal(lambda: read_record(path, old=True))
    assert _same_json(read, before), f"wrote {before}, read {read}"
    return "value"


def check_journal(case: tuple[list[dict[str, Any]], tuple[tuple[str, int], ...], int]) -> str:
    """Of a journal's rows the first ones, as they were, or a refusal."""
    rows, damage, where = case
    with written(b"", "some.journal") as path:
        path.unlink()
        journal = Journal(path, {"a": 1})
        journal.append(rows)
        before = journal.rows
        del journal
        path.write_bytes(deep(corrupt(path.read_bytes(), damage), where))
        read, _ = refusal(lambda: Journal(path, {"a": 1}))
        if read is None:
            return "refused"
        known = [
            *map(_json, before),
            _json({"identity": {"a": 1}}),
        ]  # of a file that is there twice
        assert all(_json(row) in known for row in read.rows), f"{before}, {read.rows}"
        del read
    return "value"


def _json(x: Any) -> str:
    return json.dumps(x, sort_keys=True)


def _same_json(a: Any, b: Any) -> bool:
    return _json(a) == _json(b)


def targets() -> list[Target]:
    """Readers of text."""
    numbers = st.tuples(STYLES, st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=5))
    places = st.sampled_from([-1] * 9 + [0, 1, 20])
    return [
        Target("reader", "printed numbers", numbers, check_numbers),
        Target("reader", "cells of numbers", st.lists(CELLS, max_size=4), check_cells),
        Target("reader", "record", st.tuples(RECORDS, corruptions, places), check_record),
        Target(
            "reader",
            "journal",
            st.tuples(st.lists(RECORDS, max_size=3), corruptions, places),
            check_journal,
        ),
    ]
