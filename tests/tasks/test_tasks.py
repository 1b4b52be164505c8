"""Tasks: what is drawn is what was asked for, and the same key draws the same."""

import dataclasses
import subprocess
import sys

import jax
import numpy as np
import pytest

from leepjax.data import Bank, Dataset, load
from leepjax.tasks import Split, Tasks, map_tasks, only_used, sample_tasks, use_vmap

CLASSES, GROUPS, PER_CLASS = 12, 3, 20


def bank(per_class: int) -> Bank:
    labels = np.tile(np.arange(CLASSES, dtype=np.int32), per_class)
    images = np.zeros((len(labels), 2, 2, 1), np.uint8)
    names = tuple(f"c{i}" for i in range(CLASSES))
    return Bank(images, labels, labels % GROUPS, names, ("a", "b", "c"))


DATASET = Dataset(bank(PER_CLASS), bank(7))
KEY = jax.random.key(3)


def draw(**changes):
    options = {"num_tasks": 30, "ways": 4, "shots": 5}
    return sample_tasks(KEY, DATASET, **{**options, **changes})


@pytest.mark.parametrize("ways", [4, (2, 6)])
@pytest.mark.parametrize("shots", [5, (3, 9), None])
@pytest.mark.parametrize("test_shots", [3, None])
def test_splits_hold_the_images_of_the_classes(ways, shots, test_shots):
    tasks = draw(ways=ways, shots=shots, test_shots=test_shots)
    low, high = ways if isinstance(ways, tuple) else (ways, ways)
    assert tasks.num_classes.min() >= low
    assert tasks.num_classes.max() <= high
    for i, classes in enumerate(tasks.classes):
        present = classes[classes >= 0]
        assert len(set(present)) == len(present) == tasks.num_classes[i]
        for split, source, wanted in (
            (tasks.train, DATASET.train, shots or PER_CLASS),
            (tasks.test, DATASET.test, test_shots or 7),
        ):
            rows = split.indices[i][split.where[i]]
            assert len(set(rows)) == len(rows)
            np.testing.assert_array_equal(
                source.labels[rows], present[split.labels[i][split.where[i]]]
            )
            counts = np.bincount(split.labels[i][split.where[i]], minlength=len(present))
            low, high = wanted if isinstance(wanted, tuple) else (wanted, wanted)
            assert (counts >= low).all()
            assert (counts <= high).all()


def test_the_same_key_draws_the_same_and_another_does_not():
    jax.tree.map(np.testing.assert_array_equal, draw(), draw())
    other = sample_tasks(jax.random.key(4), DATASET, num_tasks=30, ways=4, shots=5)
    assert (other.classes != draw().classes).any()


def test_class_sets_do_not_repeat_while_others_are_left():
    # 12 choose 2 = 66 sets: all drawn once, then a second time
    tasks = draw(num_tasks=132, ways=2)
    _, counts = np.unique(tasks.classes, axis=0, return_counts=True)
    assert len(counts) == 66
    assert set(counts) == {2}
    few = draw(num_tasks=50, ways=5)  # of 792: by rejection
    assert len(np.unique(few.classes, axis=0)) == 50


def test_within_groups_a_task_has_one_group_and_groups_take_turns():
    tasks = draw(within_groups=True, ways=3)
    np.testing.assert_array_equal(tasks.classes % GROUPS, np.tile(tasks.groups[:, None], (1, 3)))
    np.testing.assert_array_equal(np.bincount(tasks.groups), [10, 10, 10])
    assert (draw().groups == -1).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ways": 1}, "ways: wanted at least 2, got 1"),
        ({"ways": (5, 3)}, "ways: wanted 2"),
        ({"ways": 13}, "ways: wanted at most the number of classes in both banks"),
        ({"ways": 5, "within_groups": True}, "in one group"),
        ({"shots": 21}, r"shots: wanted at most 20"),
        ({"shots": 0}, "shots: wanted at least 1, got 0"),
        ({"shots": 2.5}, "shots: wanted an int, or a pair"),
        ({"ways": (2, 3, 4)}, "ways: wanted an int, or a pair"),
        ({"num_tasks": "3"}, "num_tasks: wanted an int"),
        ({"test_shots": 0}, "test_shots: wanted"),
        ({"num_tasks": 0}, "num_tasks: wanted"),
    ],
)
def test_bad_input(changes, message):
    with pytest.raises(ValueError, match=message):
        draw(**changes)


def test_keys_and_banks_that_are_none_are_refused():
    options = {"num_tasks": 2, "ways": 2, "shots": 3}
    with pytest.raises(ValueError, match=r"^key: wanted a typed key such as jax.random.key\(0\)"):
        sample_tasks(0, DATASET, **options)
    test = dataclasses.replace(DATASET.test, class_names=DATASET.test.class_names[::-1])
    others = DATASET._replace(test=test)
    with pytest.raises(ValueError, match=r"^dataset: wanted a train and a test bank of the same"):
        sample_tasks(jax.random.key(0), others, **options)


@pytest.mark.parametrize("size", [None, 3])
def test_map_keeps_the_order_of_tasks_and_trims_buckets(monkeypatch, size):
    monkeypatch.setattr("leepjax.tasks.map.ROWS", 100)  # several chunks a bucket
    tasks = draw(ways=(2, 6), shots=(3, 9))
    shapes = set()

    def fn(offset, chunk):
        shapes.add((chunk.classes.shape[1], chunk.train.where.shape[1]))
        assert size is None or len(chunk.classes) <= size
        return {"classes": chunk.classes.sum(1) + offset, "size": chunk.train.where.sum(1)}

    result = map_tasks(fn, np.int32(0), tasks, chunk=size, desc="test")
    np.testing.assert_array_equal(
        result["classes"], np.where(tasks.classes < 0, 0, tasks.classes).sum(1)
    )
    np.testing.assert_array_equal(result["size"], tasks.train.where.sum(1))
    assert len(shapes) == 5


def test_options_of_a_map_that_make_no_sense_are_named():
    for options, message in (({"chunk": 0}, "chunk: wanted an int"), ({"devices": []}, "devices:")):
        with pytest.raises(ValueError, match=message):
            map_tasks(lambda shared, tasks: tasks.groups, (), draw(), desc="test", **options)
    with pytest.raises(ValueError, match="strategy: wanted auto or loop or vmap, got 'scan'"):
        use_vmap("scan", "cpu")


def test_only_images_of_the_tasks_are_kept_and_tasks_stay_the_same():
    whole = load("digits")
    tasks = sample_tasks(jax.random.key(0), whole, num_tasks=3, ways=4, shots=5, test_shots=6)
    few, same = only_used(whole, tasks)
    assert len(few.train.images) <= 3 * 20
    for name in ("train", "test"):
        split, kept = getattr(tasks, name), getattr(same, name)
        bank, small = getattr(whole, name), getattr(few, name)
        np.testing.assert_array_equal(small.images[kept.indices], bank.images[split.indices])
        np.testing.assert_array_equal(small.labels[kept.indices], bank.labels[split.indices])
        np.testing.assert_array_equal(kept.labels, split.labels)


def test_padding_is_no_image_that_is_used():
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    bank = Bank(images, np.arange(10) % 2, np.zeros(10, int), ("a", "b"), ("all",))
    split = Split(np.array([[7, 3, 0]]), np.array([[1, 1, 0]]), np.array([[True, True, False]]))
    tasks = Tasks(np.array([[0, 1]]), np.array([-1]), split, split)
    few, same = only_used(Dataset(bank, bank), tasks)
    np.testing.assert_array_equal(few.train.images.ravel(), [3, 7])
    np.testing.assert_array_equal(few.test.images.ravel()[same.test.indices[0, :2]], [7, 3])


BATCHES = """
import jax, jax.numpy as jnp, numpy as np
from leepjax.tasks import Split, Tasks, map_tasks

def solve(shared, tasks):
    def one(classes):
        sums = []
        for i in range(8):
            root = jnp.linalg.cholesky(shared + (i + classes.sum()) * jnp.eye(128))
            sums.append(jax.scipy.linalg.solve_triangular(root, shared[:, :4], lower=True).sum())
        return sum(sums)
    return jax.vmap(one)(tasks.classes.astype(jnp.float32))

x = np.random.default_rng(0).normal(size=(128, 128)).astype(np.float32)
split = Split(*np.zeros((3, 12, 1), np.int32))._replace(where=np.ones((12, 1), bool))
tasks = Tasks(np.zeros((12, 2), np.int32), np.zeros(12, np.int32), split, split)
for _ in range(60):
    map_tasks(solve, x @ x.T + 128 * np.eye(128, dtype=np.float32), tasks, desc="batches")
"""


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of LAPACK on a CPU")
def test_batches_of_lapack_do_not_wait_for_each_other():
    subprocess.run([sys.executable, "-c", BATCHES], check=True, timeout=100)
