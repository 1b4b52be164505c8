"""The command ``leepjax``: scores and rankings of arrays on disk.

    leepjax score predictions.npy labels.npy
    leepjax rank features/*.npz --labels labels.npy

For those whose network runs in PyTorch, TensorFlow or anything else: what it said about the target's
images, saved as arrays, is all that is needed. The same as ``python -m leepjax``.
"""

import csv
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro
from rich.console import Console
from tyro.conf import Positional

from leepjax._cache import cache_dir
from leepjax.evaluation import Ranking, rank, read_csv
from leepjax.evaluation.files import FACTS, read_array, read_source

# What says something of one source alone, and what of several beside each other.
OF_ONE = ("leep", "leep_gain", "nce", "h_score", "regularized_h_score", "logme")
OF_MANY = ("leep", "nce", "h_score", "regularized_h_score", "logme")


@dataclasses.dataclass(frozen=True)
class Score:
    """Scores of one source model's predictions on labelled samples, with standard errors."""

    predictions: Positional[Path]
    """.npy of one array [n, columns]; or .npz, .safetensors or .parquet that names its arrays
    features, logits and probs."""
    labels: Positional[Path | None] = None
    """.npy of n integers >= 0; default the array labels of the first file."""
    kind: Literal["probs", "logits", "features"] = "probs"
    """What the array of an .npy is: probabilities of the source classes, logits, or features."""
    metrics: tuple[str, ...] = ()
    """Which; default LEEP, its gain, NCE, H-scores and LogME, those that the arrays suffice for."""
    halves: int = 0
    """Half-samples for standard errors of metrics without a gradient; slow."""


@dataclasses.dataclass(frozen=True)
class Rank:
    """Source models ranked by their scores on the same labelled samples."""

    sources: Positional[tuple[Path, ...]]
    """A file for each: .npz, .safetensors or .parquet with features, logits or probs by name."""
    labels: Path | None = None
    """.npy of n integers >= 0; default the array labels of the first file that has one."""
    metrics: tuple[str, ...] = ()
    """Which, the one that decides first; default LEEP, NCE, H-scores and LogME."""
    top: int = 3
    """How many to choose."""
    models: Path | None = None
    """CSV of facts: model (the file's name without ending), parameters, source_accuracy, seconds."""
    halves: int = 0
    """Half-samples for standard errors of metrics without a gradient; slow."""
    output: Path | None = None
    """Also write the ranking to this .csv or .json."""


def score_one(config: Score, console: Console) -> None:
    """Score, and print one line for each metric."""
    if config.predictions.suffix == ".npy":
        if config.labels is None:
            raise ValueError("labels: wanted a file of labels beside an .npy of predictions")
        arrays = {config.kind: read_array(config.predictions)}
    else:
        arrays = read_source(config.predictions)
    ranking = rank(
        {config.predictions.name: arrays},
        config.labels,
        metrics=config.metrics or tuple(name for name in OF_ONE if _suffices(name, arrays)),
        nulls=("neg_label_entropy", "knn", "linear_probe"),
        num_halves=config.halves,
    )
    console.print(ranking.as_scores())


def rank_many(config: Rank, console: Console) -> None:
    """Rank, print, and write what is asked for."""
    suffix = config.output.suffix if config.output else ".csv"
    if suffix not in (".csv", ".json"):
        raise ValueError(f"output: wanted a .csv or .json, got {suffix!r}")
    if config.output and not config.output.resolve().parent.is_dir():
        raise ValueError(f"output: wanted a file in a folder that exists, got {config.output}")
    options: dict[str, Any] = {"metrics": config.metrics} if config.metrics else {}
    ranking = rank(
        config.sources,
        config.labels,
        top=config.top,
        facts=_read_facts(config.models, config.sources) if config.models else None,
        num_halves=config.halves,
        **options,
    )
    console.print(ranking)
    if config.output:
        _write(ranking, config.output)
