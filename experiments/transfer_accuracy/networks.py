"""Networks trained on each task: the recipes that flags name, fine-tuned or from scratch."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from experiments.transfer_accuracy.config import Config
from leepjax import report
from leepjax.data import Dataset
from leepjax.models import Source
from leepjax.tasks import Tasks
from leepjax.transfer import RECIPES, NetworkResult, Recipe, fine_tune, from_scratch, sweep


def recipes(config: Config) -> tuple[Recipe, ...]:
    """The recipe that ``--recipe`` names, unless other flags replace its values."""
    if config.recipe not in RECIPES:
        raise ValueError(f"--recipe: wanted one of {', '.join(RECIPES)}, got {config.recipe!r}")
    names = ("epochs", "batch_size", "validation")
    changes = {n: getattr(config, n) for n in names if getattr(config, n) is not None}
    preset = [dataclasses.replace(recipe, **changes) for recipe in RECIPES[config.recipe]]
    if not config.learning_rates and not config.weight_decays:
        return tuple(preset)
    rates = config.learning_rates or tuple(dict.fromkeys(r.learning_rate for r in preset))
    decays = config.weight_decays or tuple(dict.fromkeys(r.weight_decay for r in preset))
    return sweep(preset[0], rates, decays)


def train_networks(
    study: report.Run,
    setting: str,
    config: Config,
    source: Source,
    dataset: Dataset,
    tasks: Tasks,
    devices: Sequence[Any],
) -> NetworkResult:
    """The accuracy of fine-tuned networks, or networks from scratch, on each task."""
    learner = fine_tune if config.learner == "fine_tune" else from_scratch
    journal = study.path / f"{setting}.journal"
    tried = recipes(config)
    study.log(event="recipes", setting=setting, recipes=[dataclasses.asdict(r) for r in tried])
    key = jax.random.key(config.seed)
    where: dict[str, Any] = {"devices": devices, "journal": journal, "cluster": config.cluster}
    return learner(key, source, dataset, tasks, tried, **where)
