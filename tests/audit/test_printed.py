"""Printed values against their columns."""

import numpy as np
import pytest
from scipy.stats import weightedtau

from leepjax.audit import read_csv, read_pool
from leepjax.audit.printed import printed_rows, repeated_columns, summary_uses

SCORE, ACCURACY = [1.5, 3.5, 2.5, 4.5, 0.5, 5.5], [70.0, 74.0, 73.0, 72.0, 71.0, 78.0]


def pool_of(tmp_path, scores=SCORE):
    rows = [f"pets,m{i},{a},{s},{s}" for i, (a, s) in enumerate(zip(ACCURACY, scores, strict=True))]
    (tmp_path / "t.csv").write_text("dataset,model,accuracy,leep,nce\n" + "\n".join(rows))
    return read_pool(read_csv(tmp_path / "t.csv"))


def check(tmp_path, summary, **options):
    (tmp_path / "s.csv").write_text(summary)
    return list(printed_rows(pool_of(tmp_path, **options), read_csv(tmp_path / "s.csv")))


def test_the_convention_a_value_follows_from_is_named(tmp_path):
    by_score = weightedtau(SCORE, ACCURACY, rank=None)[0]
    r = np.corrcoef(SCORE, ACCURACY)[0, 1]
    tau, wrong, pearson = check(
        tmp_path,
        f"dataset,measure,leep\npets,weighted_tau,{by_score:.3f}\npets,weighted tau again,-0.3\n"
        f"pets,pearson_corr,{r:.3f}\n",
    )
    assert tau["follows"] == "weighted_tau:score"
    assert tau["exact"]
    assert wrong["follows"] == ""
    assert wrong["weighted_tau:score"] == pytest.approx(by_score, abs=1e-12)
    assert pearson["follows"] == "pearson"


def test_what_rounded_cells_allow_is_not_called_wrong(tmp_path):
    """Of the cells printed as 2 and 2 one was larger."""
    rounded = [1.0, 2.0, 2.0, 3.0, 0.0, 5.0]
    before = [1.0, 2.1, 1.9, 3.0, 0.0, 5.0]
    tau = weightedtau(ACCURACY, before, rank=None)[0]
    summary = f"dataset,measure,leep\npets,weighted_tau,{tau:.3f}\n"
    (found,) = check(tmp_path, summary, scores=rounded)
    assert not found["exact"]
    assert "weighted_tau:accuracy" in found["follows"].split()
    assert found["low"] <= tau <= found["high"] + 1e-12


def test_the_other_layout(tmp_path):
    tau = weightedtau(ACCURACY, SCORE)[0]
    (found,) = check(tmp_path, f"metric,pets\nleep,{tau:.3f}\nsfda,0.2\n")
    assert (found["part"], found["score"], found["printed"]) == ("pets", "leep", round(tau, 3))
    assert "weighted_tau:both" in found["follows"].split()


def test_a_column_that_repeats_another_is_found(tmp_path):
    assert repeated_columns(pool_of(tmp_path)) == [("pets", "leep", "nce")]
    assert repeated_columns(pool_of(tmp_path, scores=[1, 2, 1, 2, 2, 1]))
    assert not repeated_columns(pool_of(tmp_path, scores=[1] * 6))


@pytest.mark.parametrize(
    ("summary", "message"),
    [
        ("dataset,measure,leep\npets,r2,0.1\n", "line 2, column 'measure': wanted a name with"),
        ("dataset,measure,leep\npets,pearson,x\n", "line 2, column 'leep': wanted a number"),
        ("metric,pets,cars\nleep,0,0\n", "line 2: wanted a part of the table, one of pets, got 'c"),
        ("dataset,measure,leep\npets,r,0\ncars,r,0\n", "line 3: wanted a part of the table, one"),
        ("a,b\n1,2\n", r"wanted a column 'measure' and one that names parts .*pets.*got 'a', 'b'"),
    ],
)
def test_bad_input(tmp_path, summary, message):
    with pytest.raises(ValueError, match=message):
        check(tmp_path, summary)


def test_what_a_summary_has_and_the_table_has_not_is_said(tmp_path):
    (tmp_path / "s.csv").write_text("dataset,measure,leep,Leep\npets,pearson,0.1,0.2\n")
    uses = summary_uses(pool_of(tmp_path), read_csv(tmp_path / "s.csv"))
    assert [(use.column, use.used, use.note) for use in uses] == [
        ("dataset", "what is printed", ""),
        ("measure", "what is printed", ""),
        ("leep", "printed values", ""),
        *[("Leep", "means over targets", "the table has no column of this name (nearest: 'leep')")],
    ]


def test_a_value_printed_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="line 3: wanted each value once, got pets, leep, pearson"):
        check(tmp_path, "dataset,measure,leep\npets,pearson,0.1\npets,pearson,0.2\n")
