"""Rankings of very many sources: what is kept of their covariances, and what it is worth."""

import json
import subprocess
import sys

import numpy as np
import pytest

from leepjax._store import pack
from leepjax.ranking import _pieces, rank
from leepjax.ranking.best import ALL, DRAWS, covariances, probability_best

N = 300


def made(m, close, seed=0):
    """Scores and deviations of m sources that share noise, some close to the best."""
    rng = np.random.default_rng(seed)
    u = (rng.normal(size=N) + 0.5 * rng.normal(size=(m, N))) / N
    scores = np.where(rng.permutation(m) < close, 0.0, -5.0) - 0.02 * rng.random(m)
    return scores, [*u]


@pytest.mark.parametrize("close", [1, 40])
def test_the_leading_have_the_probabilities_of_the_full_computation(close):
    scores, deviations = made(ALL + 100, close)
    kept = covariances(scores, deviations)
    assert close <= len(kept.leading) < 3 * close + 3
    u = np.array(deviations)
    full = u @ u.T
    np.testing.assert_allclose(kept.covariance, full[:, kept.leading], rtol=1e-10)
    np.testing.assert_allclose(kept.variance, np.diag(full), rtol=1e-10)
    p = np.zeros(len(scores))
    within = kept.covariance[kept.leading]
    p[kept.leading] = probability_best(scores[kept.leading], within)
    expected = probability_best(scores, full)
    error = np.sqrt(np.maximum(expected, 1 / DRAWS) / DRAWS)  # of a share of so many draws
    assert np.all(np.abs(p - expected) < 5 * np.sqrt(2) * error)


def test_twins_of_the_best_lead_though_their_difference_is_sure():
    scores, deviations = made(ALL + 1, 1)
    best = int(np.argmax(scores))
    error = np.sqrt(np.sum(deviations[best] ** 2))
    other = (best + 1) % len(scores)
    deviations[other], scores[other] = deviations[best] * (1 + 1e-7), scores[best] - 0.01 * error
    kept = covariances(scores, deviations)
    assert {best, other} <= {*kept.leading.tolist()}


def test_sources_without_deviations_or_score_do_not_lead():
    scores, deviations = made(ALL + 50, 20)
    scores[0], deviations[0] = np.nan, None
    kept = covariances(scores, deviations)
    assert 0 not in kept.leading
    assert np.isnan(kept.covariance[0]).all()
    assert np.isfinite(kept.covariance[1:]).all()
    nothing = covariances(scores, [None] * len(scores))
    assert nothing.covariance.shape == (len(scores), 0)
    assert np.isnan(nothing.variance).all()


def fake(m, n, monkeypatch=None):
    """A ranking of m sources whose rows are drawn, not computed: what is left is the ranking."""

    def score_one(judged, source):
        i = int(source()["features"][0, 0])
        rng = np.random.default_rng(i)
        u = (np.random.default_rng(0).normal(size=n) + 0.3 * rng.normal(size=n)) / n
        score = [0.2 + 0.05 * rng.random(), [0.0], pack(u)]
        return {
            "scores": {"predictive_r2": score, "leep": [-1.0 - rng.random(), [-2.0], None]},
            **{
                "unscored": [],
                "facts": {"parameters": float(i + 1)},
                "dimensions": 8,
                "took": [0] * 3,
            },
        }

    if monkeypatch is None:
        _pieces.score_one = score_one
    else:
        monkeypatch.setattr(_pieces, "score_one", score_one)
    labels = np.arange(n) % 3
    sources = {f"s{i}": lambda i=i: {"features": np.full((n, 1), i)} for i in range(m)}
    return rank(sources, labels, max_samples=n, metrics=("leep",), nulls=())


def test_more_sources_than_have_all_covariances(monkeypatch):
    many = fake(ALL + 20, 200, monkeypatch)
    assert many.covariance.shape == (ALL + 20, len(many.leading))
    text = str(many)
    assert many.best[0] in text
    p = many.probability_best()
    assert p.sum() == pytest.approx(1)
    assert many.choice[0] == many.names[int(p.argmax())]
    behind = many.behind()
    assert behind[0] == many.difference(many.names[0], many.best[0])
    last = many.names.index(many.best[-1])
    to_last = many.difference(many.best[0], many.best[-1])
    assert to_last.value == pytest.approx(-behind[last].value)
    assert to_last.standard_error == pytest.approx(behind[last].standard_error)
    outside = [name for i, name in enumerate(many.names) if i not in many.leading]
    if len(outside) > 1:
        pair = many.difference(*outside[:2])
        assert np.isfinite(pair.value)
        assert np.isnan(pair.standard_error)
    json.dumps(many.to_dict(), allow_nan=False)


@pytest.mark.slow
def test_five_thousand_sources_stay_below_four_gib():
    code = (
        "import resource; from tests.ranking.test_many import fake; "
        "r = fake(5000, 5000); text = str(r); r.to_dict(); r._repr_html_(); "
        "print(len(r.leading), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    leading, gib = map(float, done.stdout.split())
    assert 10 < leading < 5000
    assert gib < 4
