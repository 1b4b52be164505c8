"""Negative conditional entropy, and the label entropy that is its null."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from leepjax.metrics import nce, neg_label_entropy, score

from . import oracles
from .support import assert_agrees

few = settings(max_examples=25, deadline=None, derandomize=True, database=None)


def classes(c, n=10):
    return hnp.arrays(np.int32, n, elements=st.integers(0, c - 1))


def test_four_samples_by_hand():
    z, y = np.array([0, 0, 2, 2]), np.array([0, 1, 1, 1])
    # Half of the samples have z = 0 and y evenly 0 or 1; under z = 2 every y is 1.
    # -H(Y | Z) = -1/2 log 2 - 1/2 * 0
    assert_agrees(nce(z, y, num_source_classes=3, num_classes=2), -np.log(2) / 2, 1e-6)
    # -H(Y) = 1/4 log 1/4 + 3/4 log 3/4
    null = np.log(1 / 4) / 4 + 3 * np.log(3 / 4) / 4
    assert_agrees(neg_label_entropy(y, num_classes=2), null, 1e-6)


def test_weights_by_hand():
    z, y, weights = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), np.array([3.0, 1, 0, 4])
    # Half of the mass has z = 0, with y = 0 three times in four; under z = 1 every y is 1.
    within = np.log(3 / 4) * 3 / 4 + np.log(1 / 4) / 4
    value = nce(z, y, num_source_classes=2, num_classes=2, weights=weights)
    assert_agrees(value, within / 2, 1e-6)
    # y = 0 has 3 of 8, y = 1 has 5 of 8.
    null = np.log(3 / 8) * 3 / 8 + np.log(5 / 8) * 5 / 8
    assert_agrees(neg_label_entropy(y, num_classes=2, weights=weights), null, 1e-6)


@few
@given(classes(4), classes(3))
def test_bounds(z, y):
    value = float(nce(z, y, num_source_classes=4, num_classes=3))
    null = float(neg_label_entropy(y, num_classes=3))
    assert -np.log(3) - 1e-6 <= null <= value + 1e-6
    assert value <= 0
    assert_agrees(value, oracles.nce(z, y, num_source_classes=4, num_classes=3), 1e-5)


@few
@given(classes(4), classes(3), st.permutations(range(4)))
def test_names_of_source_classes_do_not_matter(z, y, names):
    renamed = nce(np.array(names)[z], y, num_source_classes=4, num_classes=3)
    assert_agrees(renamed, float(nce(z, y, num_source_classes=4, num_classes=3)), 1e-6)


@pytest.mark.parametrize("c", [1, 2, 7])
def test_limits(c):
    y = np.arange(4 * c) % c
    one, same = np.zeros_like(y), y[::1]
    # Source labels that say nothing leave -H(Y) = -log c; those that say all leave 0.
    assert_agrees(nce(one, y, num_source_classes=5, num_classes=c), -np.log(c), 1e-6)
    assert nce(same, y, num_source_classes=c, num_classes=c) == 0
    assert_agrees(neg_label_entropy(y, num_classes=c), -np.log(c), 1e-6)


@pytest.mark.parametrize("n", [500, 20_000])
def test_many_classes(n):
    # 100,000 cells, most of them empty. An epsilon in the joint or marginal counts is seen here.
    rng = np.random.default_rng(0)
    z = rng.integers(0, 1000, n)
    y = np.where(rng.random(n) < 0.7, z % 100, rng.integers(0, 100, n))
    value = nce(z, y, num_source_classes=1000, num_classes=100)
    assert_agrees(value, oracles.nce(z, y, num_source_classes=1000, num_classes=100), 1e-5)


@pytest.mark.parametrize("count", [0, -1, 2.0])
def test_number_of_source_classes_is_checked(count):
    with pytest.raises(ValueError, match="num_source_classes"):
        nce(np.array([0, 1]), np.array([0, 1]), num_source_classes=count, num_classes=2)


@pytest.mark.parametrize("label", [10**9, 2**40])
def test_an_absurd_source_label_allocates_no_table(label):
    labels = np.array([0, 1, 1])
    absurd = np.array([0, 1, label])
    with pytest.raises(ValueError, match=rf"^source_labels: wanted .* got {label + 1:,} times 2"):
        score(labels, num_classes=2, source_labels=absurd)
    with pytest.raises(ValueError, match=r"^source_labels: wanted"):
        nce(absurd, labels, num_source_classes=label + 1, num_classes=2)


@pytest.mark.parametrize("name", ["medium", "imbalanced"])
def test_golden(golden, name):
    values, inputs = golden
    z, y = inputs[f"{name}/source_labels"], inputs[f"{name}/labels"]
    value = nce(z, y, num_source_classes=z.max() + 1, num_classes=y.max() + 1)
    assert_agrees(value, values[name]["nce/ref"], 1e-5)
