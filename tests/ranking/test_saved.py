"""A ranking on the disk: a page for a browser with CSV and JSON, and a figure; what it cost."""

import csv
import json
import math
import os
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from leepjax.ranking import Failure, Ranking, rank
from leepjax.ranking.cost import sheet
from leepjax.ranking.saved import FILES, as_page

EVIL = ('<script>alert("1")</script>', "--><b>", r"$\frac$ & $", "q" * 200, "=1+1")


def ranking_of(names, **changes) -> Ranking:
    """By predictive_r2, each .1 below the one before; errors of .05, no covariance."""
    m = len(names)
    fallen = 0.9 - 0.1 * np.arange(m)
    return replace(
        Ranking(
            names=tuple(names),
            scores={"predictive_r2": fallen, "leep": -1 - fallen},
            shuffled={"predictive_r2": np.zeros(m), "leep": np.full(m, -2.0)},
            covariance=0.05**2 * np.eye(m),
            p_value=np.zeros(m),
            facts={"seconds": np.full(m, 0.002)},
            metrics=("predictive_r2", "leep"),
            nulls=(),
            confidence=0.9,
            dimensions=np.full(m, 4),
            num_samples=1000,
            num_classes=3,
            max_samples=1000,
            failures=(Failure("lost", (), "a.npz: <i>damaged</i>"),),
            took={"load": np.full(m, 1.0), "forward": np.full(m, 2.0), "scores": np.full(m, 0.5)},
            elapsed=4.25,
            made={"seed": 0, "command": "leepjax rank <x>", "commits": {names[0]: "0123abc"}},
        ),
        **changes,
    )


class Reader(HTMLParser):
    """Tags with their attributes, and all text that is not a style or a script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open = tag

    def handle_data(self, data):
        if self.open not in ("style", "script"):
            self.words += data.split()

    @property
    def text(self):
        return " ".join(self.words)


# --------------------------------------------------------------------------------------- the page


def test_the_page_says_first_what_to_do_and_then_what_that_rests_on():
    ranking = ranking_of("abcd")
    page = Reader(as_page(ranking))
    parts = [
        "4 sources on 1,000 samples of 3 classes",
        ranking.decision,
        "Which is best",
        "a 0.900 ± 0.050 (0.000)",
        "b 0.800 ± 0.050 (0.000) -0.100 ± 0.071",
        "All scores",
        "Agreement",
        "leep -1.00",
        "Not scored",
        "lost all a.npz: <i>damaged</i>",
        "What it cost",
        ranking.cost,
        "How it was made",
        "leepjax rank <x>",
        "commit of a 0123abc",
    ]
    places = [page.text.find(" ".join(part.split())) for part in parts]
    assert -1 not in places, parts[places.index(-1)]
    assert places == sorted(places)


def test_names_are_text_on_the_page_and_nothing_is_loaded():
    page = Reader(as_page(ranking_of(EVIL)))
    for name in EVIL:
        assert " ".join(name.split()) in page.text
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 1  # the page's own
    assert not {"b", "i", "img", "link", "iframe"} & {*tags}
    links = [v for _, a in page.tags for k, v in a.items() if k in ("src", "href", "xlink:href")]
    assert all(link.startswith("#") for link in links)  # within the figure
    (policy,) = (a["content"] for _, a in page.tags if "content-security" in str(a).lower())
    assert policy.startswith("default-src 'none'")


def test_a_page_of_sources_that_are_waited_for_says_so_and_is_read_again():
    ranking = ranking_of("ab", waiting=("c", "d"))
    page = Reader(as_page(ranking))
    assert "3 of 5 sources so far on" in page.text  # one of them is lost
    assert "Still to come: c, d." in page.text
    assert "3 of 5 sources so far" in str(ranking)
    refresh = [a["content"] for _, a in page.tags if a.get("http-equiv") == "refresh"]
    assert refresh == ["10"]
    assert not [a for _, a in Reader(as_page(ranking_of("ab"))).tags if "refresh" in a.values()]


@pytest.mark.parametrize("m", [1, 2, 60])
def test_one_source_twins_and_sixty(m):
    ranking = ranking_of([f"source {i}" for i in range(m)])
    if m == 2:  # the same network twice
        same = {name: x[[0, 0]] for name, x in ranking.scores.items()}
        ranking = replace(ranking, scores=same, covariance=np.full((2, 2), 0.05**2))
    page = as_page(ranking)
    assert ("<figure>" in page) == (m > 1)
    assert "nan" not in Reader(page).text.lower()
    assert Reader(page).text.count("source 0") >= 2
    if m == 60:  # as tall as its rows, and no page of names in a sentence
        assert max(map(len, page.split("<figure>")[1].split("<"))) < 5000


def test_without_intervals_costs_or_anything_made():
    ranking = ranking_of("abc", covariance=np.full((3, 3), np.nan), took={}, facts={}, made={})
    page = Reader(as_page(replace(ranking, failures=())))
    assert "nan" not in page.text.lower()
    for absent in ("Not scored", "What it cost", "How it was made", "95 %"):
        assert absent not in page.text


# --------------------------------------------------------------------------------------- the files


def test_three_files_that_say_the_same(tmp_path):
    ranking = ranking_of("ab")
    ranking.save(tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == sorted(FILES)
    held = json.loads((tmp_path / "out" / "ranking.json").read_text())
    assert held == json.loads(json.dumps(ranking.to_dict(), allow_nan=False))
    assert held["sources"][0]["took"] == {"load": 1.0, "forward": 2.0, "scores": 0.5}
    assert (held["elapsed"], held["made"]["seed"]) == (4.25, 0)
    with open(tmp_path / "out" / "ranking.csv", newline="") as file:
        first, *_, last = csv.DictReader(file)
    assert (first["source"], first["forward_seconds"], first["commit"]) == ("a", "2.0", "0123abc")
    assert float(first["fine_tune_seconds"]) == pytest.approx(60)
    assert (last["source"], last["failure"]) == ("lost", "a.npz: <i>damaged</i>")
    ranking_of("cd").save(tmp_path / "out")  # an earlier one makes room
    assert "c" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"thesis.tex": ""}, "which holds thesis.tex"),
        ({"index.html": "<h1>Mine</h1>"}, "which holds an index.html of something else"),
        ({"ranking.csv": "by,hand"}, "which holds an index.html of something else"),
        (None, "which is a file"),
    ],
)
def test_what_is_somebody_elses_stays(held, message, tmp_path):
    output = tmp_path / "out"
    if held is None:
        output.write_text("mine")
    else:
        output.mkdir()
        for name, text in held.items():
            (output / name).write_text(text)
    with pytest.raises(ValueError, match=f"^output: wanted a .*{message}"):
        ranking_of("ab").save(output)
    if held:
        assert {f.name: f.read_text() for f in output.iterdir()} == held


def test_no_place_for_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"^output: wanted a folder in one that exists"):
        ranking_of("ab").save(tmp_path / "no" / "out")
    with pytest.raises(ValueError, match=r"^output: cannot write .*too long"):
        ranking_of("ab").save(tmp_path / ("x" * 300))


@pytest.mark.parametrize("at", FILES)
def test_a_disk_that_fills_up_leaves_the_earlier_ranking(at, tmp_path, monkeypatch):
    ranking_of("ab").save(tmp_path / "out")
    before = {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()}
    write = Path.write_bytes

    def full(path, content):
        if path.name == at:
            write(path, content[: len(content) // 2])
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ValueError, match=r"^output: cannot write .*out: No space left on device$"):
        ranking_of("cd").save(tmp_path / "out")
    assert {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()} == before


# -------------------------------------------------------------------------------------- the figure


def test_the_figure_has_each_difference_with_its_paired_interval(tmp_path):
    covariance = 0.05**2 * np.array([[1, 0.8, 0], [0.8, 1, 0], [0, 0, 1.0]])
    ranking = ranking_of("abc", covariance=covariance)
    figure = ranking.plot(tmp_path / "f.png")
    axis = figure.axes[0]
    bars = [c[2][0].get_segments()[0] for c in axis.containers]
    middles = [bar[:, 0].mean() for bar in bars]
    halves = [np.ptp(bar[:, 0]) / 2 for bar in bars]
    np.testing.assert_allclose(middles, [0, -0.1, -0.2], atol=1e-9)
    paired = [0, 0.05 * math.sqrt(2 - 2 * 0.8), 0.05 * math.sqrt(2)]
    np.testing.assert_allclose(halves, 1.96 * np.array(paired), atol=1e-9)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "begins"), [("f.png", b"\x89PNG"), ("f.svg", b"<?xml"), ("f.pdf", b"%PDF")]
)
def test_it_is_written_in_three_formats_the_same_each_time(name, begins, tmp_path):
    ranking = ranking_of([*EVIL, "漢字"])
    ranking.plot(tmp_path / name)
    first = (tmp_path / name).read_bytes()
    assert first.startswith(begins)
    ranking.plot(tmp_path / name)
    assert (tmp_path / name).read_bytes() == first
    assert os.listdir(tmp_path) == [name]
    for path, message in ((tmp_path / "f.gif", "wanted one ending"), (tmp_path / "no" / name, "")):
        with pytest.raises(ValueError, match=f"^path: .*{message}"):
            ranking.plot(path)


# ---------------------------------------------------------------------------------------- the cost


def test_cost_in_words_and_numbers():
    ranking = ranking_of("abcd")
    assert ranking.choice == ("a",)
    np.testing.assert_allclose(ranking.fine_tune_seconds(), 3 * 0.002 * 1000 * 10)
    assert ranking.cost == (
        "The ranking took 4.2 s (loading 4.0 s, forward passes 8.0 s, scores 2.0 s). Fine-tuning "
        "would take at least 1 min 0 s for a: an estimate, 3 forward passes for each of 1,000 "
        "samples in each of 10 epochs."
    )
    table = sheet(ranking)
    assert table.headings[1:4] == ["load (s)", "forward (s)", "scores (s)"]
    assert table.rows[0] == ["a", "1", "2", "0.50", "3.5", "2", "60"]


def test_cost_of_what_was_not_timed_is_not_said():
    assert ranking_of("ab", took={}, facts={}, elapsed=math.nan).cost == ""
    many = ranking_of(
        [str(i) for i in range(9)], covariance=np.eye(9), facts={"seconds": np.ones(9)}
    )
    assert "8 h 20 min to 8 h 20 min for each of those chosen" in many.cost
    unknown = ranking_of("ab", facts={"seconds": np.array([np.nan, 0.1])})
    assert "Fine-tuning" not in unknown.cost
    assert sheet(unknown).rows[0][-2:] == ["", ""]


# --------------------------------------------------------------------------------- before the end

LABELS = np.random.default_rng(0).integers(0, 3, 120)


def features(signal):
    noise = np.random.default_rng(1).normal(size=(120, 6))
    return {"features": (noise + signal * np.eye(3, 6)[LABELS]).astype("f4")}


def test_a_ranking_is_there_after_each_source():
    sources = {"bad": "no.npz", "a": features(1), "b": lambda: features(2), "worse": "no.csv"}
    found: list[Ranking] = []
    final = rank(sources, LABELS, metrics=("h_score",), nulls=(), callback=found.append)
    # Nothing is known before the first that has a score.
    assert [(r.names, r.waiting) for r in found] == [
        (("a",), ("b", "worse")),
        (("a", "b"), ("worse",)),
        (("a", "b"), ()),
    ]
    assert [len(r.failures) for r in found] == [1, 1, 2]
    assert found[0].scores["predictive_r2"][0] == final.scores["predictive_r2"][0]
    assert found[-1].decision == final.decision
    assert final.waiting == ()
    assert all((seconds.shape == (2,)) and (seconds >= 0).all() for seconds in final.took.values())
    assert sum(x.sum() for x in final.took.values()) <= final.elapsed
    assert final.made["seed"] == 0


def test_what_the_callback_raises_is_not_kept_back():
    def stop(ranking):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rank({"a": features(1)}, LABELS, metrics=(), nulls=(), callback=stop)
