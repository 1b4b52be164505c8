"""What is particular to the LDA score; the rest is in test_contract_*.py."""

import numpy as np
import pytest

from leepjax.metrics._lda_score import lda_score

from .support import assert_agrees, make_case


def test_golden(golden):
    values, inputs = golden  # NCTI's classification score is the same posterior
    labels = inputs["medium/labels"]
    value = lda_score(inputs["medium/features"].astype(np.float32), labels, num_classes=10)
    assert_agrees(value, values["medium"]["ncti/ncti[cls_score]"], 1e-6)


def test_is_the_posterior_of_the_generalised_eigenproblem(x64):
    scipy_linalg = pytest.importorskip("scipy.linalg")
    case = make_case(n=60, d=8)
    f, y = case["features"] / 3, case["labels"]  # small enough for shrinkage to matter
    means = np.stack([f[y == c].mean(0) for c in range(4)])
    within = (f - means[y]).T @ (f - means[y]) / 60
    s = np.exp(-5 * np.linalg.eigvalsh(within)[-1])
    assert s > 1e-4
    shrunk = (1 - s) * within + s * np.trace(within) / 8 * np.eye(8)
    directions = scipy_linalg.eigh(np.cov(f.T, bias=True) - shrunk, shrunk)[1]
    z, m = f @ directions, means @ directions
    scores = z @ m.T - (m * m).sum(1) / 2 + np.log(np.bincount(y) / 60)
    posterior = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    expected = posterior[np.arange(60), y].mean()
    np.testing.assert_allclose(lda_score(f, y, num_classes=4), expected, rtol=1e-10)


def test_scale_free_where_shrinkage_is_least_and_nearest_mean_where_it_is_most(x64):
    case = make_case(n=60)
    f, y = case["features"] * 5, case["labels"]
    large = lda_score(f, y, num_classes=4)
    np.testing.assert_allclose(lda_score(10 * f, y, num_classes=4), large, rtol=1e-7)
    # Tiny features: s = 1, S a multiple of the identity, so a rotation and a scale are nothing.
    tiny = [lda_score(unit * f, y, num_classes=4) for unit in (1e-5, 1e-6)]
    np.testing.assert_allclose(tiny[0], tiny[1], rtol=1e-6)
    assert abs(tiny[0] - large) > 1e-4


def test_degenerate_features():
    labels = np.array([0, 0, 0, 1, 1, 2])
    one_hot = np.eye(3, dtype=np.float32)
    value = lda_score(np.full((6, 2), 7.3, np.float32), labels, num_classes=5)
    np.testing.assert_allclose(value, (9 + 4 + 1) / 36, rtol=1e-6)  # the shares
    assert lda_score(one_hot[labels], labels, num_classes=3) == 1
    # Classes 0 and 1 coincide: shares 3/5 and 2/5 between them.
    merged = lda_score(one_hot[[0, 0, 0, 0, 0, 1]] + 100, labels, num_classes=3)
    np.testing.assert_allclose(merged, (3 * 0.6 + 2 * 0.4 + 1) / 6, rtol=1e-5)
    assert lda_score(one_hot, np.zeros(3, int), num_classes=3) == 1


def test_more_features_than_samples_are_told_apart_whatever_they_are():
    rng = np.random.default_rng(0)
    noise = 10 * rng.normal(size=(40, 200)).astype(np.float32)
    assert lda_score(noise, np.arange(40) % 4, num_classes=4) > 1 - 1e-6
