"""Ranking of 20 cached sources of 50,000 samples: seconds, and the peak of memory.

    OMP_NUM_THREADS=2 python -m benchmarks ranking

Each source is an .npz of 512 float32 features and 1,000 probabilities, 300 MB. So many distinct
ones are written to a temporary folder and read by turns under as many names as there are sources;
writing them is not counted, compiling is. The target has 100 classes.
"""

import dataclasses
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

import leepjax

SAMPLES, FEATURES, SOURCE_CLASSES, CLASSES = 50_000, 512, 1000, 100


@dataclasses.dataclass(frozen=True)
class Config:
    """Rank cached sources of 50,000 samples."""

    sources: int = 20
    """How many."""
    distinct: int = 20
    """How many files they are read from, by turns."""


def make(path: Path, labels: np.ndarray, seed: int) -> None:
    """A source that knows the classes the better, the higher its seed."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((CLASSES, FEATURES), np.float32)
    features = rng.standard_normal((len(labels), FEATURES), np.float32)
    features += (0.1 + 0.02 * seed) * centres[labels]
    head = rng.standard_normal((FEATURES, SOURCE_CLASSES), np.float32) / FEATURES**0.5
    probs = np.exp(2 * features @ head)
    probs /= probs.sum(1, keepdims=True)
    np.savez(path, features=features, probs=probs)


def peak() -> float:
    """GiB resident at most since the process started."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main(config: Config) -> None:
    """Write the sources, rank them, and print what it took."""
    labels = np.random.default_rng(0).integers(0, CLASSES, SAMPLES)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.npz" for i in range(config.distinct)]
        for i, file in enumerate(files):
            make(file, labels, i)
        sources = {f"source{i}": files[i % len(files)] for i in range(config.sources)}
        before, start, cpu = peak(), time.perf_counter(), time.process_time()
        ranking = leepjax.rank(sources, labels)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(ranking)
    print(
        f"{len(sources)} sources: {seconds:.0f} s, {cpu:.0f} s of CPU; peak {peak():.2f} GiB, "
        f"{before:.2f} before ranking"
    )
