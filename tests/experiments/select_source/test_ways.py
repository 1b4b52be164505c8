"""Ways of choosing a source, and words about them, on a table by hand."""

import numpy as np
import pytest

from experiments.select_source.tables import finding, in_words
from experiments.select_source.ways import RANK, Table, choices, correlations, summary
from leepjax.choosing import expected_recall, expected_regret

# Three sources on four tasks. Source 0 is best on tasks 0 and 1 and diverges on 3; 1 on 2 and 3.
TEST = np.array([[0.9, 0.8, 0.5], [0.9, 0.7, 0.5], [0.6, 0.8, 0.5], [np.nan, 0.8, 0.5]])
LEEP = np.array([[3.0, 2, 1], [1.0, 2, 3], [1.0, 2, 3], [3.0, 2, 1]])
TABLE = Table(
    names=("a", "b", "c"),
    scores={"leep": LEEP, "knn": -LEEP},
    facts={
        "parameters": np.array([1.0, 3, 2]),
        "source_accuracy": np.array([np.nan, np.nan, 0.5]),
        "operations": np.ones(3),
    },
    head=np.array([[0.6, 0.5, 0.4]] * 4),
    validation=np.stack([TEST - 0.1, TEST], -1),
    test=np.stack([TEST - 0.1, TEST], -1),
    named=np.array([[1, 1, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]], bool),
    score_cost=np.array([0.01, 0.02, 0.03]),
    tune_cost=np.array([[0.1, 0.5], [0.2, 1.0], [0.3, 1.5]]),
    membership=np.eye(4, dtype=bool),
)


def way(by, tried, short=None):
    return next(
        w
        for w in choices(TABLE, top=2)
        if w.by == by and w.tried == tried and short in (None, w.short)
    )


def test_regret_and_cost_by_hand():
    # LEEP names a, c, c, a: a has diverged on the last task, and is worth nothing.
    leep = way("leep", 1)
    np.testing.assert_allclose(
        expected_regret(leep.choice.probability, TABLE.reached), [0, 0.4, 0.3, 0.8], atol=1e-12
    )
    np.testing.assert_allclose(leep.choice.cost, np.array([0.5, 1.5, 1.5, 0.5]) + 0.06)
    np.testing.assert_allclose(
        expected_recall(leep.choice.probability, TABLE.reached), [1, 0, 0, 0]
    )
    # Two named: a and b, else c and b; short fine-tunes take the better, never what diverged.
    halved = way("leep", 2)
    np.testing.assert_allclose(
        expected_regret(halved.choice.probability, TABLE.reached), [0, 0.2, 0, 0], atol=1e-12
    )
    expected = [0.3 + 0.5, 0.5 + 1.0, 0.5 + 1.0, 0.3 + 1.0]
    np.testing.assert_allclose(halved.choice.cost, np.array(expected) + 0.06)


def test_what_rank_names_is_halved_and_one_source_is_fine_tuned_at_once():
    found = next(w for w in choices(TABLE, top=2) if w.by == RANK)
    assert (found.tried, found.short, found.null) == (7 / 4, True, False)
    np.testing.assert_allclose(
        expected_regret(found.choice.probability, TABLE.reached), [0, 0.4, 0, 0], atol=1e-12
    )
    # Two of a and b; c alone; all, of which the better two go on; b alone.
    expected = [0.3 + 0.5, 1.5, 0.6 + 1.0 + 0.5, 1.0]
    np.testing.assert_allclose(found.choice.cost, np.array(expected) + 0.06)
    row = next(r for r in summary(TABLE, choices(TABLE, top=2)) if r["by"] == RANK)
    assert row["regret"] == pytest.approx(0.1)
    assert row["best_null"] in {w.by for w in choices(TABLE, top=2) if w.null}
    assert "recommends, 1.75, halved: regret 10.0" in in_words(
        [{k: str(v) for k, v in row.items()}]
    )


def test_nulls_need_no_forward_pass_but_those_of_features():
    np.testing.assert_allclose(way("parameters", 1).choice.cost, 1.0)  # b, the largest
    np.testing.assert_allclose(way("source_accuracy", 1).choice.cost, 1.5)  # c, the only one known
    np.testing.assert_allclose(way("knn", 1).choice.cost, np.array([1.5, 0.5, 0.5, 1.5]) + 0.06)
    chance = way("chance", 1).choice
    np.testing.assert_allclose(chance.cost, 1.0)
    expected = np.array([0.9, 0.9, 0.8, 0.8]) - np.nan_to_num(TEST).mean(1)
    np.testing.assert_allclose(expected_regret(chance.probability, TABLE.reached), expected)
    assert all(way(by, 1).null for by in ("knn", "parameters", "static_ranking", "chance"))
    assert not way("leep", 1).null
    assert not way("all sources", 3).null


def test_the_static_ranking_never_looks_at_the_task_itself():
    # Ranks of a and b on tasks 0 to 3: 3, 3, 2, 1 and 2, 2, 3, 3.
    static = way("static_ranking", 1).choice.probability
    np.testing.assert_allclose(static, [[0, 1, 0], [0, 1, 0], [0.5, 0.5, 0], [1, 0, 0]])
    assert TABLE.columns()["static_ranking"][0] == pytest.approx(np.array([6, 8, 4]) / 9)


def test_fine_tuning_everything():
    full, halved = way("all sources", 3, False).choice, way("all sources", 3, True).choice
    np.testing.assert_allclose(
        expected_regret(full.probability, TABLE.reached), 0, atol=1e-12
    )  # validation says the truth here
    np.testing.assert_allclose(full.cost, 3.0)
    np.testing.assert_allclose(halved.cost, 0.6 + np.array([1.5, 1.5, 1.5, 2.5]))
    # Validation images that like c best have it chosen, whatever test images say.
    misled = TABLE._replace(validation=np.tile([[0.1], [0.2], [0.3]], (4, 1, 2)))
    for found in choices(misled, top=2)[-2:]:
        np.testing.assert_allclose(
            expected_regret(found.choice.probability, misled.reached), [0.4, 0.4, 0.3, 0.3]
        )


def test_scores_are_held_against_the_best_null_with_as_many_tries():
    rows = {(r["by"], r["tried"], r["short"]): r for r in summary(TABLE, choices(TABLE, top=2))}
    leep = rows["leep", 1, False]
    assert leep["regret"] == pytest.approx(0.375)
    nulls = [r for (by, tried, _), r in rows.items() if r["null"] and tried == 1]
    best = min(nulls, key=lambda r: r["regret"])
    assert leep["best_null"] == best["by"]
    assert leep["ahead"] == pytest.approx(best["regret"] - 0.375)
    assert leep["regret_low"] < 0.375 < leep["regret_high"]
    assert "ahead" not in rows["knn", 1, False]
    assert "ahead" not in rows["all sources", 3, False]
    half = 3.182446 * np.std([0, 0.4, 0.3, 0.8], ddof=1) / 2  # independent tasks: Student's t
    assert leep["regret_high"] == pytest.approx(0.375 + half, rel=1e-6)
    text = [{k: str(v) for k, v in row.items()} for row in rows.values()]
    assert "One source fine-tuned: the best score is leep, regret 37.5" in in_words(text)
    assert "No score is significantly better than this null" in in_words(text)
    assert finding(text).startswith("leep, the best score, loses 37.5 points, ")


def test_correlations_leave_out_what_diverged():
    rows = {(r["score"], r["accuracy"]): r["value"] for r in correlations(TABLE)}
    # On three tasks all sources count, on the last two only: r there is undefined.
    expected = np.mean([np.corrcoef(LEEP[t], TEST[t])[0, 1] for t in range(3)])
    assert rows["leep", "fine_tuned"] == pytest.approx(expected)
    assert rows["leep", "head"] == pytest.approx(0)  # 1, -1, -1, 1
    assert np.isnan(rows["source_accuracy", "head"])
