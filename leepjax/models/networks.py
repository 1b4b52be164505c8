"""Networks by the names that configurations and command lines use."""

from flax import nnx

from leepjax.models.conv4 import Conv4
from leepjax.models.mlp import MLP
from leepjax.models.resnet import DEPTHS, ResNet

CONV4_WIDTHS = (8, 16, 32)  # beside its usual 64
NETWORKS = (
    *("conv4", "conv4_max", "mlp"),
    *(f"conv4_{width}" for width in CONV4_WIDTHS),
    *(f"resnet{depth}" for depth in DEPTHS),
)


def make_network(
    name: str, num_classes: int, *, size: int, channels: int, rngs: nnx.Rngs
) -> nnx.Module:
    """A freshly initialised network.

    Args:
      name: one of ``NETWORKS``.
      num_classes: number of logits.
      size: height and width of the images in pixels.
      channels: channels of the images.
      rngs: the source of the initial parameters.

    Raises:
      ValueError: another name.
    """
    if name not in NETWORKS:
        raise ValueError(f"name: wanted one of {', '.join(NETWORKS)}, got {name!r}")
    if name == "mlp":
        return MLP(num_classes, inputs=size * size * channels, rngs=rngs)
    if name == "conv4":
        return Conv4(num_classes, channels=channels, rngs=rngs)
    if name == "conv4_max":
        return Conv4(num_classes, channels=channels, pooling="max", rngs=rngs)
    if name.startswith("conv4_"):
        width = int(name.removeprefix("conv4_"))
        return Conv4(num_classes, channels=channels, width=width, rngs=rngs)
    return ResNet(int(name.removeprefix("resnet")), num_classes, channels=channels, rngs=rngs)
