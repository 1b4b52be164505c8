"""Verdicts and words, on tables made by hand: 60 tasks of one class each, so all independent."""

import csv

import numpy as np
import pytest

from experiments.comparison.tables import in_words, nulls_in_words
from experiments.comparison.verdicts import compare
from leepjax.evaluation import cluster_membership, difference, jackknife, pearson
from tests.experiments.comparison.test_study import METRICS


def study(path, columns, settings=("small",)):
    """A ``results.csv`` with these columns for every setting; what is not given is constant."""
    path.mkdir()
    n = len(columns["accuracy"])
    with open(path / "results.csv", "w", newline="") as file:
        writer = csv.writer(file)
        names = {"group": [""] * n, "classes": range(n), "num_classes": [1] * n}
        names |= {score: [1.0] * n for score in METRICS} | columns
        writer.writerow(["setting", "task", *names])
        for name in settings:
            for i, row in enumerate(zip(*names.values(), strict=True)):
                writer.writerow([name, i, *row])
    return path / "results.csv"


def draws(seed, n=60, **noises):
    """Accuracies, and scores that are accuracy with noise of these standard deviations."""
    generator = np.random.default_rng(seed)
    accuracy = generator.normal(size=n)
    made = {name: accuracy + sd * generator.normal(size=n) for name, sd in noises.items()}
    return {"accuracy": accuracy} | made


@pytest.fixture
def verdicts(tmp_path):
    def of(**studies):
        folder = tmp_path / "-".join(studies)[:40]
        folder.mkdir()
        results = {name: study(folder / name, columns) for name, columns in studies.items()}
        return {row["setting"]: row for row in compare(results).verdicts}

    return of


def test_verdicts_are_counted(verdicts):
    found = verdicts(
        clear=draws(0, leep=0.1, nce=1, h_score=2, knn=3),
        close=draws(1, leep=0.5, nce=0.55, h_score=0.6, knn=0.1),
        other=draws(2, leep=2, nce=0.2, h_score=1, knn=2),
        undefined=draws(3, leep=1, nce=0.9, knn=1),
        nothing=draws(4, knn=1),
    )
    r = {name: row["best_of_three"] for name, row in found.items()}
    assert r["clear"] == "leep"
    assert r["other"] == "nce"
    assert r["nothing"] == ""
    sure = {name: row["significant"] for name, row in found.items()}
    assert sure == {
        "clear": True,
        "close": False,
        "other": True,
        "undefined": False,
        "nothing": False,
    }
    assert found["undefined"]["undefined"] == "h_score"
    assert found["nothing"]["undefined"] == "leep nce h_score"
    assert found["clear"]["leep_beats_null"]
    assert not found["close"]["leep_above_null"]
    assert found["close"]["score_ahead_of_null"] < 0
    assert not found["other"]["leep_beats_null"]
    assert found["other"]["score_beats_null"]
    written = [{k: str(v) for k, v in row.items()} for row in found.values()]
    leep = sum(name == "leep" for name in r.values())
    above = sum(row["leep_above_null"] for row in found.values())
    text = in_words(written)
    assert in_words(written[:3]).count("null") == 1  # all have one
    assert text.startswith(
        f"LEEP is the best of LEEP, NCE and H-score in {leep} of 5 settings, significantly in 1. "
        f"Its r is higher than the best null's in {above}. NCE is best in "
    )
    assert "significantly in 1, and the H-score in 0, significantly in 0." in text
    assert "One of the three is constant, therefore undefined, in 2;" in text
    assert "settings where one is defined, significantly in 2. LEEP" in nulls_in_words(written)


def test_an_undefined_score_cannot_win(verdicts):
    worst = draws(0, leep=1, nce=1)
    worst["leep"], worst["nce"] = -worst["leep"], -worst["nce"]  # both are below 0
    row = verdicts(negative=worst)["negative"]
    assert row["best_of_three"] in ("leep", "nce")
    assert row["second"] in ("leep", "nce")
    assert row["undefined"] == "h_score"
    assert row["best_null"] == ""
    written = [{k: str(v) for k, v in row.items()}]
    assert "best null's in 0 of the 0 where a null is defined" in in_words(written)
    assert not row["leep_above_null"]
    assert np.isnan(row["score_ahead_of_null"])


def test_significance_needs_the_adjusted_p(verdicts):
    """What is significant alone is not among many settings, with the very same difference."""
    alone = draws(7, leep=0.5, nce=0.75, h_score=0.8)
    first = verdicts(alone=alone)["alone"]
    assert first["significant"]
    assert 0.001 < first["p_holm"] < 0.05
    many = {f"of{i}": draws(100 + i, leep=2, nce=2, h_score=2) for i in range(20)}
    among = verdicts(same=alone, **many)["same"]
    assert among["ahead"] == first["ahead"]
    assert among["p_holm"] > 0.05
    assert not among["significant"]
    assert among["p"] == first["p"] < 0.05
    written = [{k: str(v) for k, v in among.items()}]
    assert "significantly in 0. Its r is higher" in in_words(written)
    assert "Without the correction LEEP would be in 1, NCE in 0, the H-score in 0" in in_words(
        written
    )


def test_the_best_must_beat_both_others(verdicts):
    """Clearly ahead of the third, not of the second."""
    columns = draws(0, leep=0.5, h_score=3)
    columns["nce"] = columns["leep"] + 0.1 * draws(1, x=0)["x"]
    row = verdicts(both=columns)["both"]
    assert row["ahead"] < 0.01
    written = [{k: str(v) for k, v in row.items()}]
    assert "The best leads the second by less than .01 in 1." in in_words(written)
    assert row["best_of_three"] in ("leep", "nce")
    assert row["p_holm"] > 0.05
    assert not row["significant"]


def test_the_difference_is_the_best_less_the_second(verdicts):
    """In whichever order the two were compared."""
    columns = draws(0, leep=1, nce=2, h_score=0.5)
    row = verdicts(last=columns)["last"]
    assert (row["best_of_three"], row["second"]) == ("h_score", "leep")
    x, other, y = (columns[k] for k in ("h_score", "leep", "accuracy"))
    expected = difference(pearson, x, other, y)
    found = [row[k] for k in ("ahead", "ahead_low", "ahead_high")]
    np.testing.assert_allclose(found, expected[:3], rtol=1e-6)


def test_intervals_cluster_on_groups_else_on_classes(tmp_path):
    columns = draws(5, leep=0.5, nce=1, h_score=1, knn=1)
    group = np.repeat(list("abcdef"), 10)
    paired = np.arange(60) // 3
    grouped = study(tmp_path / "grouped", columns | {"group": group})
    shared = study(tmp_path / "shared", columns | {"classes": paired})
    found = compare({"grouped": grouped, "shared": shared})
    for name, labels in (("grouped", group), ("shared", paired)):
        x, other, y = (columns[k] for k in ("leep", "nce", "accuracy"))
        expected, _ = jackknife(pearson, x, y, cluster_membership(labels))
        (row,) = (r for r in found.correlations if (r["setting"], r["score"]) == (name, "leep"))
        np.testing.assert_allclose([row["low"], row["high"]], expected[1:], rtol=1e-9)
        expected = difference(pearson, x, other, y, cluster_membership(labels))
        keys = {"setting": name, "family": "three", "score": "leep", "other": "nce"}
        (row,) = (r for r in found.differences if keys.items() <= r.items())
        np.testing.assert_allclose([row["low"], row["high"], row["p"]], expected[1:], rtol=1e-9)


def test_a_study_of_several_settings_gives_several_rows(tmp_path):
    columns = draws(6, leep=1, nce=1, h_score=1)
    heads = study(tmp_path / "heads", columns, ("small-within", "small-across"))
    meta = study(tmp_path / "meta", columns, ("head-1", "head-5", "mtl-1", "mtl-5"))
    rows = compare({"heads": heads, "meta": meta}).verdicts
    names = ["heads, within", "heads, across", "meta, mtl-1", "meta, mtl-5"]
    assert [row["setting"] for row in rows] == names
