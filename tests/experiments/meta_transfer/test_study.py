"""The meta-transfer study from its command line, on scikit-learn's digits."""

import csv

import numpy as np
import pytest

from experiments.meta_transfer import main

SMALL = ["--source-data", "digits", "--target-data", "digits", "--rotations", "no"]
SMALL += ["--source-steps", "8", "--meta-steps", "3", "--episodes", "2", "--queries", "2"]
SMALL += ["--ways", "3", "--shots", "1", "2", "--test-shots", "4", "--num-tasks", "10"]
SMALL += ["--algorithms", "protonet", "--metrics", "leep", "nce", "knn"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_tables_hold_what_was_reached(tmp_path, capsys):
    directory = tmp_path / "run"
    main([*SMALL, "--output-dir", str(directory)])
    out = capsys.readouterr().out
    assert "protonet" in out
    assert "trained on 10 of the target's classes" in out
    rows = table(directory / "results.csv")
    settings = ["head-1", "head-2", "protonet-1", "protonet-2"]
    assert list(dict.fromkeys(row["setting"] for row in rows)) == settings
    assert len(rows) == 4 * 10
    reached = {
        s: np.array([float(row["accuracy"]) for row in rows if row["setting"] == s])
        for s in settings
    }
    ahead = reached["protonet-2"] - reached["head-2"]
    gain = next(
        row
        for row in table(directory / "gains.csv")
        if (row["learner"], row["shots"]) == ("protonet", "2")
    )
    assert float(gain["gain"]) == pytest.approx(ahead.mean())
    assert float(gain["gain_half"]) == pytest.approx(1.96 * ahead.std(ddof=1) / 10**0.5)
    scores = np.array([float(r["leep"]) for r in rows if r["setting"] == "protonet-2"])
    level = next(
        row
        for row in table(directory / "accuracy_levels.csv")
        if (row["learner"], row["shots"], row["level"]) == ("protonet", "2", "5")
    )
    highest = np.argsort(scores, kind="stable")[-2:]
    assert float(level["mean"]) == pytest.approx(reached["protonet-2"][highest].mean())
    assert (directory / "accuracy_levels.png").stat().st_size > 10_000
    # Both learners are held against the scores of the same tasks.
    others = np.array([float(r["leep"]) for r in rows if r["setting"] == "head-2"])
    np.testing.assert_array_equal(scores, others)
    main([*SMALL, "--output-dir", str(directory)])  # nothing runs again
    assert "Source:" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ways", "11"), "ways: wanted at most .*10"),
        (("--shots", "200"), r"wanted at most .*got 200"),
        (("--shots", "2", "1"), "--shots: wanted ascending numbers"),
        (("--algorithms", "mamba"), "--algorithms: wanted some of maml, .* got mamba"),
        (("--level-score", "h_score"), "--level-score: wanted one of leep, nce, knn"),
        (("--num-tasks", "4"), "--num-tasks: wanted 5 or more, got 4"),
        (("--source-model", "mlp"), "--source-model: wanted one of conv4"),
        (("--meta-steps", "0"), "steps: wanted an int >= 1, got 0"),
        (("--queries", "500"), r"shots \+ queries: wanted at most"),
        (("--queries", "0"), "queries: wanted an int >= 1, got 0"),
        (("--source-steps", "0"), "--source-steps: wanted at least 1, got 0"),
        (("--seed", "-1"), "--seed: wanted an int in"),
        (("--devices", "bogus"), "--devices: wanted 1 to"),
        (("--source-model", "resnet20", "--algorithms", "cavia"), "layer: wanted a normalisation"),
    ],
)
def test_bad_input_is_one_clear_line_before_long_work(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        main([*SMALL, *arguments, "--output-dir", str(tmp_path / "run")])
    assert "Source:" not in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
