"""Gains, and groups held against others, by hand."""

import numpy as np
import pytest

from experiments.multitask_groups.tables import (
    comparison_rows,
    of_partition,
    pair_gains,
    partner_gain,
)


def test_gains_against_values_by_hand():
    alone = np.array([[0.5, 0.6, 0.7]])
    reached = {(0, 1): np.array([[0.6, 0.5]]), (0, 2): np.array([[0.8, 0.7]])}
    reached |= {(1, 2): np.array([[0.9, 1.0]]), (0, 1, 2): np.array([[0.5, 0.5, 0.5]])}
    reached |= {(t,): alone[:, [t]] for t in range(3)}
    gains = pair_gains(alone, reached)[0]
    np.testing.assert_allclose(gains, [[0, -0.1, 0], [0.1, 0, 0.3], [0.3, 0.3, 0]], atol=1e-12)
    scores = np.array([[9.0, 1, 2], [0, 9, 2], [5, 0, 9]])  # of target 2 both are best
    np.testing.assert_allclose(partner_gain(scores, gains), [0.1, -0.2, 0], atol=1e-12)
    chosen = {"leep_gain": ((0, 2), (1,))}
    random = {(2, 1): [((0, 1), (2,)), ((0,), (1, 2))]}
    first, others, together, lone = comparison_rows(chosen, random, alone, reached)
    assert first["accuracy"] == pytest.approx((0.8 + 0.6 + 0.7) / 3)
    assert first["gain"] == pytest.approx(0.1)
    assert first["ahead"] == pytest.approx(np.mean([0.8 - 0.55, 0.6 - 0.7, 0.7 - 0.85]))
    assert (first["beaten"], first["partitions"]) == (1, 2)  # 1.8 and 2.4 against 2.1
    assert others["gain"] == pytest.approx(0.1)
    assert together["behind"] == pytest.approx(0.2)
    assert (lone["gain"], lone["sizes"]) == (0, "1 1 1")
    two = {(0, 2): np.array([[0.8, 0.4], [0.6, 0.5]]), (1,): np.array([[0.3], [0.1]])}
    np.testing.assert_allclose(of_partition(((0, 2), (1,)), two), [0.7, 0.2, 0.45])
    gains = np.array([0.8 - 0.5, 0, 0.7 - 0.7])  # Student's t over tasks
    half = 4.302653 * gains.std(ddof=1) / 3**0.5
    assert first["gain_high"] == pytest.approx(0.1 + half, abs=1e-6)
