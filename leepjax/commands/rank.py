"""``leepjax rank``: source models ranked, from arrays on disk or pre-trained networks by name."""

import dataclasses
import logging
import math
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.text import Text
from tyro.conf import Positional

from leepjax._progress import say, tell
from leepjax._text import duration, grid, printable
from leepjax.audit import read_csv
from leepjax.audit.columns import check_once
from leepjax.commands._output import check_output, write_output
from leepjax.data import TextBank, load
from leepjax.ranking import Ranking, cost, rank, saved
from leepjax.ranking.figure import FORMATS
from leepjax.ranking.files import FACTS
from leepjax.ranking.layers import best_layers, draw_layers, head_accuracies, head_lines

PAUSE = 2  # seconds between two pages: drawing one takes half of one


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
    """Labelled data set for --hub, as fashion_mnist, or yours: a folder, a table (.csv, .jsonl,
    .parquet) or hf:OWNER/NAME; seconds are then those of one image."""
    image_column: str | None = None
    """Column of a table's images, as paths relative to it; default image or file_name."""
    text_column: tuple[str, ...] = ()
    """Column of a table's texts, or two, of pairs; default text."""
    label_column: tuple[str, ...] = ()
    """Column of a table's labels, or several; default label."""
    skip_damaged: bool = False
    """Leave out samples of --data that cannot be read or have no label."""
    split: Literal["train", "test"] = "train"
    """Which images of --data."""
    samples: int = 5000
    """How many of them, drawn at random."""
    data_dir: Path | None = None
    """Where --data is prepared; default TFDS_DATA_DIR or ~/tensorflow_datasets."""
    labels: Path | None = None
    """.npy of n integers >= 0 (classes), [n, t] of 0 and 1 (several labels), floats (numbers), or
    [n, ...] integers (tokens, pixels); default the array labels of the first file that has one."""
    groups: Path | None = None
    """.npy that says which samples belong together (a sentence, an image, a patient), and are left
    out together."""
    target: Literal["auto", "class", "multilabel", "regression"] = "auto"
    """What labels are: classes, several at once (0 and 1), numbers. The default is classes for
    --data, and what dtype and shape say for arrays."""
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
    cluster: str | None = None
    """Divide the sources over a Ray cluster: local:N, auto or HOST:PORT."""
    journal: Path | None = None
    """Keep each source's scores in this file; a second run scores only what it does not hold."""
    output: Path | None = None
    """Also write the ranking to this folder, as a page for a browser (index.html) with CSV and JSON
    beside it, kept up to date while it runs; or to this .csv or .json."""
    plot: Path | None = None
    """Also draw how far sources are behind the best to this .png, .svg or .pdf."""


def rank_many(config: Rank, console: Console) -> None:
    """Rank, print, and write what is asked for."""
    files = filter(None, (*config.sources, config.labels, config.groups, config.models))
    files = [*files, *map(Path, config.hub)]
    folder = config.output if config.output and _is_folder(config.output) else None
    if folder:
        saved.check_folder(folder)
    elif config.output:
        check_output(config.output, (".csv", ".json"), files)
    if config.plot:
        check_output(config.plot, FORMATS, files, "plot")
    if config.figure:
        check_output(config.figure, FORMATS, files, "figure")
    options: dict[str, Any] = {"metrics": config.metrics} if config.metrics else {}
    if not config.hub and (config.layers != "last" or config.pooling or config.heads):
        raise ValueError("layers, pooling, heads: wanted --hub too, the networks, got none")
    if config.figure and config.layers == "last":
        raise ValueError("figure: wanted --layers all or best, as it is of layers, got last")
    made: dict[str, Any] = {"command": _command(config)}
    if config.hub:
        sources, labels = _networks(config, made)
    else:
        sources, labels = config.sources, config.labels
    if config.data and not config.hub:
        raise ValueError("data: wanted --hub too, the networks to run on it, got none")
    facts, unused = _read_facts(config.models) if config.models else (None, "")
    ranking = rank(
        sources,
        labels,
        groups=config.groups,
        target=config.target,
        by=config.by,
        confidence=config.confidence,
        facts=facts,
        num_halves=config.halves,
        cluster=config.cluster,
        journal=config.journal,
        callback=_follow(folder, made),
        **options,
    )
    heads = head_accuracies(sources, labels) if config.heads else None
    every = ranking = _with(ranking, made)
    ranking = best_layers(ranking) if config.layers == "best" else ranking
    try:  # before it is shown: a terminal that has gone takes nothing along
        if folder:
            ranking.save(folder)
        elif config.output:
            as_text = saved.as_csv if config.output.suffix == ".csv" else saved.as_json
            write_output(config.output, as_text(ranking))
        if config.plot:
            ranking.plot(config.plot)
        if config.figure:
            draw_layers(every, heads).savefig(config.figure)
    finally:  # nor does a full disk
        console.print(ranking)
        console.print(grid(cost.sheet(ranking)), Text(printable(ranking.cost)))
        for line in head_lines(every, heads or {}):
            console.print(Text(printable(line)))
        if unused:
            console.print(Text(printable(unused)))
        for name, commit in ranking.made["commits"].items():
            console.print(Text(printable(f"{name} is commit {commit}.")))


def _is_folder(path: Path) -> bool:
    return path.suffix not in (".csv", ".json") and (not path.suffix or path.is_dir())


def _command(config: Rank) -> str:
    """The command line that gives this configuration."""
    words = ["leepjax", "rank", *map(str, config.sources)]
    for field in dataclasses.fields(config)[1:]:
        value = getattr(config, field.name)
        if value != field.default:
            words.append(f"--{field.name.replace('_', '-')}")
            words += map(str, value if isinstance(value, tuple) else (value,))
    return shlex.join(words)


def _with(ranking: Ranking, made: dict[str, Any]) -> Ranking:
    """What the command knows of how it was made, first."""
    return dataclasses.replace(ranking, made={**made, **ranking.made, **made})


def _follow(folder: Path | None, made: dict[str, Any]) -> Callable[[Ranking], None]:
    """What is done after each source: a line about it, and the page so far."""
    told: set[str] = set()
    saved_at = -math.inf

    def follow(r: Ranking) -> None:
        nonlocal saved_at
        for i, name in enumerate(r.names):
            if name not in told:
                value, error = r.scores[r.by][i], r.standard_error[i]
                score = f"{r.by} {value:.3f}" if value == value else f"no {r.by}"  # NaN is not
                spread = f" ± {error:.3f}" if error == error else ""
                tell(f"{name}: {score}{spread}, {duration(sum(x[i] for x in r.took.values()))}")
        for failure in r.failures:
            if not failure.metrics and failure.source not in told:
                tell(f"{failure.source}: not scored: {failure.reason}")
        told.update(r.names, (f.source for f in r.failures if not f.metrics))
        if folder and r.waiting and time.monotonic() > saved_at + PAUSE:
            try:
                _with(r, made).save(folder)
            except Exception as error:  # as of a full disk: no reason to stop
                say(str(error))
            saved_at = time.monotonic()

    return follow


def _networks(config: Rank, made: dict[str, Any]) -> tuple[Any, Any]:
    """Pre-trained networks as sources, and the samples that they are ranked on, which it notes."""
    from leepjax.ranking.networks import pretrained_sources, some_of  # needs flax, files do not

    if config.sources or config.labels:
        raise ValueError("hub: wanted no files and no labels beside it, as it runs on --data")
    if not config.data:
        raise ValueError("data: wanted a labelled data set for --hub, as fashion_mnist, got none")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # or each try again is a line
    dataset = load(
        config.data,
        data_dir=config.data_dir,
        image_column=config.image_column,
        text_column=config.text_column,
        label_column=config.label_column,
        target="class" if config.target == "auto" else config.target,
        skip_damaged=config.skip_damaged,
    )
    bank = some_of(dataset.train if config.split == "train" else dataset.test, config.samples)
    kind = "texts" if isinstance(bank, TextBank) else "images"
    made["data"] = f"{config.data}, {config.split}: {len(bank.labels):,} {kind} ({bank.digest})"
    every = config.layers != "last"
    return pretrained_sources(config.hub, every_layer=every, pooling=config.pooling), bank


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
