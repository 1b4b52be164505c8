"""Target tasks: classes of one data set, and for each task which images it trains and tests on.

All tasks share the two banks; a task is a few rows of indices. Regimes of the field are choices
of two numbers: *class subsets* draw the number of classes and take every image (``shots=None``),
*small* tasks have a fixed number of images a class, *imbalanced* ones draw it for each class.
"""

from dataclasses import replace
from itertools import combinations, pairwise
from math import comb
from numbers import Integral
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from leepjax._numbers import as_numbers
from leepjax.data import Bank, Dataset, check_bank

Count = int | tuple[int, int]  # a number, or an inclusive range to draw it from


class Split(NamedTuple):
    """Images of every task: index into a bank, label within the task, and a mask of padding.

    Attributes:
      indices: ``[t, m]`` int32 rows of the bank; 0 where padded.
      labels: ``[t, m]`` int32, the position of the image's class in ``Tasks.classes``.
      where: ``[t, m]`` bool, False where padded; padding comes last.
    """

    indices: np.ndarray
    labels: np.ndarray
    where: np.ndarray


class Tasks(NamedTuple):
    """A batch of target tasks over the banks of one data set.

    Attributes:
      classes: ``[t, k]`` int32 class ids of the bank, ascending, padded with -1.
      groups: ``[t]`` int32, the group all classes come from; -1 where drawn across groups.
      train: labelled images for scores and learners, from the train bank.
      test: images that measure accuracy, from the test bank.
    """

    classes: np.ndarray
    groups: np.ndarray
    train: Split
    test: Split

    @property
    def num_classes(self) -> np.ndarray:
        """``[t]`` number of classes of each task."""
        return (self.classes >= 0).sum(1)


def sample_tasks(
    key: jax.Array,
    dataset: Dataset,
    *,
    num_tasks: int,
    ways: Count,
    shots: Count | None,
    test_shots: int | None = None,
    within_groups: bool = False,
) -> Tasks:
    """Draw tasks; the same key gives the same tasks.

    No set of classes is drawn twice while others are left; after that, sets repeat with other
    images.

    Args:
      key: typed JAX key.
      dataset: train and test bank.
      num_tasks: number of tasks t.
      ways: classes of a task, or an inclusive range from which each task draws.
      shots: training images of a class; or an inclusive range from which each class of each task
        draws; or None for all.
      test_shots: test images of a class, at most (a class with fewer gives all); None for all.
      within_groups: draw a task's classes from one group; groups take turns.

    Raises:
      ValueError: there are too few classes or images; it names the argument.
    """
    for split, bank in zip(dataset._fields, dataset, strict=True):
        check_bank(f"dataset.{split}", bank)
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise ValueError(f"key: wanted a typed key such as jax.random.key(0), got {key!r}")
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    low, high = _range("ways", ways, minimum=2)
    most = None if shots is None else _range("shots", shots, minimum=1)[1]
    for name, number in (("num_tasks", num_tasks), ("test_shots", test_shots)):
        optional = name == "test_shots" and number is None
        if not optional and (not isinstance(number, Integral) or number < 1):
            raise ValueError(f"{name}: wanted an int >= 1, got {number!r}")
    if dataset.train.class_names != dataset.test.class_names:
        raise ValueError("dataset: wanted a train and a test bank of the same classes, got others")
    train_rows, test_rows = _rows_by_class(dataset.train), _rows_by_class(dataset.test)
    usable = np.array(
        [len(a) > 0 and len(b) > 0 for a, b in zip(train_rows, test_rows, strict=True)]
    )
    pools = _pools(dataset.train, usable, within_groups)
    pools = {group: pool for group, pool in pools.items() if len(pool) >= high}
    if not pools:
        where = "in one group" if within_groups else "in both banks"
        raise ValueError(
            f"ways: wanted at most the number of classes {where}, got {high}; "
            f"there are {usable.sum()} classes in all"
        )
    # Groups take turns in random order; class counts are drawn; then each (group, count) gets
    # as many distinct class sets as it needs.
    groups = np.resize(rng.permutation(list(pools)), num_tasks)
    counts = rng.integers(low, high + 1, num_tasks)
    classes = np.full((num_tasks, high), -1, np.int32)
    for group, count in sorted(set(zip(groups.tolist(), counts.tolist(), strict=True))):
        rows = np.flatnonzero((groups == group) & (counts == count))
        classes[rows, :count] = _class_sets(rng, pools[group], count, len(rows))
    if most is not None:
        fewest = min(len(train_rows[c]) for c in np.unique(classes[classes >= 0]))
        if most > fewest:
            raise ValueError(
                f"shots: wanted at most {fewest} (the fewest training images of a class), "
                f"got {shots}"
            )
    train = _split(rng, train_rows, classes, shots)
    test = _split(rng, test_rows, classes, test_shots)
    return Tasks(classes, groups.astype(np.int32), train, test)


def only_used(dataset: Dataset, tasks: Tasks) -> tuple[Dataset, Tasks]:
    """The images that tasks draw, so that no network has to process the others; and the tasks."""
    train, of_train = _used(dataset.train, tasks.train)
    test, of_test = _used(dataset.test, tasks.test)
    return Dataset(train, test), tasks._replace(train=of_train, test=of_test)


def _used(bank: Bank, split: Split) -> tuple[Bank, Split]:
    rows = np.unique(split.indices[split.where])
    arrays = {name: getattr(bank, name)[rows] for name in ("images", "labels", "groups")}
    indices = np.where(split.where, np.searchsorted(rows, split.indices), 0)
    return replace(bank, **arrays), split._replace(indices=indices.astype(np.int32))


def check_rows(name: str, array: ArrayLike, split: Split) -> Any:
    """An array with a row of finite numbers for each image that a split draws, as JAX has them.

    Raises:
      ValueError: it has not, and would be read past its end or give NaN.
    """
    array = as_numbers(name, array)
    fewest, x = int(split.indices.max()) + 1, np.asarray(array)
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"{name}: wanted floats of shape [n, d], got shape {list(x.shape)}")
    if len(x) < fewest:
        raise ValueError(
            f"{name}: wanted a row for each image of the bank, {fewest} or more, got {len(x)}"
        )
    bad = ~np.isfinite(x).all(1)
    if bad.any():
        raise ValueError(f"{name}: wanted finite numbers, got others in row {bad.argmax()}")
    return array


def _range(name: str, value: Count, minimum: int) -> tuple[int, int]:
    pair = value if isinstance(value, tuple) else (value, value)
    if len(pair) != 2 or not all(isinstance(v, Integral) for v in pair):
        raise ValueError(f"{name}: wanted an int, or a pair (low, high) of ints, got {value!r}")
    low, high = pair
    if not minimum <= low <= high:
        wanted = f"{minimum} <= low <= high" if isinstance(value, tuple) else f"at least {minimum}"
        raise ValueError(f"{name}: wanted {wanted}, got {value}")
    return low, high


def _rows_by_class(bank: Bank) -> list[np.ndarray]:
    order = np.argsort(bank.labels, kind="stable")
    bounds = np.searchsorted(bank.labels[order], np.arange(bank.num_classes + 1))
    return [order[a:b] for a, b in pairwise(bounds)]


def _pools(bank: Bank, usable: np.ndarray, within_groups: bool) -> dict[int, np.ndarray]:
    if not within_groups:
        return {-1: np.flatnonzero(usable)}
    class_groups = bank.class_groups
    return {
        group: np.flatnonzero(usable & (class_groups == group))
        for group in range(len(bank.group_names))
    }


def _class_sets(rng: np.random.Generator, pool: np.ndarray, size: int, number: int) -> np.ndarray:
    """``[number, size]`` class sets, ascending, without replacement while that lasts."""
    total = comb(len(pool), size)
    if total <= 4 * number:
        every = np.array(list(combinations(pool, size)))
        rounds = [rng.permutation(total) for _ in range(-(-number // total))]
        return every[np.concatenate(rounds)[:number]]
    drawn: dict[tuple[int, ...], None] = {}  # a set that keeps the order of drawing
    while len(drawn) < number:
        drawn[tuple(np.sort(rng.choice(pool, size, replace=False)).tolist())] = None
    return np.array(list(drawn))


def _split(
    rng: np.random.Generator, rows: list[np.ndarray], classes: np.ndarray, shots: Count | None
) -> Split:
    """Draw images of each class of each task: all, at most ``shots``, or a number from a range."""
    low, high = (shots if isinstance(shots, tuple) else (shots, shots)) if shots else (None, None)
    indices, labels = [], []
    for task in classes:
        picked = []
        for c in task[task >= 0]:
            size = len(rows[c]) if low is None or high is None else rng.integers(low, high + 1)
            if size < len(rows[c]):
                picked.append(rng.choice(rows[c], size, replace=False))
            else:
                picked.append(rows[c])
        indices.append(np.concatenate(picked))
        labels.append(np.repeat(np.arange(len(picked)), [len(p) for p in picked]))
    length = max(map(len, indices))

    def padded(ragged: list[np.ndarray]) -> np.ndarray:
        return np.stack([np.pad(row, (0, length - len(row))) for row in ragged]).astype(np.int32)

    where = np.arange(length) < np.array([len(row) for row in indices])[:, None]
    return Split(padded(indices), padded(labels), where)
