"""How a meta-learner is trained: the recipe, and its optimiser."""

import dataclasses

import optax

from leepjax.meta._episodes import EpisodeShape


@dataclasses.dataclass(frozen=True)
class MetaRecipe:
    """How a meta-learner is trained.

    Attributes:
      steps: meta-steps.
      tasks: episodes a step.
      episode: their classes and images.
      shots: each loss is the mean over these; the last is ``episode.shots``. None: that alone.
      learning_rate: of the meta-steps, lowered to 0 by a cosine.
      optimiser: ``"adam"``, or ``"sgd"`` (of Reptile).
      clip: the meta-gradient's norm is at most this.
      hard_every: every so many steps the episodes are drawn, whatever their groups, from classes
        that did worst in episodes before and not perfectly (hard-task meta-batch; Sun et al., CVPR
        2019, section 4.3); 0: never.

    Raises:
      ValueError: a field out of its range.
    """

    steps: int = 1000
    tasks: int = 4
    episode: EpisodeShape = dataclasses.field(default_factory=EpisodeShape)
    shots: tuple[int, ...] | None = None
    learning_rate: float = 1e-3
    optimiser: str = "adam"
    clip: float = 1.0
    hard_every: int = 0

    def __post_init__(self):
        for name, least in (("steps", 1), ("tasks", 1), ("hard_every", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: wanted an int >= {least}, got {value!r}")
        shots, most = self.shots, self.episode.shots
        if shots is not None and (
            not shots or list(shots) != sorted(set(shots)) or shots[0] < 1 or shots[-1] != most
        ):
            raise ValueError(f"shots: wanted ascending ones, the last {most}, got {shots}")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: wanted a finite number > 0, got {getattr(self, name)}")
        if self.optimiser not in ("adam", "sgd"):
            raise ValueError(f"optimiser: wanted adam or sgd, got {self.optimiser!r}")


def make_optimiser(recipe: MetaRecipe) -> optax.GradientTransformation:
    """Clipped, with the rate on a cosine to 0."""
    rate = optax.cosine_decay_schedule(recipe.learning_rate, recipe.steps)
    rule = optax.adam(rate) if recipe.optimiser == "adam" else optax.sgd(rate)
    return optax.chain(optax.clip_by_global_norm(recipe.clip), rule)
