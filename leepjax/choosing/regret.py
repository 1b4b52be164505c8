"""The cost of choosing models by a score: measures of model selection, many targets at once.

All take ``score [..., m]`` and ``accuracy [..., m]`` of m models, and return ``[...]``: leading
axes are targets, seeds or replicates. All treat ties alike: tied models are drawn at random, and
the expectation is returned. So a constant score has the regret of chance. A score of NaN is
undefined, and comes after all others.
"""

import numpy as np


def rel_at_k(score: np.ndarray, accuracy: np.ndarray, k: int = 1) -> np.ndarray:
    """Rel@k: best accuracy among the k models of highest score, relative to the best of all.

    Up to 1, larger is better. If all models are good it is close to 1 for any score, so compare it
    with the value of a null. Source: Li, Jia, Sang, Zhu, Green, Wang, Gong, Ranking neural
    checkpoints, CVPR 2021.

    Raises:
      ValueError: shapes differ, accuracies are not finite, or k is not 1 to m. The other functions
        here raise it too.

    >>> print(rel_at_k(np.array([3.0, 2.0, 1.0]), np.array([0.5, 1.0, 0.7])))
    0.5
    """
    expected = (best_of_top_k(score, accuracy, k) * accuracy).sum(-1)
    return expected / np.max(accuracy, -1)


def recall_at_k(score: np.ndarray, accuracy: np.ndarray, k: int = 1) -> np.ndarray:
    """Recall@k: probability that a best model is among the k of highest score; same source.

    >>> score, accuracy = np.array([1.0, 1.0, 1.0, 0.0]), np.array([0.9, 0.5, 0.7, 0.8])
    >>> print(recall_at_k(score, accuracy, k=2).round(3))  # 2 of the 3 that tie
    0.667
    """
    return expected_recall(best_of_top_k(score, accuracy, k), accuracy)


def regret_at_k(score: np.ndarray, accuracy: np.ndarray, k: int = 1) -> np.ndarray:
    """Regret@k: accuracy lost by trying only the k models of highest score; in accuracy's unit.

    At least 0, smaller is better. Source: Renggli, Pinto, Rimanic, Puigcerver, Riquelme, Zhang,
    Lucic, Which model to transfer?, CVPR 2022, who divide it by the best accuracy: 1 - Rel@k.

    >>> print(regret_at_k(np.array([1.0, 1.0, 0.0]), np.array([0.9, 0.5, 0.8])))  # of 0 and 0.4
    0.2
    """
    return expected_regret(best_of_top_k(score, accuracy, k), accuracy)


def expected_regret(probability: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Expected accuracy lost by a choice that takes each model with a probability; at least 0.

    Args:
      probability: ``[..., m]`` that each model is chosen, such as that of
        :class:`leepjax.choosing.Choice`; sums to 1.
      accuracy: ``[..., m]``.

    >>> print(expected_regret(np.array([0.5, 0.5, 0.0]), np.array([0.9, 0.5, 0.8])))
    0.2
    """
    return (probability * (np.max(accuracy, -1, keepdims=True) - accuracy)).sum(-1)


def expected_recall(probability: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Probability that the model chosen is one of highest accuracy; arguments as above."""
    return (probability * (accuracy == np.max(accuracy, -1, keepdims=True))).sum(-1)


def pairwise_accuracy(score: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Share of the pairs of models of unequal accuracy that the score orders correctly, in [0, 1].

    A tie in the score counts half; 0.5 is chance; NaN if all accuracies are equal.
    """
    score, accuracy = _checked(score, accuracy, 1)
    s, a = (
        (v[..., :, None] > v[..., None, :]).astype(int) - (v[..., :, None] < v[..., None, :])
        for v in (score, accuracy)
    )
    pairs = np.abs(a).sum((-1, -2))
    agree = (s * a).sum((-1, -2))
    return (1 + agree / np.where(pairs > 0, pairs, np.nan)) / 2


def best_of_top_k(score: np.ndarray, accuracy: np.ndarray, k: int = 1) -> np.ndarray:
    """``[..., m]`` probability that each model is the most accurate of the k of highest score.

    Models above the k-th score are among the k. Of the n models that tie at the k-th score, r are
    drawn at random. The probability that none of the c most accurate of them is drawn is

        prod_{i<c} (n - r - i) / (n - i)

    Going down from the most accurate model, a model is the best of the k if it is one of them and
    none before it is. Of models of equal accuracy the first counts.
    """
    score, accuracy = _checked(score, accuracy, k)
    order = np.argsort(-accuracy, axis=-1, kind="stable")
    score = np.take_along_axis(score, order, -1)
    at = -np.sort(-score, axis=-1)[..., k - 1 : k]  # the k-th highest score
    above, tied = score > at, score == at
    drawn = k - above.sum(-1, keepdims=True)
    left = tied[..., ::-1].cumsum(-1)[..., ::-1]  # that tie, from this model on
    missed = np.where(tied, np.maximum(left - drawn, 0) / np.maximum(left, 1), ~above)
    best = np.diff(1 - missed.cumprod(-1), axis=-1, prepend=0.0)
    probability = np.empty(best.shape)
    np.put_along_axis(probability, order, best, -1)
    return probability


def _checked(score, accuracy, k):
    score, accuracy = np.asarray(score, float), np.asarray(accuracy, float)
    if score.shape != accuracy.shape or not score.shape:
        raise ValueError(f"accuracy: wanted shape {score.shape} like score, got {accuracy.shape}")
    if not np.isfinite(accuracy).all():
        raise ValueError("accuracy: wanted finite numbers; leave failed models out first")
    if not 1 <= k <= score.shape[-1]:
        raise ValueError(f"k: wanted 1 to {score.shape[-1]}, the number of models, got {k}")
    return np.where(np.isnan(score), -np.inf, score), accuracy
