"""A small study of your own: does LEEP correlate with accuracy on scikit-learn's digits?

    python docs/examples/hello_transfer.py --preset smoke

An MLP learns four of the digits, and its head is retrained for tasks of three of the other six.
LEEP is compared with test accuracy. With only six target classes the interval is wide.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console

from experiments.command import StudyConfig, named, run_study, start
from leepjax import report
from leepjax.data import load, of_classes
from leepjax.models import SourceRecipe, extract, train_source
from leepjax.tasks import sample_tasks, score_tasks
from leepjax.transfer import retrain_head


@dataclasses.dataclass(frozen=True)
class Config(StudyConfig):
    """Every field is a flag; its text below is the flag's help."""

    preset: Literal["smoke", "default"] = "default"
    """Sizes: smoke (seconds), default."""
    num_tasks: int = 100
    """Target tasks, each of three digits."""
    shots: int = 10
    """Training images of a class."""


PRESETS: dict[str, dict[str, Any]] = {"smoke": {"num_tasks": 20}, "default": {}}


def run(config: Config, console: Console) -> Path:
    """Check the flags, then run, or show what has already run; return its directory."""
    if config.num_tasks < 3:
        raise ValueError(f"--num-tasks: wanted at least 3, got {config.num_tasks}")
    return run_study("hello_transfer", config, console, _run, report.show_study)


def _run(study: report.Run, config: Config, devices: Sequence[Any], console: Console) -> None:
    digits = load("digits")
    known, unknown = (of_classes(digits, part) for part in np.split(np.arange(10), [4]))
    # `named` puts the flag before what the function says of its argument.
    key, sizes = jax.random.key(config.seed), {"num_tasks": config.num_tasks, "ways": 3}
    tasks = named("--shots", sample_tasks, key, unknown, shots=config.shots, **sizes)
    source = train_source("mlp", known, SourceRecipe(steps=300, seed=config.seed))
    train, test = (extract(source, bank) for bank in unknown)
    scores = score_tasks(tasks, logits=train.logits, metrics=["leep", "nce"], devices=devices)
    heads = retrain_head(train.features, test.features, tasks, devices=devices)
    report.write_study(study, unknown.train, {"digits": (tasks, scores, heads)})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study from its command line."""
    start(Config, run, PRESETS, arguments)


if __name__ == "__main__":
    main()
