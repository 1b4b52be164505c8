"""Choosing by a score: regrets, gradients of LEEP in its parameters, and the command line."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments._hyperparameters_gradient import (
    FAMILIES,
    OBJECTIVES,
    WAYS,
    choose,
    class_weighted,
    climb,
    mixed,
    tempered,
)
from experiments._hyperparameters_tables import mean_row, regret, regret_rows
from experiments.hyperparameters import main, validation
from leepjax.data import load
from leepjax.metrics import leep
from leepjax.models import TrainConfig, extract, train_source
from leepjax.tasks import Split, Tasks, sample_tasks
from leepjax.transfer import retrain_head

CLASSES = 3


def test_regret_of_a_table_made_by_hand():
    accuracy = np.array([[0.5, 0.9, 0.8], [0.7, 0.6, 0.2]])
    score = np.array([[1.0, 2.0, 3.0], [5.0, 1.0, 5.0]])  # the third; the first or the third
    np.testing.assert_allclose(regret(score, accuracy), [0.1, 0.7 - (0.7 + 0.2) / 2])
    np.testing.assert_allclose(regret(accuracy, accuracy), 0)  # by full training
    np.testing.assert_allclose(regret(0 * score, accuracy), accuracy.max(1) - accuracy.mean(1))


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


def problem(seed=0, n=24, sizes=(4, 2, 3), informative=1):
    """Logits of several sources, of which one knows the labels rather well."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    logits = [rng.normal(size=(n, s)) for s in sizes]
    logits[informative] = logits[informative] + 2 * (labels[:, None] % sizes[informative] == 1)
    return logits, labels


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("probs_of", [tempered, class_weighted, mixed])
def test_gradient_is_that_of_differences(probs_of, name, x64):
    logits, labels = problem()
    start = {tempered: 0.3, class_weighted: [0.1, -0.4, 0.7, 0.2], mixed: [0.5, -0.2, 0.1]}
    at = np.array(start[probs_of])

    @jax.jit
    def objective(params):
        return OBJECTIVES[name](probs_of(params, logits), labels, num_classes=CLASSES)

    found = np.asarray(jax.jit(jax.grad(objective))(jnp.asarray(at))).ravel()
    for i in range(at.size):
        away = np.zeros(at.size)
        away[i] = 1e-5
        away = away.reshape(at.shape)
        difference = (objective(at + away) - objective(at - away)) / 2e-5
        assert found[i] == pytest.approx(float(difference), rel=1e-6, abs=1e-9)


def test_leep_of_a_mixture_is_that_of_mixed_predictions():
    logits, labels = problem()
    weights = np.array([0.2, 0.5, 0.3])
    likelihood = np.zeros(len(labels))
    for w, x in zip(weights, logits, strict=True):
        theta = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        joint = np.stack([theta[labels == y].sum(0) for y in range(CLASSES)])
        likelihood += w * (theta @ (joint / joint.sum(0)).T)[np.arange(len(labels)), labels]
    probs = mixed(jnp.log(jnp.asarray(weights)), logits)
    found = leep(probs, labels, num_classes=CLASSES)
    assert float(found) == pytest.approx(np.log(likelihood).mean(), abs=1e-5)


def test_climbing_never_ends_below_its_start_and_finds_the_best_mixture():
    logits, labels = problem(sizes=(4, 2))

    def objective(params):
        probs = mixed(params, logits)
        return OBJECTIVES["cross_fitted_leep"](probs, labels, num_classes=CLASSES)

    line = jnp.linspace(-8, 8, 401)
    best = jax.jit(lambda z: jax.lax.map(lambda x: objective(jnp.stack([x, -x])), z))(line).max()
    value, climbed = jax.jit(objective), jax.jit(lambda start: climb(objective, start))
    for start in (jnp.zeros(2), jnp.array([2.0, -2.0])):
        assert value(climbed(start)) >= value(start)
        assert float(value(climbed(start))) == pytest.approx(float(best), abs=2e-4)
    top = line[jnp.argmax(jax.lax.map(lambda x: value(jnp.stack([x, -x])), line))]
    there = jnp.stack([top, -top])
    assert value(climbed(there)) >= value(there)  # Adam's first steps lead away from it


def tasks(n=24, count=2):
    """Tasks that all draw every image of two banks of ``n``."""
    index = np.tile(np.arange(n, dtype=np.int32), (count, 1))
    split = Split(index, index % CLASSES, np.ones((count, n), bool))
    classes = np.tile(np.arange(CLASSES, dtype=np.int32), (count, 1))
    return Tasks(classes, np.full(count, -1), split, split)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_chosen_does_not_depend_on_test_images(family):
    train, _ = problem()
    test, _ = problem(seed=1)
    found = choose(train, test, tasks(), family)
    other = choose(train, [-3 * x for x in test], tasks(), family)
    np.testing.assert_array_equal(found.params, other.params)
    assert np.abs(found.held_out - other.held_out).max() > 1e-3
    for name in OBJECTIVES:  # start is the first way
        values = getattr(found, name)
        assert (values[:, WAYS[family].index(name)] > values[:, 0]).all()


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


FLAGS = [
    *("--source-data", "digits", "--source-steps", "8", "--target-data", "digits"),
    *("--shots", "10", "--test-shots", "10", "--num-tasks", "12"),
]


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
        wanted = regret(numbers["knn"], numbers["accuracy"]).mean()
        assert found["knn"] == pytest.approx(wanted, abs=1e-9)
    if "subsets" in choices:
        weights = [float(r["mixture_weight"]) for r in rows]
        assert len(set(weights)) > 1
        assert len(table(tmp_path / "run" / "gradient.csv")) == 11
    assert (tmp_path / "run" / "regret.png").stat().st_size > 10_000
    assert "Regret by choice" in (tmp_path / "run" / "page.html").read_text()
    monkeypatch.setattr("experiments.hyperparameters.load_small", None)  # nothing is computed again
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
        patch.setattr("experiments.hyperparameters.load_small", None)  # nothing is computed again
        main(arguments)
    assert capsys.readouterr().out == "".join(
        line for line in out.splitlines(True) if not line.startswith("Sources of")
    )
    rows = table(tmp_path / "run" / "results.csv")
    last = [row for row in rows if row["candidate"] == "step 8"]
    digits, key = load("digits"), jax.random.key(0)
    source = train_source("conv4", digits, TrainConfig(steps=8))
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
    for name, value in mean_row("regret", chance, of_class).items():
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
