"""How often the choice by ``leepjax rank`` is right, on simulated shelves whose truth is known.

    python -m experiments.calibration             # or some: shelves noise shuffled backbones
    python -m experiments.calibration shelves --figure calibration.png

shelves: a shelf is a set of sources. They see the same latent class structure through projections,
rectification and noise of their own. The truth comes from the linear head, fitted to the n samples
and judged on 4,000 new ones: which source has the smallest squared error, and which the highest
accuracy. The output shows how often the choice contains that source, and P(best) against the
frequency with which a source is best.

noise: columns of noise beside one source with information, with and without logits. The output
shows how often noise is chosen although the 95 % interval of the other's head lies above the share
of the largest class.

shuffled: the same sources with shuffled labels. The output shows how often rank reports that no
source carries information.

backbones: a realistic shelf, five networks of 384 to 2,048 features, 2,000 samples of 20 classes.
The output shows the ranking, the truth on 20,000 new samples, and the CPU seconds.
"""

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import matplotlib
import numpy as np
import tyro
from matplotlib.figure import Figure

from leepjax._progress import progress
from leepjax.ranking import rank

FRESH = 4000
SIZES, WIDTHS = (50, 100, 200, 500, 1000, 5000), (16, 64, 256, 1024)
SHARES = (
    0.3,
    0.25,
    0.2,
    0.15,
    0.08,
    0.02,
)  # of the sizes among cases of noise: large ones take long
BINS = np.array([0, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, 1])


Section = Literal["shelves", "noise", "shuffled", "backbones"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Simulate how often the choice by a ranking is right."""

    sections: tyro.conf.Positional[tuple[Section, ...]] = ()
    """Which; default all."""
    cases: int = 500
    """Number of shelves; twice as many cases of noise, and as many of shuffled labels."""
    figure: Path | None = None
    """Where to draw P(best) against frequency."""


def shelf(rng: np.random.Generator, n: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Labels ``[n + FRESH]`` and what two to six sources see of these samples."""
    classes = int(rng.choice([2, 3, 5, 10, 20]))
    labels = rng.permutation(np.arange(n + FRESH) % classes)
    means = rng.normal(size=(classes, 12)) * rng.uniform(0.5, 2)
    latent = means[labels] + rng.normal(size=(len(labels), 12))
    sources = []
    for _ in range(rng.integers(2, 7)):
        width = int(rng.choice(WIDTHS))
        seen = latent @ rng.normal(size=(12, width)) / 12**0.5
        seen = seen + rng.uniform(0.3, 3) * rng.normal(size=seen.shape)
        sources.append(np.maximum(seen, 0).astype(np.float32))
    return labels, sources


def truth(features: np.ndarray, labels: np.ndarray, n: int) -> tuple[float, float]:
    """Squared error and accuracy on new samples of the ridge head fitted to the first n.

    Of the same 13 penalties, it has the one of smallest squared error on the new samples. The
    left-out errors try to find that penalty.
    """
    own = np.eye(labels.max() + 1)[labels]
    centre, shares = features[:n].mean(0), own[:n].mean(0)
    x = features.astype(float) - centre
    left, values, right = np.linalg.svd(x[:n], full_matrices=False)
    kept = values > 1e-3 * values[0]
    projected = left.T[kept] @ (own[:n] - shares)
    fresh, mean = x[n:] @ right[kept].T, np.mean(values[kept] ** 2)
    best = (np.inf, 0.0)
    for relative in 10.0 ** (np.arange(4, -9, -1) / 2):
        shrunk = (values[kept] / (values[kept] ** 2 + relative * mean))[:, None] * projected
        predicted = shares + fresh @ shrunk
        error = np.square(own[n:] - predicted).sum(1).mean()
        accuracy = np.mean(predicted.argmax(1) == labels[n:])
        best = min(best, (float(error), float(accuracy)))
    return best


def shelves(cases: int) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray, list[int]]]:
    """Of each shelf: n, P(best), errors and accuracies of its sources, and which are chosen."""
    for case in progress(range(cases), desc="shelves", unit="shelf"):
        rng = np.random.default_rng(case)
        n = int(rng.choice(SIZES[:-1]))
        labels, sources = shelf(rng, n)
        given = {str(i): {"features": x[:n]} for i, x in enumerate(sources)}
        found = rank(given, labels[:n], metrics=(), nulls=())
        error, accuracy = np.array([truth(x, labels, n) for x in sources]).T
        yield n, found.probability_best(), error, accuracy, [int(name) for name in found.choice]


def show_shelves(cases: int, figure: Path | None) -> None:
    """Print and draw how often the choice contains the best, and P(best) against frequency."""
    held, rows = [], []
    for n, p, error, accuracy, chosen in shelves(cases):
        reached = accuracy[chosen].max(initial=0) >= accuracy.max()
        lost = accuracy.max() - accuracy[np.argmax(p)]
        held.append((n, error.argmin() in chosen, reached, len(chosen), len(p), lost))
        rows += zip(p, np.arange(len(p)) == error.argmin(), strict=True)
    table = np.array(held, float)
    print("\n    n shelves | choice has least error, highest accuracy | chosen of | accuracy lost")
    for n in (*np.unique(table[:, 0]).astype(int), None):
        part = table if n is None else table[table[:, 0] == n]
        means = part[:, 1:].mean(0)
        print(
            f"{n or 'all':>5} {len(part):7d} | {means[0]:22.3f} {means[1]:17.3f} | "
            f"{means[2]:.1f} of {means[3]:.1f} | {means[4]:.4f}"
        )
    p, best = np.array(rows, float).T
    which = np.clip(np.digitize(p, BINS) - 1, 0, len(BINS) - 2)
    points = []
    print("\nP(best)       sources   mean P   frequency of being best")
    for b in np.unique(which):
        here = which == b
        points.append((p[here].mean(), best[here].mean(), here.sum()))
        said = f"{points[-1][0]:.3f}    {points[-1][1]:.3f}"
        print(f"{BINS[b]:.2f} to {BINS[b + 1]:.2f}  {here.sum():7d}   {said}")
    if figure is not None:
        draw(np.array(points), figure)


def draw(points: np.ndarray, path: Path) -> None:
    """P(best) against frequency, with binomial 95 % intervals."""
    with matplotlib.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        drawn = Figure(figsize=(3.6, 3.4), layout="constrained")
        axis = drawn.subplots()
        p, frequency, number = points.T
        error = 1.96 * np.sqrt(np.maximum(frequency * (1 - frequency), 0.25 / number) / number)
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        axis.errorbar(p, frequency, yerr=error, fmt="o", color="#0072B2", markersize=4)
        axis.set_xlabel("P(best) from rank")
        axis.set_ylabel("share of sources that are best")
        axis.set_title("P(best) agrees with frequency", fontsize=10, loc="left")
        drawn.savefig(path, dpi=150)


def show_noise(cases: int) -> None:
    """Print how often noise is chosen beside a source whose head is better than chance."""
    counted = chosen = 0
    for case in progress(range(cases), desc="noise", unit="case"):
        rng = np.random.default_rng(case)
        n, classes = int(rng.choice(SIZES, p=SHARES)), int(rng.integers(2, 51))
        labels = np.arange(n) % classes
        real = (
            rng.normal(size=(n, 16)) + rng.uniform(0.3, 2) * rng.normal(size=(classes, 16))[labels]
        )
        noise = rng.normal(size=(n, int(rng.choice([2, 16, 280, 1024, 2048]))))
        given = {"real": {"features": real}, "noise": {"features": noise}}
        if case % 2:
            given["real"]["logits"], given["noise"]["logits"] = real[:, :10], noise[:, :10]
        found = rank(given, labels, metrics=(), nulls=("linear_probe",))
        accuracy = found.scores["linear_probe"][0]
        half = 1.96 * np.sqrt(accuracy * (1 - accuracy) / n)
        if accuracy - half > np.bincount(labels).max() / n:
            counted += 1
            chosen += "noise" in found.choice
    print(
        f"\nnoise was chosen in {chosen} of {counted} cases where the other is better than chance"
    )


def show_shuffled(cases: int) -> None:
    """Print how often rank reports no information where there is none."""
    said = 0
    for case in progress(range(cases), desc="shuffled", unit="case"):
        rng = np.random.default_rng(case)
        n = int(rng.choice(SIZES[:-2]))
        labels, sources = shelf(rng, n)
        given = {str(i): {"features": x[:n]} for i, x in enumerate(sources)}
        said += rank(given, rng.permutation(labels[:n]), metrics=(), nulls=()).informative is False
    print(f"\nrank reports no information in {said} of {cases} shelves with shuffled labels")


def show_backbones() -> None:
    """Print the ranking of five wide sources, and the truth."""
    n, fresh, classes = 2000, 20_000, 20
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(n + fresh) % classes)
    latent = rng.normal(size=(classes, 40))[labels] + 2 * rng.normal(size=(n + fresh, 40))
    sources = {}
    for width, noise in ((384, 1.0), (512, 0.8), (768, 1.5), (1024, 3.0), (2048, 2.0)):
        seen = latent @ rng.normal(size=(40, width)) / 40**0.5
        seen = np.maximum(seen + noise * rng.normal(size=seen.shape), 0).astype(np.float32)
        sources[f"{width} features, noise {noise}"] = seen
    for _ in ("cold", "warm"):
        began = time.process_time()
        found = rank({name: {"features": x[:n]} for name, x in sources.items()}, labels[:n])
        print(f"\n{time.process_time() - began:.1f} CPU seconds")
    print(found)
    for name, x in sources.items():
        error, accuracy = truth(x, labels, n)
        print(f"{name:25} on {fresh:,} new samples: error {error:.4f}, accuracy {accuracy:.3f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sections that the command line names."""
    config = tyro.cli(Config, args=sys.argv[1:] if arguments is None else arguments)
    if config.cases < 1:
        sys.exit(f"error: --cases: wanted at least 1, got {config.cases}")
    sections = config.sections or get_args(Section)
    if "shelves" in sections:
        show_shelves(config.cases, config.figure)
    if "noise" in sections:
        show_noise(2 * config.cases)
    if "shuffled" in sections:
        show_shuffled(config.cases)
    if "backbones" in sections:
        show_backbones()


if __name__ == "__main__":
    main()
