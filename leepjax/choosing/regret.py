"""What choosing models by a score costs: the measures of model selection, many targets at once.

All take ``score [..., m]`` and ``accuracy [..., m]`` of m models, and return ``[...]``: leading
axes are targets, seeds or replicates. Ties in the score go against it: among models that tie,
those of lower accuracy are taken to be chosen first, so that a constant score gains nothing.
"""

import numpy as np


def rel_at_k(score: np.ndarray, accuracy: np.ndarray, k: int = 1) -> np.ndarray:
    """Rel@k: best accuracy among the k models of highest score, relative to the best of all.

    Up to 1, larger is better. It is close to 1 for any score where all models are good: read it
    beside what a null has. Source: Li, Jia, Sang, Zhu, Green, Wang, Gong, Ranking neural
    checkpoints, CVPR 2021.

    Raises:
      ValueError: shapes differ, values are not finite, or k is not 1 to m. So do all here.

    >>> print(rel_at_k(np.array([3.0, 2.0, 1.0]), np.array([0.5, 1.0, 0.7])))
    0.5
    """
    chosen = _chosen(score, accuracy, k)
    return chosen.max(-1) / np.max(accuracy, -1)


def recall_at_k(score: np.ndarray, accuracy: np.ndarray, k: int = 1) -> np.ndarray:
    """Recall@k: 1 where a best model is among the k of highest score, else 0; same source."""
    return (_chosen(score, accuracy, k).max(-1) == np.max(accuracy, -1)).astype(float)


def regret_at_k(score: np.ndarray, accuracy: np.ndarray, k: int = 1) -> np.ndarray:
    """Regret@k: accuracy lost by trying only the k models of highest score; in accuracy's unit.

    At least 0, smaller is better. Source: Renggli, Pinto, Rimanic, Puigcerver, Riquelme, Zhang,
    Lucic, Which model to transfer?, CVPR 2022, who divide it by the best accuracy: 1 - Rel@k.
    """
    return np.max(accuracy, -1) - _chosen(score, accuracy, k).max(-1)


def pairwise_accuracy(score: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Share of the pairs of models of unequal accuracy that the score orders rightly, in [0, 1].

    A tie in the score counts half; 0.5 is chance, NaN where all accuracies are equal.
    """
    score, accuracy = _checked(score, accuracy, 1)
    s, a = (np.sign(v[..., :, None] - v[..., None, :]) for v in (score, accuracy))
    pairs = np.abs(a).sum((-1, -2))
    agree = (s * a).sum((-1, -2)) / np.where(pairs > 0, pairs, np.nan)
    return (1 + agree) / 2


def _chosen(score, accuracy, k):
    """Accuracies ``[..., k]`` of the k models of highest score."""
    score, accuracy = _checked(score, accuracy, k)
    order = np.lexsort((accuracy, -score), axis=-1)
    return np.take_along_axis(accuracy, order[..., :k], -1)


def _checked(score, accuracy, k):
    score, accuracy = np.asarray(score, float), np.asarray(accuracy, float)
    if score.shape != accuracy.shape or not score.shape:
        raise ValueError(f"accuracy: wanted shape {score.shape} like score, got {accuracy.shape}")
    if not (np.isfinite(score).all() and np.isfinite(accuracy).all()):
        raise ValueError("score, accuracy: wanted finite numbers; leave failed models out first")
    if not 1 <= k <= score.shape[-1]:
        raise ValueError(f"k: wanted 1 to {score.shape[-1]}, the number of models, got {k}")
    return score, accuracy
