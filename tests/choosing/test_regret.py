"""What choosing by a score costs, against loops, and against every order of models that tie."""

from itertools import combinations, permutations

import numpy as np
import pytest

from leepjax.choosing import (
    expected_recall,
    expected_regret,
    pairwise_accuracy,
    recall_at_k,
    regret_at_k,
    rel_at_k,
    successive_halving,
)

RNG = np.random.default_rng(0)
SCORE = RNG.normal(size=(6, 4, 9))
ACCURACY = RNG.random((6, 4, 9)).round(1) + 0.1


@pytest.mark.parametrize("k", [1, 3, 9])
def test_equal_a_loop_over_targets(k):
    for i in np.ndindex(6, 4):
        chosen = [a for _, a in sorted(zip(-SCORE[i], ACCURACY[i], strict=True))][:k]
        best = max(ACCURACY[i])
        assert rel_at_k(SCORE, ACCURACY, k)[i] == pytest.approx(max(chosen) / best, abs=1e-12)
        assert recall_at_k(SCORE, ACCURACY, k)[i] == (max(chosen) == best)
        assert regret_at_k(SCORE, ACCURACY, k)[i] == pytest.approx(best - max(chosen), abs=1e-12)


def test_pairwise_accuracy_equals_a_loop():
    score = SCORE.round(0)  # ties in both
    for i in np.ndindex(6, 4):
        right = []
        for a, b in combinations(range(9), 2):
            s, y = score[i][a] - score[i][b], ACCURACY[i][a] - ACCURACY[i][b]
            if y != 0:
                right.append(0.5 if s == 0 else float(s * y > 0))
        assert pairwise_accuracy(score, ACCURACY)[i] == pytest.approx(np.mean(right), abs=1e-12)
    assert np.isnan(pairwise_accuracy(np.arange(3.0), np.ones(3)))


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6])
def test_ties_are_the_mean_over_every_order_of_the_models(k):
    rng = np.random.default_rng(1)
    score = rng.integers(0, 3, size=(12, 6)).astype(float)
    score[0], score[1, :4], score[2] = 1.0, np.nan, np.nan  # one tie; undefined: taken last
    accuracy = rng.integers(1, 5, size=(12, 6)) / 5  # ties here too
    for s, a, rel, recall, regret in zip(
        *(score, accuracy, rel_at_k(score, accuracy, k)),
        *(recall_at_k(score, accuracy, k), regret_at_k(score, accuracy, k)),
        strict=True,
    ):
        best = []
        for order in permutations(range(6)):  # a stable sort leaves models that tie in this order
            ranked = sorted(order, key=lambda i: np.inf if np.isnan(s[i]) else -s[i])
            best.append(max(a[i] for i in ranked[:k]))
        assert rel == pytest.approx(np.mean(best) / max(a), abs=1e-12)
        assert recall == pytest.approx(np.mean(np.equal(best, max(a))), abs=1e-12)
        assert regret == pytest.approx(max(a) - np.mean(best), abs=1e-12)


def test_a_constant_score_has_the_regret_of_chance():
    accuracy = np.array([0.9, 0.5, 0.7])
    for score in (np.zeros(3), np.full(3, np.nan)):
        assert regret_at_k(score, accuracy) == pytest.approx(0.2)
        assert rel_at_k(score, accuracy) == pytest.approx(0.7 / 0.9)
        assert recall_at_k(score, accuracy) == pytest.approx(1 / 3)
        assert recall_at_k(score, accuracy, 2) == pytest.approx(2 / 3)
        assert pairwise_accuracy(score, accuracy) == 0.5


def test_an_undefined_score_comes_last():
    score, accuracy = np.array([np.nan, -5.0, -9.0]), np.array([0.9, 0.5, 0.7])
    np.testing.assert_allclose(
        [regret_at_k(score, accuracy, k) for k in (1, 2, 3)], [0.4, 0.2, 0], atol=1e-12
    )
    assert pairwise_accuracy(score, accuracy) == 0  # all three pairs the wrong way round


def test_a_choice_of_halving_has_the_same_regret():
    score = SCORE[0].round(0)  # ties
    accuracy = ACCURACY[0]
    choice = successive_halving(score, accuracy[..., None], np.ones((9, 1)), top=1)
    expected = expected_regret(choice.probability, accuracy)
    np.testing.assert_allclose(regret_at_k(score, accuracy), expected, atol=1e-12)
    expected = expected_recall(choice.probability, accuracy)
    np.testing.assert_allclose(recall_at_k(score, accuracy), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("score", "accuracy", "k", "message"),
    [
        (np.zeros(3), np.zeros(4), 1, r"accuracy: wanted shape \(3,\) like score, got \(4,\)"),
        (np.zeros(2), np.array([0, np.nan]), 1, "wanted finite numbers; leave failed models out"),
        (np.zeros(3), np.zeros(3), 4, "k: wanted 1 to 3, the number of models, got 4"),
    ],
)
def test_bad_input(score, accuracy, k, message):
    with pytest.raises(ValueError, match=message):
        rel_at_k(score, accuracy, k)
