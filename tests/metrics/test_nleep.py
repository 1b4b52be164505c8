"""What is particular to N-LEEP; the rest is in test_contract_*.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leepjax.metrics._neg_label_entropy import neg_label_entropy
from leepjax.metrics._nleep import nleep

from .oracles import leep as leep_oracle
from .support import C, make_case

KEY = jax.random.key(0)


@pytest.mark.parametrize("name", ["medium", "imbalanced"])
def test_golden_is_one_fit_among_many(golden, name):
    values, inputs = golden
    features = inputs[f"{name}/features"].astype(np.float32)
    labels = inputs[f"{name}/labels"]
    c = int(labels.max()) + 1
    fits = [nleep(jax.random.key(k), features, labels, num_classes=c) for k in range(6)]
    golden_value = values[name]["nleep/ref(PCA0.8+GMM random_state=0, K=min(5C,N/5))"]
    assert abs(np.mean(fits) - golden_value) < 0.1
    assert np.std(fits) < 0.1


def oracle(features, labels, clusters, energy):
    """By its definition in float64, the fit started from clusters that k-means cannot miss."""
    x = features - features.mean(0)
    values, vectors = np.linalg.eigh(x.T @ x)
    share = np.cumsum(values[::-1]) / values.sum()
    x = x @ vectors[:, ::-1][:, : np.searchsorted(share, energy) + 1]
    number = clusters.max() + 1
    for _ in range(50):
        centres = np.stack([x[clusters == k].mean(0) for k in range(number)])
        clusters = ((x[:, None] - centres) ** 2).sum(2).argmin(1)
    x /= x.std(0)
    theta, moved = np.eye(number)[clusters], np.inf
    while moved > 1e-5:
        density = np.empty_like(theta)
        for k in range(number):
            mean = np.average(x, axis=0, weights=theta[:, k])
            variance = np.average((x - mean) ** 2, axis=0, weights=theta[:, k]).clip(1e-3)
            exponent = ((x - mean) ** 2 / variance).sum(1) / 2
            density[:, k] = theta[:, k].mean() * np.exp(-exponent) / np.sqrt(variance.prod())
        before, theta = theta, density / density.sum(1, keepdims=True)
        moved = np.abs(theta - before).sum(1).mean()
    return leep_oracle(theta, labels, num_classes=labels.max() + 1)


@pytest.mark.parametrize("shape", ["round", "more dimensions than samples", "skewed classes"])
def test_value_where_the_fit_has_one_optimum(shape, x64):
    """Six clusters, of which classes hold several, or parts; the mixture finds them."""
    rng = np.random.default_rng(3)
    d = 200 if shape == "more dimensions than samples" else 8
    clusters = np.repeat(np.arange(6), 20)
    centres = np.concatenate([4.5 * np.eye(6), np.zeros((6, d - 6))], 1)
    # Of several sizes and touching, so that the mixture is not just its k-means clusters.
    spread = np.linspace(0.6, 1.4, 6)[clusters, None] * (0.2 if d == 200 else 1.0)
    features = centres[clusters] + spread * rng.normal(size=(120, d))
    labels = (clusters + (rng.uniform(size=120) < 0.3)) % 3
    if shape == "skewed classes":
        labels = np.where(rng.uniform(size=120) < 0.9, 0, labels)
    expected = oracle(features, labels, clusters, 0.8)
    fits = [
        nleep(jax.random.key(k), features, labels, num_classes=3, num_components=6)
        for k in range(12)
    ]
    errors = np.abs(np.array(fits) - expected)
    assert errors.min() < 1e-9  # k-means++ can seed one cluster twice; other keys find all six


@pytest.mark.parametrize("n", [30, 300])
def test_rounding_does_not_move_the_value(n, request):
    """Names of classes, order of samples, precision: whatever makes sums round otherwise."""
    values = []
    for seed in range(10):
        case = make_case(seed, n=n, d=n // 10)
        features, labels = case["features"].astype(np.float32), case["labels"]
        values.append(nleep(KEY, features, labels, num_classes=C))
        rng = np.random.default_rng(seed)
        for _ in range(3):
            rows, names = rng.permutation(n), rng.permutation(C)
            other = nleep(KEY, features[rows], names[labels[rows]], num_classes=C)
            np.testing.assert_allclose(other, values[-1], rtol=0, atol=1e-4)
    request.getfixturevalue("x64")
    for seed, value in enumerate(values):
        case = make_case(seed, n=n, d=n // 10)
        features = case["features"].astype(np.float32).astype(float)
        double = nleep(KEY, features, case["labels"], num_classes=C)
        np.testing.assert_allclose(double, value, rtol=0, atol=1e-4)


def test_clusters_that_are_classes_give_0(x64):
    centres = 100 * np.random.default_rng(0).normal(size=(4, 6))
    labels = np.arange(80) % 4
    features = centres[labels] + np.random.default_rng(1).normal(size=(80, 6))
    assert nleep(KEY, features, labels, num_classes=4) > -1e-9


def test_same_key_same_value_other_key_another():
    case = make_case(n=300, d=30)
    arrays = case["features"].astype(np.float32), case["labels"]
    values = [nleep(jax.random.key(k), *arrays, num_classes=C) for k in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


def test_unused_padding_and_absent_classes_change_nothing(x64):
    options = {"num_components": 3, "energy": 1.0}  # by default: in the contract
    case = make_case(n=60)
    features = np.concatenate([np.full((7, 5), np.nan), case["features"]])
    labels, where = np.concatenate([np.full(7, -1), case["labels"]]), np.arange(67) > 6
    plain = nleep(KEY, case["features"], case["labels"], num_classes=C, **options)
    padded = nleep(KEY, features, labels, num_classes=C, where=where, **options)
    absent = nleep(KEY, case["features"], 3 * case["labels"], num_classes=20, **options)
    np.testing.assert_allclose([padded, absent], [plain, plain], rtol=1e-9)


def test_one_component_is_minus_the_label_entropy():
    case = make_case()
    features, labels = case["features"].astype(np.float32), case["labels"]
    entropy = neg_label_entropy(labels, num_classes=C)
    one = nleep(KEY, features, labels, num_classes=C, num_components=1)
    constant, few = (
        nleep(KEY, x, labels, num_classes=C, where=where)
        for x, where in ((np.full_like(features, 7.3), labels >= 0), (features, np.arange(30) < 8))
    )
    np.testing.assert_allclose([one, constant], [entropy, entropy], rtol=1e-5)
    np.testing.assert_allclose(few, neg_label_entropy(labels[:8], num_classes=C), rtol=1e-5)


def test_finite_where_components_would_shrink_to_points():
    repeated = np.repeat(make_case(n=9)["features"], 12, axis=0).astype(np.float32)
    labels = np.arange(108) % C
    for features in (repeated, 1e-20 * repeated, 1e20 * repeated, 1e-4 * repeated + 100):
        assert jnp.isfinite(nleep(KEY, features, labels, num_classes=C))


@pytest.mark.parametrize("energy", [0, 1.1, -1, "0.8", True])
def test_bad_energy(energy):
    case = make_case()
    with pytest.raises(ValueError, match="energy: "):
        nleep(KEY, case["features"], case["labels"], num_classes=C, energy=energy)
