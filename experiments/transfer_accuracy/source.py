"""The source model, and its outputs for the images that the tasks draw."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.command import named
from experiments.transfer_accuracy.config import Config
from leepjax.data import Bank, load
from leepjax.models import (
    Outputs,
    Source,
    SourceRecipe,
    accuracy,
    extract,
    load_resnet,
    train_source,
)
from leepjax.tasks import Split


def make_source(config: Config) -> tuple[Source, str]:
    """The source model, and its test accuracy; imported if weights are given, else trained."""
    if config.source_weights is not None:
        depth = int(config.source_model.removeprefix("resnet"))
        source = named("--source-weights", load_resnet, config.source_weights, depth)
        return source, "unknown (imported)"
    dataset = named("--source-data", load, config.source_data, data_dir=config.data_dir)
    training = SourceRecipe(steps=config.source_steps, seed=config.seed)
    source = named("--source-model", train_source, config.source_model, dataset, training)
    return source, f"{accuracy(source, dataset.test):.3f}"


def extract_drawn(
    source: Source, bank: Bank, splits: Sequence[Split], devices: Sequence[Any]
) -> Outputs:
    """Outputs for a bank; if tasks draw less than half of its images, zeros for the others."""
    rows = np.unique(np.concatenate([split.indices[split.where] for split in splits]))
    if 2 * len(rows) >= len(bank.images):  # the whole serves other tasks too
        return extract(source, bank, devices=devices)
    arrays = {name: getattr(bank, name)[rows] for name in ("images", "labels", "groups")}
    drawn = extract(source, dataclasses.replace(bank, **arrays), devices=devices)
    whole = Outputs(*(np.zeros((len(bank.images), x.shape[1]), x.dtype) for x in drawn))
    for array, values in zip(whole, drawn, strict=True):
        array[rows] = values
    return whole
