"""Leave-one-out accuracy of ridge regression, against fits that really leave one out."""

import numpy as np
import pytest

from leepjax.metrics._linear_probe import linear_probe

from .support import assert_agrees, conditioned_features, make_case


def by_refitting(features, labels):
    """As the docstring says, n fits for each of 13 penalties."""
    f, (n, _) = np.float64(features), features.shape
    classes = np.unique(labels)
    t = np.float64(labels[:, None] == classes)
    f = f - f.mean(0)
    eigenvalues, vectors = np.linalg.eigh(f.T @ f / n)
    kept = eigenvalues > 1e-6 * eigenvalues[-1]
    kept[: max(0, len(kept) - (n - 1))] = False
    z = np.hstack([np.ones((n, 1)), f @ vectors[:, kept]])
    least, accuracy = np.inf, 0.0
    for k in range(4, -9, -1):
        ridge = n * 10 ** (k / 2) * eigenvalues[kept].mean() * np.eye(z.shape[1])
        ridge[0, 0] = 0
        scores = np.empty_like(t)
        for i in range(n):
            rest = np.arange(n) != i
            normal = z[rest].T @ z[rest] + ridge
            scores[i] = z[i] @ np.linalg.solve(normal, z[rest].T @ t[rest])
        if np.square(t - scores).sum() < least:
            least = np.square(t - scores).sum()
            accuracy = np.mean(scores[t > 0] > np.where(t > 0, -np.inf, scores).max(1) + 1e-5)
    return accuracy


@pytest.mark.parametrize(
    ("n", "d", "c"), [(60, 5, 3), (30, 29, 2), (30, 28, 3), (31, 29, 3), (20, 50, 4)]
)
@pytest.mark.parametrize("signal", [0.3, 1.0])
def test_equals_fits_that_leave_one_out(n, d, c, signal):
    rng = np.random.default_rng(n)
    labels = np.arange(n) % c
    features = rng.normal(size=(n, d)) + signal * rng.normal(size=(c, d))[labels] + 100
    value = linear_probe(np.float32(features), labels, num_classes=c + 1)
    assert_agrees(value, by_refitting(features, labels), 1e-6)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_ill_conditioned_features(offset):
    labels = make_case(n=200, d=20)["labels"]
    features = conditioned_features(labels, 20, 1e4, offset)
    noise = np.random.default_rng(0).permutation(200)[:80]
    labels[noise] = labels[noise[::-1]]  # so that not all are right
    value = linear_probe(np.float32(features), labels, num_classes=4)
    assert 0.3 < value < 0.95
    assert_agrees(value, by_refitting(features, labels), 1e-6)


def test_features_that_do_not_vary_predict_the_most_frequent_class_of_the_others():
    for features in (np.zeros((6, 2), np.float32), np.full((6, 2), 7.3, np.float32)):
        assert_agrees(linear_probe(features, np.array([0, 0, 0, 0, 1, 1]), num_classes=3), 4 / 6)
        # Left out, a sample of the largest class leaves a tie, which is wrong.
        assert linear_probe(features, np.array([0, 0, 0, 1, 1, 2]), num_classes=3) == 0


def test_few_samples():
    eye = np.eye(3, dtype=np.float32)
    assert linear_probe(eye[:1], np.array([1]), num_classes=2) == 0  # nothing to learn from
    assert linear_probe(eye, np.ones(3, int), num_classes=3) == 1  # one class
    assert linear_probe(eye, np.arange(3), num_classes=3) == 0  # a class of one is never right


def test_duplicated_columns_change_nothing():
    case = make_case(n=60)
    twice = np.float32(np.hstack([case["features"]] * 2 + [np.ones((60, 2))]))
    value = linear_probe(twice, case["labels"], num_classes=4)
    assert_agrees(value, by_refitting(twice, case["labels"]), 1e-6)
    assert_agrees(value, float(linear_probe(case["features"], case["labels"], num_classes=4)))
