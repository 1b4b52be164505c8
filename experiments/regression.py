"""Do scores of numbers go with how well a head predicts them, and do they choose the right source?

    python -m experiments.regression --weights-dir DIR

Images of Fashion-MNIST are rotated, shifted, resized and dimmed at random; what was done to each,
and how much ink it has, are six targets. A task is one of them for the images of one class: 200
labelled images, and 500 others on which a ridge head is tested that was fitted to the 200, its
penalty chosen by five folds. Sources are CIFAR-10 ResNets (safetensors in DIR), and four that need
none: an untrained network, the pixels, random rectified projections of them, and noise.

Printed are, for each source, correlations of scores with the R² of the retrained head over tasks,
with intervals clustered on both targets and classes; and the R² that is lost by choosing a source
for each task by each score, and by ``rank``, beside chance. Results are in
docs/results/regression.md.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console
from scipy.ndimage import affine_transform

from experiments.command import StudyConfig, named, run_study, show_sections, start
from leepjax import report
from leepjax._text import starred
from leepjax.data import Bank, load
from leepjax.evaluation import NULLS, cluster_membership, jackknife, kendall, mean, pearson
from leepjax.models import extract, load_resnet
from leepjax.models.train import untrained
from leepjax.ranking import rank
from leepjax.report import Section, format_estimate, format_mean, read_table

TARGETS = ("angle", "right", "down", "size", "brightness", "ink")
SCORES = ("predictive_r2", "logme_regression", "knn")
WIDTH = 1024  # random features
FOLDS = 5
PENALTIES = 10.0 ** np.arange(-4, 3)


@dataclasses.dataclass(frozen=True)
class Config(StudyConfig):
    """Scores of regression targets against retrained ridge heads."""

    preset: Literal["smoke", "default"] = "default"
    """Data and sizes: smoke (digits, a minute, nothing to learn from it), default."""
    weights_dir: Path = Path()
    """Folder of the safetensors of imported sources."""
    networks: tuple[str, ...] = tuple(f"cifar10_resnet{n}.safetensors" for n in (20, 32, 56))
    """CIFAR-10 ResNets: files of --weights-dir with the depth in their names."""
    target_data: str = "fashion_mnist"
    """What images are taken from: NAME[:SPLIT]."""
    classes: int = 10
    """Of which classes, from the first: one for each task."""
    images: int = 200
    """Labelled images of a task."""
    test_images: int = 500
    """Images that its head is tested on."""


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "networks": (),
        "target_data": "digits",
        "classes": 3,
        "images": 60,
        "test_images": 40,
    },
    "default": {},
}


def run(config: Config, console: Console) -> Path:
    """Run the study, or show it where it has already run; return its directory."""
    for network in config.networks:
        if not (config.weights_dir / network).is_file() or not re.search(r"resnet\d+", network):
            path = config.weights_dir / network
            raise ValueError(f"--networks: wanted files named resnetN in --weights-dir, got {path}")
    for flag, least in (("classes", 3), ("images", 20), ("test_images", 20)):
        if getattr(config, flag) < least:
            shown = flag.replace("_", "-")
            raise ValueError(f"--{shown}: wanted at least {least}, got {getattr(config, flag)}")
    return run_study("regression", config, console, _run, _show)


def moved(images: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images ``[n, h, w, 1]`` moved at random, and what was done: ``[n, 6]`` of ``TARGETS``.

    Angles are in degrees anticlockwise, shifts in pixels, sizes and brightness are factors, ink is
    the mean of the pixels in [0, 1].
    """
    n, h = images.shape[:2]
    done = rng.uniform((-45, -h / 8, -h / 8, 0.75, 0.4), (45, h / 8, h / 8, 1.25, 1), (n, 5))
    out = np.empty_like(images)
    centre = (np.array(images.shape[1:3]) - 1) / 2
    for i, (angle, right, down, size, brightness) in enumerate(done):
        c, s = np.cos(np.deg2rad(angle)) / size, np.sin(np.deg2rad(angle)) / size
        back = np.array([[c, s], [-s, c]])
        offset: Any = centre - back @ (centre + np.array([down, right]))
        new = affine_transform(images[i, :, :, 0].astype(float), back, offset, order=1)
        out[i, :, :, 0] = np.round(brightness * new)
    ink = out.reshape(n, -1).mean(1) / 255
    return out, np.column_stack([done, ink])


def ridge_r2(features: np.ndarray, numbers: np.ndarray, n: int) -> np.ndarray:
    """``[t]`` R² of ridge heads to each column, fitted to the first n rows, on the others.

    The penalty is that of least error over five folds of the n.
    """
    fold = np.arange(n) % FOLDS
    x, y = features.astype(float), numbers
    error = np.zeros((len(PENALTIES), y.shape[1]))
    for k in range(FOLDS):
        said = _ridge(x[:n][fold != k], y[:n][fold != k], x[:n][fold == k])
        error += np.square(said - y[:n][fold == k]).sum(1)
    said = _ridge(x[:n], y[:n], x[n:])[error.argmin(0), :, np.arange(y.shape[1])].T
    spread = np.square(y[n:] - y[:n].mean(0)).sum(0)
    return 1 - np.square(y[n:] - said).sum(0) / spread


def _ridge(x: np.ndarray, y: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """``[p, m, t]`` predictions by each penalty, relative to the mean eigenvalue."""
    left, values, right = np.linalg.svd(x - x.mean(0), full_matrices=False)
    kept = values > 1e-4 * values[0]
    left, values, seen = left[:, kept], values[kept], (fresh - x.mean(0)) @ right[kept].T
    projected = left.T @ (y - y.mean(0))
    shrunk = values / (values**2 + PENALTIES[:, None] * np.mean(values**2))
    return y.mean(0) + np.einsum("mr,pr,rt->pmt", seen, shrunk, projected)


def _banks(config: Config) -> tuple[Bank, np.ndarray]:
    """The images of all tasks, class by class, moved; and what was done to each."""
    bank = named("--target-data", load, config.target_data, data_dir=config.data_dir).train
    rng, each = np.random.default_rng(config.seed), config.images + config.test_images
    counts = np.bincount(bank.labels, minlength=bank.num_classes)
    if bank.num_classes < config.classes or counts[: config.classes].min() < each:
        got = f"{bank.num_classes} classes, of which one has {counts.min()}"
        raise ValueError(
            f"--classes, --images: wanted {config.classes} of {each} images, got {got}"
        )
    of_class = [np.flatnonzero(bank.labels == c) for c in range(config.classes)]
    rows = np.concatenate([rng.choice(here, each, replace=False) for here in of_class])
    images, done = moved(bank.images[rows], rng)
    groups, labels = bank.groups[rows], bank.labels[rows]
    return dataclasses.replace(bank, images=images, labels=labels, groups=groups), done


def _features(config: Config, bank: Bank, console: Console) -> dict[str, np.ndarray]:
    """``[n, d]`` by source."""
    n, rng = len(bank.images), np.random.default_rng(config.seed)
    networks = {}
    for name in config.networks:
        depth = int(re.findall(r"resnet(\d+)", name)[0])
        networks[Path(name).stem] = named(
            "--networks", load_resnet, config.weights_dir / name, depth
        )
    fresh = "resnet20" if config.networks else "conv4"
    networks[f"{fresh} untrained"] = untrained(jax.random.key(config.seed), fresh, bank)
    found = {}
    for i, (name, source) in enumerate(networks.items(), 1):
        console.print(f"network {i} of {len(networks)}: {name}", highlight=False)
        found[name] = np.asarray(extract(source, bank).features)
    pixels = bank.images.reshape(n, -1) / np.float32(255)
    weights = rng.normal(size=(pixels.shape[1], WIDTH)) / pixels.shape[1] ** 0.5
    random = np.maximum((pixels - pixels.mean(0)) @ weights, 0)
    return found | {"pixels": pixels, "random": random, "noise": rng.normal(size=(n, 64))}


def _run(study: report.Run, config: Config, devices: Sequence[Any], console: Console) -> None:
    bank, done = _banks(config)
    features, each = _features(config, bank, console), config.images + config.test_images
    rows = []
    for c in range(config.classes):
        console.print(f"class {c + 1} of {config.classes}", highlight=False)
        task = slice(c * each, (c + 1) * each)
        truth = {name: ridge_r2(x[task], done[task], config.images) for name, x in features.items()}
        labelled = {
            name: {"features": x[task][: config.images].astype(np.float32)}
            for name, x in features.items()
        }
        for t, target in enumerate(TARGETS):
            numbers = done[task][: config.images, t]
            found = rank(labelled, numbers, metrics=SCORES[1:2], nulls=SCORES[2:])
            rows += [
                {
                    "target": target,
                    "class": bank.class_names[c],
                    "source": name,
                    **{score: found.scores[score][i] for score in SCORES},
                    "chosen": int(name in found.choice),
                    "test_r2": truth[name][t],
                }
                for i, name in enumerate(found.names)
            ]
    study.write_table("results", rows)
    study.write_table("correlation", [*_correlations(rows)])
    study.write_table("choices", [*_choices(rows)])


def _correlations(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Over tasks, by source and score."""
    for source in dict.fromkeys(row["source"] for row in rows):
        here = [row for row in rows if row["source"] == source]
        y = np.array([row["test_r2"] for row in here])
        shared = tuple(
            cluster_membership(np.array([row[k] for row in here])) for k in ("target", "class")
        )
        for score in SCORES:
            x = np.array([row[score] for row in here])
            estimate = jackknife(pearson, x, y, shared)[0]
            yield {"source": source, "score": score, **report.estimate_columns("r", estimate)}


def _choices(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """What a choice loses of the best R² of each task, by what it is made; targets are clusters."""
    tasks: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        tasks.setdefault((row["target"], row["class"]), []).append(row)
    shared = cluster_membership(np.array([target for target, _ in tasks]))

    def columns(name: str) -> np.ndarray:
        return np.array([[row[name] for row in of] for of in tasks.values()], float)

    truth = columns("test_r2")
    lost = truth.max(1, keepdims=True) - truth  # [tasks, sources]
    ways: dict[str, tuple[np.ndarray, float]] = {}
    for score in SCORES:
        x = columns(score)
        taus = [kendall(a, b, np.ones((1, len(a))))[0] for a, b in zip(x, truth, strict=True)]
        ways[score] = lost[np.arange(len(x)), x.argmax(1)], float(np.nanmean(taus))
    chosen = columns("chosen") > 0
    chosen |= ~chosen.any(1, keepdims=True)  # where nothing is, any
    ways["rank: the best of its choice"] = np.where(chosen, lost, np.inf).min(1), np.nan
    ways["chance"] = lost.mean(1), np.nan
    for name, (values, tau) in ways.items():
        yield {
            "way": name,
            **report.estimate_columns("lost", mean(values, shared)),
            "most": float(values.max()),
            "tau": tau,
            "sources": float(chosen.sum(1).mean()) if name.startswith("rank") else 1.0,
        }


def _sections(path: Path) -> Iterator[Section]:
    found: dict[str, dict[str, str]] = {}
    for row in read_table(path / "correlation.csv"):
        estimate = report.read_estimate(row, "r")
        found.setdefault(row["source"], {})[row["score"]] = format_estimate(estimate)
    headings = [starred(score, NULLS) for score in SCORES]
    cells = [[source, *(of[score] for score in SCORES)] for source, of in found.items()]
    yield Section(
        "Over tasks: r with the test R² of the retrained ridge head",
        [report.Sheet(["source", *headings], cells)],
        "Intervals (95 %) are for new targets and classes. * null.",
    )
    rows = [
        [
            starred(row["way"], NULLS),
            format_mean(report.read_estimate(row, "lost"), percent=False),
            f"{float(row['most']):.2f}",
            f"{float(row['sources']):.1f}",
            "" if row["tau"] == "nan" else f"{float(row['tau']):.2f}",
        ]
        for row in read_table(path / "choices.csv")
    ]
    yield Section(
        "Over sources: test R² lost by the choice",
        [report.Sheet(["by", "lost [95 %]", "at most", "sources", "Kendall's tau"], rows)],
        "Means over tasks; intervals are for new targets. Tau is with the test R², over sources.",
    )


def _show(path: Path, console: Console) -> None:
    show_sections(_sections, path, console, "Tables")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from its command line."""
    start(Config, run, PRESETS, arguments)


if __name__ == "__main__":
    main()
