"""The command ``leepjax``: scores and rankings of arrays on disk.

    leepjax score predictions.npy labels.npy
    leepjax rank features/*.npz --labels labels.npy
    leepjax rank --hub timm/resnet18.a1_in1k microsoft/resnet-50 ./mine --data fashion_mnist

For those whose network runs in PyTorch, TensorFlow or anything else: what it said about the
target's images, saved as arrays, is all that is needed. Pre-trained networks in safetensors are run
here. The same as ``python -m leepjax``.
"""

import csv
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import tyro
from rich.console import Console
from tyro.conf import Positional

from leepjax._cache import cache_dir
from leepjax.data import load
from leepjax.evaluation import read_csv
from leepjax.metrics import metrics_of
from leepjax.ranking import Ranking, rank
from leepjax.ranking.files import FACTS, read_array, read_source
from leepjax.ranking.networks import pretrained_sources, some_of

OF_ONE = ("leep", "leep_gain", "nce", "h_score", "regularized_h_score", "logme")


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
    hub: tuple[str, ...] = ()
    """Instead of files: pre-trained networks, run on --data. NAME or NAME@REVISION of the Hugging
    Face hub, or folders with config.json and model.safetensors."""
    data: str | None = None
    """Labelled data set for --hub, as fashion_mnist; seconds are then those of one image."""
    split: Literal["train", "test"] = "train"
    """Which images of --data."""
    samples: int = 5000
    """How many of them, drawn at random."""
    data_dir: Path | None = None
    """Where --data is prepared; default TFDS_DATA_DIR or ~/tensorflow_datasets."""
    labels: Path | None = None
    """.npy of n integers >= 0; default the array labels of the first file that has one."""
    metrics: tuple[str, ...] = ()
    """Which, the one that decides first; default LEEP, NCE, H-scores and LogME."""
    top: int = 3
    """How many to choose."""
    models: Path | None = None
    """CSV of facts: model (a file's name without ending), parameters, source_accuracy, seconds."""
    halves: int = 0
    """Half-samples for standard errors of metrics without a gradient; slow."""
    output: Path | None = None
    """Also write the ranking to this .csv or .json."""


def score_one(config: Score, console: Console) -> None:
    """Score, and print one line for each metric."""
    of_array = config.predictions.suffix == ".npy"
    arrays = (
        {config.kind: read_array(config.predictions)}
        if of_array
        else read_source(config.predictions)
    )
    had = metrics_of(*arrays, "labels")
    try:
        ranking = rank(
            {config.predictions.name: arrays},
            config.labels,
            metrics=config.metrics or tuple(name for name in OF_ONE if name in had),
            nulls=("neg_label_entropy", "knn", "linear_probe"),
            num_halves=config.halves,
        )
    except ValueError as error:
        of_its_values = of_array and str(error).startswith("sources: none could be scored")
        hint = f"; it was taken for {config.kind}, see --kind" if of_its_values else ""
        raise ValueError(f"{error}{hint}") from None
    console.print(ranking)


def rank_many(config: Rank, console: Console) -> None:
    """Rank, print, and write what is asked for."""
    suffix = config.output.suffix if config.output else ".csv"
    if suffix not in (".csv", ".json"):
        raise ValueError(f"output: wanted a .csv or .json, got {suffix!r}")
    if config.output and not config.output.resolve().parent.is_dir():
        raise ValueError(f"output: wanted a file in a folder that exists, got {config.output}")
    options: dict[str, Any] = {"metrics": config.metrics} if config.metrics else {}
    commits: dict[str, str] = {}
    sources, labels = _networks(config, commits) if config.hub else (config.sources, config.labels)
    if config.data and not config.hub:
        raise ValueError("data: wanted --hub too, the networks to run on it, got none")
    ranking = rank(
        sources,
        labels,
        top=config.top,
        facts=_read_facts(config.models) if config.models else None,
        num_halves=config.halves,
        **options,
    )
    console.print(ranking)
    for name, commit in commits.items():
        console.print(f"{name} is commit {commit}.", highlight=False)
    if config.output:
        _write(ranking, config.output, commits)


def _networks(config: Rank, commits: dict[str, str]) -> tuple[Any, Any]:
    """Pre-trained networks as sources, and the images that they are ranked on."""
    if config.sources or config.labels:
        raise ValueError("hub: wanted no files and no labels beside it, as it runs on --data")
    if not config.data:
        raise ValueError("data: wanted a labelled data set for --hub, as fashion_mnist, got none")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # or each try again is a line
    dataset = load(config.data, data_dir=config.data_dir)
    bank = some_of(dataset.train if config.split == "train" else dataset.test, config.samples)
    return pretrained_sources(config.hub, bank, commits), bank


def _read_facts(path: Path) -> dict[str, dict[str, float]]:
    table = read_csv(path)
    columns = {fact: table.numbers(fact) for fact in FACTS if fact in table.columns}
    return {
        name: {fact: float(x[i]) for fact, x in columns.items() if x[i] == x[i]}  # NaN: missing
        for i, name in enumerate(table.text("model"))
    }


def _write(ranking: Ranking, path: Path, commits: dict[str, str]) -> None:
    """The ranking as JSON, or as CSV with a row for each source, those that failed last."""
    everything = ranking.to_dict()
    for source in everything["sources"]:
        source |= {"commit": commits[source["source"]]} if source["source"] in commits else {}
    if path.suffix == ".json":
        path.write_text(json.dumps(everything, indent=2) + "\n")
        return
    rows = []
    for source in everything["sources"]:
        scores = source.pop("scores")
        row = {"rank": source.pop("rank"), "source": source.pop("source")}
        for name, found in scores.items():
            row |= {name if k == "score" else f"{name}_{k}": v for k, v in found.items()}
        rows.append(row | source)
    for failure in everything["failures"]:
        about = ", ".join(failure["metrics"])
        said = f"{about}: {failure['reason']}" if about else failure["reason"]
        held = [row for row in rows if row["source"] == failure["source"]]
        row = held[0] if held else {"source": failure["source"]}
        row["failure"] = "; ".join(filter(None, (row.get("failure"), said)))
        rows += [] if held else [row]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, run, and turn bad input into one clear line."""
    config = tyro.cli(
        Score | Rank,  # pyright: ignore[reportArgumentType]
        prog="leepjax",
        description="Scores and rankings of source models.",
        args=sys.argv[1:] if arguments is None else arguments,
    )
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_dir("xla")))
    console = Console()
    console.width = max(console.width, 100)  # rather lines that wrap than names cut short
    try:
        score_one(config, console) if isinstance(config, Score) else rank_many(config, console)
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
