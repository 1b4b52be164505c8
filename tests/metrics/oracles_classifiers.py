"""Float64 NumPy oracles of the metrics that classify samples; see ``oracles.py``."""

import math

import numpy as np
from scipy import special

from .oracles_features import class_masks, covariance_of, principal_components


def energy(features, *, fraction=0.005):
    f = np.asarray(features, np.float64)
    energies = np.sort(special.logsumexp(f, axis=1))
    return float(energies[: max(1, math.floor(fraction * len(f) + 1e-9))].mean())


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


def _fisher(f, labels, shrinkage=None):
    """Posterior ``[n, c]`` of linear discriminants, the classes that are there, and the shrinkage.

    The eigenvectors V of (S_b, S_w) have V V' = S_w^-1, which is all that the scores need.
    """
    classes = class_masks(labels)
    f = f - f.mean(0)
    prior = np.array([mine.mean() for mine in classes])
    means = np.stack([f[mine].mean(0) for mine in classes])
    within = sum(p * covariance_of(f[mine]) for p, mine in zip(prior, classes, strict=True))
    if shrinkage is None:
        shrinkage = max(math.exp(-5 * np.linalg.eigvalsh(within).max()), 1e-10)
    d = f.shape[1]
    spread = np.trace(within) / d
    if spread <= 1e-28 * np.square(f).max(initial=0):
        # Its limit: all belongs to the nearest mean, and the prior divides what is equally near.
        far = ((f[:, None] - means) ** 2).sum(2)
        near = far <= far.min(1, keepdims=True) + 1e-20 * far.max()
        posterior = near * prior
        return posterior / posterior.sum(1, keepdims=True), shrinkage
    shrunk = (1 - shrinkage) * within + shrinkage * spread * np.eye(d)
    coefficients = np.linalg.solve(shrunk, means.T)  # [d, c]
    scores = f @ coefficients - (means.T * coefficients).sum(0) / 2 + np.log(prior)
    return special.softmax(scores, axis=1), shrinkage


def lda_score(features, labels, *, num_classes):
    """The first of the two fits of SFDA."""
    del num_classes
    f, labels = np.asarray(features, np.float64), np.asarray(labels)
    posterior, _ = _fisher(f, labels)
    return float(posterior[np.stack(class_masks(labels), 1)].mean())


def sfda(features, labels, *, num_classes):
    del num_classes
    f, labels = np.asarray(features, np.float64), np.asarray(labels)
    right = np.stack(class_masks(labels), 1)
    if right.shape[1] == 1:
        return 1.0
    if (f == f[0]).all():
        return float((right.mean(0) ** 2).sum())
    posterior, shrinkage = _fisher(f, labels)
    confidence = special.softmax(posterior, axis=1)  # of probabilities: so the authors' code has it
    means = np.stack([f[mine].mean(0) for mine in right.T])
    mixed = f.copy()
    for i, y in enumerate(right.argmax(1)):
        others = np.delete(means, y, axis=0).mean(0)
        mixed[i] = confidence[i, y] * f[i] + (1 - confidence[i, y]) * others
    posterior, _ = _fisher(mixed, labels, shrinkage)
    return float(posterior[right].mean())


def softmax_regression(f, one_hot, penalty):
    """Newton's method for mean cross-entropy + penalty ||w||^2 / 2, the bias free.

    Returns:
      The least value, and the probabilities there.
    """
    n, c = one_hot.shape
    x = np.hstack([f, np.ones((n, 1))])
    k = x.shape[1]
    ridge = np.tile(np.append(np.full(k - 1, penalty), 0.0), c)  # parameters [c, k], flat
    flat = np.kron(np.ones((c, c)) / c, np.diag(np.eye(k)[-1]))  # equal biases change nothing

    def loss(theta):
        logits = x @ theta.reshape(c, k).T
        entropy = special.logsumexp(logits, axis=1) - (one_hot * logits).sum(1)
        return entropy.mean() + (ridge * theta**2).sum() / 2

    theta = np.zeros(c * k)
    for _ in range(200):
        probs = special.softmax(x @ theta.reshape(c, k).T, axis=1)
        gradient = ((probs - one_hot).T @ x / n).ravel() + ridge * theta
        hessian = np.empty((c, k, c, k))
        for i in range(c):
            for j in range(c):
                curvature = probs[:, i] * ((i == j) - probs[:, j]) / n
                hessian[i, :, j] = x.T @ (curvature[:, None] * x)
        hessian = hessian.reshape(c * k, c * k) + np.diag(ridge) + flat
        step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        size = 1.0
        while loss(theta - size * step) > loss(theta) and size > 1e-10:
            size /= 2
        theta = theta - size * step
        if gradient @ step < 1e-20:
            break
    return loss(theta), special.softmax(x @ theta.reshape(c, k).T, axis=1)


def pactran_gaussian(features, labels, *, num_classes):
    """lambda = 1 and sigma_0^2 = 100 / d, in the names of the authors' code lda_factor and s2.

    The flatness sums the diagonal of the Hessian over samples (not their mean), biases too.
    """
    del num_classes
    f, labels = np.asarray(features, np.float64), np.asarray(labels)
    f = f - f.mean(0)
    one_hot = np.stack(class_masks(labels), 1).astype(np.float64)
    n, d = f.shape
    size = d * one_hot.shape[1]
    least, probs = softmax_regression(f, one_hot, 1 / n)
    hessian = ((1 + (f**2).sum(1)) * (probs * (1 - probs)).sum(1)).sum()
    flatness = 0.5 * size / n * (100 / d) * math.log1p(hessian * n / size)
    return -float(least + flatness)


def left_out(features, labels):
    """``[n, c]`` what each sample is predicted as by a ridge regression of the others, and targets.

    n lambda stays that of all samples, with lambda 10^(k/2) times the mean eigenvalue that counts;
    the least squared error of what was left out decides among k = -8, ..., 4.
    """
    f, labels = np.asarray(features, np.float64), np.asarray(labels)
    n = len(f)
    f = principal_components(f / max(np.abs(f).max(), np.finfo(np.float64).tiny), f.shape[1])
    targets = np.stack(class_masks(labels), 1).astype(np.float64)
    others = [np.delete(np.arange(n), i) for i in range(n)]
    means = [(f[o].mean(0), targets[o].mean(0)) for o in others]
    grams = np.stack([(f[o] - m).T @ (f[o] - m) for o, (m, _) in zip(others, means, strict=True)])
    cross = np.stack([(f[o] - m).T @ targets[o] for o, (m, _) in zip(others, means, strict=True)])
    left_out = np.stack([f[i] - m for i, (m, _) in enumerate(means)])
    intercept = np.stack([t for _, t in means])
    mean_eigenvalue = (f**2).sum() / n / max(f.shape[1], 1)
    best, scores = np.inf, intercept
    for k in range(4, -9, -1):
        penalty = n * 10 ** (k / 2) * mean_eigenvalue * np.eye(f.shape[1])
        predicted = intercept + np.einsum(
            "nd,ndc->nc", left_out, np.linalg.solve(grams + penalty, cross)
        )
        error = ((predicted - targets) ** 2).sum()
        if error < best:
            best, scores = error, predicted
    return scores, targets


def predictive_r2(features, labels, *, num_classes):
    """Squared error of those predictions against that of the shares of classes of the others."""
    del num_classes
    if len(np.unique(labels)) == 1:
        return 0.0
    scores, targets = left_out(features, labels)
    shares = np.stack([np.delete(targets, i, 0).mean(0) for i in range(len(targets))])
    return 1 - ((scores - targets) ** 2).sum() / ((shares - targets) ** 2).sum()


def linear_probe(features, labels, *, num_classes):
    del num_classes
    if len(labels) == 1:
        return 0.0
    scores, targets = left_out(features, labels)
    own = scores[targets == 1]
    rivals = np.where(targets == 1, -np.inf, scores).max(1)
    return float((own > rivals + 1e-5).mean())
