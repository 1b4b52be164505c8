"""What is particular to SFDA; the rest is in test_contract_*.py."""

import numpy as np
import pytest

from leepjax.metrics._sfda import sfda

from . import oracles
from .support import assert_agrees, make_case


@pytest.mark.parametrize("case", ["medium", "imbalanced"])
def test_golden(golden, case):
    values, inputs = golden
    features, labels = np.float32(inputs[f"{case}/features"]), inputs[f"{case}/labels"]
    value = sfda(features, labels, num_classes=int(labels.max()) + 1)
    assert_agrees(value, values[case]["sfda/sfda"], 1e-6)


@pytest.mark.parametrize("unit", [0.1, 0.3, 0.6, 1.0])
def test_shrinkage_depends_on_the_unit(unit):
    case = make_case(n=100, d=6)
    features = np.float32(unit * case["features"] + 50 * unit)
    expected = oracles.ORACLES["sfda"](features, case["labels"], num_classes=4)
    assert_agrees(sfda(features, case["labels"], num_classes=4), expected, 1e-5)
    # Against 100 times as large, where s is at its least.
    large = oracles.ORACLES["sfda"](100 * features, case["labels"], num_classes=4)
    assert (abs(large - expected) < 1e-3) == (unit == 1.0)


def test_features_that_depend_on_each_other():
    # Copies, sums and constants of columns leave the range of the others, so S_w is singular in
    # directions where nothing varies: they count for the mean diagonal alone.
    case = make_case(n=80, d=5)
    f = 5 * case["features"] + 20
    wide = np.float32(np.hstack([f, f[:, :2], f[:, 1:3] + f[:, 2:4], np.full((80, 3), 7.0)]))
    expected = oracles.ORACLES["sfda"](f, case["labels"], num_classes=4)
    assert_agrees(sfda(wide, case["labels"], num_classes=4), expected, 1e-5)


def test_degenerate_features():
    labels = np.array([0, 0, 0, 1, 1, 2])
    one_hot = np.eye(3, dtype=np.float32)
    for features in (np.zeros((6, 3), np.float32), np.full((6, 3), 7.3, np.float32)):
        value = sfda(features, labels, num_classes=5)
        assert_agrees(value, (9 + 4 + 1) / 36, 1e-6)  # the shares
    assert_agrees(sfda(one_hot[labels], labels, num_classes=5), 1, 1e-6)
    # Classes 0 and 1 coincide, also when drawn towards the others: shares 3/5 and 2/5.
    merged = np.float32(one_hot[[0, 0, 0, 0, 0, 1]])
    assert 0 < sfda(merged, labels, num_classes=5) <= 1
    assert_agrees(sfda(one_hot[labels], np.zeros(6, int), num_classes=5), 1, 1e-6)


def test_more_features_than_samples_are_told_apart_whatever_they_are():
    noise = 10 * np.random.default_rng(0).normal(size=(40, 200)).astype(np.float32)
    assert_agrees(sfda(noise, np.arange(40) % 4, num_classes=4), 1, 1e-6)
