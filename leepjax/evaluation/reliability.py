"""What a table of accuracies itself allows: nulls over models, the noise ceiling, stability."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy.stats import f as fisher
from scipy.stats import rankdata

from leepjax.evaluation.correlation import kendall
from leepjax.evaluation.interval import Estimate


def static_ranking(accuracy: np.ndarray) -> np.ndarray:
    """The null of a pool of models: how a model does elsewhere, whatever the target.

    Args:
      accuracy: ``[targets, models]``, NaN where a transfer is missing.

    Returns:
      ``[targets, models]`` mean rank of the model on the *other* targets, among the models that
      each of them has, as a share of their number: larger is better. It never looks at the target
      itself. NaN for a model without any other target.

    >>> static_ranking(np.array([[0.5, 0.9, 0.7], [0.2, 0.4, 0.3]]))
    array([[0.33333333, 1.        , 0.66666667],
           [0.33333333, 1.        , 0.66666667]])
    """
    accuracy = np.asarray(accuracy, float)
    there = np.isfinite(accuracy)
    share = rankdata(accuracy, axis=1, nan_policy="omit") / np.maximum(
        there.sum(1, keepdims=True), 1
    )
    share = np.where(there, share, 0)
    others = there.sum(0) - there
    return np.where(others > 0, (share.sum(0) - share) / np.maximum(others, 1), np.nan)


def noise_ceiling(accuracy: np.ndarray) -> Estimate:
    """The correlation that a perfect score would have with accuracies that seeds make noisy.

    Args:
      accuracy: ``[seeds, n]`` of the same n tasks or models; the table correlates their mean.

    Returns:
      square root of the reliability 1 - MSW/MSB of a mean over seeds (one-way analysis of variance;
      Spearman, 1904, for the root), in [0, 1], with its 95 % interval from the F distribution
      (Shrout and Fleiss, Psychological Bulletin 1979). Only more seeds can distinguish a score
      at its ceiling from a better one. NaN where nothing varies.

    Raises:
      ValueError: fewer than two seeds or three rows, or values that are not finite.
    """
    accuracy = np.asarray(accuracy, float)
    if accuracy.ndim != 2 or accuracy.shape[0] < 2 or accuracy.shape[1] < 3:
        raise ValueError(
            f"accuracy: wanted [seeds, n] of at least 2 seeds and 3 rows, got {accuracy.shape}"
        )
    if not np.isfinite(accuracy).all():
        raise ValueError("accuracy: wanted finite numbers; leave rows with failed seeds out first")
    k, n = accuracy.shape
    between = k * accuracy.mean(0).var(ddof=1)
    within = accuracy.var(0, ddof=1).mean()
    if between == 0:
        return Estimate(np.nan, np.nan, np.nan)
    if within == 0:
        return Estimate(1.0, 1.0, 1.0)
    ratio, freedom = between / within, (n - 1, n * (k - 1))
    bounds = ratio / fisher.ppf([0.975, 0.025], *freedom)
    ceilings = np.sqrt(np.maximum(1 - 1 / np.array([ratio, *bounds]), 0))
    return Estimate(*map(float, ceilings))


def stability(
    components: Sequence[Mapping[str, str]], values: np.ndarray
) -> dict[str, tuple[float, int]]:
    """Do studies agree on which score is best? By component, over pairs that differ in it alone.

    Args:
      components: of each of n studies, the same names: target, source, learner, measure...
      values: ``[n, s]`` correlation of each of s scores in each study.

    Returns:
      By component, the mean of Kendall's tau-b between the rankings of scores by two studies that
      differ in this component only, and the number of such pairs for which it is defined; NaN, 0
      if there is none. In [-1, 1], 1 if all agree. After Agostinelli, Pándy, Uijlings,
      Mensink, Ferrari, How stable are transferability metrics evaluations?, ECCV 2022.

    Raises:
      ValueError: studies have other components than the first, or other lengths.

    >>> studies = [{"target": t, "learner": "head"} for t in "abc"]
    >>> stability(studies, np.array([[0.9, 0.5, 0.1], [0.8, 0.6, 0.2], [0.1, 0.5, 0.9]]))
    {'target': (-0.3333333333333333, 3), 'learner': (nan, 0)}
    """
    values = np.asarray(values, float)
    if len(values) != len(components):
        raise ValueError(f"values: wanted {len(components)} rows, got {len(values)}")
    names = list(components[0]) if components else []
    for i, study in enumerate(components):
        if set(study) != set(names):
            raise ValueError(f"components: wanted {', '.join(names)} of study {i}, got {study}")
    found: dict[str, list[float]] = {name: [] for name in names}
    for i, j in combinations(range(len(components)), 2):
        differing = [name for name in names if components[i][name] != components[j][name]]
        defined = np.isfinite(values[[i, j]]).all(0)
        if len(differing) == 1:
            every = np.ones((1, int(defined.sum())))
            tau = kendall(values[i][defined], values[j][defined], every)[0]
            if np.isfinite(tau):
                found[differing[0]].append(float(tau))
    return {
        name: (float(np.mean(taus)) if taus else np.nan, len(taus)) for name, taus in found.items()
    }
