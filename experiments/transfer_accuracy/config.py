"""The flags of the study, and what its presets set."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from experiments.command import ClusterConfig


@dataclasses.dataclass(frozen=True)
class Config(ClusterConfig):
    """Scores of a source model against the accuracy of its transfer, task by task."""

    preset: Literal["smoke", "default", "paper"] = "default"
    """Sizes: smoke (a minute; its results mean nothing), default, paper (1,000 tasks)."""
    source_data: str = "glyphs:latin+greek+cyrillic"
    """Data that the source model is trained on: NAME[:SPLIT]. Not used with --source-weights."""
    source_model: str = "conv4"
    """conv4, conv4_max, mlp, resnet20, resnet32, resnet44 or resnet56."""
    source_weights: Path | None = None
    """Safetensors of a CIFAR-10 ResNet, instead of training."""
    source_steps: int = 2000
    """Updates of source training, batches of 128."""
    target_data: str = "glyphs:-latin-greek-cyrillic"
    """Data that the target tasks are drawn from: NAME[:SPLIT]."""
    regime: Literal["subsets", "small", "imbalanced"] = "small"
    """subsets: 2 to 10 classes; small: 5 classes with equally many images; imbalanced: 5 classes,
    each with its own random number of images."""
    ways: tuple[int, ...] = ()
    """Classes of a task, K or LOW HIGH; default: the regime's own."""
    shots: tuple[int, ...] = ()
    """Training images of a class, M or LOW HIGH; default: subsets 1500 at most, small 50 (20 if the
    data has groups), imbalanced 30 60."""
    test_shots: int = 1000
    """Test images of a class, at most."""
    num_tasks: int = 200
    """Tasks of each setting. If the data has groups there are two settings, within and across
    groups; else there is one."""
    metrics: tuple[str, ...] = (
        "leep",
        "leep_gain",
        "nce",
        "h_score",
        "logme",
        "knn",
        "linear_probe",
        "predictive_r2",
        "neg_label_entropy",
    )
    """Scores to compute, of leepjax.metrics.METRICS; all: every one."""
    learner: Literal["retrain_head", "fine_tune", "from_scratch"] = "retrain_head"
    """How the source is transferred. from_scratch: no transfer, its network is trained on the task
    alone."""
    protocol: Literal["optimum", "sgd"] = "optimum"
    """For retrain_head: heads at the optimum of their objective, or after a fixed budget of SGD."""
    l2: float = 1e-3
    """For retrain_head: penalty on the squared norm of a head's kernel, halved."""
    recipe: str = "default"
    """For fine_tune and from_scratch: default, leep2020, bit, vtab or kornblith (docstring of
    leepjax.transfer.recipe)."""
    epochs: int | None = None
    """Of fine_tune and from_scratch, instead of the recipe's."""
    batch_size: int | None = None
    """Of fine_tune and from_scratch, instead of the recipe's."""
    learning_rates: tuple[float, ...] = ()
    """Of fine_tune and from_scratch, instead of the recipe's; several are a sweep."""
    weight_decays: tuple[float, ...] = ()
    """Of fine_tune and from_scratch, instead of the recipe's; several are a sweep."""
    validation: float | None = None
    """Share of a task's training images that chooses its epoch, and its learning rate in a
    sweep."""


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "source_data": "glyphs:digits+greek",
        "source_steps": 60,
        "target_data": "glyphs:ogham+tifinagh+nko",
        "num_tasks": 12,
    },
    "default": {},
    "paper": {"num_tasks": 1000},
}
