"""Float64 NumPy oracles, one sample at a time, straight from the definitions.

Nothing is shared with the library. There is no ``where``: masked must equal *filtered*, so the
tests filter. ``weights`` count repetitions of a sample.
"""

import math

import numpy as np


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


def h_score(features, labels, *, num_classes, weights=None):
    f = np.asarray(features, np.float64)
    labels = np.asarray(labels)
    w = _weights(weights, len(f))
    keep = w > 0
    f, labels, w = f[keep], labels[keep], w[keep]
    if (f == f[0]).all():
        return 0.0
    f = f / max(np.abs(f).max(), np.finfo(np.float64).tiny)  # the score has no scale
    mean = np.average(f, axis=0, weights=w)
    total, between = np.zeros((2, f.shape[1], f.shape[1]))
    for f_i, w_i in zip(f - mean, w, strict=True):
        total += w_i * np.outer(f_i, f_i)
    for y in range(num_classes):
        if (mine := labels == y).any():
            gap = np.average(f[mine], axis=0, weights=w[mine]) - mean
            between += w[mine].sum() * np.outer(gap, gap)
    values, vectors = np.linalg.eigh(total)
    largest_first = np.argsort(-values)[: min(f.shape[1], len(f) - 1)]
    return math.fsum(
        vectors[:, j] @ between @ vectors[:, j] / values[j]
        for j in largest_first
        if values[j] > 1e-6 * values.max()
    )


def knn(features, labels, *, num_classes, k=5):
    del num_classes
    f = np.asarray(features, np.float64)
    f = f / max(np.abs(f).max(), np.finfo(np.float64).tiny)
    norms = np.array([math.sqrt(f_i @ f_i) for f_i in f])
    right = 0
    for i, f_i in enumerate(f):
        products = norms * norms[i]
        similarity = np.where(products > 0, f @ f_i / np.where(products > 0, products, 1), 0)
        order = np.argsort(-similarity, kind="stable")
        votes = [int(labels[j]) for j in order if j != i][:k]
        if votes:
            most = max(votes.count(y) for y in votes)
            right += next(y for y in votes if votes.count(y) == most) == labels[i]
    return right / len(f)


ORACLES = {
    oracle.__name__: oracle for oracle in (leep, leep_gain, nce, neg_label_entropy, h_score, knn)
}
