"""One self-contained page of a study: escaped, offline, the same in Markdown."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from leepjax._progress import say
from leepjax.evaluation import Correlation, Estimate
from leepjax.report import Section, Sheet, print_section, write_page, write_study_page
from leepjax.report.run import Run

EVIL = '<script>alert("1")</script> & | * [x](http://a.b) {body}'


class Reader(HTMLParser):
    """Tags with their attributes, and the text of table cells."""

    def __init__(self):
        super().__init__()
        self.tags, self.cells, self.within = [], [], False

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.within = tag == "td"
        if self.within:
            self.cells.append("")

    def handle_endtag(self, tag):
        self.within = self.within and tag != "td"

    def handle_data(self, data):
        if self.within:
            self.cells[-1] += data


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def test_every_name_is_escaped(tmp_path):
    (tmp_path / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    sheet = Sheet([EVIL, "r"], [[EVIL, ".5"], ["knn *", "undefined"]])
    write_page(tmp_path / "page.html", EVIL, [Section(EVIL, [sheet], EVIL, [tmp_path / "a.svg"])])
    page = read(tmp_path / "page.html")
    assert page.cells == [EVIL, ".5", "knn *", "undefined"]
    assert [tag for tag, _ in page.tags].count("script") == 1  # the page's own
    markdown = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<", markdown)
    (row,) = (line for line in markdown.splitlines() if line.startswith("|") and "| .5 |" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 3


def test_nothing_is_loaded(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    write_page(tmp_path / "page.html", "t", [Section("s", figures=[tmp_path / "a.png"])])
    tags = read(tmp_path / "page.html").tags
    sources = [v for _, attrs in tags for k, v in attrs.items() if k in ("src", "href", "srcset")]
    assert [source.partition(",")[0] for source in sources] == ["data:image/png;base64"]
    (policy,) = (a["content"] for _, a in tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_a_study_has_a_page_from_its_files(tmp_path):
    run = Run(tmp_path, tmp_path, False, 0.0)
    estimates = {
        "pearson": Estimate(0.91, 0.8, 0.95),
        "pearson|num_classes": Estimate(0.12, -0.1, 0.3),
    }
    table = [
        Correlation("leep", estimates, np.array([0.9])),
        Correlation("neg_label_entropy", {"pearson": Estimate(0.9, 0.7, 0.95)}, np.array([0.8])),
    ]
    rows = [
        {"setting": "s", "score": c.score, "statistic": k} | e._asdict()
        for c in table
        for k, e in c.estimates.items()
    ]
    nan = {"value": np.nan, "low": np.nan, "high": np.nan}
    rows.append(
        {"setting": "s", "score": "neg_label_entropy"} | {"statistic": "pearson|num_classes"} | nan
    )
    run.write_table("correlation", rows)
    run.write_table(
        "without_class", [{"setting": "s", "class": "a", "leep": 0.9, "neg_label_entropy": 0.8}]
    )
    run.write_table("results", [{"setting": "s", "task": i} for i in range(7)])
    write_study_page(tmp_path, "study")
    page, text = read(tmp_path / "page.html"), (tmp_path / "page.html").read_text()
    assert page.cells[:4] == ["leep", ".91 [.80, .95]", ".12 [-.10, .30]", ".90 to .90"]
    assert page.cells[4:7] == ["neg_label_entropy *", ".90 [.70, .95]", "undefined"]
    assert "Given the number of classes, .12 [-.10, .30] of leep&#x27;s r remains." in text
    assert "s: 7 tasks" in text


def test_a_section_prints_to_a_terminal_as_it_is_written(capsys):
    console = Console(width=112)
    print_section(
        Section("[bold]a[/bold]", [Sheet(["score"], [["[red]b :art: \\"]])], "c [.1, .2] :art:"),
        console,
    )
    shown = capsys.readouterr().out
    assert "[bold]a[/bold]" in shown
    assert "[red]b :art: \\" in shown
    assert "c [.1, .2] :art:" in shown


def test_what_a_terminal_or_page_would_obey_is_spelt_out(tmp_path, capsys, caplog):
    odd = "a\x1b[31m\u202eb"
    section = Section(odd, [Sheet([odd], [[odd]])], odd)
    write_page(tmp_path / "page.html", odd, [section])
    print_section(section, Console(width=112))
    say(odd)
    written = [f.read_text() for f in tmp_path.iterdir()]
    for text in (*written, capsys.readouterr().out, caplog.text):
        assert r"x1b" in text
        assert not {"\x1b", "\u202e"} & set(text)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (Section("s", [Sheet(["a", "b"], [["c"]])]), "s: wanted 2 cells a row"),
        (Section("s", figures=["a.gif"]), "figures: wanted one of .svg, .png, got a.gif"),
    ],
)
def test_bad_input(tmp_path, section, message):
    section = section._replace(figures=[tmp_path / f for f in section.figures])
    with pytest.raises(ValueError, match=message):
        write_page(tmp_path / "page.html", "t", [section])
