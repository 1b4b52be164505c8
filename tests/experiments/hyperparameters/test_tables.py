"""Regrets, on tables made by hand."""

import numpy as np
import pytest

from experiments.hyperparameters.tables import regret_rows


def test_a_choice_is_held_against_chance_and_neighbours():
    accuracy = np.array([[0.5, 0.9], [0.6, 0.8], [0.7, 0.7], [0.9, 0.3]])
    scores = {"leep": accuracy, "knn": -accuracy, "random": 0 * accuracy}
    rows = regret_rows("widths", scores, accuracy, np.eye(4, dtype=bool))
    found = {row["selector"]: row for row in rows}
    assert found["leep"]["regret"] == 0
    assert found["knn"]["regret"] == pytest.approx((0.4 + 0.2 + 0 + 0.6) / 4)
    assert found["leep"]["less_than_knn"] == pytest.approx(0.3)
    assert found["leep"]["less_than_random"] == pytest.approx(0.15)
    lost = np.array([0.2, 0.1, 0, 0.3])  # independent tasks: Student's t
    half = 3.182446 * lost.std(ddof=1) / 2
    assert found["leep"]["less_than_random_low"] == pytest.approx(0.15 - half, abs=1e-6)
