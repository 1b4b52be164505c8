"""Float64 NumPy oracles, one sample at a time, straight from the definitions.

Nothing is shared with the library. There is no ``where``: masked must equal *filtered*, so the
tests filter. ``weights`` count repetitions of a sample.
"""

import math

import numpy as np
from scipy import special

from .oracles_classifiers import (
    energy,
    knn,
    lda_score,
    linear_probe,
    pactran_gaussian,
    predictive_r2,
    sfda,
)
from .oracles_features import (
    gbc,
    h_score,
    lfc,
    logme,
    logme_regression,
    minimum,
    parc,
    regularized_h_score,
    transrate,
)


def _weights(weights, n):
    return np.ones(n) if weights is None else np.asarray(weights, np.float64)


def _entropy(masses):
    """Entropy in nats of the distribution proportional to `masses`."""
    total = math.fsum(masses)
    return -math.fsum(m / total * math.log(m / total) for m in masses if m > 0)


def conditional(probs, labels, *, num_classes, weights=None, smoothing=0.0):
    """P(y | z) ``[c, s]`` from soft counts; a column without mass stays 0."""
    probs = np.asarray(probs, np.float64)
    w = _weights(weights, len(probs))
    joint = np.zeros((num_classes, probs.shape[1]))
    for theta, y, w_i in zip(probs, labels, w, strict=True):
        joint[y] += w_i * theta
    joint = (joint + smoothing) / w.sum()
    for z in range(joint.shape[1]):
        mass = joint[:, z].sum()
        if mass > 0:
            joint[:, z] /= mass
    return joint


def leep(probs, labels, *, num_classes, weights=None):
    probs = np.asarray(probs, np.float64)
    w = _weights(weights, len(probs))
    given = conditional(probs, labels, num_classes=num_classes, weights=w)
    logs = [
        w_i * math.log(math.fsum(given[y] * theta))
        for theta, y, w_i in zip(probs, labels, w, strict=True)
        if w_i > 0
    ]
    return math.fsum(logs) / w.sum()


def cross_fitted_leep(probs, labels, *, num_classes, weights=None, smoothing=None):
    """Every sample left out in turn, one copy of it, and the predictor fitted again."""
    probs, labels = np.asarray(probs, np.float64), np.asarray(labels)
    w = _weights(weights, len(probs))
    present = np.unique(labels[w > 0])
    codes = np.searchsorted(present, np.where(w > 0, labels, present[0]))
    smoothing = 1 / len(present) if smoothing is None else smoothing
    logs = []
    for i in np.flatnonzero(w > 0):
        others = w - (np.arange(len(w)) == i)
        joint = np.full((len(present), probs.shape[1]), float(smoothing))
        for theta, y, w_j in zip(probs, codes, others, strict=True):
            joint[y] += w_j * theta
        given = joint[codes[i]] / joint.sum(0)
        logs.append(w[i] * math.log(math.fsum(given * probs[i])))
    return math.fsum(logs) / w.sum()


def neg_label_entropy(labels, *, num_classes, weights=None):
    masses = [0.0] * num_classes
    for y, w_i in zip(labels, _weights(weights, len(labels)), strict=True):
        masses[y] += w_i
    return -_entropy(masses)


def leep_gain(probs, labels, *, num_classes, weights=None):
    null = neg_label_entropy(labels, num_classes=num_classes, weights=weights)
    return leep(probs, labels, num_classes=num_classes, weights=weights) - null


def nce(source_labels, labels, *, num_source_classes, num_classes, weights=None):
    counts = np.zeros((num_source_classes, num_classes))
    for z, y, w_i in zip(source_labels, labels, _weights(weights, len(labels)), strict=True):
        counts[z, y] += w_i
    total = counts.sum()
    return -math.fsum(row.sum() / total * _entropy(row) for row in counts if row.sum() > 0)


def leep_calibrated(logits, labels, *, num_classes, weights=None):
    """The largest LEEP over temperatures in [.05, 20]: a grid of 2 %, then refined."""
    logits = np.asarray(logits, np.float64)
    w = _weights(weights, len(logits))
    one_hot = np.eye(num_classes)[labels]

    def negative(log_t):
        theta = _responsibilities(logits / math.exp(log_t))
        joint = one_hot.T @ (w[:, None] * theta)
        mass = np.where(joint.sum(0) > 0, joint.sum(0), 1)
        eep = (theta * (joint / mass)[labels]).sum(1)
        return -(w @ np.log(np.where(w > 0, eep, 1))) / w.sum()

    return -minimum(negative, np.linspace(math.log(0.05), math.log(20), 300))


def _theta_and_prior(probs, labels, alpha):
    """Probabilities, one-hot labels of the classes that are there, and the prior counts."""
    theta = np.asarray(probs, np.float64)
    one_hot = np.stack([labels == y for y in np.unique(labels)], 1).astype(np.float64)
    return theta, one_hot, alpha * one_hot.mean(0)[:, None]


def _responsibilities(logits):
    q = np.exp(logits - logits.max(1, keepdims=True))
    return q / q.sum(1, keepdims=True)


def _divergence(q, theta):
    """sum_z q log(q / theta), 0 log 0 = 0."""
    return (special.xlogy(q, q) - special.xlogy(q, theta)).sum()


def pactran_dirichlet(probs, labels, *, num_classes, alpha=1.0, num_iterations=10):
    """P(y | z) ~ Dirichlet(alpha n_y / n) for each source class z, q_i(z) its responsibility.

    The bound is the mean over samples *and classes*, as in the authors' code.
    """
    del num_classes
    theta, one_hot, prior = _theta_and_prior(probs, labels, alpha)
    q = theta
    with np.errstate(divide="ignore"):
        log_theta = np.log(theta)
    for _ in range(num_iterations):
        counts = prior + one_hot.T @ q  # [c, s]
        expected_log = special.digamma(counts) - special.digamma(counts.sum(0))
        q = _responsibilities(log_theta + one_hot @ expected_log)
    before = special.gammaln(prior.sum()) - special.gammaln(prior).sum()
    after = special.gammaln(counts.sum(0)) - special.gammaln(counts).sum(0)
    return ((before - after).sum() - _divergence(q, theta)) / one_hot.size


def pactran_gamma(probs, labels, *, num_classes, alpha=1.0, num_iterations=10):
    """As above with an unnormalised P(y | z) of independent Gamma(alpha n_y / n, 1) entries."""
    del num_classes
    theta, one_hot, prior = _theta_and_prior(probs, labels, alpha)
    q = theta
    with np.errstate(divide="ignore"):
        log_theta = np.log(theta)
    for _ in range(num_iterations):
        shape = prior + one_hot.T @ q
        q = _responsibilities(log_theta + one_hot @ special.digamma(shape))
    normalizer = theta @ shape.sum(0)  # [n]
    loss = (special.gammaln(prior) - special.gammaln(shape)).sum() + _divergence(q, theta)
    loss += (np.log(normalizer) - 1).sum()
    return -(loss / one_hot.size + 1)


ORACLES = {
    oracle.__name__: oracle
    for oracle in (
        leep,
        leep_gain,
        leep_calibrated,
        cross_fitted_leep,
        nce,
        neg_label_entropy,
        pactran_dirichlet,
        pactran_gamma,
        h_score,
        regularized_h_score,
        logme,
        logme_regression,
        lfc,
        gbc,
        transrate,
        parc,
        lda_score,
        energy,
        sfda,
        pactran_gaussian,
        knn,
        linear_probe,
        predictive_r2,
    )
}
# The value depends on the optimum that a mixture's fit ends in; test_nleep.py has an oracle for
# data with one, elsewhere what is known of it are LEEP's bounds.
WITHOUT_ORACLE = {"nleep"}
