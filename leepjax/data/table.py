"""A table of samples: CSV, JSON Lines or Parquet, with a row for each image or text."""

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from leepjax._progress import say
from leepjax.data.columns import Columns
from leepjax.data.folder import LOST, file_key
from leepjax.data.labels import missing
from leepjax.data.samples import Samples


class Row(NamedTuple):
    """A row: where it stands, its cells by column, and what is wrong with it, if anything is."""

    where: str
    cells: dict[str, Any]
    wrong: str = ""


def read_table(path: Path, columns: Columns) -> Samples:
    """The samples of a table; paths of images are relative to it.

    Empty rows, and rows that are there twice, are left out, and a line says so.

    Raises:
      ValueError: it cannot be read, has not these columns, or no rows.
    """
    try:
        there, rows = TABLES[path.suffix.lower()](path)
        columns = columns.of(path.name, there)
        kept = _distinct(path.name, rows, columns)
    except (OSError, UnicodeError, csv.Error) as error:
        raise ValueError(f"name: cannot read {path}: {' '.join(str(error).split())}") from None
    if not kept:
        raise ValueError(f"name: wanted a table with rows, got none in {path}")
    wrong = {i: row.wrong for i, row in enumerate(kept) if row.wrong}
    cells = {name: [row.cells.get(name) for row in kept] for name in columns.all}
    where, keys, images = [row.where for row in kept], [], []
    for i, name in enumerate(cells[columns.image] if columns.image else ()):
        images.append(os.path.join(path.parent, str(name)))
        where[i] += f", {name}"
        keys.append(None if missing(name) else file_key(images[i], str(name)))
        if keys[i] is None:
            wrong.setdefault(i, "no image" if missing(name) else LOST)
    for name in columns.text:
        wrong = {i: "no text" for i, text in enumerate(cells[name]) if missing(text)} | wrong
    return Samples(
        name=path.resolve().parent.name if path.stem == "labels" else path.stem,
        where=where,
        labels={name: cells[name] for name in columns.label},
        keys=keys,
        images=images if columns.image else None,
        texts=tuple([str(text) for text in cells[name]] for name in columns.text),
        wrong=wrong,
    )


def _distinct(source: str, rows: Iterator[Row], columns: Columns) -> list[Row]:
    """Rows that are not empty, each once; it says what is left out, and what contradicts."""
    kept: dict[str, Row] = {}
    labels: dict[str, str] = {}  # of each input
    empty = again = other = 0
    for row in rows:
        cells = {name: row.cells.get(name) for name in columns.all}
        if not row.wrong and all(map(missing, cells.values())):
            empty += 1
            continue
        key = json.dumps([*cells.values(), row.wrong and row.where], default=str)
        if key in kept:
            again += 1
            continue
        label = json.dumps([cells[name] for name in columns.label], default=str)
        given = json.dumps([cells[name] for name in columns.all if name not in columns.label])
        other += labels.setdefault(given, label) != label
        kept[key] = row
    for count, what in (
        (empty, "left out {} empty rows"),
        (again, "left out {} rows that repeat an earlier one"),
        (other, "{} rows label an input otherwise than an earlier one; all are kept"),
    ):
        if count:
            say(f"{source}: {what.format(f'{count:,}')}")
    return [*kept.values()]


def _csv(path: Path) -> tuple[Sequence[str], Iterator[Row]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        first = file.readline()
    mark = max(",;\t", key=first.count)

    def rows() -> Iterator[Row]:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=mark)
            next(reader)
            for cells in reader:
                where = f"line {reader.line_num}"
                if len(cells) in (0, len(header)):
                    yield Row(where, dict(zip(header, cells, strict=False)))
                else:
                    wrong = f"{len(cells)} cells, wanted {len(header)} like the header"
                    yield Row(where, {}, wrong)

    header = [name.strip() for name in next(csv.reader([first], delimiter=mark), [])]
    if len(set(header)) < len(header):
        raise ValueError(f"name: wanted each column of {path.name} once, got {header}")
    return header, rows()


def _json_lines(path: Path) -> tuple[Sequence[str], Iterator[Row]]:
    rows: list[Row] = []
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"line {number}"
            try:
                cells = json.loads(line)
            except (ValueError, RecursionError):
                cells = None
            wrong = "" if isinstance(cells, dict) else "no JSON object"
            rows.append(Row(where, cells if isinstance(cells, dict) else {}, wrong))
    return [*dict.fromkeys(name for row in rows for name in row.cells)], iter(rows)


def _parquet(path: Path) -> tuple[Sequence[str], Iterator[Row]]:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise ValueError(
            f"name: {path}: reading Parquet needs pyarrow: pip install 'leepjax[parquet]'"
        ) from None
    try:
        file = pq.ParquetFile(path)
    except ValueError as error:  # pyarrow's own errors are OSError and ValueError
        raise OSError(str(error)) from None

    def rows() -> Iterator[Row]:
        at = 0
        for batch in file.iter_batches():
            for cells in batch.to_pylist():
                at += 1
                yield Row(f"row {at}", cells)

    return file.schema_arrow.names, rows()


TABLES: dict[str, Callable[[Path], tuple[Sequence[str], Iterator[Row]]]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}
