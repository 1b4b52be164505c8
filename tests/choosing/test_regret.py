"""What choosing by a score costs, against loops, ties against the score."""

from itertools import combinations

import numpy as np
import pytest

from leepjax.choosing import pairwise_accuracy, recall_at_k, regret_at_k, rel_at_k

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


def test_a_constant_score_gains_nothing():
    accuracy = np.array([0.9, 0.5, 0.7])
    assert rel_at_k(np.zeros(3), accuracy) == pytest.approx(0.5 / 0.9)
    assert recall_at_k(np.zeros(3), accuracy, 2) == 0
    assert regret_at_k(np.array([1.0, 1, 0]), accuracy) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("score", "accuracy", "k", "message"),
    [
        (np.zeros(3), np.zeros(4), 1, r"accuracy: wanted shape \(3,\) like score, got \(4,\)"),
        (np.array([0, np.nan]), np.zeros(2), 1, "wanted finite numbers; leave failed models out"),
        (np.zeros(3), np.zeros(3), 4, "k: wanted 1 to 3, the number of models, got 4"),
    ],
)
def test_bad_input(score, accuracy, k, message):
    with pytest.raises(ValueError, match=message):
        rel_at_k(score, accuracy, k)
