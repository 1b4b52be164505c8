"""Choosing one of several source models by a score, by short real fine-tunings, or by both.

Every way of choosing is a case of successive halving. A score names the sources that are tried. All
of these are fine-tuned briefly, the better half of them for longer, and so on. The best of those
that were fine-tuned in full is chosen. If the score names one source, it is fine-tuned in full at
once. With all sources and a single budget, everything is fine-tuned. A constant score chooses
blindly. The function takes a table of fine-tunings and looks up the cost and the result of any way
of choosing.
"""

from typing import NamedTuple

import numpy as np

from leepjax.choosing.regret import best_of_top_k

ROUNDS = 16  # random orders, each in all its rotations and their reverses, that break ties


class Choice(NamedTuple):
    """The result of a way of choosing on each of t targets, on average over ways to break ties.

    Attributes:
      probability: ``[t, m]`` that each source is chosen; rows sum to 1.
      cost: ``[t]`` of its fine-tunings, in the unit of the given costs.
    """

    probability: np.ndarray
    cost: np.ndarray


def successive_halving(
    score: np.ndarray, validation: np.ndarray, cost: np.ndarray, *, top: int
) -> Choice:
    """Fine-tune the ``top`` sources of highest score, drop half of them at each budget, keep one.

    At each budget the remaining sources are fine-tuned again, from the source. The better half by
    validation accuracy (the larger half of an odd number) goes on to the next budget. The best at
    the last budget is chosen. A single remaining source goes to the last budget at once. If
    validation accuracies tie, the score decides. If scores tie too, chance decides, and the result
    is the mean over it: the exact mean if one source is named, else the mean over a fixed set of
    orders, in which a constant score names each source equally often.

    Args:
      score: ``[t, m]`` of m sources on t targets, larger is better; NaN comes after all others.
      validation: ``[t, m, r]`` accuracy on held-out images after each of r budgets, ascending; NaN
        where training diverged, which comes after all others.
      cost: ``[m, r]`` of one fine-tuning.
      top: how many sources the score names; 1: only the chosen source is fine-tuned.

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
    if top == 1:  # one source has nothing to compare with: any accuracy will do
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
