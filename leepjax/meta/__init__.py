"""Learning to adapt: meta-learners, episodes to train them on, and their accuracy on tasks."""

from leepjax._extras import require

require("networks")

from leepjax.meta._episodes import EpisodeBank, Episodes, EpisodeShape, episode_bank, episodes
from leepjax.meta.adapt import AdaptationResult, adapt_tasks
from leepjax.meta.algorithms import ALGORITHMS, Algorithm, make_learner
from leepjax.meta.learner import Meta, MetaLearner, meta_gradient
from leepjax.meta.recipe import MetaRecipe
from leepjax.meta.train import (
    MetaInfo,
    MetaState,
    init_state,
    meta_step,
    meta_train,
    meta_update,
)

__all__ = [
    "ALGORITHMS",
    "AdaptationResult",
    "Algorithm",
    "EpisodeBank",
    "EpisodeShape",
    "Episodes",
    "Meta",
    "MetaInfo",
    "MetaLearner",
    "MetaRecipe",
    "MetaState",
    "adapt_tasks",
    "episode_bank",
    "episodes",
    "init_state",
    "make_learner",
    "meta_gradient",
    "meta_step",
    "meta_train",
    "meta_update",
]
