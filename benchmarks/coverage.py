"""How often the intervals of a correlation contain the truth where tasks share classes.

    python benchmarks/coverage.py

Each of C classes has an effect on the score and one on the accuracy, normal, with correlation rho;
a task's score and accuracy are the means over its k classes plus noise of its own (standard
deviation ``noise`` relative to the classes' part, correlation 0.3). The truth is the correlation
over tasks of an endless supply of classes. Printed for each design: coverage and mean width of the
nominal 95 % intervals that

  leepjax   leaves out one class at a time (leepjax.evaluation.jackknife)
  tasks     takes tasks for independent (Fisher's z)
  BCa       resamples tasks (scipy.stats.bootstrap, BCa), the usual careful choice
"""

from itertools import combinations

import numpy as np
from scipy.stats import bootstrap

from leepjax.evaluation import jackknife, pearson

REPEATS, NOISE_CORRELATION = 200, 0.3
DESIGNS = [  # classes, classes a task, tasks, rho, noise
    (10, 5, 200, 0.3, 0.3),
    (10, 5, 200, 0.9, 0.3),
    (10, 5, 200, 0.9, 1.0),
    (10, 5, 200, 0.3, 3.0),
    (10, 2, 45, 0.9, 0.5),
    (20, 5, 200, 0.5, 0.5),
    (100, 5, 200, 0.9, 0.5),
    (1000, 5, 200, 0.5, 0.5),
]


def class_sets(rng: np.random.Generator, classes: int, size: int, number: int) -> np.ndarray:
    if classes <= 12:
        every = np.array(list(combinations(range(classes), size)))
        return every[rng.permutation(len(every))[:number]]
    return np.array([rng.choice(classes, size, replace=False) for _ in range(number)])


def main() -> None:
    rng = np.random.default_rng(0)
    print("classes  k  tasks  rho  noise |   leepjax      tasks        BCa   (coverage, width)")
    for classes, size, number, rho, noise in DESIGNS:
        truth = (rho + NOISE_CORRELATION * noise**2) / (1 + noise**2)
        intervals: dict[str, list[tuple[float, float]]] = {"leepjax": [], "tasks": [], "BCa": []}
        for repeat in range(REPEATS):
            sets = class_sets(rng, classes, size, number)
            effects = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], classes)
            own = [[1, NOISE_CORRELATION], [NOISE_CORRELATION, 1]]
            x, y = (
                effects[sets].mean(1)
                + noise / np.sqrt(size) * rng.multivariate_normal([0, 0], own, len(sets))
            ).T
            membership = (sets[:, :, None] == np.arange(classes)).any(1)
            estimate, _ = jackknife(pearson, x, y, membership[:, membership.any(0)])
            intervals["leepjax"].append((estimate.low, estimate.high))
            half = 1.96 / np.sqrt(len(x) - 3)
            z = np.arctanh(estimate.value)
            intervals["tasks"].append((np.tanh(z - half), np.tanh(z + half)))
            if repeat < REPEATS // 2:  # the slowest of the three
                resampled = bootstrap(
                    (x, y),
                    lambda a, b: np.corrcoef(a, b)[0, 1],
                    paired=True,
                    vectorized=False,
                    n_resamples=500,
                    rng=rng,
                )
                intervals["BCa"].append(resampled.confidence_interval)
        cells = []
        for bounds in intervals.values():
            low, high = np.array(bounds).T
            cells.append(
                f"{np.mean((low <= truth) & (truth <= high)):.2f}, {np.mean(high - low):.2f}"
            )
        print(f"{classes:7d} {size:2d} {number:6d} {rho:4.1f} {noise:6.1f} | {'   '.join(cells)}")


if __name__ == "__main__":
    main()
