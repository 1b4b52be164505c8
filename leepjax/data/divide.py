"""Which samples are held out for testing, where a set has no test split of its own."""

import numpy as np

TEST_SHARE = 0.3  # of each class


def last_of_each_class(labels: np.ndarray) -> np.ndarray:
    """``[n]`` bool: of each class in its order the last 30 %, rounded; ``labels [n]``."""
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.empty(len(order), int)  # of each sample among those of its class
    rank[order] = np.arange(len(order)) - np.repeat(starts, counts)
    size = np.empty(len(order), int)
    size[order] = np.repeat(counts, counts)
    return rank >= size - np.round(TEST_SHARE * size)


def some_of_each_class(labels: np.ndarray) -> np.ndarray:
    """``[n]`` bool: of each class 30 %, rounded, drawn at random with a fixed seed."""
    order = np.random.default_rng(0).permutation(len(labels))
    mask = np.empty(len(labels), bool)
    mask[order] = last_of_each_class(labels[order])
    return mask
