"""Names with markup, escapes, HTML and formulas, on their way to terminals, pages and spreadsheets.

Nothing of a name may be interpreted, and in files nothing of it may be lost.
"""

import csv
import io
import json
import re
import tempfile
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.fuzz.target import Target
from leepjax.__main__ import main
from leepjax._names import normal
from leepjax._text import Sheet, from_spreadsheet
from leepjax.ranking import Ranking
from leepjax.ranking.result import Failure
from leepjax.ranking.saved import as_csv, as_json
from leepjax.report import Section, print_section, write_page

PIECES = (
    *("[red]", "[/]", "[/red]", "[bold", "\\[", ":art:", "{", "}", "{0}", "%s", "\\", "x" * 300),
    *("\x1b[31m", "\x1b]8;;http://a.b\x07", "\x07", "\x00", "\n", "\r", "\t", "\x85", "\x9b31m"),
    *("<b>", "</td>", "<script>alert(1)</script>", "&amp;", "&#x3c;", "<!--", "]]>", '" onload="'),
    *("=HYPERLINK(A1)", "=1+1", "+1", "-1", "@SUM(A1)", "'", '"', ",", ";", "\uff1d1", "-1.5"),
    *("|", "`", "*", "_", "#", "~", "$", "![a](http://a.b)", "---", "> ", " ", "a", "leep", "nan"),
    *(
        "\u202e",
        "\u2066",
        "\u200f",
        "\u2028",
        "\ufeff",
        "\u200d",
        "\ud800",
        "e\u0301",
        "\u6f22",
        "\U0001f469",
    ),
)
NAMES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join) | st.text(min_size=1)
SOURCES = st.lists(NAMES.map(normal).filter(bool), min_size=1, max_size=4, unique=True)
EXECUTED = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"  # the first letter of what a spreadsheet executes
ISOLATED = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029"
SPECIAL = re.compile(r"(?<!\\)(?:\\\\)*[`*_\[\]<>|#&~$]")


class _Page(HTMLParser):
    """The tags of a page, and its text outside scripts and styles."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data


def check_terminal(names: list[str]) -> str:
    """A ranking printed and in a notebook: no control characters, no other tags, every name."""
    ranking = ranking_of(names)
    said = str(ranking)
    _check_plain(said)
    page = _Page(ranking._repr_html_())
    assert {tag for tag, _ in page.tags} <= {"p", "b", "table", "thead", "tbody", "tr", "th", "td"}
    assert {a for _, attributes in page.tags for a in attributes} <= {"class"}
    for name in names:
        assert _squashed(_spelt(name)) in _squashed(page.text), f"{name!r} is not in {page.text!r}"
        if len(_spelt(name)) < 30:
            assert _squashed(_spelt(name)) in _squashed(said), f"{name!r} is not in {said!r}"
    return "value"


def check_page(names: list[str]) -> str:
    """A page, its Markdown, and the same in a terminal."""
    title, *others = [*names, "a"]
    sheet = Sheet(names, [names, names[::-1]])
    section = Section(others[0], [sheet], " ".join(others))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        write_page(path, title, [section])
        text, marked = path.read_text("utf-8"), path.with_suffix(".md").read_text("utf-8")
        write_page(
            path, "a", [Section("a", [Sheet(["a"] * len(names), [["a"] * len(names)] * 2)], "a")]
        )
        plain = _Page(path.read_text("utf-8"))
    page = _Page(text)
    # Rows of nulls have a class, and are known by their star.
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags], page.tags
    for name in names:
        assert _squashed(_spelt(name)) in _squashed(page.text), f"{name!r} is not in {page.text!r}"
    for line in marked.split("\n"):
        content = re.sub(r"^#+ |^\| | \|$|(?<= )\| |--+:?", "", line)
        assert not SPECIAL.search(content), f"{content!r} in Markdown"
    _check_plain(marked)
    console = Console(file=io.StringIO(), width=120)
    print_section(section, console)
    _check_plain(console.file.getvalue())  # pyright: ignore[reportAttributeAccessIssue]
    return "value"


def check_spreadsheet(names: list[str]) -> str:
    """A ranking written: no cell that is executed, and every name as it was."""
    ranking = ranking_of(names)
    rows = [*csv.reader(io.StringIO(as_csv(ranking), newline=""), strict=True)]
    cells = [cell for row in rows for cell in row]
    for cell in cells:
        number = re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?|[-+]?\.\d+|-inf", cell, re.ASCII)
        assert cell[:1] not in EXECUTED or not cell or number, f"{cell!r} would be executed"
    column = [from_spreadsheet(row[rows[0].index("source")]) for row in rows[1:]]
    assert sorted(column) == sorted({*names, _FAILED}), f"{names} became {column}"
    held = json.loads(as_json(ranking))
    assert sorted(source["source"] for source in held["sources"]) == sorted(names)
    return "value"


def check_error(name: str) -> str:
    """The line of an error about a file or a column of this name."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "t.csv"
        table.write_bytes(f"model,accuracy,x\n{name},1,2\n".encode("utf-8", "backslashreplace"))
        for arguments in (
            ["audit", str(table), "--accuracy", f"a{name}"],
            ["score", f"a{name}.npz"],
        ):
            try:
                main([argument.replace("\0", "") for argument in arguments])
            except SystemExit as error:
                said = str(error.code)
                assert said.startswith("error: "), said
                _check_plain(said)
            else:
                raise AssertionError("no error")
    return "refused"


_FAILED = "=failed\x1b[1m"


def ranking_of(names: list[str]) -> Ranking:
    """A ranking of sources of these names; one more could not be scored."""
    m = len(names)
    scores = np.linspace(0.1, 0.5, m)
    return Ranking(
        names=tuple(names),
        scores={"predictive_r2": scores, "leep": -scores, "knn": scores},
        shuffled={name: np.zeros(m) for name in ("predictive_r2", "leep", "knn")},
        covariance=np.eye(m) * 1e-3,
        p_value=np.zeros(m),
        facts={"parameters": np.full(m, 1e6)},
        metrics=("predictive_r2", "leep"),
        nulls=("knn",),
        confidence=0.9,
        dimensions=np.full(m, 4),
        num_samples=100,
        num_classes=3,
        max_samples=100,
        failures=(Failure(_FAILED, (), f"wanted numbers, got {names[0]}"),),
    )


def _check_plain(text: str) -> None:
    """Nothing that moves a cursor, changes colours or turns the direction of what follows."""
    odd = [c for c in text if (unicodedata.category(c) == "Cc" and c != "\n") or c in ISOLATED]
    assert not odd, f"{odd} in {text!r}"


def _spelt(name: str) -> str:
    """The name as it is shown."""
    return "".join(
        repr(c)[1:-1] if unicodedata.category(c) in ("Cc", "Cs") or c in ISOLATED else c
        for c in name
    )


def _squashed(text: str) -> str:
    """Without what a line break or a column may change."""
    return "".join(text.split())


def targets() -> list[Target]:
    """Names through everything that shows or writes them."""
    return [
        Target("names", "terminal", SOURCES, check_terminal, share=4),
        Target("names", "page", SOURCES, check_page),
        Target("names", "spreadsheet", SOURCES, check_spreadsheet, share=4),
        Target("names", "error", NAMES, check_error, share=4),
    ]
