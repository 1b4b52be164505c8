"""``leepjax score``: one source model's scores, from arrays on disk."""

import dataclasses
from pathlib import Path
from typing import Literal

from rich.console import Console
from tyro.conf import Positional

from leepjax.metrics import metrics_of
from leepjax.ranking import rank
from leepjax.ranking.files import read_array, read_source

OF_ONE = ("leep", "leep_gain", "nce", "h_score", "regularized_h_score", "logme")


@dataclasses.dataclass(frozen=True)
class Score:
    """Scores of one source model on labelled samples, beside those of shuffled labels."""

    predictions: Positional[Path]
    """.npy of one array [n, columns]; or .npz, .safetensors or .parquet that names its arrays
    features, logits and probs."""
    labels: Positional[Path | None] = None
    """.npy of n integers >= 0 (classes), [n, t] of 0 and 1 (several labels), floats (numbers), or
    [n, ...] integers (tokens, pixels); default the array labels of the first file."""
    groups: Path | None = None
    """.npy that says which samples belong together, and are left out together."""
    target: Literal["auto", "class", "multilabel", "regression"] = "auto"
    """What labels are, where dtype and shape do not say it: whole numbers that are no classes."""
    kind: Literal["probs", "logits", "features"] = "probs"
    """What the array of an .npy holds: probabilities of the source classes, logits, or
    features."""
    metrics: tuple[str, ...] = ()
    """Which scores; default LEEP, its gain, NCE, H-scores and LogME, if the arrays suffice."""


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
            groups=config.groups,
            target=config.target,
            metrics=config.metrics or tuple(name for name in OF_ONE if name in had),
            nulls=("neg_label_entropy", "knn", "linear_probe"),
        )
    except ValueError as error:
        of_its_values = of_array and str(error).startswith("sources: none could be scored")
        hint = f"; it was taken for {config.kind}, see --kind" if of_its_values else ""
        raise ValueError(f"{error}{hint}") from None
    console.print(ranking)
