"""Our own vectorised NumPy versions of the scores, written for speed: a strong baseline.

One pass over the samples wherever the algebra allows, class sums by a sparse one-hot product, BLAS
for the rest, in the precision of the input: float32 is timed, float64 is the reference that the
table's values are held against. No masks, weights or checks; every class is taken to be present and
n > d.
"""

import numpy as np
import scipy.linalg
import scipy.sparse

NAME = "NumPy"


def prepare(array: np.ndarray) -> np.ndarray:
    """Arrays are taken as they are."""
    return array


def leep(probs: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """Joint by a sparse product; likelihoods by blocks of rows that stay in cache."""
    joint = _class_sums(probs, labels, num_classes)
    conditional = joint / joint.sum(0)
    log_likelihood = 0.0
    for start in range(0, len(labels), 512):
        rows = slice(start, start + 512)
        likelihood = np.vecdot(conditional[labels[rows]], probs[rows])
        log_likelihood += float(np.log(likelihood).sum(dtype=np.float64))
    return log_likelihood / len(labels)


def nce(source_labels: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """-H(Y | Z) by one histogram of pairs."""
    num_source = int(source_labels.max()) + 1
    pairs = np.bincount(source_labels * num_classes + labels, minlength=num_source * num_classes)
    joint = pairs.reshape(num_source, num_classes) / len(labels)
    mass = np.broadcast_to(joint.sum(1, keepdims=True), joint.shape)
    seen = joint > 0
    return float(np.sum(joint[seen] * np.log(joint[seen] / mass[seen])))


def h_score(features: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """tr(cov^-1 between) by Cholesky."""
    centred = features - features.mean(0)
    scatter = centred.T @ centred
    return _trace_of_solve(scatter, _between(centred, labels, num_classes))


def regularized_h_score(features: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """H-score of the Ledoit-Wolf covariance; the shrinkage from the fourth moment of the norms."""
    n, d = features.shape
    centred = features - features.mean(0)
    covariance = centred.T @ centred / n
    between = _between(centred, labels, num_classes) / np.sqrt(n - 1)
    size = np.trace(covariance) / d
    squared = np.vdot(covariance, covariance)
    fourth = np.sum(np.vecdot(centred, centred) ** 2, dtype=np.float64)
    spread = (fourth / n - squared) / n
    shrinkage = float(np.clip(spread / (squared - d * size**2), 0, 1))
    covariance *= 1 - shrinkage
    covariance[np.diag_indices(d)] += shrinkage * size
    return (1 - shrinkage) * _trace_of_solve(covariance, between)


def logme(features: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """Evidence maximised over t = alpha / beta for all classes at once: a grid, then zooms.

    From the eigenvalues of the Gram alone: per class, q(t) = residual + sum_j p_j t / (t + s_j)
    with p_j the squared projection of its one-hot labels on the j-th left singular vector.
    """
    n = len(labels)
    values, vectors = np.linalg.eigh(features.T @ features)
    kept = values > 10 * np.finfo(values.dtype).eps * values[-1]  # the others are rounding
    values = values.astype(np.float64)
    sums = _class_sums(features, labels, num_classes)
    mean = sums.sum(0, dtype=np.float64) / n
    scale = (values.sum() - n * mean @ mean) / len(values)  # of the features about their mean
    projections = sums @ vectors[:, kept]
    values = values[kept]
    projections = projections.astype(np.float64) ** 2 / values
    counts = np.bincount(labels, minlength=num_classes)
    residual = np.maximum(counts - projections.sum(1), 0)

    grid = np.geomspace(1e-6 * scale, 1e9 * scale, 121)
    shrunk = grid[:, None] / (grid[:, None] + values)  # [t, d]
    q = residual[:, None] + projections @ shrunk.T
    evidence = -0.5 * (np.log1p(values / grid[:, None]).sum(1) / n + np.log(2 * np.pi * q / n) + 1)
    best, step = np.log(grid[evidence.argmax(1)]), np.log(grid[1] / grid[0])
    for _ in range(4):
        t = np.exp(best[:, None] + step * np.linspace(-1, 1, 9))  # [c, t]
        t = np.clip(t, grid[0], grid[-1])
        ratio = values / t[..., None]  # [c, t, d]
        q = residual[:, None] + np.einsum("cd,ctd->ct", projections, 1 / (1 + ratio))
        evidence = -0.5 * (np.log1p(ratio).sum(2) / n + np.log(2 * np.pi * q / n) + 1)
        best = np.log(np.take_along_axis(t, evidence.argmax(1)[:, None], 1)[:, 0])
        step /= 4
    return float(evidence.max(1).mean())


def lfc(features: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """Correlation of f f^T with label agreement, each minus its mean, without n x n."""
    n = len(labels)
    gram = features.T @ features
    sums = _class_sums(features, labels, num_classes).astype(np.float64)
    counts = np.bincount(labels, minlength=num_classes).astype(np.float64)
    total = np.sum(sums.sum(0) ** 2)
    agreement = 2 * np.sum(counts**2) - n**2  # the sum of all labels' +1 and -1
    product = 2 * np.sum(sums**2) - total - total * agreement / n**2
    squares = np.vdot(gram, gram) - total**2 / n**2
    return float(product / np.sqrt(squares * (n**2 - agreement**2 / n**2)))


def gbc(features: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """Bhattacharyya coefficients of diagonal Gaussians on 64 principal components."""
    centred = features - features.mean(0)
    vectors = np.linalg.eigh(centred.T @ centred)[1][:, -64:]
    z = centred @ vectors
    counts = np.bincount(labels, minlength=num_classes)[:, None]
    means = _class_sums(z, labels, num_classes) / counts
    variances = _class_sums((z - means[labels]) ** 2, labels, num_classes) / counts
    variances = np.maximum(variances, 1e-4)
    pooled = (variances[:, None] + variances) / 2
    distance = np.sum((means[:, None] - means) ** 2 / pooled, 2) / 8
    logs = np.log(variances).sum(1)
    distance += np.log(pooled).sum(2) / 2 - (logs[:, None] + logs) / 4
    coefficients = np.exp(-distance)
    return -float(coefficients.sum() - np.trace(coefficients))


def transrate(features: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """Coding rates by log-determinants of the smaller Gram, class by class."""
    centred = features - features.mean(0)
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.bincount(labels, minlength=num_classes).cumsum()[:-1])
    return _rate(centred) - float(np.mean([_rate(centred[group]) for group in groups]))


def _rate(z: np.ndarray) -> float:
    n, d = z.shape
    gram = (z.T @ z if d <= n else z @ z.T) / (n * 1e-4)
    gram[np.diag_indices(len(gram))] += 1
    factor = scipy.linalg.cholesky(gram, overwrite_a=True, check_finite=False)
    return float(np.log(np.diag(factor)).sum(dtype=np.float64))


def _class_sums(x: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    n = len(labels)
    ones = np.ones(n, x.dtype)
    one_hot = scipy.sparse.csr_array((ones, labels, np.arange(n + 1)), shape=(n, num_classes))
    return one_hot.T @ x


def _between(centred: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """``B [c, d]`` with B^T B the scatter of the class means, each counted by its samples."""
    counts = np.bincount(labels, minlength=num_classes)[:, None]
    return _class_sums(centred, labels, num_classes) / np.sqrt(counts).astype(centred.dtype)


def _trace_of_solve(matrix: np.ndarray, rows: np.ndarray) -> float:
    """tr(matrix^-1 rows^T rows) for a positive definite matrix."""
    factor = scipy.linalg.cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)
    solved = scipy.linalg.solve_triangular(factor, rows.T, lower=True, check_finite=False)
    return float(np.sum(solved**2, dtype=np.float64))


PEERS = {
    "leep": leep,
    "nce": nce,
    "h_score": h_score,
    "regularized_h_score": regularized_h_score,
    "logme": logme,
    "lfc": lfc,
    "gbc": gbc,
    "transrate": transrate,
}
