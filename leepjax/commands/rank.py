"""``leepjax rank``: source models ranked, from arrays on disk or pre-trained networks by name."""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.text import Text
from tyro.conf import Positional

from leepjax._text import printable, table_text
from leepjax.audit import read_csv
from leepjax.audit.columns import check_once
from leepjax.commands._output import check_output, write_output
from leepjax.data import load
from leepjax.ranking import Ranking, rank
from leepjax.ranking.files import FACTS
from leepjax.ranking.inputs import find_labels
from leepjax.ranking.layers import best_layers, draw_layers, head_accuracies, head_lines


@dataclasses.dataclass(frozen=True)
class Rank:
    """Source models ranked by what they say of the same labelled samples."""

    sources: Positional[tuple[Path, ...]]
    """A file for each: .npz, .safetensors or .parquet with features, logits or probs by name."""
    hub: tuple[str, ...] = ()
    """Instead of files: pre-trained networks, run on --data. NAME or NAME@REVISION of the Hugging
    Face hub, or folders with config.json and model.safetensors."""
    layers: Literal["last", "all", "best"] = "last"
    """Of language models in --hub: the last layer, every layer, or the best of each model."""
    pooling: str | None = None
    """From the states of tokens to features: mean, cls, first or last; default what the model's
    classifier is fed, what its files say, or the mean."""
    heads: bool = False
    """Also the accuracy of a head retrained on each layer, on half of the samples."""
    figure: Path | None = None
    """Also draw score against layer into this file, .png, .svg or .pdf; needs --layers all."""
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
    by: str | None = None
    """The score that decides; default what all sources have of predictive_r2 (a linear head, on
    samples left out) and cross_fitted_leep."""
    metrics: tuple[str, ...] = ()
    """Scores to stand beside it; default LEEP, NCE, H-scores and LogME."""
    confidence: float = 0.9
    """The probability with which the choice is to contain the best source."""
    models: Path | None = None
    """CSV of facts: model (a file's name without ending), parameters, source_accuracy, seconds."""
    halves: int = 0
    """Half-samples for the interval of a score --by that has no gradient; slow."""
    output: Path | None = None
    """Also write the ranking to this .csv or .json."""


def rank_many(config: Rank, console: Console) -> None:
    """Rank, print, and write what is asked for."""
    if config.output:
        files = filter(None, (*config.sources, config.labels, config.models))
        check_output(config.output, (".csv", ".json"), [*files, *map(Path, config.hub)])
    options: dict[str, Any] = {"metrics": config.metrics} if config.metrics else {}
    if not config.hub and (config.layers != "last" or config.pooling or config.heads):
        raise ValueError("layers, pooling, heads: wanted --hub too, the networks, got none")
    if config.figure and config.layers == "last":
        raise ValueError("figure: wanted --layers all or best, as it is of layers, got last")
    if config.figure:
        folders = [*map(Path, config.hub)]
        check_output(config.figure, (".png", ".svg", ".pdf"), folders, name="figure")
    commits: dict[str, str] = {}
    sources, labels = _networks(config, commits) if config.hub else (config.sources, config.labels)
    if config.data and not config.hub:
        raise ValueError("data: wanted --hub too, the networks to run on it, got none")
    facts, unused = _read_facts(config.models) if config.models else (None, "")
    ranking = rank(
        sources,
        labels,
        by=config.by,
        confidence=config.confidence,
        facts=facts,
        num_halves=config.halves,
        **options,
    )
    heads = head_accuracies(sources, find_labels(labels, {})) if config.heads else None
    every = ranking
    ranking = best_layers(ranking) if config.layers == "best" else ranking
    try:  # before it is shown: a terminal that has gone takes nothing along
        if config.output:
            write_output(config.output, _as_text(ranking, config.output.suffix, commits))
        if config.figure:
            draw_layers(every, heads).savefig(config.figure)
    finally:  # nor does a full disk
        console.print(ranking)
        for line in head_lines(every, heads or {}):
            console.print(Text(printable(line)))
        if unused:
            console.print(Text(printable(unused)))
        for name, commit in commits.items():
            console.print(Text(printable(f"{name} is commit {commit}.")))


def _networks(config: Rank, commits: dict[str, str]) -> tuple[Any, Any]:
    """Pre-trained networks as sources, and the images or texts that they are ranked on."""
    from leepjax.ranking.networks import pretrained_sources, some_of  # needs flax, files do not

    if config.sources or config.labels:
        raise ValueError("hub: wanted no files and no labels beside it, as it runs on --data")
    if not config.data:
        raise ValueError("data: wanted a labelled data set for --hub, as fashion_mnist, got none")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # or each try again is a line
    dataset = load(config.data, data_dir=config.data_dir)
    bank = some_of(dataset.train if config.split == "train" else dataset.test, config.samples)
    options = {"every_layer": config.layers != "last", "pooling": config.pooling}
    return pretrained_sources(config.hub, bank, commits, **options), bank


def _read_facts(path: Path) -> tuple[dict[str, dict[str, float]], str]:
    """Facts by model, and which columns of the file are not among them."""
    table = read_csv(path)
    names = table.text("model")
    columns = {fact: table.numbers(fact) for fact in FACTS if fact in table.columns}
    others = [name for name in table.columns if name not in (*FACTS, "model")]
    if not columns:
        got = ", ".join(map(repr, others)) or "none"
        raise ValueError(f"{table.source}: wanted a column {', '.join(FACTS)}, got {got}")
    check_once(table, columns)
    facts = {
        name: {fact: float(x[i]) for fact, x in columns.items() if x[i] == x[i]}  # NaN: missing
        for i, name in enumerate(names)
    }
    return facts, f"{table.source}, not used: {', '.join(others)}." if others else ""


def _as_text(ranking: Ranking, suffix: str, commits: dict[str, str]) -> str:
    """The ranking as JSON, or as CSV with a row for each source, those that failed last."""
    everything = ranking.to_dict()
    for source in everything["sources"]:
        source |= {"commit": commits[source["source"]]} if source["source"] in commits else {}
    if suffix == ".json":
        return json.dumps(everything, indent=2) + "\n"
    rows = []
    for source in everything["sources"]:
        scores, shuffled = source.pop("scores"), source.pop("shuffled")
        row = {"rank": source.pop("rank"), "source": source.pop("source")}
        chosen = {"chosen": row["source"] in everything["choice"]}
        of_labels = {f"{name}_shuffled": value for name, value in shuffled.items()}
        rows.append(row | chosen | scores | source | of_labels)
    for failure in everything["failures"]:
        about = ", ".join(failure["metrics"])
        said = f"{about}: {failure['reason']}" if about else failure["reason"]
        held = [row for row in rows if row["source"] == failure["source"]]
        row = held[0] if held else {"source": failure["source"]}
        row["failure"] = "; ".join(filter(None, (row.get("failure"), said)))
        rows += [] if held else [row]
    return table_text(rows)
