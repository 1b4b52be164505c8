"""The experiment from its command line, on scikit-learn's digits."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.transfer_accuracy import main
from leepjax._store import seal

SMALL = [
    *("--source-data", "digits", "--source-model", "mlp", "--source-steps", "20"),
    *("--target-data", "digits", "--shots", "10", "--num-tasks", "8"),
    *("--metrics", "leep", "nce", "knn", "neg_label_entropy"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache(folder, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(folder))


@pytest.fixture
def results(tmp_path):
    def read(*arguments):
        main([*SMALL, *arguments, "--output-dir", str(tmp_path / "run")])
        with open(tmp_path / "run" / "results.csv", newline="") as file:
            return list(csv.DictReader(file))

    return read


@pytest.mark.slow  # 2 to 10 classes, each count a program, and all the scores that are default
def test_subsets_as_they_are_by_default(tmp_path):
    main(
        [
            *SMALL[:-5],
            "--num-tasks",
            "4",
            "--regime",
            "subsets",
            "--output-dir",
            str(tmp_path / "run"),
        ]
    )
    header = (tmp_path / "run" / "results.csv").read_text().splitlines()[0].split(",")
    assert {"h_score", "logme", "linear_probe", "leep_gain"} <= set(header)


REGIMES = {"subsets": ("--ways", "2", "3"), "small": (), "imbalanced": ("--shots", "5", "20")}


@pytest.mark.parametrize("regime", REGIMES)
def test_a_row_a_task_a_table_and_a_figure(regime, results, tmp_path, capsys):
    rows = results("--regime", regime, *REGIMES[regime])
    assert len(rows) == 8
    assert {"leep", "nce", "knn", "accuracy", "gap", "classes"} <= rows[0].keys()
    assert all(0 <= float(row["accuracy"]) <= 1 for row in rows)
    assert all(float(row["gap"]) <= 5.1e-6 for row in rows)
    assert all(len(row["classes"].split()) == int(row["num_classes"]) for row in rows)
    with open(tmp_path / "run" / "correlation.csv", newline="") as file:
        table = {(row["score"], row["statistic"]): row for row in csv.DictReader(file)}
    expected = np.corrcoef(*np.array([[row["leep"], row["accuracy"]] for row in rows], float).T)
    assert float(table["leep", "pearson"]["value"]) == pytest.approx(expected[0, 1], abs=1e-6)
    assert (tmp_path / "run" / f"{regime}.png").stat().st_size > 10_000
    out = capsys.readouterr().out
    assert "leep" in out
    assert "Best null" in out


def test_the_same_command_shows_what_is_there(results, capsys, monkeypatch):
    first = results()
    shown = capsys.readouterr().out
    monkeypatch.setattr(
        "experiments.transfer_accuracy.study.load", None
    )  # nothing is computed again
    assert results() == first
    assert shown.endswith(capsys.readouterr().out)


def test_the_same_seed_gives_the_same_tasks_on_two_protocols(results):
    optimum = results()
    sgd = results("--protocol", "sgd", "--overwrite")
    assert [row["classes"] for row in sgd] == [row["classes"] for row in optimum]
    assert [row["leep"] for row in sgd] == [row["leep"] for row in optimum]
    assert any(
        row["objective"] != other["objective"] for row, other in zip(sgd, optimum, strict=True)
    )


@pytest.mark.parametrize("learner", ["fine_tune", "from_scratch"])
def test_networks_are_trained_and_their_curves_kept(learner, results, tmp_path):
    flags = ["--learner", learner, "--epochs", "2", "--batch-size", "10"]
    rows = results(*flags, "--learning-rates", "0.01", "0.1", "--validation", "0.2")
    assert {"accuracy", "epoch", "failed", "recipe", "leep"} <= rows[0].keys()
    with open(tmp_path / "run" / "curves.csv", newline="") as file:
        curves = list(csv.DictReader(file))
    assert len(curves) == 8 * 3
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    [tried] = [line["recipes"] for line in log if line["event"] == "recipes"]
    assert [recipe["learning_rate"] for recipe in tried] == [0.01, 0.1]  # by "recipe" of a row
    for i, row in enumerate(rows):
        of_task = [c for c in curves if c["task"] == str(i)]
        best = max(of_task, key=lambda c: float(c["validation_accuracy"]))
        assert float(row["accuracy"]) == float(best["test_accuracy"])
        assert float(row["epoch"]) == float(best["epoch"])


def test_tasks_that_diverge_are_left_out_and_said_so(results, tmp_path, capsys):
    flags = ["--learner", "fine_tune", "--batch-size", "10", "--epochs", "1"]
    with pytest.raises(SystemExit, match=r"error: learning rate: .* all 8 tasks .* diverged"):
        results(*flags, "--learning-rates", "1e20")
    with pytest.raises(SystemExit, match=r"learning_rates: there \[1e\+20\], asked for \[\]"):
        results(*flags)  # its journal is kept
    results(*flags, "--overwrite")
    path = tmp_path / "run" / "results.csv"
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    rows[2]["failed"] = "1.0"
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    record = path.with_name("files.json")
    seal(record, [file for file in path.parent.iterdir() if file != record])
    capsys.readouterr()
    results(*flags)
    assert "7 tasks" in (out := capsys.readouterr().out)
    assert "left out: 1 more, whose training diverged" in out


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_table(tmp_path):
    """SIGKILL in the middle of training; the same command again; an uninterrupted run beside it."""
    flags = [*SMALL, "--learner", "fine_tune", "--epochs", "60", "--batch-size", "10"]

    def command(directory):
        module = [sys.executable, "-m", "experiments.transfer_accuracy", *flags]
        return [*module, "--output-dir", str(tmp_path / directory)]

    options = {"cwd": Path(__file__).parents[3], "env": os.environ}
    process = subprocess.Popen(command("killed"), **options)
    journal = tmp_path / ".killed.partial" / "small.journal"
    deadline = time.monotonic() + 300
    while not (journal.exists() and journal.read_text().count("\n") > 3):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = journal.read_text().count("\n") - 1
    assert 3 <= done < 8
    assert not (tmp_path / "killed").exists()
    with pytest.raises(SystemExit, match=r"holds a run of another configuration.*epochs: there 60"):
        main([*flags[:-3], "5", *flags[-2:], "--output-dir", str(tmp_path / "killed")])
    for directory in ("killed", "whole"):
        subprocess.run(command(directory), check=True, timeout=300, **options)
    for name in ("results.csv", "curves.csv", "correlation.csv"):
        tables = [(tmp_path / d / name).read_text() for d in ("killed", "whole")]
        assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--learner", "fine_tune", "--recipe", "bitt"),
            "error: --recipe: wanted one of default, leep2020",
        ),
        (("--recipe", "bit"), "error: --recipe: wanted with --learner fine_tune"),
        (("--learner", "fine_tune", "--epochs", "0"), "error: epochs: wanted an int >= 1"),
        (
            ("--learner", "fine_tune", "--learning-rates", "0.1", "1"),
            "error: recipe.validation: wanted a share > 0",
        ),
        (
            ("--learner", "fine_tune", "--batch-size", "51"),
            "error: recipe.batch_size: wanted at most 50",
        ),
        (("--target-data", "digitz"), "error: --target-data: name: .*'digitz'"),
        (
            ("--target-data", "mnist", "--data-dir", "/nowhere"),
            "not prepared.*download_and_prepare",
        ),
        (("--source-weights", "nowhere.safetensors"), "error: --source-weights: read for resnet20"),
        (
            ("--source-model", "resnet20", "--source-weights", "nowhere.safetensors"),
            "error: .*nowhere.safetensors",
        ),
        (("--source-model", "alexnet"), "error: --source-model: .*alexnet"),
        (("--ways", "11"), "error: ways: wanted at most"),
        (("--ways", "2", "3", "4"), "error: --ways: wanted one number, or LOW HIGH"),
        (("--shots", "1000"), "error: shots: wanted at most"),
        (("--devices", "9"), "error: --devices: wanted 1 to"),
        (("--l2", "0"), "error: --l2: wanted"),
        (("--num-tasks", "0"), "error: num_tasks: wanted"),
        (("--seed", "-1"), "error: --seed: wanted"),
        (("--source-steps", "0"), "error: --source-steps: wanted"),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing(arguments, message, tmp_path):
    with pytest.raises(SystemExit, match=message):
        main([*SMALL, *arguments, "--output-dir", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_flags_keep_over_presets(tmp_path):
    main(["--preset", "smoke", *SMALL, "--output-dir", str(tmp_path / "run")])
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert config["preset"] == "smoke"
    assert (config["num_tasks"], config["target_data"]) == (8, "digits")
