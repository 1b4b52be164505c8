"""A network cut at one of its stages: what an earlier layer is worth."""

from typing import Any

import jax
from flax import nnx

from leepjax.models.source import Source, make_source


class Cut(nnx.Module):
    """A network up to a stage, averaged over pixels; a linear head of its own, all zeros."""

    def __init__(self, network: Any, stage: int, width: int, num_classes: int):
        self.network = network
        self.stage = stage
        zeros = nnx.initializers.zeros_init()
        self.head = nnx.Linear(width, num_classes, kernel_init=zeros, rngs=nnx.Rngs(0))

    def __call__(self, x: jax.Array, *, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Features ``[n, width]`` of the stage, and logits ``[n, num_classes]`` of the head."""
        features = self.network.stages(x, train=train)[self.stage].mean(axis=(1, 2))
        return features, self.head(features)


def cut(source: Source) -> tuple[Source, ...]:
    """The source cut at each of its stages, the earliest first; at the last its features stay.

    The heads are zero: fit them to the features of source images, and put them in
    ``params["head"]``.

    Args:
      source: its network has a method ``stages``, as Conv4 and ResNet have.

    Raises:
      ValueError: it has none.
    """
    network = nnx.merge(source.graphdef, source.params, source.rest)
    if not hasattr(network, "stages"):
        raise ValueError(
            f"source: wanted a network of stages, conv4 or resnet, got {type(network).__name__}"
        )
    stages = jax.eval_shape(network.stages, source.preprocess.input)
    return tuple(
        make_source(
            Cut(network, i, stage.shape[-1], len(source.class_names)),
            source.preprocess,
            source.class_names,
        )
        for i, stage in enumerate(stages)
    )
