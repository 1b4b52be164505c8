"""What the table says in words and figures."""

import numpy as np
import pytest
from rich.console import Console

from leepjax.evaluation import Correlation, Estimate, Level
from leepjax.report import (
    finding,
    format_estimate,
    format_mean,
    print_correlations,
    read_estimate,
    side_by_side,
    verdict,
)

NAN = float("nan")


def row(score, r, low=NAN, high=NAN):
    return Correlation(score, {"pearson": Estimate(r, low, high)}, np.array([-0.25, np.nan, 0.5]))


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        ((0.856, 0.802, 0.891), ".86 [.80, .90]"),  # intervals are rounded outwards
        ((-0.3, -0.613, 0.219), "-.30 [-.62, .22]"),
        ((0.999, 0.95, 0.9991), "1.00 [.95, 1.00]"),
        ((-0.001, -0.1, 0.1), ".00 [-.10, .10]"),
        ((0.5, NAN, NAN), ".50 (no interval)"),
        ((NAN, NAN, NAN), "undefined"),
    ],
)
def test_format(estimate, text):
    assert format_estimate(Estimate(*estimate)) == text


def test_verdict_holds_the_best_score_against_the_best_null():
    null = row("knn", 0.7, 0.6, 0.8)
    clear = verdict([row("leep", 0.9, 0.75, 0.95), null, row("neg_label_entropy", NAN)])
    assert "Best score: leep, r = .90 [.75, .95]. Best null: knn" in clear
    assert clear.endswith("Interval above that null: leep.")
    assert verdict([row("leep", 0.9, 0.65, 0.95), null]).endswith(
        "No score's interval lies above that null."
    )
    assert verdict([row("leep", NAN)]) == "No score has a defined correlation with accuracy."


def test_table_fits_112_columns_and_marks_nulls(capsys):
    table = [row("leep", 0.9, 0.75, 0.95), row("neg_label_entropy", NAN)]
    for extra in ("spearman", "pearson|num_classes", "pearson|group"):
        for correlation in table:
            correlation.estimates[extra] = Estimate(-0.5, -0.6, -0.4)
    print_correlations("title", table, Console(width=112))
    out = capsys.readouterr().out
    assert "neg_label_entropy *" in out
    assert "undefined" in out
    assert out.count("-.50 [-.60, -.40]") == 4
    assert "-.25 to .50" in out
    assert "…" not in out


@pytest.mark.parametrize(
    ("values", "sign", "percent", "text"),
    [
        ((0.0419, 0.0, 0.14201), "", True, "4.2 [0.0, 14.3]"),
        ((0.021, -0.0301, 0.048), "+", True, "+2.1 [-3.1, +4.8]"),
        ((-0.001, -0.0001, 0.0), "+", False, "-0.00 [-0.01, +0.00]"),
        ((0.05, 0.03, 0.07), "", True, "5.0 [3.0, 7.0]"),
        ((0.5, np.nan, np.nan), "", True, "50.0 (no interval)"),
    ],
)
def test_means_are_in_points_with_the_interval_rounded_outwards(values, sign, percent, text):
    assert format_mean(Estimate(*values), sign, percent=percent) == text


def test_estimates_are_read_from_their_columns():
    row = {"gain": "1", "gain_low": "0", "gain_high": "nan", "value": "2", "low": "1", "high": "3"}
    np.testing.assert_array_equal(read_estimate(row, "gain"), [1, 0, np.nan])
    assert read_estimate(row) == (2, 1, 3)


def test_settings_side_by_side_have_a_line_for_each_score():
    settings = {
        "5 shots": [row("leep", 0.9, 0.75, 0.95), row("knn", 0.7, 0.6, 0.8)],
        "10 shots": [row("leep", 0.8, 0.7, 0.9), row("knn", NAN)],
    }
    (sheet,) = side_by_side(settings).sheets
    assert list(sheet.headings) == ["score", "5 shots", "10 shots"]
    assert [list(line) for line in sheet.rows] == [
        ["leep", ".90 [.75, .95]", ".80 [.70, .90]"],
        ["knn *", ".70 [.60, .80]", "undefined"],
    ]


@pytest.mark.parametrize(
    ("low", "high", "end"),
    [
        ((0.1, 0.2), (0.3, 0.4), "where it is lowest"),
        ((0.1, 0.35), (0.3, 0.4), "; the intervals overlap"),
        ((NAN, NAN), (0.3, 0.4), "; too few tasks for intervals"),
    ],
)
def test_finding_says_whether_the_levels_are_told_apart(low, high, end):
    def level(mean, interval):
        return Level((0.0, 1.0), 5, np.full(7, mean), *(np.full(7, end) for end in interval))

    text = finding([level(0.15, low), level(0.35, high)], "leep")
    assert text.startswith("After 3 of 6 epochs the lead of fine-tuning is +0.35 where leep is hi")
    assert text.endswith(end)
