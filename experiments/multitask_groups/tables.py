"""The gains of joint training, compared with the scores and with other groups, with intervals.

Another draw would have other tasks, so intervals are over tasks, which share no class. In a mean
every task is its own cluster. In a correlation over pairs, one task is left out with all its pairs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leepjax.choosing import (
    Group,
    Partition,
    affinity,
    group_sizes,
    pair_interaction,
    standardise_columns,
)
from leepjax.evaluation import (
    Estimate,
    jackknife,
    mean,
    noise_ceiling,
    partial_pearson,
    pearson,
)
from leepjax.report import estimate_columns

Reached = Mapping[Group, np.ndarray]  # test accuracies [seeds, tasks of the group]
ALONE, TOGETHER, RANDOM, SEED = "alone", "all together", "random groups", "another seed"


def pair_gains(alone: np.ndarray, reached: Reached) -> np.ndarray:
    """``[seeds, t, t]``: what task j gains over alone when trained with task i, at ``[i, j]``."""
    seeds, count = alone.shape
    gains = np.zeros((seeds, count, count))
    for group, accuracy in reached.items():
        if len(group) == 2:
            i, j = group
            gains[:, j, i] = accuracy[:, 0] - alone[:, i]
            gains[:, i, j] = accuracy[:, 1] - alone[:, j]
    return gains


def correlation_rows(
    scores: Mapping[str, np.ndarray], alone: np.ndarray, reached: Reached
) -> list[dict[str, Any]]:
    """Does a score correlate with the gains of pairs? Rows of ``correlation.csv``.

    Statistics: ``within_target``, r of the score of i on j with the gain of j beside i, over
    ordered pairs and given j. ``pairs``, r of affinity with the pair's gain beyond what each of the
    two gains and gives on average. ``partner``, how much more accuracy a task gains beside the task
    that scores highest on it than beside an average one. ``another seed`` is the gain itself in
    another training: what a perfect score would reach on one of two trainings (with more: on the
    first, and the mean of the others). ``ceiling``: the correlation that a perfect score of the
    mean can reach in spite of noise.
    """
    gains = pair_gains(alone, reached)
    held = {name: (values, gains.mean(0)) for name, values in scores.items()}
    if len(gains) > 1:
        held[SEED] = gains[0], gains[1:].mean(0)
    rows = []
    for name, (values, gain) in held.items():
        found = {
            "within_target": _within_target(values, gain),
            "pairs": _of_pairs(values, gain),
            "partner": mean(partner_gain(values, gain), None),
        }
        rows += [{"score": name, "statistic": s} | e._asdict() for s, e in found.items()]
    if len(gains) > 1:
        others = ~np.eye(alone.shape[1], dtype=bool)
        centred = np.array([(g - g.mean(0, where=others))[others] for g in gains])
        ceiling = noise_ceiling(centred)
        rows.append({"score": SEED, "statistic": "ceiling"} | ceiling._asdict())
    return rows


def partner_gain(scores: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """``[t]`` the gain beside the task that scores highest (the mean of those that tie), less the
    mean gain beside any."""
    others = ~np.eye(len(scores), dtype=bool)
    best = (scores == np.where(others, scores, -np.inf).max(0)) & others
    return gains.mean(0, where=best) - gains.mean(0, where=others)


def _within_target(scores: np.ndarray, gains: np.ndarray) -> Estimate:
    source, target = np.nonzero(~np.eye(len(scores), dtype=bool))
    z = standardise_columns(scores)[source, target]
    membership = _both(source, target, len(scores))
    return jackknife(partial_pearson(target), z, gains[source, target], membership)[0]


def _of_pairs(scores: np.ndarray, gains: np.ndarray) -> Estimate:
    pair = np.triu_indices(len(scores), 1)
    close, gain = affinity(scores)[pair], pair_interaction(gains)[pair]
    return jackknife(pearson, close, gain, _both(*pair, len(scores)))[0]


def _both(i: np.ndarray, j: np.ndarray, count: int) -> np.ndarray:
    """Membership of pairs in the two tasks they are of."""
    tasks = np.arange(count)
    return (i[:, None] == tasks) | (j[:, None] == tasks)


def of_partition(partition: Partition, reached: Reached) -> np.ndarray:
    """``[t]`` mean accuracy over seeds of every task in its group."""
    accuracy = np.empty(sum(map(len, partition)))
    for group in partition:
        accuracy[list(group)] = reached[group].mean(0)
    return accuracy


def comparison_rows(
    chosen: Mapping[str, Partition],
    random: Mapping[tuple[int, ...], Sequence[Partition]],
    alone: np.ndarray,
    reached: Reached,
) -> list[dict[str, Any]]:
    """Rows of ``comparison.csv``: every grouping, in accuracy over tasks.

    ``gain``: lead over training alone. ``ahead``: lead over random partitions into groups of the
    same sizes, their mean task by task. ``beaten`` of ``partitions``: how many of these have a
    lower mean accuracy. ``behind``: the lead of the first grouping over this one.
    """
    lone = alone.mean(0)
    first = of_partition(next(iter(chosen.values())), reached)
    rows = []
    for name, partition in chosen.items():
        accuracy = of_partition(partition, reached)
        others = np.stack([of_partition(p, reached) for p in random[group_sizes(partition)]])
        rows.append(
            _row(name, group_sizes(partition), accuracy, lone, first)
            | estimate_columns("ahead", mean(accuracy - others.mean(0), None))
            | {"beaten": int((others.mean(1) < accuracy.mean() - 1e-12).sum())}
            | {"partitions": len(others)}
        )
    sizes = group_sizes(next(iter(chosen.values())))
    others = np.mean([of_partition(p, reached) for p in random[sizes]], axis=0)
    rows.append(_row(RANDOM, sizes, others, lone, first))
    everyone = tuple(range(len(lone)))
    rows.append(_row(TOGETHER, (len(lone),), of_partition((everyone,), reached), lone, first))
    rows.append(_row(ALONE, (1,) * len(lone), lone, lone, first))
    return rows


def _row(
    name: str, sizes: tuple[int, ...], accuracy: np.ndarray, alone: np.ndarray, first: np.ndarray
) -> dict[str, Any]:
    return (
        {"grouping": name, "sizes": " ".join(map(str, sizes)), "accuracy": accuracy.mean()}
        | estimate_columns("gain", mean(accuracy - alone, None))
        | estimate_columns("behind", mean(first - accuracy, None))
    )
