"""Our own vectorised PyTorch versions of the scores, on the CPU or the same GPU, in float32.

A baseline, as in NumPy. No masks, weights or checks; every class is taken to be present and n > d.
"""

import math

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]

NAME = "PyTorch"


def prepare(array: np.ndarray) -> torch.Tensor:
    """A tensor on the device that JAX runs on."""
    return torch.from_numpy(array).to("cuda" if jax.default_backend() == "gpu" else "cpu")


def leep(probs: torch.Tensor, labels: torch.Tensor, num_classes: int) -> float:
    """Joint by ``index_add``; likelihoods of all classes by a matmul, which beats gathered rows."""
    joint = _class_sums(probs, labels, num_classes)
    conditional = joint / joint.sum(0)
    predicted = probs @ conditional.T
    return predicted.gather(1, labels.long()[:, None]).log().mean().item()


def h_score(features: torch.Tensor, labels: torch.Tensor, num_classes: int) -> float:
    """tr(cov^-1 between) by Cholesky."""
    centred = features - features.mean(0)
    return _trace_of_solve(centred.T @ centred, _between(centred, labels, num_classes)).item()


def regularized_h_score(features: torch.Tensor, labels: torch.Tensor, num_classes: int) -> float:
    """H-score of the Ledoit-Wolf covariance; the shrinkage from the fourth moment of the norms."""
    n, d = features.shape
    centred = features - features.mean(0)
    covariance = centred.T @ centred / n
    between = _between(centred, labels, num_classes) / math.sqrt(n - 1)
    size = covariance.trace() / d
    squared = covariance.square().sum()
    fourth = torch.linalg.vecdot(centred, centred).square().mean()
    shrinkage = ((fourth - squared) / n / (squared - d * size**2)).clamp(0, 1)
    covariance *= 1 - shrinkage
    covariance.diagonal().add_(shrinkage * size)
    return ((1 - shrinkage) * _trace_of_solve(covariance, between)).item()


def logme(features: torch.Tensor, labels: torch.Tensor, num_classes: int) -> float:
    """Evidence maximised over t = alpha / beta for all classes at once: a grid, then zooms."""
    n = len(labels)
    values, vectors = torch.linalg.eigh(features.T @ features)
    kept = values > 1e-6 * values[-1]
    projections = (_class_sums(features, labels, num_classes) @ vectors[:, kept]).double()
    values = values[kept].double()
    projections = projections.square() / values
    counts = torch.bincount(labels, minlength=num_classes)
    residual = (counts - projections.sum(1)).clamp(min=0)
    low, high = math.log(1e-6 * values.mean().item()), math.log(1e9 * values.mean().item())
    centre, width, points = torch.full_like(residual, (low + high) / 2), (high - low) / 2, 121
    best = torch.full_like(residual, -math.inf)
    for _ in range(5):
        offset = torch.linspace(-width, width, points, dtype=values.dtype, device=values.device)
        log_t = (centre[:, None] + offset).clamp(low, high)  # [c, t]
        for column in log_t.T:  # [c]: no [c, t, d] of 121 points
            ratio = values / column.exp()[:, None]
            q = residual + (projections / (1 + ratio)).sum(1)
            evidence = -0.5 * (ratio.log1p().sum(1) / n + (2 * math.pi * q / n).log() + 1)
            centre = torch.where(evidence > best, column, centre)
            best = torch.maximum(evidence, best)
        width, points = width / (points - 1) * 2, 9
    return best.mean().item()


def _class_sums(x: torch.Tensor, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    return x.new_zeros(num_classes, x.shape[1]).index_add_(0, labels, x)


def _between(centred: torch.Tensor, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    counts = torch.bincount(labels, minlength=num_classes)[:, None]
    return _class_sums(centred, labels, num_classes) / counts.sqrt()


def _trace_of_solve(matrix: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    factor = torch.linalg.cholesky(matrix)
    return torch.linalg.solve_triangular(factor, rows.T, upper=False).square().sum()


PEERS = {
    "leep": leep,
    "h_score": h_score,
    "regularized_h_score": regularized_h_score,
    "logme": logme,
}
