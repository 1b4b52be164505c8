"""Groups of tasks from scores: the affinity, the joint training, and the study on digits."""

import csv
from itertools import combinations
from math import log

import jax
import numpy as np
import pytest

from experiments import multitask_groups
from experiments._groups_affinity import (
    affinity,
    companionship,
    cut,
    null_scores,
    pairwise_scores,
    random_partitions,
    sizes_of,
    tree,
    within_targets,
)
from experiments._groups_joint import accuracies, joint_loss, outputs, train_group
from experiments._groups_tables import (
    comparison_rows,
    correlation_rows,
    mean_over_tasks,
    of_partition,
    pair_gains,
    partner_gain,
)
from experiments._groups_tasks import draw_tasks, tasks_of_classes
from experiments.multitask_groups import main, network
from leepjax.data import Bank, Dataset, load
from leepjax.metrics import leep_gain
from leepjax.models import TrainConfig

SMALL = ["--target-data", "digits", "--num-tasks", "4", "--ways", "2", "--shots", "10"]
SMALL += ["--test-shots", "20", "--width", "4", "--steps", "3", "--batch-size", "5"]
SMALL += ["--num-groups", "2", "--num-random", "2"]
TRAINING = TrainConfig(steps=3, batch_size=5, learning_rate=1e-2)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def drawn():
    datasets = {"digits": load("digits")}
    return draw_tasks(datasets, num_tasks=4, ways=[2], shots=[10], test_shots=20, seed=0)


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_target_that_is_easy_for_all_is_nobodys_friend():
    scores = np.array([[9.0, 1.0, 4.0], [3.0, 9.0, 2.0], [1.0, 0.0, 9.0]])
    # columns: 3, 1; 1, 0; 4, 2: two values are one above and one below their mean
    np.testing.assert_allclose(within_targets(scores), [[0, 1, 1], [1, 0, -1], [-1, -1, 0]])
    np.testing.assert_allclose(
        within_targets(scores * [1, 20, 3] + [5, 0, -7]), within_targets(scores)
    )
    scores[:, 2] = 4
    np.testing.assert_allclose(within_targets(scores)[:, 2], 0)


def test_affinity_is_what_each_tasks_own_does_not_explain():
    rng = np.random.default_rng(0)
    directed = rng.normal(size=(7, 7))
    found = companionship(directed)
    np.testing.assert_allclose(found, found.T)
    np.testing.assert_allclose(found.sum(0), 0, atol=1e-12)
    # Least squares by the normal equations, over pairs.
    pairs = list(combinations(range(7), 2))
    y = np.array([(directed[i, j] + directed[j, i]) / 2 for i, j in pairs])
    design = np.array([[k in pair for k in range(7)] for pair in pairs], float)
    rest = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    np.testing.assert_allclose([found[pair] for pair in pairs], rest, atol=1e-12)
    # What a task gives to all and what it takes from all make no difference.
    gives, takes = rng.normal(size=(2, 7))
    np.testing.assert_allclose(companionship(directed + gives[:, None] + takes), found, atol=1e-12)
    np.testing.assert_allclose(affinity(directed), companionship(within_targets(directed)))


def test_groups_are_those_of_average_linkage():
    close = np.zeros((4, 4))
    for (i, j), value in {(0, 2): 5, (1, 3): 4, (0, 1): 3, (0, 3): 1, (2, 1): 0, (2, 3): 2}.items():
        close[i, j] = close[j, i] = value
    linked = tree(close)  # distances 0 and 1, then the mean of 2, 4, 5 and 3
    np.testing.assert_allclose(linked[:, 2], [0, 1, 3.5])
    assert cut(linked, 2) == ((0, 2), (1, 3))
    assert cut(linked, 3) == ((0, 2), (1,), (3,))
    assert cut(tree(10 * close - 3), 2) == ((0, 2), (1, 3))


def test_random_partitions_have_the_sizes_and_are_different():
    found = random_partitions((3, 2, 1), 20, seed=0)
    assert len(set(found)) == len(found) == 20
    assert all(sizes_of(p) == (3, 2, 1) for p in found)
    assert all(sorted(t for g in p for t in g) == list(range(6)) for p in found)
    assert len(random_partitions((2, 2), 20, seed=0)) == 3  # all that there are


def test_tasks_share_no_class_and_are_padded_alike(drawn):
    colour = Bank(
        np.full((40, 6, 9, 3), 7, np.uint8),
        np.repeat(np.arange(4, dtype=np.int32), 10),
        np.repeat(np.arange(2, dtype=np.int32), 20),
        tuple("abcd"),
        ("first", "second"),
    )
    datasets = {"digits": load("digits"), "other:part": Dataset(colour, colour)}
    options = {"num_tasks": 2, "ways": [3, 2], "shots": [4, 5], "test_shots": 8, "seed": 1}
    (train, test), families = draw_tasks(datasets, **options)
    assert families == ("digits", "digits", "other", "other")
    assert train.group_names == ("digits", "digits (2)", "first", "second")
    np.testing.assert_array_equal(tasks_of_classes(train), [0, 0, 0, 1, 1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(np.bincount(train.labels), [4] * 6 + [5] * 4)
    np.testing.assert_array_equal(np.bincount(test.labels), [8] * 10)
    assert len(set(train.class_names)) == 10
    assert train.images.shape[1:] == (9, 9, 3)
    assert (train.images[:24, ..., :1] == train.images[:24]).all()  # grey is repeated
    assert train.images[24:].sum() == 20 * 6 * 9 * 3 * 7  # and nothing cut off
    same = draw_tasks({"digits": load("digits")}, num_tasks=4, ways=[2], shots=[10],
                      test_shots=20, seed=0)  # fmt: skip
    assert same.dataset.train.digest == drawn.dataset.train.digest


def test_the_masked_loss_is_that_of_separate_heads():
    rng = np.random.default_rng(0)
    of_class = np.array([0, 0, 1, 1, 1])
    x, labels, task = rng.normal(size=(6, 3)), np.array([0, 1, 0, 4, 2, 3]), np.repeat([0, 1], 3)
    heads = rng.normal(size=(3, 2)), rng.normal(size=(3, 3))
    expected = []
    for row, label, t in zip(x, labels, task, strict=True):
        logits = row @ heads[t]
        own = label - 2 * t
        expected.append(log(sum(np.exp(logits))) - logits[own])
    loss = joint_loss(x @ np.concatenate(heads, 1), labels, task, of_class)
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-5)
    grad = jax.grad(joint_loss)(np.float32(x @ np.concatenate(heads, 1)), labels, task, of_class)
    np.testing.assert_array_equal(np.asarray(grad)[:3, 2:], 0)
    assert np.isfinite(grad).all()


def test_a_task_together_with_itself_is_the_task_alone(drawn):
    train, test = drawn.dataset
    source = network(train, width=4)
    alone, twice = (train_group(source, train, group, TRAINING, 3) for group in ((1,), (1, 1)))
    found, expected = outputs(twice, test.images).logits, outputs(alone, test.images).logits
    assert np.abs(expected[:, 2:4]).max() > 0.05
    np.testing.assert_allclose(found, expected, atol=1e-3)
    other = outputs(train_group(source, train, (1, 2), TRAINING, 3), test.images).logits
    assert np.abs(other - expected).max() > 0.01


def test_scores_are_of_a_tasks_own_classes(drawn):
    train, test = drawn.dataset
    source = network(train, width=4)
    found = pairwise_scores([source] * 4, train)["leep_gain"]
    logits = outputs(source, train.images).logits
    rows = train.groups == 2
    probs = jax.nn.softmax(logits[rows][:, 6:8])
    expected = leep_gain(probs, train.labels[rows] - 4, num_classes=2)
    assert found[3, 2] == pytest.approx(float(expected), abs=1e-6)
    own = outputs(source, test.images[test.groups == 1]).logits[:, 2:4].argmax(1)
    right = np.mean(own == test.labels[test.groups == 1] - 2)
    assert accuracies(source, test, (0, 1))[1] == pytest.approx(right)
    nulls = null_scores(train, ("a", "a", "b", "b"))
    np.testing.assert_array_equal(nulls["same_data"], np.kron(np.eye(2), np.ones((2, 2))))
    means = [train.images[train.groups == t].mean(0) / 255 for t in (0, 3)]
    assert nulls["pixels"][0, 3] == pytest.approx(-np.sqrt(np.sum((means[0] - means[1]) ** 2)))


def test_gains_against_values_by_hand():
    alone = np.array([[0.5, 0.6, 0.7]])
    reached = {(0, 1): np.array([[0.6, 0.5]]), (0, 2): np.array([[0.8, 0.7]])}
    reached |= {(1, 2): np.array([[0.9, 1.0]]), (0, 1, 2): np.array([[0.5, 0.5, 0.5]])}
    reached |= {(t,): alone[:, [t]] for t in range(3)}
    gains = pair_gains(alone, reached)[0]
    np.testing.assert_allclose(gains, [[0, -0.1, 0], [0.1, 0, 0.3], [0.3, 0.3, 0]], atol=1e-12)
    scores = np.array([[9.0, 1, 2], [0, 9, 2], [5, 0, 9]])  # of target 2 both are best
    np.testing.assert_allclose(partner_gain(scores, gains), [0.1, -0.2, 0], atol=1e-12)
    chosen = {"leep_gain": ((0, 2), (1,))}
    random = {(2, 1): [((0, 1), (2,)), ((0,), (1, 2))]}
    first, others, together, lone = comparison_rows(chosen, random, alone, reached)
    assert first["accuracy"] == pytest.approx((0.8 + 0.6 + 0.7) / 3)
    assert first["gain"] == pytest.approx(0.1)
    assert first["ahead"] == pytest.approx(np.mean([0.8 - 0.55, 0.6 - 0.7, 0.7 - 0.85]))
    assert (first["beaten"], first["partitions"]) == (1, 2)  # 1.8 and 2.4 against 2.1
    assert others["gain"] == pytest.approx(0.1)
    assert together["behind"] == pytest.approx(0.2)
    assert (lone["gain"], lone["sizes"]) == (0, "1 1 1")
    two = {(0, 2): np.array([[0.8, 0.4], [0.6, 0.5]]), (1,): np.array([[0.3], [0.1]])}
    np.testing.assert_allclose(of_partition(((0, 2), (1,)), two), [0.7, 0.2, 0.45])
    interval = mean_over_tasks(np.array([0.0, 1.0, 2.0]))
    assert interval[1:] == pytest.approx((1 - 4.302653 / 3**0.5, 1 + 4.302653 / 3**0.5))


def test_tables_hold_what_was_reached_and_a_broken_run_goes_on(tmp_path, capsys, monkeypatch):
    calls: list[tuple[int, ...]] = []

    def counted(source, bank, group, training, seed):
        if len(calls) == 20:  # 16 alone
            calls.append((0, 0))
            raise KeyboardInterrupt
        calls.append((*group, seed))
        return train_group(source, bank, group, training, seed)

    monkeypatch.setattr(multitask_groups, "train_group", counted)
    arguments = [*SMALL, "--output-dir", str(tmp_path / "run")]
    with pytest.raises(KeyboardInterrupt):
        main(arguments)
    main(arguments)
    out = capsys.readouterr().out
    together = [call for call in calls if len(call) > 2]
    assert len(together) == len(set(together)) == 14  # six pairs and all four, two seeds
    assert "Groups by leep_gain are" in out
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
            accuracies(train_group(source, train, group, TRAINING, seed), test, group)
            for seed in (0, 1)
        ]
        np.testing.assert_allclose(reached[group], expected, atol=1e-6)
    # Networks of the run's two seeds make the groups; of two others, what is held against gains.
    columns = {}
    for column, seeds in (("value", (0, 1)), ("independent", (2, 3))):
        found = columns[column] = {r["score"]: np.zeros((4, 4)) for r in scores}
        for r in scores:
            found[r["score"]][int(r["source"]), int(r["target"])] = float(r[column])
        alone = [[train_group(source, train, (t,), TRAINING, s) for t in range(4)] for s in seeds]
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


def test_no_class_of_one_data_set_is_in_two_tasks():
    def part(classes):
        labels = np.repeat(np.arange(len(classes), dtype=np.int32), 2)
        images = np.zeros((len(labels), 8, 8, 1), np.uint8)
        return Bank(images, labels, np.zeros_like(labels), tuple(classes), ("one",))

    parts = {"letters:a": Dataset(part("abcd"), part("abcd"))}
    parts["letters:b"] = Dataset(part("cdef"), part("cdef"))
    options = {"ways": (2, 2), "shots": (2, 2), "test_shots": 2}
    for seed in range(5):
        drawn = draw_tasks(parts, num_tasks=1, seed=seed, **options)
        names = [name.split(": ")[1] for name in drawn.dataset.train.class_names]
        assert len(set(names)) == 4
    with pytest.raises(ValueError, match="--num-tasks: wanted at most"):
        draw_tasks(parts, num_tasks=2, seed=0, **options)
