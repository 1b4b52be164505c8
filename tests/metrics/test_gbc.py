"""What is particular to GBC; the rest is in test_contract_*.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leepjax.metrics._gbc import gbc

from .oracles import ORACLES
from .support import C, assert_agrees, conditioned_features, make_case


@pytest.mark.parametrize("name", ["medium", "imbalanced"])
def test_golden(golden, name):
    values, inputs = golden
    labels = inputs[f"{name}/labels"]
    features = inputs[f"{name}/features"].astype(np.float32)
    value = gbc(features, labels, num_classes=labels.max() + 1, num_components=None)
    assert_agrees(value, values[name]["gbc/ref(diagonal)"], 1e-5)


def test_two_spherical_classes_by_hand(x64):
    # Variances 1 and 4 in both directions, means 3 apart along the first.
    square = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    features = np.concatenate([square, 2 * square + [3, 0]])
    labels = np.repeat([0, 1], 4)
    distance = 9 / (8 * 2.5) + np.log(2.5 / 2)  # half the logarithm, once for each direction
    for covariance in ("diagonal", "spherical"):
        value = gbc(features, labels, num_classes=2, covariance=covariance, num_components=None)
        np.testing.assert_allclose(value, -2 * np.exp(-distance), rtol=1e-12)


def test_one_class_is_0_and_classes_that_coincide_are_minus_all_pairs():
    features = np.ones((6, 3), np.float32)
    assert gbc(features, np.zeros(6, int), num_classes=4) == 0
    assert gbc(features, np.arange(6) % 3, num_classes=4) == -6


def test_more_components_than_the_rank_change_nothing(x64):
    case = make_case(n=9, d=12)
    arrays = case["features"], case["labels"]
    few = gbc(*arrays, num_classes=C, num_components=8)
    np.testing.assert_allclose(gbc(*arrays, num_classes=C), few, rtol=1e-12)
    assert gbc(*arrays, num_classes=C, num_components=3) < few  # less to tell classes apart by


def test_small_principal_directions_survive_float32():
    # A solver's directions of eigenvalues 1e-4 of the largest are 1e-3 off in float32.
    labels = np.arange(800) % 4
    features = conditioned_features(labels, 200, 1e4, offset=100.0).astype(np.float32)
    options = {"num_classes": 4, "num_components": 190}
    exact = ORACLES["gbc"](features, labels, **options)
    assert_agrees(gbc(features, labels, **options), exact, 1e-5)


def test_gradient_through_truncated_directions(x64):
    case = make_case(n=9, d=12)
    direction = np.random.default_rng(2).normal(size=(9, 12))

    @jax.jit
    @jax.value_and_grad
    def along(t):
        features = case["features"] + t * direction
        return gbc(features, case["labels"], num_classes=C, num_components=3)

    numeric = (along(1e-5)[0] - along(-1e-5)[0]) / 2e-5
    np.testing.assert_allclose(along(0.0)[1], numeric, rtol=1e-6)


@pytest.mark.parametrize(
    "covariance", ["diagonal", pytest.param("spherical", marks=pytest.mark.slow)]
)
def test_gradient_is_finite_where_eigenvalues_coincide(covariance):
    features = jnp.concatenate([jnp.eye(4), -jnp.eye(4)])

    @jax.jit
    @jax.grad
    def gradient(x):
        return gbc(x, np.arange(8) % 3, num_classes=3, covariance=covariance)

    assert jnp.isfinite(gradient(features)).all()


def test_bad_options():
    case = make_case()
    arrays = case["features"], case["labels"]
    with pytest.raises(ValueError, match=r"covariance: .*'full'"):
        gbc(*arrays, num_classes=C, covariance="full")
    with pytest.raises(ValueError, match="num_components: "):
        gbc(*arrays, num_classes=C, num_components=0)
