"""Choosing one of several source models by a score, by short real fine-tunes, or by both.

Every way of choosing is successive halving: a score names the sources that are tried, all of these
are fine-tuned briefly, the better half of them for longer, and so on; the best of those that were
fine-tuned in full is chosen. One source named by the score is fine-tuned in full at once; all of
them and a single budget are fine-tuning everything; a score that says nothing is choosing blindly.
It is a function of a table of fine-tunes, so that what any way of choosing costs, and what it ends
with, is looked up.
"""

from typing import NamedTuple

import numpy as np

from leepjax.choosing.regret import best_of_top_k

ROUNDS = 16  # random orders, each in all its rotations and their reverses, that break ties


class Choice(NamedTuple):
    """What a way of choosing ends with on each of t targets, on average over how ties break.

    Attributes:
      probability: ``[t, m]`` that each source is chosen; rows sum to 1.
      cost: ``[t]`` what its fine-tunes cost, in the unit of the costs given.
    """

    probability: np.ndarray
    cost: np.ndarray


def successive_halving(
    score: np.ndarray, validation: np.ndarray, cost: np.ndarray, *, top: int
) -> Choice:
    """Fine-tune the ``top`` sources of highest score, drop half of them at each budget, keep one.

    At each budget those left are fine-tuned anew, from the source; the better half by validation
    accuracy, of an odd number the larger, goes on to the next, and of those at the last budget the
    best is chosen. A single one that is left goes to the last budget at once. Where validation
    accuracies tie, the score decides; where scores tie too, chance, over which this is the mean:
    exactly where one source is named, else over a fixed set of orders, in which a constant score
    names each source equally often.

    Args:
      score: ``[t, m]`` of m sources on t targets, larger is better; NaN comes after all others.
      validation: ``[t, m, r]`` accuracy on held-out images after each of r budgets, ascending; NaN
        where training diverged, which comes after all others.
      cost: ``[m, r]`` of one fine-tune.
      top: how many sources the score names; 1: no fine-tune but the chosen one's.

    Raises:
      ValueError: shapes do not go together, or ``top`` is not 1 to m; it names the argument.

    Example:
      >>> score = np.array([[0.9, 0.8, 0.1]])
      >>> validation = np.array([[[0.5, 0.6], [0.7, 0.8], [0.9, 0.9]]])
      >>> cost = np.array([[1.0, 10.0]] * 3)
      >>> for top in (1, 2):
      ...     choice = successive_halving(score, validation, cost, top=top)
      ...     print(choice.probability, choice.cost)
      [[1. 0. 0.]] [10.]
      [[0. 1. 0.]] [12.]

    Source: Jamieson, Talwalkar, Non-stochastic best arm identification and hyperparameter
    optimization, AISTATS 2016; after a score, to choose models for a task: Renggli, Pinto, Rimanic,
    Puigcerver, Riquelme, Zhang, Lucic, Which model to transfer?, CVPR 2022.
    """
    score, validation, cost = (np.asarray(x, float) for x in (score, validation, cost))
    if score.ndim != 2 or 0 in score.shape:
        raise ValueError(f"score: wanted shape [t, m], got {list(score.shape)}")
    t, m = score.shape
    if validation.ndim != 3 or validation.shape[:2] != (t, m) or not validation.shape[2]:
        raise ValueError(f"validation: wanted [{t}, {m}, r], got {list(validation.shape)}")
    if cost.shape != validation.shape[1:]:
        raise ValueError(f"cost: wanted {list(validation.shape[1:])}, got {list(cost.shape)}")
    if not 1 <= top <= m:
        raise ValueError(f"top: wanted 1 to {m}, the number of sources, got {top}")
    if top == 1:  # of one there is nothing to compare: any accuracy will do
        probability = best_of_top_k(score, np.zeros_like(score))
        return Choice(probability, probability @ cost[:, -1])
    ties = _orders(m)[:, None, :]
    score, validation = (np.where(np.isnan(x), -np.inf, x) for x in (score, validation))
    left, count = _best(top, ties, score), top
    spent = np.zeros((len(ties), t))
    budgets = validation.shape[2]
    for budget in range(budgets):
        last = budget == budgets - 1
        if count == 1 and not last:
            continue
        spent += left @ cost[:, budget]
        count = 1 if last else -(-count // 2)
        left = _best(count, ties, score, validation[..., budget], left)
    return Choice(left.mean(0), spent.mean(0))


def _best(count: int, *keys: np.ndarray) -> np.ndarray:
    """``[o, t, m]`` bool: the ``count`` sources that are largest in the last key, then others."""
    keys = np.broadcast_arrays(*(-np.asarray(key, float) for key in keys))
    chosen = np.lexsort(keys, axis=-1)[..., :count]
    best = np.zeros(keys[0].shape, bool)
    np.put_along_axis(best, chosen, True, -1)
    return best


def _orders(m: int) -> np.ndarray:
    """``[o, m]`` ranks of m sources: each has each rank, and is ahead of each, equally often."""
    rng = np.random.default_rng(0)
    orders = [rng.permutation(m) for _ in range(ROUNDS)]
    turned = np.array([np.roll(order, shift) for order in orders for shift in range(m)])
    return np.concatenate([turned, m - 1 - turned])
