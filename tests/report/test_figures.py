"""Figures are drawn to files, or handed to a notebook."""

from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from scipy.stats import t

from leepjax.evaluation import cluster_membership, correlate, in_levels
from leepjax.report import (
    HEAD,
    accuracy_levels,
    draw_levels,
    level_rows,
    plot_accuracy_levels,
    scatter,
)

RNG = np.random.default_rng(0)
GROUPS = np.repeat(np.arange(4), 5)
ACCURACY = RNG.uniform(0.5, 1, 20)
SCORE = ACCURACY + RNG.normal(0, 0.1, 20)


def table():
    return correlate(
        {"leep": SCORE, "knn": -SCORE},
        ACCURACY,
        SimpleNamespace(classes=np.arange(20)[:, None], groups=GROUPS),
    )


def draw_scatter(path):
    return scatter(path, "Finding", {"leep": SCORE, "knn": -SCORE}, ACCURACY, table())


def draw_curves(path):
    levels = in_levels(SCORE, np.stack([ACCURACY, ACCURACY], 1), cluster_membership(GROUPS))
    return draw_levels(path, "Finding", "leep", levels)


@pytest.mark.parametrize("draw", [draw_scatter, draw_curves])
def test_without_a_path_the_figure_is_returned_alone(draw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figure = draw(None)
    assert isinstance(figure, matplotlib.figure.Figure)
    assert figure.get_suptitle() == "Finding"
    assert not list(tmp_path.iterdir())
    draw(tmp_path / "same.png")
    assert (tmp_path / "same.png").stat().st_size > 1000


def test_scatter_has_a_panel_for_each_score_with_its_points():
    axes = draw_scatter(None).axes
    assert [axis.get_xlabel() for axis in axes] == ["leep", "knn"]
    np.testing.assert_array_equal(axes[1].lines[0].get_xydata(), np.stack([-SCORE, ACCURACY], 1))


def test_the_band_is_that_of_the_least_squares_line():
    axis = draw_scatter(None).axes[0]
    x, line = axis.lines[1].get_xydata().T
    coefficients, covariance = np.polyfit(SCORE, ACCURACY, 1, cov=True)
    np.testing.assert_allclose(line, np.polyval(coefficients, x))
    at = np.stack([x, np.ones_like(x)])
    half = t.ppf(0.975, len(SCORE) - 2) * np.sqrt(np.sum(at * (covariance @ at), 0))
    drawn = axis.collections[0].get_paths()[0].vertices
    for band in (line - half, line + half):
        corners = np.stack([x, band], 1)[:, None]
        np.testing.assert_allclose(np.abs(drawn - corners).max(-1).min(1), 0, atol=1e-9)


@pytest.mark.parametrize("shots", [(5,), (5, 10)])
def test_accuracy_levels_are_drawn_from_rows(shots):
    levels = accuracy_levels(SCORE, {HEAD: ACCURACY}, cluster_membership(GROUPS))
    rows = level_rows("leep", 5, levels)
    figure = plot_accuracy_levels([row | {"shots": count} for count in shots for row in rows])
    assert [axis.get_title() for axis in figure.axes] == [f"{count} shots" for count in shots]
    for axis in figure.axes:
        drawn = axis.containers[0].lines[0].get_ydata()
        np.testing.assert_allclose(drawn, [row["mean"] for row in rows])
        ticks = [label.get_text() for label in axis.get_xticklabels()]
        assert ticks == [f"{row['lowest']:.2f}\nto {row['highest']:.2f}" for row in rows]
