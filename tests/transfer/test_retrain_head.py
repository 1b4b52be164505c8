"""Head retraining of tasks: accuracy, protocols, buckets, bad input."""

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from leepjax.data import Bank, Dataset
from leepjax.tasks import sample_tasks
from leepjax.transfer import retrain_head

CLASSES, D = 8, 10


def features(seed, per_class):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), per_class)
    centres = np.random.default_rng(0).normal(size=(CLASSES, D))
    x = centres[labels] + rng.normal(size=(len(labels), D))
    x[:, 0] = -5.3  # a feature that does not vary
    x[:, 1] = 100 + 0.01 * x[:, 1]  # an offset, and another scale
    names = tuple("abcdefgh")
    images = np.zeros((len(labels), 1, 1, 1), np.uint8)
    return x.astype(np.float32), Bank(images, labels, np.zeros_like(labels), names, ("",))


TRAIN, TRAIN_BANK = features(1, 40)
TEST, TEST_BANK = features(2, 30)


def tasks_of(**changes):
    options = {"num_tasks": 12, "ways": (2, 5), "shots": (10, 25), **changes}
    return sample_tasks(jax.random.key(0), Dataset(TRAIN_BANK, TEST_BANK), **options)


# Four numbers of classes are four solvers; that results keep their order is a test of map_tasks.
@pytest.mark.parametrize("ways", [2, 3, pytest.param((2, 5), marks=pytest.mark.slow)])
def test_accuracy_is_that_of_scikit_learn_on_standardised_features(ways):
    tasks = tasks_of(ways=ways)
    result = retrain_head(TRAIN, TEST, tasks)
    for i in range(12):
        rows, labels = (
            a[i][tasks.train.where[i]] for a in (tasks.train.indices, tasks.train.labels)
        )
        x = TRAIN[rows].astype(np.float64)
        mean, std = x.mean(0), np.where(x.std(0) > 0, x.std(0), np.inf)
        # scikit-learn's binary model has one logit: half the penalty for the same classifier
        c = (2 if tasks.num_classes[i] == 2 else 1) / (1e-3 * len(x))
        model = LogisticRegression(C=c, tol=1e-8, max_iter=10_000).fit((x - mean) / std, labels)
        rows, labels = (a[i][tasks.test.where[i]] for a in (tasks.test.indices, tasks.test.labels))
        expected = model.score((TEST[rows] - mean) / std, labels)
        assert abs(result.accuracy[i] - expected) <= 1 / len(rows) + 1e-6
    assert (result.gap <= 5.1e-6).all()


def test_sgd_approaches_the_optimum_from_above():
    tasks = tasks_of(ways=3)
    optimum = retrain_head(TRAIN, TEST, tasks)
    sgd = retrain_head(TRAIN, TEST, tasks, protocol="sgd", key=jax.random.key(1))
    assert (sgd.objective > optimum.objective).all()
    assert (sgd.gap > sgd.objective - optimum.objective).all()
    assert (sgd.objective - optimum.objective < 0.15).all()
    assert abs(sgd.accuracy - optimum.accuracy).max() < 0.1
    again = retrain_head(TRAIN, TEST, tasks, protocol="sgd", key=jax.random.key(1))
    np.testing.assert_array_equal(sgd.objective, again.objective)


# Of the optimum slow: that a task's neighbours change nothing is a test of the solver, quick.
@pytest.mark.parametrize("protocol", [pytest.param("optimum", marks=pytest.mark.slow), "sgd"])
def test_chunks_change_nothing(protocol, monkeypatch):
    tasks, options = tasks_of(ways=3), {"protocol": protocol, "key": jax.random.key(1)}
    whole = retrain_head(TRAIN, TEST, tasks, **options)
    monkeypatch.setattr("leepjax.tasks.map.ROWS", 150)
    chunked = retrain_head(TRAIN, TEST, tasks, **options)
    np.testing.assert_allclose(whole.objective, chunked.objective, atol=1e-4)


@pytest.mark.parametrize("scale", [2.0**-70, 2.0**60])
def test_the_unit_of_the_features_changes_nothing(scale):
    tasks = tasks_of(ways=3)
    expected = retrain_head(TRAIN, TEST, tasks)
    scaled = retrain_head(TRAIN * np.float32(scale), TEST * np.float32(scale), tasks)
    np.testing.assert_allclose(scaled.objective, expected.objective, atol=1e-5)
    np.testing.assert_allclose(scaled.accuracy, expected.accuracy, atol=0.02)


def test_heads_that_could_not_be_solved_are_warned_of():
    with pytest.warns(UserWarning, match=r"l2: \d+ of 12 heads are not solved"):
        retrain_head(TRAIN, TEST, tasks_of(ways=3), l2=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_features": TRAIN[:, :, None]}, "train_features: wanted floats of shape"),
        ({"test_features": TEST.astype(str)}, "test_features: wanted numbers, got dtype <U32"),
        ({"test_features": np.full_like(TEST, np.nan)}, "test_features: wanted finite"),
        ({"train_features": TRAIN[:10]}, "train_features: wanted a row for each image"),
        ({"test_features": TEST[:, :5]}, "test_features: wanted 10 columns like train_features"),
        ({"protocol": "adam"}, "protocol: wanted 'optimum' or 'sgd', got 'adam'"),
        ({"protocol": "sgd"}, "key: protocol 'sgd' needs one"),
        ({"l2": 0.0}, "l2: wanted a finite number > 0"),
    ],
)
def test_bad_input(changes, message):
    arguments = {"train_features": TRAIN, "test_features": TEST, "tasks": tasks_of(), **changes}
    with pytest.raises(ValueError, match=message):
        retrain_head(**arguments)
