"""The candidates of each choice: source models that differ in one hyper-parameter.

The last candidate of a choice is the default, what you would use without choosing: the end of the
training, the last layer, the widest network, unchanged images, all source classes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from leepjax.data import Bank, Dataset, of_classes, with_copies, with_rotations
from leepjax.models import (
    Source,
    SourceRecipe,
    accuracy,
    cut,
    extract,
    load_resnet,
    train_checkpoints,
    train_source,
)
from leepjax.models.networks import CONV4_WIDTHS
from leepjax.tasks import only_used, sample_tasks
from leepjax.transfer import fit_heads

MOMENTS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of a training, at which it leaves a checkpoint
COPIES = 2  # of each image, moved or mirrored at random
HEAD_IMAGES = 4000  # source images that the head of a cut layer is fitted to
NETWORK = "conv4"


class Candidate(NamedTuple):
    """A source model and its accuracy on test images of its own classes."""

    name: str
    source: Source
    accuracy: float


class Origin(NamedTuple):
    """What source models are made from.

    Attributes:
      dataset: the source data.
      training: how they are trained.
      subsets: names of classes or of groups, joined by ``+``, one subset each. If empty: every
        group, or the two halves of the classes if there is one group.
      weights: safetensors of a CIFAR-10 ResNet20 whose layers are cut, instead of a trained Conv4.
    """

    dataset: Dataset
    training: SourceRecipe
    subsets: Sequence[str]
    weights: Path | None


def checkpoints(origin: Origin) -> list[Candidate]:
    """Checkpoints of one training."""
    total = origin.training.steps
    at = sorted({max(1, round(moment * total)) for moment in MOMENTS})
    sources = train_checkpoints(NETWORK, origin.dataset, origin.training, at)
    named = zip(at, sources, strict=True)
    return [_candidate(f"step {n}", source, origin.dataset) for n, source in named]


def layers(origin: Origin) -> list[Candidate]:
    """The network cut at each stage, with a head fitted to source images there."""
    if origin.weights is not None:
        source = load_resnet(origin.weights, 20)
    else:
        source = train_source(NETWORK, origin.dataset, origin.training)
    return [
        _candidate(f"stage {i}", with_fitted_head(part, origin.dataset), origin.dataset)
        for i, part in enumerate(cut(source), start=1)
    ]


def widths(origin: Origin) -> list[Candidate]:
    """Networks of fewer channels."""
    names = (*(f"{NETWORK}_{width}" for width in CONV4_WIDTHS), NETWORK)
    return [
        _candidate(
            name if name != NETWORK else f"{NETWORK}_64",
            train_source(name, origin.dataset, origin.training),
            origin.dataset,
        )
        for name in names
    ]


def augmentations(origin: Origin) -> list[Candidate]:
    """Source images moved, mirrored, and rotated as additional classes."""
    key, dataset = jax.random.key(origin.training.seed), origin.dataset
    versions = {
        "turned": with_rotations(dataset),
        "mirrored": with_copies(key, dataset, COPIES, flip=True, crop=0),
        "moved": with_copies(key, dataset, COPIES, flip=False, crop=4),
        "as they are": dataset,
    }
    return [
        _candidate(name, train_source(NETWORK, version, origin.training), version)
        for name, version in versions.items()
    ]


def subsets(origin: Origin) -> list[Candidate]:
    """Fewer source classes, trained on for the same number of steps."""
    named = subset_classes(origin)
    parts = {name: of_classes(origin.dataset, classes) for name, classes in named.items()}
    return [
        _candidate(name, train_source(NETWORK, part, origin.training), part)
        for name, part in {**parts, "all": origin.dataset}.items()
    ]


CHOICES: dict[str, Callable[[Origin], list[Candidate]]] = {
    "checkpoints": checkpoints,
    "layers": layers,
    "widths": widths,
    "augmentations": augmentations,
    "subsets": subsets,
}


def subset_classes(origin: Origin) -> dict[str, np.ndarray]:
    """Class ids of each source subset, ascending.

    Raises:
      ValueError: a name of neither a class nor a group, or a subset of fewer than two classes.
    """
    bank = origin.dataset.train
    ids = np.arange(bank.num_classes)
    groups = {name: ids[bank.class_groups == g] for g, name in enumerate(bank.group_names)}
    if not origin.subsets and len(groups) == 1:
        first, second = np.array_split(ids, 2)
        return {"first half": first, "second half": second}
    known = groups | {name: ids[i : i + 1] for i, name in enumerate(bank.class_names)}
    found = {}
    for text in origin.subsets or groups:
        unknown = [name for name in text.split("+") if name not in known]
        if unknown:
            raise ValueError(
                f"--source-subsets: wanted classes or groups of the source data "
                f"({', '.join(list(known)[:12])}, ...), got {', '.join(unknown)}"
            )
        found[text] = np.unique(np.concatenate([known[name] for name in text.split("+")]))
    if small := [name for name, classes in found.items() if len(classes) < 2]:
        raise ValueError(f"--source-subsets: wanted two classes or more in each, got {small[0]}")
    return found


def with_fitted_head(source: Source, dataset: Dataset) -> Source:
    """The source with the linear head that fits a sample of its own training images best."""
    train = dataset.train
    fewest = int(np.bincount(train.labels).min())
    task = sample_tasks(
        jax.random.key(0),
        dataset,
        num_tasks=1,
        ways=train.num_classes,
        shots=min(fewest, max(5, HEAD_IMAGES // train.num_classes)),
        test_shots=1,
    )
    drawn, task = only_used(dataset, task)
    head = fit_heads(extract(source, drawn.train).features, task)
    fitted = {"kernel": head.kernel[0], "bias": head.bias[0]}
    return dataclasses.replace(source, params={**source.params, "head": fitted})


def _candidate(name: str, source: Source, dataset: Dataset) -> Candidate:
    return Candidate(name, source, accuracy(source, _some(dataset.test)))


def _some(bank: Bank, most: int = 2000) -> Bank:
    """At most so many images, spread evenly over the bank."""
    rows: Any = np.unique(np.linspace(0, len(bank.labels) - 1, most).astype(int))
    return dataclasses.replace(
        bank, images=bank.images[rows], labels=bank.labels[rows], groups=bank.groups[rows]
    )
