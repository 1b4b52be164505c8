"""Choosing a source, from the command line, on scikit-learn's digits."""

import csv

import jax
import numpy as np
import pytest

from experiments.select_source import main
from leepjax.data import load
from leepjax.evaluation import mean
from leepjax.models import SourceRecipe, extract, train_source
from leepjax.report import estimate_columns
from leepjax.tasks import only_used, sample_tasks
from leepjax.transfer import Recipe, fine_tune, retrain_head
from leepjax.transfer.waves import Waves

SMALL = ["--preset", "smoke", "--sources", "mlp@digits@30", "mlp@digits@3", "mlp@digits@0"]
SMALL += ["--num-tasks", "5", "--test-shots", "10", "--metrics", "leep", "nce", "knn"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_an_interrupted_study_goes_on_to_the_same_tables(tmp_path, capsys, monkeypatch):
    trained, original = [], Waves.run

    def counted(self, wave, bar):
        trained.extend(job.task for job in wave)
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
    assert "One source fine-tuned: the best score is" in shown
    number = len(trained)
    # Nothing runs again; where weights lie is not what a run is.
    main([*SMALL, "--output-dir", str(tmp_path / "whole"), "--weights-dir", str(tmp_path)])
    assert len(trained) == number
    assert shown.endswith(capsys.readouterr().out)


def test_tables_hold_validation_test_and_clusters_each_in_its_place(tmp_path):
    main([*SMALL, "--output-dir", str(tmp_path / "run")])
    rows, trials = (rows_of(tmp_path / "run" / f"{name}.csv") for name in ("results", "trials"))
    digits, key = load("digits"), jax.random.key(0)
    source = train_source("mlp", digits, SourceRecipe(steps=30))  # as in the run: from the cache
    tasks = sample_tasks(key, digits, num_tasks=5, ways=5, shots=10, test_shots=10)
    train, test = (extract(source, bank).features for bank in digits)
    recipe = Recipe(learning_rate=0.03, batch_size=20, validation=0.2, epochs=2)
    tuned = fine_tune(key, source, *only_used(digits, tasks), recipe)
    expected = {"validation": tuned.validation_accuracy[:, -1], "test": tuned.test_accuracy[:, -1]}
    expected["head"] = retrain_head(train, test, tasks).accuracy
    of_source = [r for r in rows if r["model"] == "mlp digits 30"]
    full = [t for t in trials if t["model"] == "mlp digits 30" and t["epochs"] == "2"]
    for name, values in expected.items():
        found = [float(row[name]) for row in (of_source if name == "head" else full)]
        np.testing.assert_allclose(found, values, atol=1e-6, err_msg=name)
    # What rank says to try, of the features of each task's labelled images.
    untrained = {r["model"] for r in rows} - {"mlp digits 30"}
    assert len(untrained) == 2
    ways = {row["by"]: row for row in rows_of(tmp_path / "run" / "ways.csv")}
    tried = float(ways["rank's choice"]["tried"])
    assert 1 <= tried <= 3
    assert 5 * tried == pytest.approx(round(5 * tried))
    # Intervals are for tasks of other classes.
    of_class = [[str(c) in row["classes"].split() for c in range(10)] for row in of_source]
    lost, way = (
        [r for r in rows_of(tmp_path / "run" / name) if (r["by"], r["tried"]) == ("chance", "1")]
        for name in ("choices.csv", "ways.csv")
    )
    values = np.array([float(row["regret"]) for row in lost])
    for name, value in estimate_columns("regret", mean(values, np.array(of_class))).items():
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
        (("--seed", "-1"), "--seed: wanted an int in"),
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
