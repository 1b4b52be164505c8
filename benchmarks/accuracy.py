"""How far float32 scores of 50,000 samples, 2,048 features and 100 classes are from float64.

    OMP_NUM_THREADS=1 python -m benchmarks accuracy              # or some: leep knn

Each score of the benchmark's large data, computed in float32 as users do, beside its reference in
float64: the tests' oracle (tests/metrics/oracles.py) where that can run at this size; the NumPy
version of benchmarks/peers/numpy_scores.py, which shares nothing with the library either, where the
oracle goes sample by sample over d x d matrices or forms n x n; and elsewhere the oracle at the
largest size that it takes in a minute or two, which the table names. "error" is |a - b| over
max(1, |b|); the contract is 1e-4. Moment scores also with a common offset of 100. Takes 15 minutes
and 8 GB.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import tyro

from benchmarks.peers import numpy_scores
from benchmarks.score_calls import make_data
from leepjax.metrics import METRICS
from tests.metrics.oracles import ORACLES

FULL = (50_000, 2_048, 100)  # n, d, c
SMALLER = {  # what the oracle takes in a minute or two
    "leep_calibrated": (5_000, 2_048, 100),  # 300 temperatures
    "knn": (5_000, 2_048, 100),  # n^2 d in float64
    "parc": (500, 2_048, 100),  # all of the 500 that it samples
    "linear_probe": (2_000, 96, 10),  # n matrices d x d
    "pactran_gaussian": (2_000, 40, 10),  # a Hessian of (c d)^2
}
BY_NUMPY = {"h_score", "regularized_h_score", "logme", "lfc"}
WITH_OFFSET = (*sorted(BY_NUMPY), "gbc", "transrate")
ACCURACIES = {"knn", "linear_probe"}  # near ties are one sample more or less


@dataclasses.dataclass(frozen=True)
class Config:
    """Hold float32 scores against float64."""

    metrics: tyro.conf.Positional[tuple[str, ...]] = ()
    """Which; default all that have a reference."""


def cut(arrays: dict[str, np.ndarray], n: int, d: int, c: int) -> dict[str, np.ndarray]:
    """The first samples, features and classes, so many of each."""
    rows = np.flatnonzero(arrays["labels"] < c)[:n]
    part = {name: array[rows] for name, array in arrays.items()}
    return part | {"features": np.ascontiguousarray(part["features"][:, :d])}


def doubled(x: np.ndarray) -> np.ndarray:
    """In float64, but for integers."""
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def compare(name: str, arrays: dict[str, np.ndarray], c: int) -> tuple[float, float, str]:
    """A score in float32, its reference, and whose that is."""
    metric, labels = METRICS[name], arrays["labels"]
    inputs = [arrays[key] for key in metric.inputs]
    options: dict[str, Any] = {"num_classes": c} if "labels" in metric.inputs else {}
    if "source_labels" in metric.inputs:
        options["num_source_classes"] = arrays["probs"].shape[1]
    key = (jax.random.key(0),) if metric.key else ()
    value = float(metric.fn(*key, *inputs, **options))
    reference: Callable[..., float] = ORACLES[name]
    if name in BY_NUMPY:
        expected = numpy_scores.PEERS[name](doubled(inputs[0]), labels, c)
        return value, expected, "NumPy"
    return value, float(reference(*map(doubled, inputs), **options)), "oracle"


def main(config: Config) -> None:
    """Print one line for each score, then the worst error."""
    arrays = make_data("large").host
    rng = np.random.default_rng(1)
    targets = arrays["features"][:, :3].sum(1) + rng.standard_normal(FULL[0], np.float32)
    arrays |= {"logits": np.log(arrays["probs"]), "targets": targets}
    chosen = config.metrics or [name for name in METRICS if name in ORACLES]
    cases = [(name, 0.0) for name in chosen]
    cases += [(name, 100.0) for name in chosen if name in WITH_OFFSET]
    print("score                 offset  n, d, c               by      float32        error")
    worst = 0.0
    for name, offset in cases:
        start, (n, d, c) = time.perf_counter(), SMALLER.get(name, FULL)
        part = cut(arrays, n, d, c)
        part["features"] = part["features"] + np.float32(offset)
        value, expected, by = compare(name, part, c)
        error = abs(value - expected) / max(1, abs(expected))
        if name not in ACCURACIES:
            worst = max(worst, error)
        shape = f"{n}, {d}, {c}"
        print(
            f"{name:22}{offset:6g}  {shape:20}  {by:6}{value:12.6g}  {error:11.1e}"
            f"   ({time.perf_counter() - start:.0f} s)",
            flush=True,
        )
    print(f"worst error but for accuracies: {worst:.1e}")
