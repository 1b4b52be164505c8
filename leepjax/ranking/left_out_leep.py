"""LEEP of groups that its table of classes has not seen; float64 NumPy.

As ``leepjax.metrics.cross_fitted_leep``, which leaves single samples out.
"""

import numpy as np


def left_out_leep(
    probs: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> tuple[float, np.ndarray]:
    """Mean log-likelihood of samples, each by the table of the other groups, and deviations.

    Args:
      probs: ``[n, s]`` of the source classes.
      labels: ``[n]`` in 0..c-1, each of which is there.
      groups: ``[n]`` ascending from 0.

    Returns:
      The score, and ``[g]`` what taking each group away does to it, to the first order: their
      squares sum to its variance over other groups.
    """
    probs = np.asarray(probs, float)
    classes = np.arange(labels.max() + 1)
    parts = np.split(np.arange(len(labels)), np.flatnonzero(np.diff(groups)) + 1)
    tables = [(labels[p][None] == classes[:, None]) @ probs[p] for p in parts]
    joint, added = np.sum(tables, 0), 1 / len(classes)
    said, own = np.empty(len(parts)), np.empty(len(parts))
    pull = np.zeros(joint.shape)  # of all terms, by what the others' table holds
    for g, (p, table) in enumerate(zip(parts, tables, strict=True)):
        others = np.maximum(joint - table, 0) + added
        mass = others.sum(0)
        given = others / mass
        likely = np.sum(given[labels[p]] * probs[p], 1)
        said[g] = np.log(likely).sum()
        weight = probs[p] / likely[:, None]
        hit = (labels[p][None] == classes[:, None]) @ weight
        slope = (hit - np.sum(hit * given, 0)) / mass
        pull += slope
        own[g] = -np.sum(slope * table)
    value, sizes = said.sum() / len(labels), np.array([*map(len, parts)])
    through = np.array([np.sum(pull * table) for table in tables]) + own
    deviations = (said - value * sizes + through) / len(labels)
    return float(value), deviations - deviations.mean()
