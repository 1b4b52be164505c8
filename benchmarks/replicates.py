"""Seconds for every statistic of 20 scores in 10,000 replicates of 200 rows.

python -m benchmarks replicates
"""

import dataclasses
import time

import numpy as np

from leepjax.evaluation.correlation import STATISTICS

ROWS, SCORES, REPLICATES = 200, 20, 10_000


@dataclasses.dataclass(frozen=True)
class Config:
    """Time every statistic of 20 scores in 10,000 replicates of 200 rows; there are no flags."""


def main(config: Config) -> None:
    """Time one statistic after another, and print its seconds."""
    del config
    rng = np.random.default_rng(0)
    scores, accuracy = rng.normal(size=(SCORES, ROWS)), rng.normal(size=ROWS)
    counts = rng.multinomial(ROWS, np.full(ROWS, 1 / ROWS), size=REPLICATES)  # bootstrap samples
    for name, statistic in STATISTICS.items():
        start = time.perf_counter()
        for score in scores:
            statistic(score, accuracy, counts)
        print(f"{name:22s} {time.perf_counter() - start:5.2f} s")
