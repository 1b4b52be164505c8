"""Meta-learners by name, each with where it starts and how it is trained."""

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
      training: fields of ``MetaTraining`` that are its own.
    """

    make: Callable[..., MetaLearner]
    pretrained: bool
    training: Mapping[str, Any]


def _gradient(name: str, **options: Any) -> Callable[..., MetaLearner]:
    return partial(gradient_learner, name=name, **options)


ALGORITHMS: dict[str, Algorithm] = {
    "maml": Algorithm(_gradient("maml"), False, {}),
    "fomaml": Algorithm(_gradient("fomaml", order=1), False, {}),
    "anil": Algorithm(_gradient("anil", adapts="head"), False, {}),
    "boil": Algorithm(_gradient("boil", adapts="body", steps=1, rate=0.5), False, {}),
    "meta_sgd": Algorithm(_gradient("meta_sgd", rates="parameter", steps=1, rate=0.1), False, {}),
    "maml_pp": Algorithm(
        _gradient("maml_pp", rates="layer", rate=0.1, multi_step=True, order="annealed"), False, {}
    ),
    "proto_maml": Algorithm(_gradient("proto_maml", head="prototypes", rate=0.1), False, {}),
    "unicorn": Algorithm(_gradient("unicorn", head="shared"), False, {}),
    "mtl": Algorithm(mtl, True, {"learning_rate": 1e-2, "hard_every": 4}),
    "reptile": Algorithm(reptile, False, {"optimiser": "sgd", "learning_rate": 1.0}),
    "cavia": Algorithm(cavia, False, {}),
    "protonet": Algorithm(protonet, True, {}),
    "ridge": Algorithm(ridge, True, {}),
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
