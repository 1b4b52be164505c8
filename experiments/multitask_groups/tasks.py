"""Tasks that share no class, of one data set or several: a bank whose groups are the tasks."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from leepjax.data import Bank, Dataset


class Drawn(NamedTuple):
    """T tasks as one data set: labels count through all classes, ``groups`` name the tasks.

    Attributes:
      dataset: training and test images of all tasks, the task of each image in ``groups``.
      families: ``[t]`` the data set that each task comes from.
    """

    dataset: Dataset
    families: tuple[str, ...]


def draw_tasks(
    datasets: dict[str, Dataset],
    *,
    num_tasks: int,
    ways: Sequence[int],
    shots: Sequence[int],
    test_shots: int,
    seed: int,
) -> Drawn:
    """Draw as many tasks of each data set, each of classes that no other task has.

    Parts of one data set can share classes, as Omniglot's small splits share two alphabets. Then
    one task could train on what another is tested on, so used classes are excluded.

    The classes of every group (script, alphabet; all classes, where there are none) are shuffled
    and cut into tasks; groups take turns. Images of different sizes are padded to the largest, grey
    ones repeated where others are coloured.

    Args:
      datasets: by name; a name's part before a colon is the family of its tasks.
      num_tasks: of each data set.
      ways: classes of a task, for each data set.
      shots: training images of a class, for each data set.
      test_shots: test images of a class, at most.
      seed: of classes and images.

    Raises:
      ValueError: a data set has too few classes or images.
    """
    rng = np.random.default_rng(seed)
    size = max(max(d.train.images.shape[1:3]) for d in datasets.values())
    channels = max(d.train.images.shape[3] for d in datasets.values())
    parts: list[tuple[list[np.ndarray], ...]] = [([], [], []), ([], [], [])]
    classes: list[str] = []
    titles: list[str] = []
    names: list[str] = []
    families: list[str] = []
    taken: set[tuple[str, str]] = set()
    for (name, dataset), k, m in zip(datasets.items(), ways, shots, strict=True):
        family, grouped = name.partition(":")[0], len(dataset.train.group_names) > 1
        free = [(family, c) not in taken for c in dataset.train.class_names]
        for group, chosen in _class_sets(rng, name, dataset.train, np.array(free), num_tasks, k):
            taken |= {(family, dataset.train.class_names[c]) for c in chosen}
            title = dataset.train.group_names[group] if grouped else family
            titles.append(title)
            again = titles.count(title)
            names.append(title if again == 1 else f"{title} ({again})")
            families.append(family)
            for c in chosen:
                for bank, most, (images, labels, groups) in zip(
                    dataset, (m, test_shots), parts, strict=True
                ):
                    rows = np.flatnonzero(bank.labels == c)
                    if bank is dataset.train and len(rows) < m:
                        raise ValueError(
                            f"--shots: wanted at most {len(rows)}, the training images of "
                            f"{bank.class_names[c]} in {name}, got {m}"
                        )
                    rows = rng.choice(rows, min(most, len(rows)), replace=False)
                    images.append(_fitted(bank.images[np.sort(rows)], size, channels))
                    labels.append(np.full(len(rows), len(classes), np.int32))
                    groups.append(np.full(len(rows), len(names) - 1, np.int32))
                classes.append(f"{names[-1]}: {dataset.train.class_names[c]}")
    banks = (
        Bank(np.concatenate(a), np.concatenate(b), np.concatenate(c), tuple(classes), tuple(names))
        for a, b, c in parts
    )
    return Drawn(Dataset(*banks), tuple(families))


def _class_sets(
    rng: np.random.Generator, name: str, bank: Bank, free: np.ndarray, number: int, ways: int
) -> list[tuple[int, np.ndarray]]:
    """Group and classes of each task: disjoint, of those that are free, groups in turn."""
    sets: list[tuple[int, int, np.ndarray]] = []  # round, group, classes
    for group in range(len(bank.group_names)):
        pool = rng.permutation(np.flatnonzero((bank.class_groups == group) & free))
        whole = len(pool) // ways * ways
        sets += [(i, group, c) for i, c in enumerate(pool[:whole].reshape(-1, ways))]
    if len(sets) < number:
        raise ValueError(
            f"--num-tasks: wanted at most {len(sets)} of {name} (tasks of {ways} classes that "
            f"share none, with those of other --target-data either), got {number}; ask for fewer "
            "tasks or --ways"
        )
    turns = sorted(sets, key=lambda item: item[:2])
    return [(group, np.sort(chosen)) for _, group, chosen in turns[:number]]


def _fitted(images: np.ndarray, size: int, channels: int) -> np.ndarray:
    """Zero-padded on all sides to a square, and grey repeated."""
    pads = [((size - side) // 2, size - side - (size - side) // 2) for side in images.shape[1:3]]
    padded = np.pad(images, ((0, 0), *pads, (0, 0)))
    return padded if padded.shape[3] == channels else np.repeat(padded, channels, axis=3)
