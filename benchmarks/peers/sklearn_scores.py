"""Scores as far as scikit-learn's own estimators give them."""

import numpy as np
import scipy.linalg
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

NAME = "scikit-learn"


def prepare(array: np.ndarray) -> np.ndarray:
    """Arrays are taken as they are."""
    return array


def h_score(features: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """From LinearDiscriminantAnalysis: its directions have unit variance within the classes.

    So the variance of the class means along them is an eigenvalue v of within^-1 between, and
    H = sum of v / (1 + v).
    """
    lda = LinearDiscriminantAnalysis(solver="eigen").fit(features, labels)
    gaps = (lda.means_ - lda.priors_ @ lda.means_) @ lda.scalings_
    values = lda.priors_ @ gaps**2
    return float(np.sum(values / (1 + values)))


def regularized_h_score(features: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """From LedoitWolf; the between-class part by a loop over classes, as one writes it at first."""
    estimate = LedoitWolf().fit(features)
    means = np.stack([features[labels == k].mean(0) for k in range(num_classes)])
    counts = np.bincount(labels, minlength=num_classes)[:, None]
    gaps = np.sqrt(counts / (len(labels) - 1)) * (means - estimate.location_)
    solved = scipy.linalg.solve(estimate.covariance_, gaps.T, assume_a="pos")
    return float((1 - estimate.shrinkage_) * np.sum(gaps.T * solved))


PEERS = {"h_score": h_score, "regularized_h_score": regularized_h_score}
