"""The audit of published tables: what is known of them, and what is printed."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata, weightedtau

from experiments import audit
from leepjax.report import read_table

TABLES = Path(os.environ.get("LEEPJAX_TABLES_DIR", "/nowhere"))
needs_tables = pytest.mark.skipif(
    not (TABLES / "tllib_model_ranking.csv").exists(),
    reason="needs the published tables of tllib and SFDA in LEEPJAX_TABLES_DIR",
)


@pytest.fixture(scope="module")
def tllib(tmp_path_factory):
    out = tmp_path_factory.mktemp("audit") / "tllib"
    summary = TABLES / "tllib_model_ranking_summary.csv"
    arguments = [str(TABLES / "tllib_model_ranking.csv"), "--summary", str(summary)]
    facts = Path(audit.__file__).with_name("torchvision_models.csv")
    audit.main([*arguments, "--models", str(facts), "--output-dir", str(out)])
    return {file.stem: read_table(file) for file in out.glob("*.csv")}


def value(tables, part, score, statistic):
    keys = {"part": part, "score": score, "statistic": statistic}
    (row,) = (r for r in tables["correlations"] if keys.items() <= r.items())
    return float(row["value"])


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
    assert printed["OxfordIIITPets", "leep", "weighted_tau"] == "-0.143"
    assert printed["OxfordIIITPets", "leep", "pearson_corr"] == "-0.127"
    assert [r["defect"] for r in tllib["rows"] if r["part"] == "DTD"] == ["nce repeats logme"]


SCORES = ("h_score", "leep", "logme", "nce")


@needs_tables
def test_nulls_stand_beside_the_scores(tllib):
    scores = {row["score"] for row in tllib["correlations"]}
    assert scores == {*SCORES, "static_ranking", "parameters", "source_accuracy"}
    assert {row["kind"] for row in tllib["without"]} == {"model", "family", "target"}


@needs_tables
def test_static_ranking_on_sfda(tmp_path):
    summary = TABLES / "sfda_weighted_tau_group1.csv"
    table = TABLES / "sfda_accuracy_group1.csv"
    audit.main([str(table), "--summary", str(summary), "--output-dir", str(tmp_path / "run")])
    rows = read_table(tmp_path / "run" / "printed_means.csv")
    means = {row["score"]: float(row["mean"]) for row in rows}
    assert means["sfda"] == pytest.approx(0.710, abs=0.0005)
    assert means["static_ranking"] == pytest.approx(0.836, abs=0.001)
    data = read_table(table)
    targets = list(dict.fromkeys(row["dataset"] for row in data))
    accuracy = np.array([float(r["finetuned_accuracy_percent"]) for r in data])
    accuracy = accuracy.reshape(len(targets), -1)  # the models of each target in the same order
    ranks = np.array([rankdata(a) for a in accuracy])
    taus = [
        weightedtau(accuracy[i], np.delete(ranks, i, 0).mean(0))[0] for i in range(len(targets))
    ]
    assert means["static_ranking"] == pytest.approx(np.mean(taus), abs=1e-12)


def small(tmp_path, text):
    (tmp_path / "table.csv").write_text(text)
    return [str(tmp_path / "table.csv"), "--output-dir", str(tmp_path / "run")]


MADE_UP = """dataset,model,accuracy,leep,flat
pets,a1,0.5,1,0.3
pets,a2,0.7,2,0.3
pets,b1,0.6,3,0.3
pets,b2,,4,0.3
pets,c1,0.8,5,0.3
cars,a1,0.4,1,0.3
cars,a2,0.7,,0.3
"""


def test_constant_columns_few_rows_and_failures_are_said_not_printed_as_nan(tmp_path, capsys):
    arguments = small(tmp_path, MADE_UP)
    audit.main(arguments)
    shown = capsys.readouterr().out
    assert "nan" not in shown.lower()
    assert "undefined" in shown
    assert "pets: 4 rows" in shown
    assert "left out: 1 more without an accuracy" in shown
    audit.main(arguments)  # again, from what is there
    assert capsys.readouterr().out == shown


def test_tasks_of_a_study_are_a_table_too(tmp_path, capsys):
    rng = np.random.default_rng(0)
    lines = ["setting,task,group,classes,num_classes,leep,neg_label_entropy,accuracy,gap"]
    for task in range(20):
        chosen = np.sort(rng.choice(8, 2 + task % 2, replace=False))
        leep, accuracy = rng.random(2).round(3)
        names = " ".join(map(str, chosen))
        lines.append(f"s,{task},,{names},{len(chosen)},{leep},-{len(chosen)},{accuracy},0")
    audit.main(small(tmp_path, "\n".join(lines)))
    rows = read_table(tmp_path / "run" / "correlations.csv")
    assert {row["score"] for row in rows} == {"leep", "neg_label_entropy"}
    assert "pearson|num_classes" in {row["statistic"] for row in rows}
    assert {row["kind"] for row in read_table(tmp_path / "run" / "without.csv")} == {"classes"}
    assert "neg_label_entropy *" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((",2,", ",two,"), "error: table.csv, line 3, column 'leep': wanted a number, got 'two'"),
        (("accuracy", "reached"), "error: table.csv: wanted one column of accuracies"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, change, message):
    with pytest.raises(SystemExit, match=message):
        audit.main(small(tmp_path, MADE_UP.replace(*change)))
    assert not (tmp_path / "run").exists()
