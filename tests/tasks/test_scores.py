"""Scores of tasks: each is what the metric gives for that task alone, on any number of devices."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from leepjax.data import Bank, Dataset
from leepjax.metrics import METRICS, metrics_of, score
from leepjax.tasks import sample_tasks, score_tasks
from leepjax.transfer import retrain_head

NAMES = ("leep", "nce", "h_score", "logme", "knn", "neg_label_entropy")
TASKS, WAYS = 21, (2, 3)  # a class count more is a program more


def alone(i, features, logits, tasks, names):
    """Scores of one task by itself: of one shape for all tasks, what is not theirs masked."""
    rows = tasks.train.indices[i]
    return score(
        tasks.train.labels[i],
        num_classes=WAYS[1],
        features=features[rows],
        logits=logits[rows],
        where=tasks.train.where[i],
        metrics=names,
    )


@pytest.mark.parametrize(
    ("shots", "names"),
    [
        ((5, 20), ("leep", "h_score", "knn", "neg_label_entropy")),
        # All images of their classes: most are scored from one pass over the data.
        (None, ("leep", "leep_gain", "nce", "h_score", "logme", "lfc", "knn")),
    ],
    ids=["sampled", "class-subsets"],
)
def test_equal_the_scores_of_each_task_alone(shots, names):
    features, logits, tasks = inputs(shots)
    scores = score_tasks(tasks, features=features, logits=logits, metrics=names)
    assert set(scores) == set(names)
    for i in range(TASKS):
        expected = alone(i, features, logits, tasks, names)
        for name in names:
            assert scores[name][i] == pytest.approx(float(expected[name]), abs=2e-5), name


def inputs(shots=(5, 20)):
    """Features ``[n, d]``, logits ``[n, s]``, tasks of several sizes."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8, dtype=np.int32), 30)
    names = tuple("abcdefgh")
    bank = Bank(np.zeros((240, 1, 1, 1), np.uint8), labels, labels % 2, names, ("x", "y"))
    features = (rng.normal(size=(8, 6))[labels] + rng.normal(size=(240, 6))).astype(np.float32)
    logits = (features @ rng.normal(size=(6, 4))).astype(np.float32)
    key = jax.random.key(1)
    tasks = sample_tasks(key, Dataset(bank, bank), num_tasks=TASKS, ways=WAYS, shots=shots)
    return features, logits, tasks


def study(devices=None):
    """Scores and accuracies of the tasks."""
    features, logits, tasks = inputs()
    scores = score_tasks(tasks, features=features, logits=logits, metrics=NAMES, devices=devices)
    return scores, retrain_head(features, features, tasks, devices=devices)


@pytest.mark.parametrize("shots", [(5, 20), None], ids=["sampled", "class-subsets"])
def test_arrays_that_are_missing_leave_the_others_scores_as_they_are(shots):
    features, logits, tasks = inputs(shots)
    every = score_tasks(tasks, features=features, logits=logits, metrics=NAMES)
    probs = jax.nn.softmax(logits, axis=1)
    of_outputs = ("leep", "nce", "neg_label_entropy")
    for arrays, names in (
        ({"features": features}, ("h_score", "logme", "knn", "neg_label_entropy")),
        ({"logits": logits}, of_outputs),
        ({"probs": probs}, of_outputs),
        # Where both are given, probs count.
        ({"probs": probs, "logits": -logits}, of_outputs),
    ):
        scores = score_tasks(tasks, **arrays, metrics=names)
        assert tuple(scores) == tuple(name for name in METRICS if name in names)
        for name in names:
            # One program, or one with more in it: the order of sums may differ.
            np.testing.assert_allclose(scores[name], every[name], rtol=1e-4, atol=1e-5)
    probs_alone = set(score_tasks(tasks, probs=probs))
    assert probs_alone == set(metrics_of("labels", "probs"))
    assert "leep_calibrated" not in probs_alone


def test_bad_input():
    features, logits, tasks = inputs()
    with pytest.raises(ValueError, match="features, probs, logits: wanted at least one of them"):
        score_tasks(tasks)
    with pytest.raises(ValueError, match="features: wanted finite numbers"):
        score_tasks(tasks, features=np.where(features > 2, np.nan, features))
    with pytest.raises(ValueError, match="logits: wanted 240 rows like features, got 480"):
        score_tasks(tasks, features=features, logits=np.tile(logits, (2, 1)))
    with pytest.raises(ValueError, match="probs: wanted probabilities: rows >= 0 that sum to 1"):
        score_tasks(tasks, probs=logits)
    with pytest.raises(ValueError, match="metrics: wanted names among"):
        score_tasks(tasks, features=features, metrics=["leap"])
    missing = r"metrics: 'leep' needs \['probs'\], which was not given"
    with pytest.raises(ValueError, match=missing):
        score_tasks(tasks, features=features, metrics=["h_score", "leep"])
    with pytest.raises(ValueError, match=missing):
        score(np.zeros(240, int), num_classes=1, features=features, metrics=["h_score", "leep"])


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_devices():
    script = """
import jax, numpy as np
from tests.tasks.test_scores import study
assert len(jax.devices()) == 8
one, eight = study(), study(jax.devices())
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one[0], eight[0])
np.testing.assert_allclose(one[1].objective, eight[1].objective, atol=1e-5)
np.testing.assert_allclose(one[1].accuracy, eight[1].accuracy, atol=0.02)
"""
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=300)
