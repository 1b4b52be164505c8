"""All class subsets at once equal one by one."""

import numpy as np
import pytest

from leepjax.metrics import score, score_subsets

from .support import softmax


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    n, c, d, s = 300, 6, 8, 9
    labels = rng.integers(0, c, n)
    return {
        "labels": labels,
        "features": rng.normal(size=(n, d)) + rng.normal(size=(c, d))[labels],
        "probs": softmax(2 * rng.normal(size=(n, s)) + 2 * rng.normal(size=(c, s))[labels]),
        "where": rng.random(n) > 0.2,
    }


SUBSETS = np.array([[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 1, 0, 1, 1]], bool)


def test_equals_one_by_one(case, x64):
    got = score_subsets(subsets=SUBSETS, num_classes=6, **case)
    assert {"leep", "nce", "h_score", "logme", "transrate"} < set(got)
    for t, subset in enumerate(SUBSETS):
        mine = case | {"where": case["where"] & subset[case["labels"]]}
        alone = score(num_classes=6, metrics=list(got), **mine)
        for name in got:
            np.testing.assert_allclose(got[name][t], alone[name], rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("subsets", [SUBSETS[0], SUBSETS[:, :5], SUBSETS.astype(int)])
def test_subsets_are_booleans_by_task_and_class(subsets, case):
    with pytest.raises(ValueError, match=r"^subsets: wanted booleans of shape"):
        score_subsets(subsets=subsets, num_classes=6, **case)


def test_subsets_may_be_lists(case):
    labels = case["labels"]
    listed = score_subsets(labels, SUBSETS.tolist(), num_classes=6)["neg_label_entropy"]
    array = score_subsets(labels, SUBSETS, num_classes=6)["neg_label_entropy"]
    np.testing.assert_array_equal(listed, array)
