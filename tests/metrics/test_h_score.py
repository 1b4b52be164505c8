"""H-score: the rank rule, its bounds and its invariances."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from leepjax.metrics import h_score

from . import oracles
from .support import C, N, assert_agrees, make_case

few = settings(max_examples=25, deadline=None, derandomize=True, database=None)


def test_four_samples_by_hand():
    # About the mean 3 the variance is (9 + 1 + 1 + 9) / 4 = 5. The class means 1 and 5 have
    # variance 4.
    features, labels = np.float32([[0], [2], [4], [6]]), np.array([0, 0, 1, 1])
    assert_agrees(h_score(features, labels, num_classes=2), 4 / 5, 1e-6)


def test_four_samples_in_two_dimensions_by_hand():
    # The covariance is I. Class means (-1, -1)/3 of weight 3/4 and (1, 1) of weight 1/4:
    # the trace between is 3/4 * 2/9 + 1/4 * 2 = 2/3.
    features = np.float32([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    labels = np.array([0, 0, 0, 1])
    assert_agrees(h_score(features, labels, num_classes=2), 2 / 3, 1e-6)
    # Of the first three samples alone the centred features have rank 2 = n - 1, and with classes
    # of one sample each the score is c - 1 = 2; with classes {0, 1}, {2} it is 1.
    where = np.array([True, True, True, False])
    for labels, value in (([0, 1, 2, 0], 2), ([0, 0, 1, 0], 1)):
        assert_agrees(h_score(features, np.array(labels), num_classes=3, where=where), value, 1e-5)


def test_weights_by_hand():
    # Mean (0 + 2 + 4 + 3 * 6) / 6 = 4: variance (16 + 4 + 0 + 3 * 4) / 6 = 32/6. Class means 1 of
    # weight 2 and 5.5 of weight 4: (2 * 9 + 4 * 2.25) / 6 = 27/6.
    features, labels = np.float32([[0], [2], [4], [6]]), np.array([0, 0, 1, 1])
    weights = np.array([1.0, 1, 1, 3])
    assert_agrees(h_score(features, labels, num_classes=2, weights=weights), 27 / 32, 1e-6)


# ------------------------------------------------------------------------------ bounds


@few
@given(
    hnp.arrays(np.float32, (8, 3), elements=st.integers(-3, 3)),
    hnp.arrays(np.int32, 8, elements=st.integers(0, 3)),
)
def test_bounds_at_any_rank(features, labels):
    value = float(h_score(features, labels, num_classes=4))
    assert -1e-6 <= value <= min(len(np.unique(labels)) - 1, 3) + 1e-4
    assert_agrees(value, oracles.h_score(features, labels, num_classes=4))


@pytest.mark.parametrize(("n", "d"), [(12, 11), (40, 500)])
@pytest.mark.parametrize("offset", [0, 100])
def test_as_many_directions_as_samples_give_exactly_c_minus_1(n, d, offset):
    rng = np.random.default_rng(0)
    features, labels = np.float32(rng.normal(size=(n, d)) + offset), np.arange(n) % C
    # So also when only 10 of the samples count, by mask or by weight.
    every, few = np.ones(n, bool), np.arange(n) < 10
    for where, weights in ((every, every), (few, every), (every, few)):
        options = {"where": where, "weights": np.float32(weights)}
        assert_agrees(h_score(features, labels, num_classes=C, **options), C - 1, 1e-3)


# ------------------------------------------------------------------------------ invariances


def test_invertible_linear_maps_change_nothing(x64):
    case = make_case()
    features, labels = case["features"], case["labels"]
    rng = np.random.default_rng(1)
    mapped = features @ rng.normal(size=features.shape[1:] * 2) + rng.normal(size=features.shape[1])
    value = float(h_score(features, labels, num_classes=C))
    np.testing.assert_allclose(h_score(mapped, labels, num_classes=C), value, rtol=1e-10)


@pytest.mark.parametrize("offset", [0, 100])
def test_directions_without_variance_count_nothing(offset):
    case = make_case(n=200)
    features = case["features"] + offset
    copies = np.hstack([features, features[:, ::-1], np.full((200, 1), 0.1), np.zeros((200, 3))])
    expected = oracles.h_score(np.float32(features), case["labels"], num_classes=C)
    assert_agrees(h_score(np.float32(copies), case["labels"], num_classes=C), expected)


@pytest.mark.parametrize(("variance", "value"), [(4e-6, 1), (2.5e-7, 0)])
def test_rank_rule(variance, value):
    # The first direction knows nothing of the labels and the second all: covariance diag(1, v),
    # and the second counts where v > 1e-6.
    features = np.float32([[1, -1], [-1, -1], [1, 1], [-1, 1]]) * np.float32([1, variance**0.5])
    assert_agrees(h_score(features, np.array([0, 0, 1, 1]), num_classes=2), value, 1e-5)


@pytest.mark.parametrize("level", [0.0, 0.1, 1000.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_constant_features_give_zero(level, weighted):
    features, labels = np.full((N, 7), level, np.float32), np.arange(N) % C
    weights = np.linspace(0, 1, N) if weighted else np.ones(N)
    assert h_score(features, labels, num_classes=C, weights=weights) == 0


def test_gradient_where_eigenvalues_coincide(x64):
    # Covariance I: the eigenvectors are not smooth here, but the score is.
    features = np.array([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
    labels = np.array([0, 0, 0, 1])
    direction = np.random.default_rng(0).normal(size=features.shape)

    @jax.jit
    @jax.value_and_grad
    def along(t):
        return h_score(features + t * direction, labels, num_classes=2)

    numeric = (along(1e-5)[0] - along(-1e-5)[0]) / 2e-5
    np.testing.assert_allclose(along(0.0)[1], numeric, rtol=1e-6)


@pytest.mark.parametrize("name", ["medium", "imbalanced"])
def test_golden(golden, name):
    values, inputs = golden
    features, labels = inputs[f"{name}/features"], inputs[f"{name}/labels"]
    value = h_score(features, labels, num_classes=labels.max() + 1)
    assert_agrees(value, values[name]["hscore/ref(eig>1e-10)"])
