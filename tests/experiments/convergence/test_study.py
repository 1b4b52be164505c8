"""The convergence study from its command line, on scikit-learn's digits."""

import csv

import numpy as np
import pytest
from rich.console import Console

from experiments import transfer_accuracy
from experiments.convergence import Config, main, run
from tests.experiments.transfer_accuracy.test_study import SMALL

FLAGS = [*SMALL, "--num-tasks", "10", "--epochs", "2", "--batch-size", "10"]
FLAGS += ["--metrics", "leep", "nce", "knn"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_levels_hold_the_difference_of_the_two_runs(tmp_path, capsys):
    main([*FLAGS, "--output-dir", str(tmp_path)])
    out = capsys.readouterr().out
    assert "After 1 of 2 epochs the lead of fine-tuning is" in out
    assert "leep" in out
    curves = [
        np.array([float(r["test_accuracy"]) for r in table(tmp_path / d / "curves.csv")])
        for d in ("fine_tune", "from_scratch")
    ]
    ahead = (curves[0] - curves[1]).reshape(10, 3)
    scores = [float(row["leep"]) for row in table(tmp_path / "fine_tune" / "results.csv")]
    lowest = np.argsort(scores)[:2]
    levels = table(tmp_path / "convergence" / "levels.csv")
    shown = [float(row["mean"]) for row in levels if row["level"] == "1"]
    np.testing.assert_allclose(shown, ahead[lowest].mean(0), atol=1e-12)
    assert (tmp_path / "convergence" / "small.png").stat().st_size > 10_000
    main([*FLAGS, "--output-dir", str(tmp_path)])  # nothing runs again
    again = capsys.readouterr().out
    assert again == "".join(x for x in out.splitlines(True) if not x.startswith("Source:"))


def test_what_is_to_start_anew_does_so_once_however_often_it_is_stopped(tmp_path, monkeypatch):
    begun = []

    def stopped_in_the_second(config, console):
        begun.append((config.learner, config.overwrite))
        if config.learner == "from_scratch":
            raise KeyboardInterrupt
        return tmp_path

    monkeypatch.setattr(transfer_accuracy, "run", stopped_in_the_second)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(Config(output_dir=tmp_path, overwrite=True), Console(quiet=True))
    first, again = ("fine_tune", True), ("fine_tune", False)
    assert begun == [first, ("from_scratch", True), again, ("from_scratch", True)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--level-score", "h_score"), "error: --level-score: wanted one of leep, nce, knn"),
        (("--num-tasks", "4"), "error: --num-tasks: wanted at least 5, one for each level, got 4"),
    ],
)
def test_bad_input_is_one_clear_line_before_any_work(arguments, message, tmp_path):
    with pytest.raises(SystemExit, match=message):
        main([*FLAGS, *arguments, "--output-dir", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []
