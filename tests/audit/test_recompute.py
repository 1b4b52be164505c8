"""Published tables, recomputed: what is known of them."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata, weightedtau

from leepjax.audit import read_csv, read_pool, recompute

FACTS = Path(__file__).parents[2] / "docs/results/torchvision_models.csv"
TABLES = Path(os.environ.get("LEEPJAX_TABLES_DIR", "/nowhere"))
needs_tables = pytest.mark.skipif(
    not (TABLES / "tllib_model_ranking.csv").exists(),
    reason="needs the published tables of tllib and SFDA in LEEPJAX_TABLES_DIR",
)


@pytest.fixture(scope="module")
def tllib():
    table = read_csv(TABLES / "tllib_model_ranking.csv")
    summary = read_csv(TABLES / "tllib_model_ranking_summary.csv")
    return recompute(read_pool(table, models=read_csv(FACTS)), summary)


def value(tables, part, score, statistic):
    keys = {"part": part, "score": score, "statistic": statistic}
    (row,) = (r for r in tables["correlations"] if keys.items() <= r.items())
    return row["value"]


@needs_tables
@pytest.mark.parametrize(
    ("part", "statistic", "expected"),
    [
        ("OxfordIIITPets", "weighted_tau:both", 0.701),
        ("OxfordIIITPets", "pearson", 0.475),
        ("Aircraft", "weighted_tau:both", -0.056),
        ("Aircraft", "weighted_tau:score", -0.355),
        ("Aircraft", "weighted_tau:accuracy", 0.244),
    ],
)
def test_tllib_is_recomputed(tllib, part, statistic, expected):
    assert value(tllib, part, "leep", statistic) == pytest.approx(expected, abs=0.0006)


@needs_tables
def test_what_does_not_follow_in_tllib(tllib):
    """All of Aircraft and Pets, and NCE on DTD, whose column repeats LogME's; nothing else."""
    wrong = {(r["part"], r["score"]) for r in tllib["printed"] if not r["follows"]}
    expected = {(p, s) for p in ("Aircraft", "OxfordIIITPets") for s in SCORES} | {("DTD", "nce")}
    assert wrong == expected
    assert len(tllib["printed"]) == 64
    printed = {(r["part"], r["score"], r["measure"]): r["printed"] for r in tllib["printed"]}
    assert printed["OxfordIIITPets", "leep", "weighted_tau"] == -0.143
    assert printed["OxfordIIITPets", "leep", "pearson_corr"] == -0.127
    assert [r["defect"] for r in tllib["rows"] if r["part"] == "DTD"] == ["nce repeats logme"]


SCORES = ("h_score", "leep", "logme", "nce")


@needs_tables
def test_nulls_stand_beside_the_scores(tllib):
    scores = {row["score"] for row in tllib["correlations"]}
    assert scores == {*SCORES, "static_ranking", "parameters", "source_accuracy"}
    assert {row["kind"] for row in tllib["without"]} == {"model", "family", "target"}


@needs_tables
def test_static_ranking_on_sfda():
    pool = read_pool(read_csv(TABLES / "sfda_accuracy_group1.csv"))
    summary = read_csv(TABLES / "sfda_weighted_tau_group1.csv")
    means = {row["score"]: row["mean"] for row in recompute(pool, summary)["printed_means"]}
    assert means["sfda"] == pytest.approx(0.710, abs=0.0005)
    assert means["static_ranking"] == pytest.approx(0.836, abs=0.001)
    targets = list(dict.fromkeys(pool.part))
    # The models of each target stand in the same order.
    accuracy = pool.accuracy.reshape(len(targets), -1)
    ranks = np.array([rankdata(a) for a in accuracy])
    taus = [
        weightedtau(accuracy[i], np.delete(ranks, i, 0).mean(0))[0] for i in range(len(targets))
    ]
    assert means["static_ranking"] == pytest.approx(np.mean(taus), abs=1e-12)
