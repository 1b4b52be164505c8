"""What is needed to fill a network with a checkpoint's tensors and to run it."""

from typing import Any, NamedTuple

import jax
from flax import nnx

from leepjax.models.naming import Naming


class NotBuilt(ValueError):
    """An architecture, or an option of one, that is not built here: PyTorch may run it."""


class Description(NamedTuple):
    """What is needed to fill a network with a checkpoint's tensors and to run it.

    Attributes:
      what: the architecture in words.
      network: its shapes alone, as ``nnx.eval_shape`` makes it.
      naming: names of its tensors.
      preprocess: from what a bank holds to its input.
      class_names: one per logit; numbers where the configuration has no names.
      ignored: a pattern of the names of tensors that are not of this network.
    """

    what: str
    network: nnx.Module
    naming: Naming
    preprocess: Any
    class_names: tuple[str, ...]
    ignored: str | None = None


def about_size(described: Description) -> str:
    """How large a network is, by its configuration alone."""
    sizes = [x.size for x in jax.tree.leaves(nnx.state(described.network, nnx.Param))]
    number = sum(sizes)
    return f"{described.what}, {number:,} parameters, {4 * number / 1e6:,.0f} MB in float32"


def shapes(network: Any, classes: int, options: dict[str, Any]) -> nnx.Module:
    """A network of shapes alone; without classes its head has no columns."""

    def build() -> nnx.Module:
        built = network(max(classes, 1), **options, rngs=nnx.Rngs(0))
        if not classes:  # a head without logits, which nnx initialises only to zeros
            empty = {"kernel_init": nnx.initializers.zeros, "rngs": nnx.Rngs(0)}
            built.head = nnx.Linear(built.head.in_features, 0, **empty)
        return built

    return nnx.eval_shape(build)


def label_names(config: Any, has_head: bool) -> tuple[str, ...]:
    """Names of the classes in a configuration of transformers, numbers where it has none.

    Raises:
      ValueError: keys that are no numbers.
    """
    named = config.get("id2label") or {}
    if not all(str(k).isdecimal() for k in named):
        raise ValueError(f"config.json: id2label: wanted numbers as keys, got {', '.join(named)}")
    labels = {int(k): str(v) for k, v in named.items()}
    classes = (len(labels) or config.get("num_labels", 2)) if has_head else 0
    return tuple(labels.get(i, str(i)) for i in range(classes))
