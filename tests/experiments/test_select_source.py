"""Choosing a source: ways on a table by hand; the experiment on scikit-learn's digits."""

import csv

import jax
import numpy as np
import pytest

from experiments._select_source_tables import finding, in_words
from experiments._select_source_ways import (
    Table,
    _estimate,
    best_chosen,
    choices,
    correlations,
    regret,
    summary,
)
from experiments.select_source import main
from leepjax.data import load
from leepjax.models import TrainConfig, extract, train_source
from leepjax.tasks import only_used, sample_tasks
from leepjax.transfer import Recipe, fine_tune, retrain_head
from leepjax.transfer.waves import Waves

SMALL = ["--preset", "smoke", "--sources", "mlp@digits@30", "mlp@digits@3", "mlp@digits@0"]
SMALL += ["--num-tasks", "5", "--test-shots", "10", "--metrics", "leep", "nce", "knn"]

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
    np.testing.assert_allclose(regret(TABLE, leep.choice), [0, 0.4, 0.3, 0.8], atol=1e-12)
    np.testing.assert_allclose(leep.choice.cost, np.array([0.5, 1.5, 1.5, 0.5]) + 0.06)
    np.testing.assert_allclose(best_chosen(TABLE, leep.choice), [1, 0, 0, 0])
    # Two named: a and b, else c and b; short fine-tunes take the better, never what diverged.
    halved = way("leep", 2)
    np.testing.assert_allclose(regret(TABLE, halved.choice), [0, 0.2, 0, 0], atol=1e-12)
    expected = [0.3 + 0.5, 0.5 + 1.0, 0.5 + 1.0, 0.3 + 1.0]
    np.testing.assert_allclose(halved.choice.cost, np.array(expected) + 0.06)


def test_nulls_need_no_forward_pass_but_those_of_features():
    np.testing.assert_allclose(way("parameters", 1).choice.cost, 1.0)  # b, the largest
    np.testing.assert_allclose(way("source_accuracy", 1).choice.cost, 1.5)  # c, the only one known
    np.testing.assert_allclose(way("knn", 1).choice.cost, np.array([1.5, 0.5, 0.5, 1.5]) + 0.06)
    chance = way("chance", 1).choice
    np.testing.assert_allclose(chance.cost, 1.0)
    expected = np.array([0.9, 0.9, 0.8, 0.8]) - np.nan_to_num(TEST).mean(1)
    np.testing.assert_allclose(regret(TABLE, chance), expected)
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
    np.testing.assert_allclose(regret(TABLE, full), 0, atol=1e-12)  # validation says the truth here
    np.testing.assert_allclose(full.cost, 3.0)
    np.testing.assert_allclose(halved.cost, 0.6 + np.array([1.5, 1.5, 1.5, 2.5]))
    # Validation images that like c best have it chosen, whatever test images say.
    misled = TABLE._replace(validation=np.tile([[0.1], [0.2], [0.3]], (4, 1, 2)))
    for found in choices(misled, top=2)[-2:]:
        np.testing.assert_allclose(regret(misled, found.choice), [0.4, 0.4, 0.3, 0.3])


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
    # Independent tasks: the jackknife of the mean, on Fisher's scale.
    values = np.array([0, 0.4, 0.3, 0.8])
    z = np.arctanh([np.delete(values, i).mean() for i in range(4)])
    half = 3.182446 * np.sqrt(0.75 * np.sum((z - z.mean()) ** 2))
    assert leep["regret_high"] == pytest.approx(np.tanh(np.arctanh(0.375) + half), rel=1e-5)
    text = [{k: str(v) for k, v in row.items()} for row in rows.values()]
    assert "One source fine-tuned: best score leep, regret 37.5" in in_words(text)
    assert "no score is ahead of it with an interval above 0" in in_words(text)
    assert finding(text).startswith("leep, the best score, loses 37.5 points, ")


def test_correlations_leave_out_what_diverged():
    rows = {(r["score"], r["accuracy"]): r["value"] for r in correlations(TABLE)}
    # On three tasks all sources count, on the last two only: r there is undefined.
    expected = np.mean([np.corrcoef(LEEP[t], TEST[t])[0, 1] for t in range(3)])
    assert rows["leep", "fine_tuned"] == pytest.approx(expected)
    assert rows["leep", "head"] == pytest.approx(0)  # 1, -1, -1, 1
    assert np.isnan(rows["source_accuracy", "head"])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_an_interrupted_study_goes_on_to_the_same_tables(tmp_path, capsys, monkeypatch):
    trained, original = [], Waves.run

    def counted(self, wave, bar):
        trained.extend(lane.task for lane in wave)
        if len(trained) == 18:  # of 30: in the fourth fine-tune
            raise KeyboardInterrupt
        return original(self, wave, bar)

    monkeypatch.setattr(Waves, "run", counted)
    with pytest.raises(KeyboardInterrupt):
        main([*SMALL, "--output-dir", str(tmp_path / "run")])
    assert len(list((tmp_path / ".run.partial").glob("*.journal"))) == 4
    main([*SMALL, "--output-dir", str(tmp_path / "run")])
    assert len(trained) == 5 * 3 * 2 + 1  # but for the one that was interrupted, once each
    main([*SMALL, "--output-dir", str(tmp_path / "whole")])
    for name in ("results", "trials", "choices", "ways", "sources", "correlation"):
        tables = [(tmp_path / d / f"{name}.csv").read_text() for d in ("run", "whole")]
        assert tables[0] == tables[1]
    rows, trials = rows_of(tmp_path / "run/results.csv"), rows_of(tmp_path / "run/trials.csv")
    assert (len(rows), len(trials)) == (5 * 3, 5 * 3 * 2)
    full = [t["test"] for t in trials if t["epochs"] == "2"]
    assert full == [row["accuracy"] for row in rows]
    found = rows_of(tmp_path / "run" / "sources.csv")
    assert [row["source"] for row in found] == [
        *("mlp digits 30", "mlp digits 3", "mlp digits untrained"),
    ]
    assert found[2]["source_accuracy"] == "nan"
    assert np.mean([float(row["tune_cost"]) for row in found]) == pytest.approx(1)
    # A forward pass over 50 images, beside two epochs over 40 in steps of 20 and 10 held out.
    assert float(found[0]["score_cost"]) == pytest.approx(50 / (3 * 2 * 40 + 10))
    page = (tmp_path / "run" / "page.html").read_text()
    assert "Ways to choose" in page
    assert "data:image/svg+xml" in page
    assert (tmp_path / "run" / "regret.png").stat().st_size > 10_000
    shown = capsys.readouterr().out
    assert "One source fine-tuned: best score" in shown
    number = len(trained)
    # Nothing runs again; where weights lie is not what a run is.
    main([*SMALL, "--output-dir", str(tmp_path / "whole"), "--weights-dir", str(tmp_path)])
    assert len(trained) == number
    assert shown.endswith(capsys.readouterr().out)


def test_tables_hold_validation_test_and_clusters_each_in_its_place(tmp_path):
    main([*SMALL, "--output-dir", str(tmp_path / "run")])
    rows, trials = (rows_of(tmp_path / "run" / f"{name}.csv") for name in ("results", "trials"))
    digits, key = load("digits"), jax.random.key(0)
    source = train_source("mlp", digits, TrainConfig(steps=30))  # as in the run: from the cache
    tasks = sample_tasks(key, digits, num_tasks=5, ways=5, shots=10, test_shots=10)
    train, test = (extract(source, bank).features for bank in digits)
    recipe = Recipe(learning_rate=0.03, batch_size=20, validation=0.2, epochs=2)
    tuned = fine_tune(source, *only_used(digits, tasks), recipe, key=key)
    expected = {"validation": tuned.validation_accuracy[:, -1], "test": tuned.test_accuracy[:, -1]}
    expected["head"] = retrain_head(train, test, tasks).accuracy
    of_source = [r for r in rows if r["model"] == "mlp digits 30"]
    full = [t for t in trials if t["model"] == "mlp digits 30" and t["epochs"] == "2"]
    for name, values in expected.items():
        found = [float(row[name]) for row in (of_source if name == "head" else full)]
        np.testing.assert_allclose(found, values, atol=1e-6, err_msg=name)
    # Intervals are for tasks of other classes.
    of_class = [[str(c) in row["classes"].split() for c in range(10)] for row in of_source]
    lost, way = (
        [r for r in rows_of(tmp_path / "run" / name) if (r["by"], r["tried"]) == ("chance", "1")]
        for name in ("choices.csv", "ways.csv")
    )
    values = np.array([float(row["regret"]) for row in lost])
    for name, value in _estimate("regret", values, np.array(of_class)).items():
        assert float(way[0][name]) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sources", "mlp@digits@3"), "--sources: wanted two or more, each once, got mlp digits"),
        (("--sources", "mlp@digits", "mlp@digits@3"), "--sources: wanted MODEL@DATA@STEPS or"),
        (("--sources", "vgg@digits@3", "mlp@digits@3"), "MODEL one of conv4, .*'vgg@digits@3'"),
        (("--sources", "mlp@digitz@3", "mlp@digits@3"), "--sources: .*'digitz'"),
        (("--sources", "resnet20@cifar10@no.safetensors", "mlp@digits@3"), "and no no.safetensors"),
        (("--sources", "mlp@digits@few", "mlp@digits@3"), "wanted a number of steps, or"),
        (("--target-data", "digitz"), "--target-data: name: .*'digitz'"),
        (("--top", "1"), "--top: wanted 2 to 3, the sources, got 1"),
        (("--top", "4"), "--top: wanted 2 to 3, the sources, got 4"),
        (("--epochs", "3", "1"), r"--epochs: wanted ascending numbers, got \(3, 1\)"),
        (("--epochs", "0", "1"), "epochs: wanted an int >= 1, got 0"),
        (("--validation", "0"), "--validation: wanted a share > 0, got 0"),
        (("--batch-size", "41"), "recipe.batch_size: wanted at most 40"),
        (("--learning-rate", "-1"), "learning_rate: wanted a finite number >= 0"),
        (("--num-tasks", "2"), "--num-tasks: wanted 3 or more, got 2"),
        (("--metrics", "beauty"), "--metrics: wanted all, or names among"),
        (("--ways", "11"), "ways: wanted at most .*10"),
        (("--seed", "-1"), "--seed: wanted 0 to"),
    ],
)
def test_bad_input_is_one_clear_line_before_long_work(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        main([*SMALL, *arguments, "--output-dir", str(tmp_path / "run")])
    assert "source 1 of" not in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_other_presets_are_refused(capsys):
    with pytest.raises(SystemExit):
        main([*SMALL[2:], "--preset", "paper"])
    assert "invalid choice 'paper'" in capsys.readouterr().err
