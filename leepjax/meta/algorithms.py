"""Meta-learners by name, each with where it starts and how it is trained.

Names come from the papers, and so do the inner rates of MAML and BOIL (.4 and .5, which they take
in one step) and CAVIA (1). Other inner rates, numbers of steps, and the recipes of meta-training
are ours, for hundreds of classes and not thousands. Learners that start from random parameters
normalise by the batch, as their authors do, so they predict all queries together. Learners that
start from a source normalise by the source's averages.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from leepjax.meta.cavia import cavia
from leepjax.meta.gradient import gradient_learner
from leepjax.meta.learner import MetaLearner
from leepjax.meta.mtl import mtl
from leepjax.meta.protonet import protonet
from leepjax.meta.reptile import reptile
from leepjax.meta.ridge import ridge
from leepjax.models import Source


class Algorithm(NamedTuple):
    """A meta-learner as experiments use it.

    Attributes:
      make: ``make(source, ways, **options) -> MetaLearner``.
      pretrained: whether it starts from the source's parameters, else from fresh ones.
      recipe: fields of ``MetaRecipe`` that are its own.
    """

    make: Callable[..., MetaLearner]
    pretrained: bool
    recipe: Mapping[str, Any]


def _gradient(name: str, **options: Any) -> Callable[..., MetaLearner]:
    return partial(gradient_learner, name=name, **options)


_SCRATCH = {"steps": 2000, "learning_rate": 2e-3}
_PRETRAINED = {"steps": 1000, "learning_rate": 3e-3}

ALGORITHMS: dict[str, Algorithm] = {
    "maml": Algorithm(_gradient("maml"), False, _SCRATCH),
    "fomaml": Algorithm(_gradient("fomaml", order=1), False, _SCRATCH),
    "anil": Algorithm(_gradient("anil", adapts="head"), False, _SCRATCH),
    "boil": Algorithm(_gradient("boil", adapts="body", steps=1, rate=0.5), False, _SCRATCH),
    "meta_sgd": Algorithm(
        _gradient("meta_sgd", rates="parameter", steps=1, rate=0.1), False, _SCRATCH
    ),
    "maml_pp": Algorithm(
        _gradient("maml_pp", rates="layer", rate=0.1, multi_step=True, order="annealed"),
        False,
        _SCRATCH,
    ),
    "proto_maml": Algorithm(_gradient("proto_maml", head="prototypes", rate=0.1), False, _SCRATCH),
    "unicorn": Algorithm(_gradient("unicorn", head="shared"), False, _SCRATCH),
    "mtl": Algorithm(mtl, True, {"steps": 800, "learning_rate": 1e-2, "hard_every": 4}),
    "reptile": Algorithm(
        reptile,
        False,
        # One loss, whatever the shots: it is of all images.
        {"steps": 2000, "optimiser": "sgd", "learning_rate": 1.0, "clip": 100.0, "shots": None},
    ),
    "cavia": Algorithm(cavia, False, _SCRATCH),
    "protonet": Algorithm(protonet, True, _PRETRAINED),
    "ridge": Algorithm(ridge, True, _PRETRAINED),
}


def make_learner(name: str, source: Source, ways: int, **options: Any) -> MetaLearner:
    """A meta-learner by its name in ``ALGORITHMS``.

    Args:
      name: the name.
      source: the network, and the parameters that it starts from.
      ways: classes of a task.
      options: of its factory.

    Raises:
      ValueError: another name, an option that its factory refuses, fewer than two ways.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"algorithm: wanted one of {', '.join(ALGORITHMS)}, got {name!r}")
    if not isinstance(ways, int) or ways < 2:
        raise ValueError(f"ways: wanted an int >= 2, got {ways!r}")
    return ALGORITHMS[name].make(source, ways, **options)
