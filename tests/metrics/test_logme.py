"""LogME against the evidence written out densely, and where its iteration elsewhere goes astray."""

import math

import numpy as np
import pytest

from leepjax.metrics import logme, logme_regression

from .support import assert_agrees

GRID = np.linspace(math.log(1e-6), math.log(1e9), 3001)  # of t over the mean eigenvalue


def profile(f, y):
    """Log evidence per sample over the grid of t, by n x n determinants in float64."""
    n, scatter = len(y), np.linalg.svd(f - f.mean(0), compute_uv=False)[: len(f) - 1] ** 2
    mean = scatter[scatter > 1e-6 * scatter.max()].mean()

    t = (mean * np.exp(GRID))[:, None, None]
    shapes = np.eye(n) + f @ f.T / t
    q = np.linalg.solve(shapes, np.broadcast_to(y[:, None], (len(GRID), n, 1)))[..., 0] @ y
    return -0.5 * (np.linalg.slogdet(shapes)[1] / n + np.log(2 * math.pi * q / n) + 1)


def summits(values):
    """Where a profile has its maxima."""
    padded = np.concatenate([[-np.inf], values, [-np.inf]])
    return np.flatnonzero((values >= padded[:-2]) & (values > padded[2:]))


def uneven(seed):
    """A target that directions of very different scales explain, each a part of it."""
    rng = np.random.default_rng(seed)
    n, d = 12, 10
    f = rng.normal(size=(n, d)) * 10 ** rng.uniform(-0.8, 0.8, d)
    return f, f @ (rng.normal(size=d) / np.abs(f).max(0)) + 0.05 * rng.normal(size=n)


@pytest.mark.parametrize(("n", "d"), [(30, 3), (12, 20)])
def test_equals_dense_evidence(n, d):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    f = rng.normal(size=(n, d)) + rng.normal(size=(3, d))[labels] + 2
    dense = np.mean([profile(f, (labels == y).astype(float)).max() for y in range(3)])
    assert_agrees(logme(f.astype("f4"), labels, num_classes=3), dense)


def test_of_two_maxima_the_higher(x64):
    """Climbing from either end of the range would stop at the lower one in some of these."""
    lower = set()
    for seed in range(20):
        f, y = uneven(seed)
        values = profile(f, y)
        at = summits(values)
        assert_agrees(logme_regression(f, y), values.max())
        if len(at) == 2 and abs(values[at[0]] - values[at[1]]) > 0.01:
            lower.add("first" if values[at[0]] < values[at[1]] else "last")
    assert lower == {"first", "last"}


@pytest.mark.parametrize("seed", range(3))
def test_noise_of_many_dimensions_is_below_features_that_inform(seed):
    """thuml/LogME and its copies, which drop a term for d > n, rank the noise first."""
    rng = np.random.default_rng(seed)
    n, d, c = 60, 200, 3
    labels = np.arange(n) % c
    noise = rng.normal(size=(n, d)).astype("f4")
    informative = np.zeros_like(noise)  # of the same shape: one program
    informative[:, :20] = noise[:, :20] + 2 * rng.normal(size=(c, 20)).astype("f4")[labels]
    of_noise = logme(noise, labels, num_classes=c)
    assert np.isfinite(of_noise)
    assert of_noise + 0.1 < logme(informative, labels, num_classes=c)
    # The evidence of noise is at most a little above that of no features, t without bound.
    y = (labels == 0).astype(float)
    without = -0.5 * (math.log(2 * math.pi * y.mean()) + 1)
    assert of_noise == pytest.approx(without, abs=0.2)


@pytest.mark.parametrize(("n", "d"), [(30, 3), (12, 20)])  # the shapes above
def test_finite_on_pure_noise(n, d):
    """The fixed point of alpha and beta runs off to infinity there, and to NaN."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        f = rng.normal(size=(n, d)).astype("f4")
        assert np.isfinite(logme(f, rng.integers(0, 3, n), num_classes=3))
