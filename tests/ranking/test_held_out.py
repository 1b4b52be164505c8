"""What decides: its errors by brute force, and what it makes of noise and of shuffled labels."""

import numpy as np
import pytest

from leepjax.ranking import rank
from leepjax.ranking.held_out import PENALTIES, _basis, _fit, held_out
from leepjax.ranking.shuffles import p_value


def r2_of_others(features, labels, penalty):
    """Left-out R², every sample left out in turn; the penalty is n lambda."""
    n, own = len(labels), np.eye(labels.max() + 1)[labels]
    error = spread = 0.0
    for i in range(n):
        rest = np.arange(n) != i
        x, t = features[rest], own[rest]
        g = x - x.mean(0)
        w = np.linalg.solve(g.T @ g + penalty * np.eye(x.shape[1]), g.T @ (t - t.mean(0)))
        error += np.square(own[i] - t.mean(0) - (features[i] - x.mean(0)) @ w).sum()
        spread += np.square(own[i] - t.mean(0)).sum()
    return 1 - error / spread


@pytest.mark.parametrize(("n", "d"), [(60, 4), (24, 40)])
def test_errors_are_those_of_a_brute_force_jackknife(n, d):
    rng = np.random.default_rng(n)
    labels = np.arange(n) % 3
    features = rng.normal(size=(n, d)) + 1.2 * np.eye(3, d)[labels]
    own = np.eye(3)[labels]
    found = held_out(features, own)
    basis = _basis(features)
    kept = _fit(basis, own).kept  # value / (value + penalty)
    size = np.abs(features - features.mean(0)).max() ** 2  # _basis takes it out
    penalty = (basis.values * (1 / kept - 1))[0] * size
    assert found.r2 == pytest.approx(r2_of_others(features, labels, penalty), abs=1e-9)
    deleted = [np.delete(np.arange(n), i) for i in range(n)]
    others = np.array([r2_of_others(features[k], labels[k], penalty) for k in deleted])
    jackknife = np.sqrt((n - 1) / n * np.square(others - others.mean()).sum())
    # To the second order in the hat matrix's off-diagonals; where features outnumber samples they
    # are largest, and the error is 2 % too small.
    ours = np.sqrt(np.square(found.deviations).sum())
    assert ours == pytest.approx(jackknife, rel=0.005 if n > d else 0.03)
    assert np.corrcoef(found.deviations, others.mean() - others)[0, 1] > 0.99


def test_the_largest_penalty_wins_a_tie():
    assert (np.diff(PENALTIES) < 0).all()
    flat = _fit(_basis(np.ones((9, 2))), np.eye(3)[np.arange(9) % 3])
    assert flat.kept.shape == (0,)  # no direction at all


@pytest.mark.parametrize("width", [2, 200, 1500])
@pytest.mark.parametrize("classes", [2, 20])
def test_noise_of_any_width_is_never_chosen(width, classes):
    n, rng = 300, np.random.default_rng(width + classes)
    labels = np.arange(n) % classes
    real = rng.normal(size=(n, 16)) + 1.5 * rng.normal(size=(classes, 16))[labels]
    sources = {"noise": rng.normal(size=(n, width)), "real": real}
    given = {name: {"features": x.astype("f4")} for name, x in sources.items()}
    found = rank(given, labels, metrics=("h_score",), nulls=())
    assert found.choice == ("real",)
    if found.scores["h_score"].argmax() == 0 or width > n:
        assert found.misleading("h_score")
        by_h_score = rank(given, labels, by="h_score", metrics=(), nulls=())
        assert by_h_score.decision.startswith("Do not decide by h_score here")


def test_shuffled_labels_have_no_information():
    rng = np.random.default_rng(0)
    said = []
    for _ in range(40):
        labels = rng.permutation(np.arange(90) % 3)
        found = held_out(rng.normal(size=(90, 12)), np.eye(3)[labels])
        said.append(p_value(found.r2, found.shuffled_r2) <= 0.05)
    assert sum(said) <= 7  # 2 of 40 are expected; more than 7 in 1 of 1,000 cases
