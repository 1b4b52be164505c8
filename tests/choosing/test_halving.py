"""Successive halving: paths and costs by hand, against a loop; ties, and sources that diverged."""

import numpy as np
import pytest

from leepjax.choosing import successive_halving

COST = np.array([[1.0, 10, 100], [2, 20, 200], [3, 30, 300], [4, 40, 400]])
# Validation accuracy of four sources after each of three budgets, on one target.
VALIDATION = np.array([[[0.1, 0.9, 0.9], [0.5, 0.4, 0.8], [0.4, 0.5, 0.5], [0.3, 0.2, 0.9]]])
SCORE = np.array([[4.0, 3, 2, 1]])


def test_the_path_and_its_cost_by_hand():
    # All four briefly; of these sources 1 and 2 for longer; of these source 2 alone in full.
    choice = successive_halving(SCORE, VALIDATION, COST, top=4)
    np.testing.assert_array_equal(choice.probability, [[0, 0, 1, 0]])
    np.testing.assert_allclose(choice.cost, [1 + 2 + 3 + 4 + 20 + 30 + 300])


def test_one_source_is_tuned_in_full_at_once():
    choice = successive_halving(SCORE, VALIDATION, COST, top=1)
    np.testing.assert_array_equal(choice.probability, [[1, 0, 0, 0]])
    np.testing.assert_allclose(choice.cost, [100])
    two = successive_halving(SCORE, VALIDATION, COST, top=2)  # 1 is left after the first budget
    np.testing.assert_array_equal(two.probability, [[0, 1, 0, 0]])
    np.testing.assert_allclose(two.cost, [1 + 2 + 200])


def test_a_single_budget_tunes_everything_in_full():
    choice = successive_halving(SCORE, VALIDATION[..., -1:], COST[:, -1:], top=4)
    np.testing.assert_array_equal(choice.probability, [[1, 0, 0, 0]])  # ties with 3: by score
    np.testing.assert_allclose(choice.cost, [1000])


def test_of_an_odd_number_the_larger_half_goes_on():
    choice = successive_halving(SCORE, VALIDATION, COST, top=3)
    np.testing.assert_allclose(choice.cost, [1 + 2 + 3 + 20 + 30 + 300])


def test_a_score_that_says_nothing_names_each_source_equally_often():
    choice = successive_halving(np.zeros((1, 4)), VALIDATION, COST, top=1)
    np.testing.assert_allclose(choice.probability, 0.25, atol=1e-12)
    np.testing.assert_allclose(choice.cost, [250])
    half = successive_halving(np.array([[1.0, 0, 1, 0]]), VALIDATION, COST, top=1)
    np.testing.assert_allclose(half.probability, [[0.5, 0, 0.5, 0]], atol=1e-12)


def test_where_validation_ties_the_score_decides():
    even = np.full((1, 4, 3), 0.5)
    score = np.array([[1.0, 4, 3, 2]])
    np.testing.assert_array_equal(
        successive_halving(score, even, COST, top=4).probability, [[0, 1, 0, 0]]
    )
    blind = successive_halving(np.zeros((1, 4)), even, COST, top=4)
    np.testing.assert_allclose(blind.probability, 0.25, atol=1e-12)


def test_what_diverged_or_has_no_score_comes_last():
    diverged = VALIDATION.copy()
    diverged[0, 2, 0] = diverged[0, 1, 2] = np.nan  # 2 at once, 1 in full
    choice = successive_halving(SCORE, diverged, COST, top=4)
    np.testing.assert_array_equal(choice.probability, [[0, 1, 0, 0]])  # 3 was dropped before
    unknown = np.array([[np.nan, np.nan, -9.0, np.nan]])
    choice = successive_halving(unknown, VALIDATION, COST, top=1)
    np.testing.assert_array_equal(choice.probability, [[0, 0, 1, 0]])


@pytest.mark.parametrize("top", [1, 2, 3, 5, 7])
def test_equals_a_loop_over_targets(top):
    rng = np.random.default_rng(0)
    score, validation = rng.normal(size=(6, 7)), rng.random((6, 7, 4))
    cost = rng.random((7, 4))
    choice = successive_halving(score, validation, cost, top=top)
    for t in range(6):
        left, spent = sorted(range(7), key=lambda i: -score[t][i])[:top], 0.0
        for r in range(4):
            if len(left) == 1 and r < 3:
                continue
            spent += sum(cost[i][r] for i in left)
            keep = (len(left) + 1) // 2 if r < 3 else 1
            left = sorted(left, key=lambda i: -validation[t][i][r])[:keep]
        assert choice.probability[t].tolist() == [float(i == left[0]) for i in range(7)]
        assert choice.cost[t] == pytest.approx(spent)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"score": np.zeros(4)}, r"score: wanted shape \[t, m\], got \[4\]"),
        ({"validation": VALIDATION[:, :3]}, r"validation: wanted \[1, 4, r\], got \[1, 3, 3\]"),
        ({"cost": COST[:, :2]}, r"cost: wanted \[4, 3\], got \[4, 2\]"),
        ({"top": 0}, "top: wanted 1 to 4, the number of sources, got 0"),
        ({"top": 5}, "top: wanted 1 to 4, the number of sources, got 5"),
    ],
)
def test_bad_input(arguments, message):
    given = {"score": SCORE, "validation": VALIDATION, "cost": COST, "top": 2, **arguments}
    with pytest.raises(ValueError, match=message):
        successive_halving(**given)
