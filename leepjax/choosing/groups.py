"""Groups of tasks to train together, from scores of each task's network on the other tasks.

Scores between t tasks are a table ``[t, t]`` with the score of the network of task i on the images
of task j at ``[i, j]``. The diagonal is never read. The scores become an affinity
(:func:`affinity`), the affinity a tree (average linkage), and the tree groups.
"""

from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

Group = tuple[int, ...]
Partition = tuple[Group, ...]  # groups in order of their first tasks, which ascend


def group_tasks(scores: np.ndarray, num_groups: int) -> Partition:
    """Groups of tasks that help each other according to the scores.

    Args:
      scores: ``[t, t]`` of the network of task i on task j, larger is better; at least four tasks.
      num_groups: how many groups at most; fewer only if several would split at once.

    Raises:
      ValueError: scores of another shape, or not finite off the diagonal, or another number.

    >>> scores = np.array([[0, 9, 1, 2], [8, 0, 2, 1], [1, 2, 0, 7], [2, 1, 9, 0.0]])
    >>> group_tasks(scores, 2)
    ((0, 1), (2, 3))

    Compare such groups with :func:`random_partitions` of the same sizes. The question is that of
    Standley, Zamir, Chen, Guibas, Malik, Savarese, Which tasks should be learned together in
    multi-task learning?, ICML 2020, who search all groups instead.
    """
    if not 1 <= num_groups <= len(scores):
        raise ValueError(
            f"num_groups: wanted 1 to {len(scores)}, the number of tasks, got {num_groups}"
        )
    return cut_tree(average_linkage(affinity(scores)), num_groups)


def affinity(scores: np.ndarray) -> np.ndarray:
    """Affinity ``[t, t]`` of tasks: the interaction of scores that are standardised by target.

    See :func:`standardise_columns` and :func:`pair_interaction`, for errors too.
    """
    return pair_interaction(standardise_columns(scores))


def standardise_columns(scores: np.ndarray) -> np.ndarray:
    """Scores ``[t, t]`` standardised in each column over the other tasks; 0 on the diagonal.

    An easy task has high scores from all others. Without standardising it would be close to every
    task:

        z_ij = (s_ij - mean_{k != j} s_kj) / std_{k != j} s_kj,   0 where the column is constant

    Raises:
      ValueError: scores are no square table of three tasks or more, or not finite off the diagonal.

    >>> print(standardise_columns(np.array([[0, 1, 4], [3, 0, 2], [1, 0, 0.0]])))
    [[ 0.  1.  1.]
     [ 1.  0. -1.]
     [-1. -1.  0.]]
    """
    scores, others = _checked("scores", scores, 3)
    mean = scores.mean(0, where=others)
    spread = scores.std(0, where=others)
    varies = spread > 1e-6 * np.abs(scores).max(0, where=others, initial=0)
    z = (scores - mean) / np.where(varies, spread, 1)
    return np.where(others & varies, z, 0)


def pair_interaction(table: np.ndarray) -> np.ndarray:
    """What two tasks have in common beyond what each has with all; symmetric, diagonal 0.

    This is the interaction of an additive model of pairs, a_ij = (z_ij + z_ji) / 2 = m + u_i + u_j
    + rest, with sum u = 0. The least-squares u follow from the means r_i over the t - 1 others. The
    rest is returned:

        u_i = (r_i - m) (t - 1) / (t - 2)

    Without this, a task that has high scores with every other, such as an easy or a rich one, would
    join all of them in one group. Its own effect u does not show with which it goes best.

    Raises:
      ValueError: no square table of four tasks or more (of three nothing remains), or not finite
        off the diagonal.

    Source: Griffing, Concept of general and specific combining ability in relation to diallel
    crossing systems, Australian Journal of Biological Sciences 1956 (u general, the rest specific).

    >>> table = np.array([[0, 3, 1, 1], [3, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0.0]])
    >>> print(pair_interaction(table).round(2))
    [[ 0.    0.67 -0.33 -0.33]
     [ 0.67  0.   -0.33 -0.33]
     [-0.33 -0.33  0.    0.67]
     [-0.33 -0.33  0.67  0.  ]]
    """
    table, others = _checked("table", table, 4)
    count = len(table)
    both = (table + table.T) / 2
    mean = both.mean(where=others)
    own = (both.mean(1, where=others) - mean) * (count - 1) / (count - 2)
    return np.where(others, both - mean - own[:, None] - own, 0)


def average_linkage(affinities: np.ndarray) -> np.ndarray:
    """SciPy's linkage of affinities ``[t, t]``: average, of distances max a - a, leaves ordered.

    Average linkage is the same for any rising linear map of affinities: max a only makes them
    distances.
    """
    pairs = affinities[np.triu_indices(len(affinities), 1)]
    return linkage(pairs.max() - pairs, "average", optimal_ordering=True)


def cut_tree(linked: np.ndarray, num_groups: int) -> Partition:
    """Groups of a linkage, at most ``num_groups``: fewer only if several would split at once."""
    return _partition(fcluster(linked, num_groups, "maxclust"))


def random_partitions(sizes: Sequence[int], number: int, seed: int) -> list[Partition]:
    """Random partitions into groups of these sizes, all different: the null of a grouping.

    Args:
      sizes: tasks of each group.
      number: how many partitions; fewer are returned if there are fewer.
      seed: of the draw.

    >>> len(random_partitions((2, 2), 5, seed=0))  # four tasks have no more
    3
    """
    rng = np.random.default_rng([seed, *sizes])
    names = np.repeat(np.arange(len(sizes)), sizes)
    drawn: dict[Partition, None] = {}
    for _ in range(100 * number):
        if len(drawn) == number:
            break
        drawn[_partition(rng.permutation(names))] = None
    return list(drawn)


def group_sizes(partition: Partition) -> tuple[int, ...]:
    """Numbers of tasks in the groups, descending."""
    return tuple(sorted(map(len, partition), reverse=True))


def _partition(names: np.ndarray) -> Partition:
    groups = (tuple(np.flatnonzero(names == n).tolist()) for n in np.unique(names))
    return tuple(sorted(groups))


def _checked(name: str, table: np.ndarray, fewest: int) -> tuple[np.ndarray, np.ndarray]:
    """The table as floats, and where it is off the diagonal."""
    table = np.asarray(table, float)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or len(table) < fewest:
        raise ValueError(
            f"{name}: wanted [t, t] of at least {fewest} tasks, got {list(table.shape)}"
        )
    others = ~np.eye(len(table), dtype=bool)
    if not np.isfinite(table[others]).all():
        raise ValueError(f"{name}: wanted finite numbers off the diagonal; leave such tasks out")
    return table, others
