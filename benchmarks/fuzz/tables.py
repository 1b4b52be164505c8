"""CSV as spreadsheets write it, sound and damaged, through all that reads it."""

import csv
import dataclasses
import io

from hypothesis import strategies as st

from benchmarks.fuzz.damage import bounded, corrupt, corruptions, written
from benchmarks.fuzz.target import Target, refusal
from benchmarks.fuzz.texts import CELLS
from leepjax._text import read_table, table_text
from leepjax.audit import read_csv, read_pool
from leepjax.audit.printed import read_printed
from leepjax.commands.rank import _read_facts


@dataclasses.dataclass(frozen=True)
class Csv:
    """A table, how it is written, and how it is damaged."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    separator: str = ","
    quoting: int = csv.QUOTE_MINIMAL
    newline: str = "\r\n"
    encoding: str = "utf-8"
    told: bool = False
    corruptions: tuple[tuple[str, int], ...] = ()


HEADINGS = (
    *(
        "model",
        "accuracy",
        "leep",
        "nce",
        "seed",
        "target",
        "dataset",
        "family",
        "group",
        "classes",
    ),
    *("num_classes", "failed", "task", "parameters", "source_accuracy", "seconds", "measure"),
    *("metric", "setting", "test accuracy", "", "=x", "a;b", "Ω", "é", '"q"', "a\nb"),
)
VALUES = st.one_of(
    st.sampled_from(
        ["0.5", "1", "-2", "", "nan", "3 4", "a", "b", "1,5", "12M", "85 %", "pearson"]
    ),
    st.sampled_from(
        ["weighted tau", "leep", "=1+1", 'q"', "a;b", "a\tb", " x ", "e\u0301", "a\nb"]
    ),
    CELLS,
)


@st.composite
def tables(draw: st.DrawFn) -> Csv:
    """Tables as an audit takes them, or nearly."""
    few = st.lists(st.sampled_from(HEADINGS), min_size=1, max_size=6, unique=True)
    header = draw(st.just(["model", "accuracy", "leep"]) | few)
    row = st.tuples(*[st.sampled_from(["a", "b", "c"]) if h == "model" else VALUES for h in header])
    numbers = st.tuples(
        *[st.integers(0, 99).map(lambda i: f"m{i}" if i % 9 else str(i))] * len(header)
    )
    rows = draw(st.lists(row | numbers, max_size=6))
    return Csv(
        tuple(header),
        tuple(rows),
        separator=draw(st.sampled_from([",", ";", "\t"])),
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        newline=draw(st.sampled_from(["\r\n", "\n", "\r"])),
        encoding=draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])),
        told=draw(st.booleans()),
        corruptions=draw(corruptions),
    )


def content_of(case: Csv) -> bytes:
    """The file."""
    text = io.StringIO(newline="")
    options = {"delimiter": case.separator, "quoting": case.quoting, "lineterminator": case.newline}
    writer = csv.writer(text, **options)
    writer.writerows([case.header, *case.rows])
    told = f"sep={case.separator}{case.newline}" if case.told else ""
    content = f"{told}{text.getvalue()}".encode(case.encoding, "replace")
    return corrupt(content, case.corruptions)


def check_csv(case: Csv) -> str:
    """Read as a table, and that as everything that tables are read for."""
    content = content_of(case)
    with written(content, "t.csv") as path:
        with bounded(len(content)):
            table, _ = refusal(lambda: read_csv(path))
        if table is None:
            return "refused"
        for column in table.columns:
            refusal(lambda column=column: table.numbers(column))
            table.why_text(column)
        pool, _ = refusal(lambda: read_pool(table, models=table))
        pool, _ = refusal(lambda: read_pool(table)) if pool is None else (pool, "")
        refusal(lambda: read_printed(table, {"a", "b"}))
        refusal(lambda: _read_facts(path))
    return "refused" if pool is None else "value"


ANY_TEXT = st.text(max_size=9) | st.sampled_from(
    ["=1", "'=1", "+x", "-1", '"', ",", "\r\n", "\0", "'"]
)
ROWS = st.lists(st.dictionaries(ANY_TEXT, ANY_TEXT, min_size=1, max_size=4), min_size=1, max_size=4)


def check_own_table(case: tuple[list[dict[str, str]], tuple[tuple[str, int], ...]]) -> str:
    """A run's table is read as it was written; damaged, it is read or refused."""
    rows, damage = case
    content = corrupt(table_text(rows).encode("utf-8", "backslashreplace"), damage)
    with written(content, "t.csv") as path:
        read, _ = refusal(lambda: read_table(path))
    if not damage:
        columns = dict.fromkeys(key for row in rows for key in row)
        assert read == [{name: row.get(name, "") for name in columns} for row in rows]
    return "refused" if read is None else "value"


def targets() -> list[Target]:
    """Tables of others, and our own."""
    return [
        Target("reader", "csv", tables(), check_csv),
        Target("reader", "own csv", st.tuples(ROWS, corruptions), check_own_table),
    ]
