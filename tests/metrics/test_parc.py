"""What is particular to PARC; the rest is in test_contract_*.py."""

import jax
import numpy as np
import pytest

from leepjax.metrics._parc import parc

from .support import C, make_case

KEY = jax.random.key(0)


@pytest.mark.parametrize("name", ["medium", "imbalanced"])
def test_golden_but_for_its_ties(golden, name, x64):
    values, inputs = golden
    features, labels = inputs[f"{name}/features"], inputs[f"{name}/labels"]
    value = parc(KEY, features, labels, num_classes=labels.max() + 1, num_samples=1000)
    stats = pytest.importorskip("scipy.stats")
    z = (features - features.mean(0)) / features.std(0)
    pairs = np.triu_indices(len(labels), 1)
    apart = (1 - np.corrcoef(z))[pairs]
    exact = 100 * stats.spearmanr(apart, (labels[:, None] != labels)[pairs]).statistic
    np.testing.assert_allclose(value, exact, rtol=1e-9)
    # The published code's label distances differ in the last place: not all ties are seen.
    assert abs(value - values[name]["parc/parc(no PCA)"]) < 0.15


def test_ties_share_their_rank():
    # Features as discrete as labels: same class 0, all others one distance.
    labels = np.arange(12) % 3
    features = 5 * np.eye(3, dtype=np.float32)[labels] + 100
    np.testing.assert_allclose(parc(KEY, features, labels, num_classes=3), 100, rtol=1e-5)


def test_same_key_same_images_and_all_of_them_need_no_key(x64):
    case = make_case()
    arrays = case["features"], case["labels"]
    some = [parc(jax.random.key(k), *arrays, num_classes=C, num_samples=10) for k in (0, 0, 1)]
    assert some[0] == some[1] != some[2]
    every = [parc(jax.random.key(k), *arrays, num_classes=C) for k in (0, 1)]
    np.testing.assert_allclose(every[0], every[1], rtol=1e-10)


# Without options masked is filtered by contract.
@pytest.mark.parametrize(
    "options",
    [{"num_samples": 10}, pytest.param({"num_components": 3}, marks=pytest.mark.slow)],
    ids=str,
)
def test_unused_padding_changes_nothing(options, x64):
    case = make_case()
    features = np.concatenate([np.full((7, 5), np.nan), case["features"]])
    labels, where = np.concatenate([np.full(7, -1), case["labels"]]), np.arange(37) > 6
    padded = parc(KEY, features, labels, num_classes=C, where=where, **options)
    plain = parc(KEY, case["features"], case["labels"], num_classes=C, **options)
    np.testing.assert_allclose(padded, plain, rtol=1e-10)


def test_signs_of_components_are_fixed(x64):
    # Reflecting the features turns every principal direction; loadings stay what they are.
    case = make_case()
    options = {"num_classes": C, "num_components": 3}
    value = parc(KEY, case["features"], case["labels"], **options)
    order = [4, 2, 0, 1, 3]
    turned = parc(KEY, case["features"][:, order], case["labels"], **options)
    np.testing.assert_allclose(turned, value, rtol=1e-8)


def in_one_shape(features, labels):
    """With masked rows and constant columns: one program."""
    f = np.full((6, 7), 0.1, np.float32)
    f[: len(labels), : features.shape[1]] = features
    padding = 6 - len(labels)
    return f, np.concatenate([labels, np.full(padding, -1)]), np.arange(6) < len(labels)


def test_no_information_is_0():
    labels = np.arange(6) % 2
    one = np.arange(6, dtype=np.float32)[:, None]
    assert parc(KEY, one, labels, num_classes=2) == 0
    # Constant features, and columns that repeat one another: standardised rows are constant but
    # for rounding.
    for features in (np.full((6, 7), 0.1, np.float32), np.tile(one * 0.37, 7)):
        f, y, where = in_one_shape(features, labels)
        assert parc(KEY, f, y, num_classes=3, where=where) == 0


@jax.jit
def traced(features, labels, where):
    return parc(KEY, features, labels, num_classes=3, where=where)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], [1]], ids=["one", "all", "single"])
def test_pairs_of_one_kind_have_no_value(labels):
    features = np.random.default_rng(0).normal(size=(len(labels), 4)).astype(np.float32)
    f, y, where = in_one_shape(features, np.array(labels))
    with pytest.raises(ValueError, match="labels: wanted two samples of one class"):
        parc(KEY, f, y, num_classes=3, where=where)
    assert np.isnan(traced(f, y, where))
