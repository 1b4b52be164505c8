"""Leave-one-out accuracy of nearest neighbours: votes, ties and few samples."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leepjax.metrics import knn

from . import oracles
from .support import C, D, assert_agrees, eager, make_case, skip_unless_compiled

few = settings(max_examples=25, deadline=None, derandomize=True, database=None)


def at_angles(*degrees):
    """Directions in the plane (of different lengths, which cosine similarity does not see)."""
    radians = np.deg2rad(degrees)
    directions = np.stack([np.cos(radians), np.sin(radians)], axis=1)
    return np.float32(directions * np.linspace(0.5, 3, len(degrees))[:, None])


def test_signature_default():
    assert knn(at_angles(0, 10, 20), np.array([0, 0, 1]), num_classes=2) == pytest.approx(
        float(knn(at_angles(0, 10, 20), np.array([0, 0, 1]), num_classes=2, k=5))
    )


@pytest.mark.parametrize(("k", "value"), [(1, 3 / 4), (2, 3 / 4), (3, 0), (5, 0)])
def test_four_samples_by_hand(k, value):
    # k = 1: the nearest of 0° is 10° (right), of 10° is 0° (right), of 30° is 10° (wrong), and of
    # 90° is 30° (right). k = 2: every vote is a tie or agrees, and the nearest decides: the same.
    # k = 3 and more: all others vote, 1 for the own class and 2 for the other.
    features, labels = at_angles(0, 10, 30, 90), np.array([0, 0, 1, 1])
    assert_agrees(knn(features, labels, num_classes=2, k=k), value, 1e-6)


def test_tie_goes_to_the_nearest_of_the_tied_classes():
    # The first sample's neighbours in order: 2, 1, 0, 0, 1. Classes 0 and 1 have two votes each
    # and 1 is nearer; 2 is the nearest of all but not tied.
    features = at_angles(0, 1, 2.1, 3.3, 4.6, 6)  # no two angles between them are equal
    for own, right in ((1, True), (0, False), (2, False)):
        labels = np.array([own, 2, 1, 0, 0, 1])
        others = oracles.knn(features, labels, num_classes=3) * 6 - right
        assert knn(features, labels, num_classes=3) * 6 == pytest.approx(others + right)


def test_ties_of_many_votes():
    # The nearest of the first sample's 50 neighbours is of class 1, the next 25 are of class 0 and
    # the other 24 of class 1. Every sample of class 1 sees 25 votes for each class.
    features = at_angles(*np.sort(np.random.default_rng(0).uniform(0, 90, 51)))
    labels = np.array([1, 1] + [0] * 25 + [1] * 24)
    expected = oracles.knn(features, labels, num_classes=2, k=50)
    assert knn(features, labels, num_classes=2, k=50) == pytest.approx(expected)


def test_zero_vectors_are_at_similarity_zero():
    # To (1, 0) the zero vector (similarity 0) is nearer than (-1, 0) (similarity -1), and the
    # other way round: both are called 0, wrongly. The zero vector is called 1 in either case.
    features, labels = np.float32([[1, 0], [-1, 0], [0, 0]]), np.array([1, 1, 0])
    assert knn(features, labels, num_classes=2, k=1) == 0
    # With k = 2 they are ties, which go to the nearest: the zero vector.
    assert knn(features, labels, num_classes=2, k=2) == 0
    assert knn(np.zeros((3, 2), np.float32), np.zeros(3, int), num_classes=2) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_one_sample_has_no_neighbour(dtype):
    skip_unless_compiled(dtype)
    features, labels = np.ones((4, 3), dtype), np.array([0, 1, 1, 0])
    assert knn(features[:1], labels[:1], num_classes=2) == 0
    assert knn(features, labels, num_classes=2, where=np.arange(4) == 2) == 0


@pytest.mark.parametrize("kept", [2, 3, 5, 6])
def test_fewer_neighbours_than_k_among_the_masked_in(kept, x64):
    case = make_case(n=20, c=2)
    for seed in range(5):
        where = np.random.default_rng(seed).permutation(20) < kept
        features, labels = case["features"], case["labels"]
        expected = oracles.knn(features[where], labels[where], num_classes=2, k=4)
        value = knn(features, labels, num_classes=2, k=4, where=where)
        assert value == pytest.approx(expected)


@few
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 5, 11, 12, 50]))
def test_equals_the_oracle_at_any_k(seed, k):
    # Random directions have no equal similarities; two classes and even k have equal votes.
    case = make_case(seed, n=12, c=3)
    features = np.float32(case["features"])
    expected = oracles.knn(features, case["labels"], num_classes=3, k=k)
    assert knn(features, case["labels"], num_classes=3, k=k) == pytest.approx(expected)


def test_lengths_and_rotations_change_nothing(x64):
    case = make_case()
    rng = np.random.default_rng(1)
    rotation = np.linalg.qr(rng.normal(size=(D, D)))[0]
    turned = case["features"] @ rotation * rng.uniform(0.1, 10, size=(len(case["labels"]), 1))
    value = float(knn(case["features"], case["labels"], num_classes=C))
    assert 0.1 < value < 0.9
    assert knn(turned, case["labels"], num_classes=C) == pytest.approx(value)


@pytest.mark.parametrize("transform", [eager, jax.jit])
def test_k_is_checked(transform):
    case = make_case()
    for k in (0, -1):
        with pytest.raises(ValueError, match=r"\bk\b.*got"):
            transform(lambda f, y, k=k: knn(f, y, num_classes=C, k=k))(
                np.float32(case["features"]), case["labels"]
            )
