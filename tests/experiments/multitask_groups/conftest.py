"""Four tasks of scikit-learn's digits, and a cache of their own."""

import pytest

from experiments.multitask_groups.tasks import draw_tasks
from leepjax.data import load


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def drawn():
    datasets = {"digits": load("digits")}
    return draw_tasks(datasets, num_tasks=4, ways=[2], shots=[10], test_shots=20, seed=0)
