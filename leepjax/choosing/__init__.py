"""Decisions by scores: a source within a budget, tasks to train together, parameters; regret."""

from typing import TYPE_CHECKING, Any

from leepjax.choosing.groups import Group as Group
from leepjax.choosing.groups import Partition as Partition
from leepjax.choosing.groups import affinity as affinity
from leepjax.choosing.groups import average_linkage as average_linkage
from leepjax.choosing.groups import cut_tree as cut_tree
from leepjax.choosing.groups import group_sizes as group_sizes
from leepjax.choosing.groups import group_tasks as group_tasks
from leepjax.choosing.groups import pair_interaction as pair_interaction
from leepjax.choosing.groups import random_partitions as random_partitions
from leepjax.choosing.groups import standardise_columns as standardise_columns
from leepjax.choosing.halving import Choice as Choice
from leepjax.choosing.halving import successive_halving as successive_halving
from leepjax.choosing.regret import best_of_top_k as best_of_top_k
from leepjax.choosing.regret import expected_recall as expected_recall
from leepjax.choosing.regret import expected_regret as expected_regret
from leepjax.choosing.regret import pairwise_accuracy as pairwise_accuracy
from leepjax.choosing.regret import recall_at_k as recall_at_k
from leepjax.choosing.regret import regret_at_k as regret_at_k
from leepjax.choosing.regret import rel_at_k as rel_at_k

if TYPE_CHECKING:
    from leepjax.choosing.gradient import class_weight_probs as class_weight_probs
    from leepjax.choosing.gradient import maximise as maximise
    from leepjax.choosing.gradient import mixture_probs as mixture_probs
    from leepjax.choosing.gradient import temperature_probs as temperature_probs


def __getattr__(name: str) -> Any:
    # Audits need decisions but no JAX, so what is differentiated is imported when it is used.
    if name in ("class_weight_probs", "maximise", "mixture_probs", "temperature_probs"):
        from leepjax.choosing import gradient

        return getattr(gradient, name)
    raise AttributeError(f"module 'leepjax.choosing' has no attribute {name!r}")
