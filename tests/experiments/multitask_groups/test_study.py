"""The study of groups from its command line, on scikit-learn's digits."""

import csv

import numpy as np
import pytest

from experiments.multitask_groups import main, study
from experiments.multitask_groups.scores import pairwise_scores
from experiments.multitask_groups.study import network
from experiments.multitask_groups.tables import correlation_rows
from leepjax.models import SourceRecipe
from leepjax.transfer import accuracy_by_task, train_jointly

TRAINING = SourceRecipe(steps=3, batch_size=5, learning_rate=1e-2)
SMALL = ["--target-data", "digits", "--num-tasks", "4", "--ways", "2", "--shots", "10"]
SMALL += ["--test-shots", "20", "--width", "4", "--steps", "3", "--batch-size", "5"]
SMALL += ["--num-groups", "2", "--num-random", "2"]


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_tables_hold_what_was_reached_and_a_broken_run_goes_on(tmp_path, capsys, monkeypatch):
    calls: list[tuple[int, ...]] = []

    def counted(source, bank, group, training, seed):
        if len(calls) == 20:  # 16 alone
            calls.append((0, 0))
            raise KeyboardInterrupt
        calls.append((*group, seed))
        return train_jointly(source, bank, group, training, seed=seed)

    monkeypatch.setattr(study, "train_jointly", counted)
    arguments = [*SMALL, "--output-dir", str(tmp_path / "run")]
    with pytest.raises(KeyboardInterrupt):
        main(arguments)
    main(arguments)
    out = capsys.readouterr().out
    together = [call for call in calls if len(call) > 2]
    assert len(together) == len(set(together)) == 14  # six pairs and all four, two seeds
    assert "Groups by leep_gain lead random groups by" in " ".join(out.split())
    results = table(tmp_path / "run" / "results.csv")
    reached = {(r["group"], r["seed"], r["task"]): float(r["accuracy"]) for r in results}
    for r in results:
        expected = float(r["accuracy"]) - reached[r["task"], r["seed"], r["task"]]
        assert float(r["gain"]) == pytest.approx(expected)
    groups = table(tmp_path / "run" / "groupings.csv")[0]["groups"].split(" | ")
    mean = np.mean([v for (g, _, _), v in reached.items() if g in groups])
    first = table(tmp_path / "run" / "comparison.csv")[0]
    assert float(first["accuracy"]) == pytest.approx(mean)
    for name in ("affinity", "gains"):
        assert (tmp_path / "run" / f"{name}.png").stat().st_size > 10_000
    assert (tmp_path / "run" / "page.html").read_text().count("<img") == 2
    done = len(calls)
    main(arguments)  # nothing runs again
    assert capsys.readouterr().out == out
    assert len(calls) == done


def test_tables_hold_test_accuracies_and_scores_of_training_images(drawn, tmp_path):
    main([*SMALL, "--output-dir", str(tmp_path / "run")])
    names = ("results", "scores", "correlation")
    results, scores, correlation = (table(tmp_path / "run" / f"{name}.csv") for name in names)
    train, test = drawn.dataset
    source = network(train, width=4)
    reached = {}
    for name in dict.fromkeys(r["group"] for r in results):
        values = [float(r["accuracy"]) for r in results if r["group"] == name]
        reached[tuple(map(int, name.split()))] = np.reshape(values, (2, -1))
    for group in ((0,), (0, 1), (2, 3), (0, 1, 2, 3)):
        expected = [
            accuracy_by_task(train_jointly(source, train, group, TRAINING, seed=seed), test, group)
            for seed in (0, 1)
        ]
        np.testing.assert_allclose(reached[group], expected, atol=1e-6)
    # Networks of the run's two seeds make the groups; of two others, what is held against gains.
    columns = {}
    for column, seeds in (("value", (0, 1)), ("independent", (2, 3))):
        found = columns[column] = {r["score"]: np.zeros((4, 4)) for r in scores}
        for r in scores:
            found[r["score"]][int(r["source"]), int(r["target"])] = float(r[column])
        alone = [
            [train_jointly(source, train, (t,), TRAINING, seed=s) for t in range(4)] for s in seeds
        ]
        of_seeds = [pairwise_scores(networks, train) for networks in alone]
        for name in of_seeds[0]:
            expected = np.mean([of_seed[name] for of_seed in of_seeds], 0) * (1 - np.eye(4))
            np.testing.assert_allclose(found[name], expected, atol=1e-5, err_msg=name)
    alone = np.concatenate([reached[t,] for t in range(4)], axis=1)
    expected = correlation_rows(columns["independent"], alone, reached)
    for found, row in zip(correlation, expected, strict=True):
        assert found["score"] == row["score"]
        np.testing.assert_allclose(float(found["value"]), row["value"], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--num-tasks", "3"), "error: --num-tasks: wanted at least 4"),
        (("--num-tasks", "6"), "error: --num-tasks: wanted at most 5 of digits"),
        (("--ways", "2", "2"), "error: --ways: wanted one number, or one for each of 1"),
        (("--shots", "1000"), "error: --shots: wanted at most "),
        (("--num-groups", "4"), "error: --num-groups: wanted 2 to 3"),
        (("--target-data", "nothing"), "error: --target-data: "),
        (("--steps", "0"), "error: --steps: wanted more than 0"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message, tmp_path):
    with pytest.raises(SystemExit, match=message):
        main([*SMALL, *arguments, "--output-dir", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()
