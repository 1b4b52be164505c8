"""leepjax: when does transfer learning work?

Scores of a source model on a target task (``leepjax.metrics``, which imports jax alone), the
transfers that they are meant to predict, and the correlation between the two with honest intervals.
The names below are resolved when first used, so that importing one part does not import the rest.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leepjax.data import Bank, Dataset, load
    from leepjax.evaluation import correlate
    from leepjax.meta import adapt_tasks, make_learner, meta_train
    from leepjax.metrics import leep, score
    from leepjax.models import (
        Outputs,
        Source,
        extract,
        load_pretrained,
        load_resnet,
        train_source,
    )
    from leepjax.ranking import Ranking, rank
    from leepjax.tasks import Tasks, sample_tasks, score_tasks
    from leepjax.transfer import Recipe, fine_tune, from_scratch, retrain_head

__version__ = "0.1.0"

_HOMES = {
    "Bank": "data",
    "Dataset": "data",
    "Outputs": "models",
    "Ranking": "ranking",
    "Recipe": "transfer",
    "Source": "models",
    "Tasks": "tasks",
    "adapt_tasks": "meta",
    "correlate": "evaluation",
    "extract": "models",
    "fine_tune": "transfer",
    "from_scratch": "transfer",
    "leep": "metrics",
    "load": "data",
    "load_pretrained": "models",
    "load_resnet": "models",
    "make_learner": "meta",
    "meta_train": "meta",
    "rank": "ranking",
    "retrain_head": "transfer",
    "sample_tasks": "tasks",
    "score": "metrics",
    "score_tasks": "tasks",
    "train_source": "models",
}

__all__ = [
    "Bank",
    "Dataset",
    "Outputs",
    "Ranking",
    "Recipe",
    "Source",
    "Tasks",
    "adapt_tasks",
    "correlate",
    "extract",
    "fine_tune",
    "from_scratch",
    "leep",
    "load",
    "load_pretrained",
    "load_resnet",
    "make_learner",
    "meta_train",
    "rank",
    "retrain_head",
    "sample_tasks",
    "score",
    "score_tasks",
    "train_source",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"leepjax.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'leepjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
