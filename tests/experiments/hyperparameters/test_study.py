"""The choices from the command line, on scikit-learn's digits."""

import csv

import jax
import numpy as np
import pytest

from experiments.hyperparameters import main
from experiments.hyperparameters.study import validation
from leepjax.choosing import regret_at_k
from leepjax.data import load
from leepjax.evaluation import mean
from leepjax.models import SourceRecipe, extract, train_source
from leepjax.report import estimate_columns
from leepjax.tasks import sample_tasks
from leepjax.transfer import retrain_head
from tests.choosing.test_gradient import CLASSES
from tests.experiments.hyperparameters.test_gradient import tasks

FLAGS = [
    *("--source-data", "digits", "--source-steps", "8", "--target-data", "digits"),
    *("--shots", "10", "--test-shots", "10", "--num-tasks", "12"),
]


def test_a_head_is_validated_on_images_that_it_has_not_seen():
    split = tasks().train
    where = split.where.copy()
    where[1, 20:] = False
    halves = validation(tasks()._replace(train=split._replace(where=where)))
    for t in range(2):
        first, second = (set(s.indices[t][s.where[t]]) for s in (halves.train, halves.test))
        assert not first & second
        assert first | second == set(np.flatnonzero(where[t]))
        counts = np.bincount(halves.train.labels[t][halves.train.where[t]])
        assert counts.tolist() == [[4, 4, 4], [4, 4, 3]][t]
    np.testing.assert_array_equal(halves.train.labels, halves.train.indices % CLASSES)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The cache that runs share: a source is trained once."""
    return str(tmp_path_factory.mktemp("cache"))


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow  # many sources; quick is the choice among checkpoints, below
@pytest.mark.parametrize("choices", [("subsets",), ("layers", "augmentations")])
def test_a_run_and_the_same_command_again(choices, cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LEEPJAX_CACHE", cache)
    arguments = [*FLAGS, "--choices", *choices, "--output-dir", str(tmp_path / "run")]
    main(arguments)
    out = capsys.readouterr().out
    assert "Choosing by cross-fitted LEEP loses" in out
    rows = table(tmp_path / "run" / "results.csv")
    for choice in choices:
        of = [row for row in rows if row["choice"] == choice]
        names = list(dict.fromkeys(row["candidate"] for row in of))
        assert len(of) == 12 * len(names)
        numbers = {
            key: np.array([float(row[key]) for row in of]).reshape(len(names), 12).T
            for key in ("knn", "accuracy")
        }
        kept = [r for r in table(tmp_path / "run" / "regret.csv") if r["choice"] == choice]
        found = {row["selector"]: float(row["regret"]) for row in kept}
        wanted = regret_at_k(numbers["knn"], numbers["accuracy"]).mean()
        assert found["knn"] == pytest.approx(wanted, abs=1e-9)
    if "subsets" in choices:
        weights = [float(r["mixture_weight"]) for r in rows]
        assert len(set(weights)) > 1
        assert len(table(tmp_path / "run" / "gradient.csv")) == 11
    assert (tmp_path / "run" / "regret.png").stat().st_size > 10_000
    assert "Regret by choice" in (tmp_path / "run" / "page.html").read_text()
    monkeypatch.setattr(
        "experiments.hyperparameters.study.load_small", None
    )  # nothing is computed again
    main(arguments)
    shown = capsys.readouterr().out
    assert shown == "".join(x for x in out.splitlines(True) if not x.startswith("Sources of"))


def test_heads_are_tested_on_test_images_and_intervals_are_for_other_classes(
    cache, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("LEEPJAX_CACHE", cache)
    arguments = [*FLAGS, "--choices", "checkpoints", "--output-dir", str(tmp_path / "run")]
    main(arguments)
    out = capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(
            "experiments.hyperparameters.study.load_small", None
        )  # nothing is computed again
        main(arguments)
    assert capsys.readouterr().out == "".join(
        line for line in out.splitlines(True) if not line.startswith("Sources of")
    )
    rows = table(tmp_path / "run" / "results.csv")
    last = [row for row in rows if row["candidate"] == "step 8"]
    digits, key = load("digits"), jax.random.key(0)
    source = train_source("conv4", digits, SourceRecipe(steps=8))
    drawn = sample_tasks(key, digits, num_tasks=12, ways=5, shots=10, test_shots=10)
    train, test = (extract(source, bank).features for bank in digits)
    expected = {
        "accuracy": retrain_head(train, test, drawn).accuracy,
        "validation": retrain_head(train, train, validation(drawn)).accuracy,
    }
    for name, values in expected.items():
        np.testing.assert_allclose([float(row[name]) for row in last], values, atol=1e-6)
    # Intervals are for tasks of other classes.
    of_class = np.array([[str(c) in row["classes"].split() for c in range(10)] for row in last])
    accuracy = np.reshape([float(row["accuracy"]) for row in rows], (-1, 12)).T
    chance = accuracy.max(1) - accuracy.mean(1)
    found = table(tmp_path / "run" / "regret.csv")[-1]
    assert found["selector"] == "random"
    for name, value in estimate_columns("regret", mean(chance, of_class)).items():
        assert float(found[name]) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--choices", "depths"), "error: --choices: wanted some of checkpoints, layers"),
        (("--shots", "1"), "error: --shots: wanted 2 or more"),
        (("--source-subsets", "0+x"), "error: --source-subsets: wanted classes or groups"),
        (("--ways", "11"), "error: --target-data: ways: wanted at most"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message, tmp_path):
    with pytest.raises(SystemExit, match=message):
        main([*FLAGS, *arguments, "--output-dir", str(tmp_path / "run")])
