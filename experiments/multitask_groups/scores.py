"""Scores of one task's network on another task's images, and nulls that use no network."""

from collections.abc import Sequence

import numpy as np
from scipy.spatial.distance import pdist, squareform

from leepjax.data import Bank
from leepjax.metrics import score
from leepjax.models import Source
from leepjax.transfer import compute_outputs

SCORES = ("leep_gain", "nce", "h_score", "knn")  # of a network's outputs
NULLS = ("knn", "pixels", "same_data")  # a null that needs no theory, and nulls that use no model


def pairwise_scores(networks: Sequence[Source], bank: Bank) -> dict[str, np.ndarray]:
    """Scores ``{name: [t, t]}`` of the network of task i on the images of task j, at ``[i, j]``.

    NCE is taken relative to -H(Y), as LEEP gain is, which changes nothing within a column.
    """
    of_class, count = bank.class_groups, len(networks)
    found = {name: np.full((count, count), np.nan) for name in SCORES}
    for i, network in enumerate(networks):
        features, logits = compute_outputs(network, bank.images)
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
    """Nulls that use no network, ``{name: [t, t]}``: how close the mean images are, and whether two
    tasks come from the same data set, if there are several."""
    tasks = range(len(bank.group_names))
    means = np.stack([bank.images[bank.groups == t].mean(0).ravel() / 255 for t in tasks])
    found = {"pixels": -squareform(pdist(means))}
    if len(set(families)) > 1:
        names = np.array(families)
        found["same_data"] = (names[:, None] == names).astype(float)
    return found
