"""From scores of one task's network on another task's images to groups of tasks."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform

from experiments.multitask_groups.joint import outputs
from leepjax.data import Bank
from leepjax.metrics import score
from leepjax.models import Source

SCORES = ("leep_gain", "nce", "h_score", "knn")  # of a network's outputs
NULLS = ("knn", "pixels", "same_data")  # what needs no theory, and what looks at no model
Group = tuple[int, ...]
Partition = tuple[Group, ...]  # groups in order of their first tasks, which ascend


def pairwise_scores(networks: Sequence[Source], bank: Bank) -> dict[str, np.ndarray]:
    """Scores ``{name: [t, t]}`` of the network of task i on the images of task j, at ``[i, j]``.

    NCE is taken relative to -H(Y), as LEEP gain is, which changes nothing within a column.
    """
    of_class, count = bank.class_groups, len(networks)
    found = {name: np.full((count, count), np.nan) for name in SCORES}
    for i, network in enumerate(networks):
        features, logits = outputs(network, bank.images)
        for j in range(count):
            rows = bank.groups == j
            labels = bank.labels[rows] - np.flatnonzero(of_class == j)[0]  # a task's are in a row
            values = score(
                labels,
                num_classes=int((of_class == j).sum()),
                features=features[rows],
                logits=logits[rows][:, of_class == i],
                metrics=SCORES,
            )
            for name, value in values.items():
                found[name][i, j] = value
    return found


def null_scores(bank: Bank, families: Sequence[str]) -> dict[str, np.ndarray]:
    """What looks at no network, ``{name: [t, t]}``: how near the mean images are to each other, and
    whether two tasks come from the same data set, where there are several."""
    tasks = range(len(bank.group_names))
    means = np.stack([bank.images[bank.groups == t].mean(0).ravel() / 255 for t in tasks])
    found = {"pixels": -squareform(pdist(means))}
    if len(set(families)) > 1:
        names = np.array(families)
        found["same_data"] = (names[:, None] == names).astype(float)
    return found


def within_targets(scores: np.ndarray) -> np.ndarray:
    """Scores ``[t, t]`` standardised in every column over the other tasks; 0 on the diagonal.

    What makes a task easy raises all scores on it alike, and would make it the friend of all:

        z_ij = (s_ij - mean_{k != j} s_kj) / std_{k != j} s_kj,   0 where the column is constant
    """
    others = ~np.eye(len(scores), dtype=bool)
    mean = scores.mean(0, where=others)
    spread = scores.std(0, where=others)
    varies = spread > 1e-6 * np.abs(scores).max(0)
    z = (scores - mean) / np.where(varies, spread, 1)
    return np.where(others & varies, z, 0)


def affinity(scores: np.ndarray) -> np.ndarray:
    """Affinity ``[t, t]`` of :func:`within_targets`: see :func:`companionship`."""
    return companionship(within_targets(scores))


def companionship(directed: np.ndarray) -> np.ndarray:
    """How well two tasks go together, beyond how well each goes with all; symmetric, diagonal 0.

    With a_ij = (z_ij + z_ji) / 2 = m + u_i + u_j + rest, sum u = 0, the least-squares u are those
    of the row means r_i over the t - 1 others, and the rest is what is returned:

        u_i = (r_i - m) (t - 1) / (t - 2)

    What makes a task a good companion of all, such as being an easy or a rich one, would put it
    into one group with all; it does not say with whom it should be.

    >>> print(companionship(np.array([[0, 3, 1, 1], [3, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0.0]])))
    [[ 0.          0.66666667 -0.33333333 -0.33333333]
     [ 0.66666667  0.         -0.33333333 -0.33333333]
     [-0.33333333 -0.33333333  0.          0.66666667]
     [-0.33333333 -0.33333333  0.66666667  0.        ]]
    """
    count = len(directed)
    if count < 4:
        raise ValueError(f"directed: wanted at least 4 tasks, got {count}; of 3 nothing remains")
    both = (directed + directed.T) / 2
    others = ~np.eye(count, dtype=bool)
    mean = both.mean(where=others)
    own = (both.mean(1, where=others) - mean) * (count - 1) / (count - 2)
    return np.where(others, both - mean - own[:, None] - own, 0)


def tree(close: np.ndarray) -> np.ndarray:
    """SciPy's linkage of an affinity ``[t, t]``: average, of distances max a - a, leaves ordered.

    Average linkage is the same for any rising linear map of affinities: max a only makes them
    distances.
    """
    off = close[np.triu_indices(len(close), 1)]
    return linkage(off.max() - off, "average", optimal_ordering=True)


def cut(linked: np.ndarray, num_groups: int) -> Partition:
    """Groups of a tree, at most ``num_groups``: fewer only where several would part at once."""
    return _partition(fcluster(linked, num_groups, "maxclust"))


def random_partitions(sizes: Sequence[int], number: int, seed: int) -> list[Partition]:
    """Partitions into groups of these sizes, at random, all different (as many as there are)."""
    rng = np.random.default_rng([seed, *sizes])
    names = np.repeat(np.arange(len(sizes)), sizes)
    found: dict[Partition, None] = {}
    for _ in range(100 * number):
        if len(found) == number:
            break
        found[_partition(rng.permutation(names))] = None
    return list(found)


def sizes_of(partition: Partition) -> tuple[int, ...]:
    """Numbers of tasks in the groups, descending."""
    return tuple(sorted(map(len, partition), reverse=True))


def _partition(names: np.ndarray) -> Partition:
    groups = (tuple(np.flatnonzero(names == n).tolist()) for n in np.unique(names))
    return tuple(sorted(groups))


def groupings(scores: Mapping[str, np.ndarray], num_groups: int) -> dict[str, Partition]:
    """The groups that each score makes."""
    return {name: cut(tree(affinity(values)), num_groups) for name, values in scores.items()}
