"""How often the intervals of a correlation contain the true value when tasks share classes.

    python -m experiments.coverage              # or some: every_statistic crossed

Each of C classes has an effect on the score and one on the accuracy. They are normal, with
correlation rho. A task's score and accuracy are the means over its k classes plus noise of its own
(standard deviation ``noise`` relative to the classes' part, correlation 0.3). The true value is the
correlation over tasks of infinitely many classes. For each design the output shows coverage and
mean width of the nominal 95 % intervals that

  leepjax   leaves out one class at a time (leepjax.evaluation.jackknife)
  tasks     takes tasks for independent (Fisher's z)
  BCa       resamples tasks (scipy.stats.bootstrap, BCa), the usual careful choice

Further designs are: tasks in groups in which classes are nested, clustered by groups and by
classes; every statistic, and the difference of two scores on the same rows, independent or in
clusters of several rows; and means over targets of correlations over models. In these the true
value is the mean of the statistic over all samples of that size; for Pearson's it is the
population's. The last design is a mean over tasks: leepjax.evaluation.mean beside Student's
interval for independent tasks. The effects of classes and the noise of tasks are normal or, as
losses are, skewed (exponential).
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal

import numpy as np
import tyro
from scipy.stats import bootstrap

from leepjax.evaluation import (
    cluster_membership,
    difference,
    jackknife,
    mean,
    mean_over_groups,
    pearson,
)
from leepjax.evaluation.correlation import STATISTICS, Statistic

REPEATS, NOISE_CORRELATION = 200, 0.3
DESIGNS = [  # classes, classes a task, tasks, rho, noise
    (10, 5, 200, 0.3, 0.3),
    (10, 5, 200, 0.9, 0.3),
    (10, 5, 200, 0.9, 1.0),
    (10, 5, 200, 0.3, 3.0),
    (10, 2, 45, 0.9, 0.5),
    (20, 5, 200, 0.5, 0.5),
    (100, 5, 200, 0.9, 0.5),
    (1000, 5, 200, 0.5, 0.5),
]


@dataclasses.dataclass(frozen=True)
class Config:
    """Simulate how often intervals of a correlation contain the true value."""

    sections: tyro.conf.Positional[
        tuple[
            Literal["shared_classes", "nested_groups", "every_statistic", "crossed", "means"], ...
        ]
    ] = ()
    """Which designs; default all."""


def class_sets(rng: np.random.Generator, classes: int, size: int, number: int) -> np.ndarray:
    """``[number, size]``: the classes of each task, drawn without repeating a set where few."""
    if classes <= 12:
        every = np.array(list(combinations(range(classes), size)))
        return every[rng.permutation(len(every))[:number]]
    return np.array([rng.choice(classes, size, replace=False) for _ in range(number)])


def shared_classes(rng: np.random.Generator) -> None:
    """Tasks that share classes, compared with intervals that take tasks for independent."""
    print("classes  k  tasks  rho  noise |   leepjax      tasks        BCa   (coverage, width)")
    for classes, size, number, rho, noise in DESIGNS:
        truth = (rho + NOISE_CORRELATION * noise**2) / (1 + noise**2)
        columns: list[list[tuple[float, float]]] = [[], [], []]
        for repeat in range(REPEATS):
            sets = class_sets(rng, classes, size, number)
            x, y = (
                effects(rng, rho, classes)[sets].mean(1)
                + noise / np.sqrt(size) * effects(rng, NOISE_CORRELATION, len(sets))
            ).T
            membership = (sets[:, :, None] == np.arange(classes)).any(1)
            estimate, _ = jackknife(pearson, x, y, membership[:, membership.any(0)])
            columns[0].append((estimate.low, estimate.high))
            z, half = np.arctanh(estimate.value), 1.96 / np.sqrt(len(x) - 3)
            columns[1].append((np.tanh(z - half), np.tanh(z + half)))
            if repeat < REPEATS // 2:  # the slowest of the three
                resampled = bootstrap(
                    (x, y),
                    lambda a, b: np.corrcoef(a, b)[0, 1],
                    paired=True,
                    vectorized=False,
                    n_resamples=500,
                    rng=rng,
                )
                columns[2].append(resampled.confidence_interval)
        cells = "   ".join(coverage(column, truth) for column in columns)
        print(f"{classes:7d} {size:2d} {number:6d} {rho:4.1f} {noise:6.1f} | {cells}")


def nested_groups(rng: np.random.Generator) -> None:
    """Tasks within groups (scripts, alphabets) whose own effects have correlation 0.6 as well."""
    groups, per_group, size, number, rho = 13, 60, 5, 200, 0.6
    print("\n13 groups of 60 classes, 200 tasks of 5 within a group; r over new groups")
    print("group sd / class sd | by groups    by classes   (coverage, width)")
    for ratio in (0.0, 0.3, 0.5, 1.0):
        columns: list[list[tuple[float, float]]] = [[], []]
        for _ in range(REPEATS):
            group = np.arange(number) % groups
            sets = np.array(
                [g * per_group + rng.choice(per_group, size, replace=False) for g in group]
            )
            of_classes = effects(rng, rho, groups * per_group)[sets].mean(1)
            x, y = (of_classes + ratio * effects(rng, rho, groups)[group]).T
            by_class = (sets[:, :, None] == np.unique(sets)).any(1)
            for column, clusters in zip(
                columns, (group[:, None] == np.arange(groups), by_class), strict=True
            ):
                estimate, _ = jackknife(pearson, x, y, clusters)
                column.append((estimate.low, estimate.high))
        print(f"{ratio:19.1f} | {'   '.join(coverage(column, rho) for column in columns)}")


def every_statistic(rng: np.random.Generator) -> None:
    """Accuracy and two scores, trivariate; a part of the variance is common to a cluster's rows."""
    print("\nrows clusters   r of score, other, both | statistic, then coverage and width")
    print(" " * 42 + "| of r, of the difference")
    for rows, clusters, repeats in (
        (30, 30, 1000),
        (30, 10, 1000),
        (200, 200, 300),
        (200, 20, 300),
    ):
        of_cluster = np.arange(rows) % clusters
        membership = None if clusters == rows else cluster_membership(of_cluster)
        for r in ((0.6, 0.3, 0.5), (0.9, 0.8, 0.8)):
            shape = [[1, r[0], r[1]], [r[0], 1, r[2]], [r[1], r[2], 1]]

            def draw(shape=shape, of_cluster=of_cluster, clusters=clusters):
                common, own = (
                    rng.multivariate_normal([0, 0, 0], shape, n)
                    for n in (clusters, len(of_cluster))
                )
                return (np.sqrt(0.5) * common[of_cluster] + np.sqrt(0.5) * own).T

            for name, statistic in STATISTICS.items():
                truth = r[:2] if name == "pearson" else None
                cells = _two_scores(statistic, draw, repeats, membership, truth)
                print(f"{rows:4d} {clusters:8d}   {r} | {name:21s} {'   '.join(cells)}", flush=True)


def crossed(rng: np.random.Generator) -> None:
    """Means over targets: some models are good on all targets, others on some."""
    print("\nmodels targets | statistic, then coverage and width of the mean, of the difference")
    for models, targets in ((10, 8), (11, 11), (30, 10)):
        target, model = (a.ravel() for a in np.indices((targets, models)))
        shape = [[1, 0.6, 0.4], [0.6, 1, 0.5], [0.4, 0.5, 1]]

        def draw(shape=shape, target=target, model=model):
            general = rng.multivariate_normal([0, 0, 0], shape, model.max() + 1)
            own = rng.multivariate_normal([0, 0, 0], shape, len(model))
            return (general[model] + own).T

        for name in ("pearson", "weighted_tau:both"):
            statistic = mean_over_groups(STATISTICS[name], target)
            cells = _two_scores(
                statistic, draw, 400, (cluster_membership(target), cluster_membership(model)), None
            )
            print(f"{models:6d} {targets:7d} | {name:21s} {'   '.join(cells)}", flush=True)


def means(rng: np.random.Generator) -> None:
    """Tasks that share classes: a mean over tasks, in standard deviations of a class effect."""
    print("\nclasses  k  tasks  noise  effects     | leepjax        tasks   (coverage, width)")
    for classes, size, number, noise, name in (
        (5, 1, 20, 0.5, "normal"),
        (13, 1, 60, 0.5, "normal"),
        (13, 1, 60, 0.5, "exponential"),
        (10, 5, 10, 0.5, "normal"),
        (10, 5, 40, 0.5, "normal"),
        (10, 5, 40, 0.5, "exponential"),
        (10, 5, 40, 2.0, "normal"),
        (15, 5, 60, 0.5, "normal"),
    ):
        draw = {"normal": rng.standard_normal, "exponential": rng.standard_exponential}[name]
        columns: list[list[tuple[float, float]]] = [[], []]
        for _ in range(5 * REPEATS):
            sets = (
                class_sets(rng, classes, size, number) if size > 1 else _one_class(classes, number)
            )
            values = draw(classes)[sets].mean(1) + noise / np.sqrt(size) * draw(len(sets))
            shared = (sets[:, :, None] == np.arange(classes)).any(1)
            for column, membership in zip(columns, (shared, None), strict=True):
                column.append(mean(values, membership)[1:])
        truth = 0.0 if name == "normal" else 1 + noise / np.sqrt(size)
        cells = "   ".join(coverage(column, truth, 3) for column in columns)
        print(f"{classes:7d} {size:2d} {number:6d} {noise:6.1f}  {name:11s} | {cells}", flush=True)


def _one_class(classes: int, number: int) -> np.ndarray:
    """``[number, 1]``: tasks with one class each, such as a script, in turn."""
    return np.arange(number)[:, None] % classes


def _two_scores(
    statistic: Statistic,
    draw: Callable[[], np.ndarray],
    repeats: int,
    membership: np.ndarray | tuple[np.ndarray, ...] | None,
    truth: Sequence[float] | None,
) -> list[str]:
    """Coverage and width for the first score, and for its difference to the second."""
    single, differences, values = [], [], []
    for _ in range(repeats):
        y, x, other = draw()
        estimate, _ = jackknife(statistic, x, y, membership)
        found = difference(statistic, x, other, y, membership)
        single.append(estimate[1:])
        differences.append(found[1:3])
        values.append((estimate.value, estimate.value - found.value))
    for _ in range(0 if truth is not None else 4 * repeats):  # more of them, for the truth
        y, x, other = draw()
        every = np.ones((1, len(y)))
        values.append([float(statistic(v, y, every)[0]) for v in (x, other)])
    first, second = truth if truth is not None else np.mean(values, 0)
    return [coverage(single, first, 3), coverage(differences, first - second, 3)]


def effects(rng: np.random.Generator, rho: float, number: int) -> np.ndarray:
    """``[number, 2]`` effects on score and accuracy, standard normal with correlation rho."""
    return rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], number)


def coverage(intervals: Sequence[Sequence[float]], truth: float, decimals: int = 2) -> str:
    """How many of the intervals contain the truth, and their mean width."""
    low, high = np.array(intervals).T
    return f"{np.mean((low <= truth) & (truth <= high)):.{decimals}f}, {np.mean(high - low):.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sections that the command line names."""
    config = tyro.cli(Config, args=sys.argv[1:] if arguments is None else arguments)
    for section in (shared_classes, nested_groups, every_statistic, crossed, means):
        if section.__name__ in config.sections or not config.sections:
            section(np.random.default_rng(0))


if __name__ == "__main__":
    main()
