"""How a network is trained on a target task, and published recipes.

A recipe is static except for three numbers, its learning rates and its weight decay (`Rates`).
These are arrays, so that all settings of a sweep share one compiled program.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

from leepjax.models import BatchNormMode

Optimiser = Literal["sgd", "adamw"]
Schedule = Literal["constant", "cosine", "step"]
Head = Literal["zero", "optimum"]
Anchor = Literal["zero", "source"]


class Rates(NamedTuple):
    """The numbers of a recipe that a sweep varies; scalars, or arrays with an axis of tasks."""

    body: Any
    head: Any
    weight_decay: Any


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained on a target task.

    Attributes:
      optimiser: ``"sgd"``, or ``"adamw"`` (I. Loshchilov, F. Hutter, ICLR 2019).
      learning_rate: of the body, at its peak.
      head_learning_rate: of the new head; None: that of the body.
      momentum: of SGD.
      nesterov: Nesterov's momentum, of SGD.
      weight_decay: of kernels (not of biases and normalisation). Coupled in SGD, as a gradient;
        decoupled in AdamW, times the learning rate.
      decay_towards: ``"zero"``, or ``"source"``: L2-SP (X. Li, Y. Grandvalet, F. Davoine, Explicit
        Inductive Bias for Transfer Learning with Convolutional Networks, ICML 2018), in which the
        head, which the source does not have, still decays towards zero.
      schedule: ``"constant"``, ``"cosine"`` to zero, or ``"step"``: a tenth at each milestone.
      milestones: shares of all steps, ascending, of schedule ``"step"``.
      warmup: share of all steps over which the rate rises linearly from zero.
      epochs: passes over the training images; each drops the last, incomplete batch, so that
        batches of all tasks, and what batch normalisation makes of them, are alike.
      batch_size: images a step; at most the images of the smallest task.
      batch_norm: ``"batch"``, ``"running"`` or ``"frozen"`` (``leepjax.models.BatchNormMode``).
      flip: mirror images left to right at random, again in each epoch.
      crop: pad by so many pixels on each side and cut the old size out at random.
      label_smoothing: share of the target that is spread over all of the task's classes.
      head: ``"zero"``, or ``"optimum"``: start from the retrained head, LP-FT (A. Kumar, A.
        Raghunathan, R. Jones, T. Ma, P. Liang, Fine-Tuning can Distort Pretrained Features and
        Underperform Out-of-Distribution, ICLR 2022).
      validation: share of each class's training images that is held out of training. The epoch
        that is best on them counts (the earliest of several), not the last.
      patience: stop a task after so many epochs in a row without a better one; needs
        ``validation``.

    Raises:
      ValueError: a field is out of its range; it names the field.
    """

    optimiser: Optimiser = "sgd"
    learning_rate: float = 0.03
    head_learning_rate: float | None = None
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    decay_towards: Anchor = "zero"
    schedule: Schedule = "cosine"
    milestones: tuple[float, ...] = ()
    warmup: float = 0.0
    epochs: int = 10
    batch_size: int = 25
    batch_norm: BatchNormMode = "batch"
    flip: bool = False
    crop: int = 0
    label_smoothing: float = 0.0
    head: Head = "zero"
    validation: float = 0.0
    patience: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "milestones", tuple(self.milestones))
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name}: wanted one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )
        for name in ("epochs", "batch_size", "crop", "patience"):
            value, least = getattr(self, name), 0 if name == "crop" else 1
            if name == "patience" and value is None:
                continue
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: wanted an int >= {least}, got {value!r}")
        for name in ("learning_rate", "head_learning_rate", "weight_decay"):
            value = getattr(self, name)
            if name == "head_learning_rate" and value is None:
                continue
            if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"{name}: wanted a finite number >= 0, got {value!r}")
        for name in ("momentum", "warmup", "label_smoothing", "validation"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < 1:
                raise ValueError(f"{name}: wanted a number in [0, 1), got {value!r}")
        if self.patience is not None and self.validation == 0:
            raise ValueError("patience: wanted a validation share > 0 to stop by, got 0")
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError(
                "milestones: wanted shares of all steps for schedule 'step' and none otherwise, "
                f"got {self.milestones} for {self.schedule!r}"
            )
        if not all(0 < m < 1 for m in self.milestones):
            raise ValueError(f"milestones: wanted shares in (0, 1), got {self.milestones}")

    @property
    def rates(self) -> Rates:
        """The numbers that a sweep varies."""
        head = self.learning_rate if self.head_learning_rate is None else self.head_learning_rate
        return Rates(self.learning_rate, head, self.weight_decay)

    @property
    def static(self) -> "Recipe":
        """What a program is compiled for: the same for all settings of a sweep."""
        return dataclasses.replace(
            self, learning_rate=0.0, head_learning_rate=None, weight_decay=0.0
        )


_CHOICES = {
    name: get_args(literal)
    for name, literal in {
        "optimiser": Optimiser,
        "decay_towards": Anchor,
        "schedule": Schedule,
        "batch_norm": BatchNormMode,
        "head": Head,
    }.items()
}


def sweep(
    recipe: Recipe, learning_rates: Sequence[float] = (), weight_decays: Sequence[float] = ()
) -> tuple[Recipe, ...]:
    """Every pair of a learning rate and a weight decay; the recipe's own where none are given.

    The head's rate keeps its ratio to the body's, or stays where the body's is zero.
    """
    body, head = recipe.rates.body, recipe.rates.head
    return tuple(
        dataclasses.replace(
            recipe,
            learning_rate=rate,
            head_learning_rate=head * (rate / body) if body else head,
            weight_decay=decay,
        )
        for rate in (tuple(learning_rates) or (body,))
        for decay in (tuple(weight_decays) or (recipe.weight_decay,))
    )


_VTAB = Recipe(
    momentum=0.9,
    nesterov=False,
    weight_decay=0.0,
    schedule="step",
    milestones=(1 / 3, 2 / 3, 0.9),
    epochs=100,
    batch_size=50,
    validation=0.2,
)
_KORNBLITH = Recipe(epochs=100, batch_size=50, validation=0.2)

RECIPES: dict[str, tuple[Recipe, ...]] = {
    "default": (Recipe(),),
    "leep2020": (
        Recipe(
            learning_rate=0.01, nesterov=False, weight_decay=0.0, schedule="constant", epochs=50
        ),
    ),
    "bit": (
        Recipe(
            learning_rate=0.003,
            nesterov=False,
            weight_decay=0.0,
            schedule="step",
            milestones=(0.3, 0.6, 0.9),
            epochs=50,
            batch_size=50,
            flip=True,
            crop=4,
        ),
    ),
    "vtab": sweep(_VTAB, (0.1, 0.01)),
    "kornblith": sweep(
        _KORNBLITH, tuple(10 ** (-4 + i / 2) for i in range(7)), (0.0, 1e-6, 1e-5, 1e-4, 1e-3)
    ),
}
"""Published protocols, by name. Their steps are for thousands of images of ImageNet's size. A task
of a few hundred small images cannot have a batch of 512 or 20,000 steps, so these are scaled down,
as noted below. Several recipes are a sweep; the best is chosen on held-out training images. The
published protocols then train once more with those images; ours do not.

``default``
  10 epochs of SGD with Nesterov momentum, rate 0.03, cosine; small enough for a CPU.
``leep2020``
  C. Nguyen, T. Hassner, M. Seeger, C. Archambeau: LEEP, ICML 2020: plain SGD on all parameters. The
  article does not say how many steps; 50 epochs, a constant rate of 0.01 and momentum are ours.
``bit``
  BiT-HyperRule, A. Kolesnikov, L. Beyer, X. Zhai, J. Puigcerver, J. Yung, S. Gelly, N. Houlsby: Big
  Transfer, ECCV 2020, for small sets: SGD, momentum 0.9, rate 0.003, no weight decay, a tenth of it
  after 30, 60 and 90 % of the steps; random crops and flips. 500 steps of 512 there, here 50 epochs
  of 50.
``vtab``
  The lightweight sweep of X. Zhai et al.: A Large-scale Study of Representation Learning with the
  Visual Task Adaptation Benchmark, 2019: SGD, momentum 0.9, rates 0.1 and 0.01, a tenth in steps,
  no weight decay; 2,500 or 10,000 steps of 512 there, here 100 epochs of 50.
``kornblith``
  S. Kornblith, J. Shlens, Q. Le: Do Better ImageNet Models Transfer Better?, CVPR 2019: SGD with
  Nesterov momentum 0.9, cosine; 7 rates from 1e-4 to 0.1; weight decays from none to 1e-3 (there 8,
  relative to the rate). 20,000 steps of 256 there, here 100 epochs of 50.
"""
