"""CSV files as spreadsheets and programs write them: any usual separator, any usual encoding."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from leepjax._names import normal
from leepjax._text import from_spreadsheet
from leepjax.audit.numbers import shorten
from leepjax.audit.table import TextTable

Row = tuple[int, list[str]]  # its line, its cells
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def read_csv(path: Path) -> TextTable:
    """Read a CSV file with a header line.

    Cells are separated by commas, semicolons or tabs. The text is UTF-8 or UTF-16, or, if its bytes
    are neither, Windows' Latin-1. Names are compared letter by letter. They are kept as they are,
    except for spaces around them and Unicode's normal form (NFC).

    Raises:
      ValueError: it cannot be read or is no text, has no rows, a column twice or without a name,
        or a row with another number of cells than the header; it names the line.
    """
    source = Path(path).name
    text = _decode(Path(path))
    told = re.match(r"sep=(.)\r?\n", text)  # Excel's own line
    readings: dict[str, list[Row]] = {}
    wrong: list[str] = []
    for mark in told[1] if told else SEPARATORS:
        try:
            readings[mark] = _rows(text, mark)
        except csv.Error as error:
            wrong.append(str(error))
    if not readings:
        raise ValueError(f"{path}: wanted a CSV file, got {wrong[0]}")
    rows = _most_likely(source, readings)[bool(told) :]
    if len(rows) < 2:
        raise ValueError(f"{source}: wanted a header and at least one row, got {len(rows)} lines")
    (_, header), *body = rows
    _check_header(source, header)
    for line, row in body:
        if len(row) != len(header):
            raise ValueError(
                f"{source}, line {line}: wanted {len(header)} cells like the header, got {len(row)}"
                "; a cell that holds the separator wants quotes"
            )
    cells = np.array([row for _, row in body], dtype=object).T
    lines = np.array([line for line, _ in body])
    return TextTable(dict(zip(header, cells, strict=True)), lines, source)


def _decode(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: wanted a CSV file, got {error.strerror}") from None
    encoding = next((code for mark, code in _MARKS.items() if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in data[:4]:  # UTF-16 without its mark
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    text = None
    for code in (encoding, *(("cp1252", "latin-1") if encoding == "utf-8" else ())):
        try:
            text = data.decode(code)
            break
        except UnicodeDecodeError:
            continue
    control = None if text is None else re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text)
    if text is None or control:
        held = f"the character {control[0]!r}" if control else f"bytes that are not {encoding}"
        raise ValueError(f"{path}: wanted a CSV file, as text, got {held}; export it as CSV")
    return text


def _rows(text: str, mark: str) -> list[Row]:
    """Lines that are not blank, with their numbers, under one separator."""
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=mark, strict=True, skipinitialspace=True)
    rows = [(reader.line_num, [from_spreadsheet(normal(cell)) for cell in row]) for row in reader]
    return [(line, row) for line, row in rows if any(row)]


def _most_likely(source: str, readings: dict[str, list[Row]]) -> list[Row]:
    """The separator that gives every row as many cells as the header has, and the most of them."""

    def columns(mark: str) -> int:
        return len(readings[mark][0][1]) if readings[mark] else 0

    even = [mark for mark, rows in readings.items() if len({len(row) for _, row in rows}) == 1]
    among = [mark for mark in even if columns(mark) > 1] or [*readings]
    best, *others = sorted(among, key=columns, reverse=True)
    if others and columns(others[0]) == columns(best) > 1:
        raise ValueError(
            f"{source}: wanted one separator of cells, got {SEPARATORS[best]} and "
            f"{SEPARATORS[others[0]]} that both divide every line into {columns(best)}"
        )
    return readings[best]


def _check_header(source: str, header: Sequence[str]) -> None:
    for i, name in enumerate(header):
        if not name:
            raise ValueError(f"{source}: wanted a name of column {i + 1} in the header, got none")
        if name in header[:i]:
            raise ValueError(f"{source}: wanted each column once, got {shorten(name)} twice")
