"""The study on real data: a CIFAR-10 ResNet20 transferred to Fashion-MNIST."""

import csv
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.transfer_accuracy import main
from leepjax.data import Bank, load
from leepjax.models import extract, load_resnet
from leepjax.tasks import sample_tasks
from leepjax.transfer import softmax_regression
from tests.transfer.test_softmax_regression import minimum, objective

pytestmark = [pytest.mark.slow, pytest.mark.real_data]


@pytest.fixture
def weights():
    folder, data = os.environ.get("LEEPJAX_WEIGHTS_DIR"), os.environ.get("TFDS_DATA_DIR")
    if not folder or not data or not (Path(data) / "fashion_mnist").is_dir():
        pytest.skip("needs LEEPJAX_WEIGHTS_DIR, and fashion_mnist prepared in TFDS_DATA_DIR")
    return Path(folder) / "cifar10_resnet20.safetensors"


def test_heads_of_20_tasks_are_within_1e_5_of_scikit_learn(weights):
    bank = load("fashion_mnist").train
    few = Bank(bank.images[:3000], bank.labels[:3000], bank.groups[:3000], *bank_names(bank))
    features = extract(load_resnet(weights, 20), few).features
    dataset = load("fashion_mnist")._replace(train=few)
    tasks = sample_tasks(jax.random.key(0), dataset, num_tasks=20, ways=5, shots=50)
    x = features[tasks.train.indices]
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    heads, info = softmax_regression(x, tasks.train.labels, tasks.train.where, num_classes=5)
    assert (np.asarray(info.gap) <= 5.1e-6).all()
    for i, labels in enumerate(tasks.train.labels):
        value = objective(heads.kernel[i], heads.bias[i], x[i], labels)
        assert value - minimum(x[i], labels) < 1e-5


def bank_names(bank):
    return bank.class_names, bank.group_names


def test_small_tasks_separate_the_scores(weights, tmp_path):
    arguments = ["--source-model", "resnet20", "--source-weights", str(weights)]
    arguments += ["--target-data", "fashion_mnist", "--regime", "small"]
    arguments += ["--num-tasks", "40", "--test-shots", "100"]  # what takes time is the network
    main([*arguments, "--output-dir", str(tmp_path / "run")])
    with open(tmp_path / "run" / "correlation.csv", newline="") as file:
        r = {row["score"]: float(row["value"]) for row in csv.DictReader(file) if is_pearson(row)}
    assert 0.85 < r["h_score"] < 0.96
    assert 0 < r["leep"] < 0.55
    assert np.isnan(r["neg_label_entropy"])


def is_pearson(row):
    return row["statistic"] == "pearson"
